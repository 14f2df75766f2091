"""The command line: ``python -m attnlib …``. What a command does stands in commands.py."""
import argparse
import os
import sys

MODEL = "a run's id or the beginning of one, or a weight file"
EXTRAS = {"distributed": "cluster", "tensorboard": "tensorboard", "onnx": "onnx",
          "onnxruntime": "onnx", "onnxscript": "onnx"}


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 is success. A wrong name or missing file is one line on stderr and 2."""
    open_output()
    argv = sys.argv[1:] if argv is None else argv
    args = parser(with_train=argv[:1] == ["train"]).parse_args(argv)
    if getattr(args, "deterministic", False):
        os.environ["ATTNLIB_DETERMINISTIC"] = "1"        # worker processes and kernels inherit it
    from . import commands  # not before: `--help` is quick, and PyTorch reads the environment
    from .training.store import Busy, lacks_memory
    try:
        return getattr(commands, args.command)(args) or 0
    except KeyError:                          # a mistake of ours, not of the caller's
        raise
    except BrokenPipeError:                   # of `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except (ValueError, LookupError, OSError, Busy) as error:
        words = error.args[0] if len(error.args) == 1 else error
        print(f"error: {words}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        print(f"error: this needs {error.name}: in the clone, `python -m pip install -c "
              f"constraints.txt -e '.[{EXTRAS[error.name]}]'`", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        print(f"error: {error or 'out of memory'}; a smaller --batch-size or --width needs less",
              file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; finished epochs are saved, the same command goes on", file=sys.stderr)
        return 130


def open_output() -> None:
    """Output always goes somewhere: what a terminal has no character for is replaced, and where
    output is closed (``>&-``) it is thrown away. Worker processes and kernels inherit both."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:                         # closed: the lowest number that is free is this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for number, name, errors in ((1, "stdout", "replace"), (2, "stderr", "backslashreplace")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))
        if hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors=errors)
    os.environ["PYTHONIOENCODING"] = f"{sys.stdout.encoding or 'utf-8'}:replace"


def parser(with_train: bool = True) -> argparse.ArgumentParser:
    """The parser. ``with_train``: with the options of ``train``, whose defaults take PyTorch's
    seconds to know."""
    top = argparse.ArgumentParser(prog="python -m attnlib", description="Train, look and report.")
    commands = top.add_subparsers(required=True, metavar="COMMAND", dest="command")

    def command(name: str, says: str):
        return commands.add_parser(name, help=says, description=says).add_argument

    option = command("train", "train one run, or ID --weights: a finished run for its weights")
    option("id", nargs="?", help="the id of a finished run, with --weights")
    option("--weights", action="store_true", help="train ID again; keep its record")
    option("--profile", default="own", help="where the record goes (default: own)")
    option("--tensorboard", action="store_true", help="and write TensorBoard's files")
    if with_train:
        from .commands import FIELDS, NUMBERS, default_of
        for name in FIELDS:
            option(f"--{name.replace('_', '-')}", dest=name, type=NUMBERS.get(name, str),
                   default=argparse.SUPPRESS, help=default_of(name))

    option = command("study", "train what a study still lacks")
    option("name", help="a study, or all")
    option("--profile", default="auto")
    option("--time-budget", type=float, metavar="SECONDS",
           help="stop cleanly at an epoch's end after this long")
    option("--jobs", default="auto", help="trainings side by side")
    option("--cluster", metavar="ADDRESS", help="train on a dask cluster: tcp://host:8786, or "
           "local:N for N workers on this machine")
    option("--plan", action="store_true", help="only say what would be trained")

    option = command("focus", "store the class activation maps of a study's runs")
    option("name", help="a study, or all")
    option("--profile", default="auto")

    option = command("evaluate", "score a trained run's weights on a split again")
    option("run", metavar="RUN", help=MODEL)
    option("--split", default="test", help="test (default), val or train")
    option("--gradcam", action="store_true", help="and draw where it looks")

    option = command("predict", "the classes that a trained network sees in picture files")
    option("run", metavar="RUN", help=MODEL)
    option("images", nargs="+", metavar="IMAGE", help="of any type that Pillow reads")
    option("--top", type=int, default=5, help="so many classes (default: 5)")
    option("--gradcam", action="store_true", help="and draw where it looks")

    option = command("export", "write a trained run as a file to give away")
    option("run", metavar="RUN", nargs="?", help=MODEL)
    option("--output", metavar="FILE", help="default: results/weights/<id>.<ending>")
    option("--format", default="safetensors", choices=("safetensors", "onnx", "torchscript"),
           help="safetensors (default): weights in float16, no code")
    option("--int8", action="store_true", help="and an ONNX file of 8 bits for phones, with the "
           "accuracy and latency of both; needs the data")
    option("--published", action="store_true",
           help="the weight files of the repository, their index and their card")

    option = command("runs", "list, check, repair or clean what is stored; TensorBoard's files")
    option("what", choices=("list", "check", "repair", "clean", "tensorboard"))
    option("ids", nargs="*", metavar="ID", help="tensorboard: of these alone")
    option("--profile", default=None)
    option("--dry-run", action="store_true", help="repair: only say what would be done")

    option = command("data", "fetch or check the real data sets; check your own")
    option("what", choices=("get", "check"))
    option("names", nargs="*", default=["cifar10", "fashionmnist", "cifar100"])

    option = command("notebooks", "run, check, report or publish the notebooks")
    option("what", choices=("run", "check", "report", "publish"))
    option("names", nargs="*", help="such as 03_se; none: all seven")
    option("--profile", default="auto")
    option("--seeds", type=int, help="no more than this many seeds an arm")
    option("--jobs", default="auto", help="trainings side by side (default: auto)")
    option("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE")

    option = command("verify", "check the records, and train a sample of them again")
    option("--profile", help="full, real, small …: by default all that are committed")
    option("--minutes", type=float, default=10, help="of training again (default: 10)")
    option("--seed", type=int, default=0, help="another sample (default: 0)")

    option = command("bench", "measure speed side by side with the plain loop")
    option("--minutes", type=float, help="about so long (default: 9; quick: 1)")
    option("--quick", action="store_true", help="everything once, tiny")
    option("--full", action="store_true", help="full width too (a GPU: always)")
    option("--notebook", default="", metavar="NAME", help="time this one, too: 03_se")
    option("--again", action="store_true",
           help="replace stored rows even where they were measured for longer")

    command("readme", "write the README's results table from the records")
    for name in ("train", "study", "notebooks"):
        commands.choices[name].add_argument(
            "--deterministic", action="store_true",
            help="PyTorch's deterministic algorithms alone (also: ATTNLIB_DETERMINISTIC=1)")
    return top


if __name__ == "__main__":
    sys.exit(main())
