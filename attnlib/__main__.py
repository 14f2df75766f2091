"""The command line: ``python -m attnlib …``. What a command does stands in commands.py."""
import argparse
import os
import sys

EXTRAS = {"distributed": "cluster", "tensorboard": "tensorboard", "onnx": "onnx",
          "onnxruntime": "onnx", "onnxscript": "onnx"}


def flag(says: str) -> dict:
    return {"action": "store_true", "help": says}


STUDY = {"name": dict(help="a study, or all"), "--profile": dict(default="auto")}
MODEL = {"run": dict(metavar="RUN", help="a run's id or the beginning of one, or a weight file")}
STRICT = {"--deterministic": flag("PyTorch's deterministic algorithms alone (also: "
                                  "ATTNLIB_DETERMINISTIC=1)")}
LOOKS = {"--gradcam": flag("and draw where it looks")}
COMMANDS = {        # what it does, and its arguments as argparse takes them
    "train": ("train one run, or ID --weights: a finished run for its weights", {
        "id": dict(nargs="?", help="the id of a finished run, with --weights"),
        "--weights": flag("train ID again; keep its record"),
        "--profile": dict(default="own", help="where the record goes (default: own)"),
        "--tensorboard": flag("and write TensorBoard's files")} | STRICT),
    "study": ("train what a study still lacks", STUDY | {
        "--time-budget": dict(type=float, metavar="SECONDS",
                              help="stop cleanly at an epoch's end after this long"),
        "--jobs": dict(default="auto", help="trainings side by side"),
        "--cluster": dict(metavar="ADDRESS", help="train on a dask cluster: tcp://host:8786, or "
                          "local:N for N workers on this machine"),
        "--plan": flag("only say what would be trained")} | STRICT),
    "focus": ("store the class activation maps of a study's first three seeds", STUDY),
    "evaluate": ("score a trained run's weights on a split again", MODEL | {
        "--split": dict(default="test", help="test (default), val or train")} | LOOKS),
    "predict": ("the classes that a trained network sees in picture files", MODEL | {
        "images": dict(nargs="+", metavar="IMAGE", help="of any type that Pillow reads"),
        "--top": dict(type=int, default=5, help="so many classes (default: 5)")} | LOOKS),
    "export": ("write a trained run as a file to give away", {
        "run": MODEL["run"] | {"nargs": "?"},
        "--output": dict(metavar="FILE", help="default: results/weights/<id>.<ending>"),
        "--format": dict(default="safetensors", choices=("safetensors", "onnx", "torchscript"),
                         help="safetensors (default): weights in float16, no code"),
        "--int8": flag("and an ONNX file of 8 bits for phones, with the accuracy and latency of "
                       "both; needs the data"),
        "--published": flag("the weight files of the repository, their index and their card")}),
    "runs": ("list, check, repair or clean what is stored; TensorBoard's files", {
        "what": dict(choices=("list", "check", "repair", "clean", "tensorboard")),
        "ids": dict(nargs="*", metavar="ID", help="tensorboard: of these alone"),
        "--profile": {}, "--dry-run": flag("repair: only say what would be done")}),
    "data": ("fetch or check the real data sets; check your own", {
        "what": dict(choices=("get", "check")),
        "names": dict(nargs="*", default=["cifar10", "fashionmnist", "cifar100"])}),
    "notebooks": ("run, check, report or publish the notebooks", {
        "what": dict(choices=("run", "check", "report", "publish")),
        "names": dict(nargs="*", help="such as 03_se; none: all seven"),
        "--profile": dict(default="auto"),
        "--seeds": dict(type=int, help="no more than this many seeds an arm"),
        "--jobs": dict(default="auto", help="trainings side by side (default: auto)"),
        "-p --parameter": dict(action="append", default=[], metavar="NAME=VALUE")} | STRICT),
    "verify": ("check the records, and train a sample of them again", {
        "--profile": dict(help="full, real, small …: by default all that are committed"),
        "--minutes": dict(type=float, default=10, help="of training again (default: 10)"),
        "--seed": dict(type=int, default=0, help="another sample (default: 0)")}),
    "bench": ("measure speed side by side with the plain loop", {
        "--minutes": dict(type=float, help="about so long (default: 9; quick: 1)"),
        "--quick": flag("everything once, tiny"),
        "--full": flag("full width too (a GPU: always)"),
        "--notebook": dict(default="", metavar="NAME", help="time this one, too: 03_se"),
        "--again": flag("replace stored rows even where they were measured for longer")}),
    "readme": ("write the tables and pictures of README and docs/ from the records", {})}


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 is success. A wrong name or missing file is one line on stderr and 2."""
    open_output()
    argv = sys.argv[1:] if argv is None else argv
    args, extra = parser(argv[:1] == ["train"]).parse_known_args(argv or ["--help"])
    free = next((key for key in ("names", "ids") if hasattr(args, key)), "")
    if free and not any(word.startswith("-") for word in extra):          # behind options
        setattr(args, free, [*getattr(args, free), *extra])
    elif extra:
        args.own.error(f"unrecognized arguments: {' '.join(extra)}")     # lists the command's own
    if getattr(args, "deterministic", False):
        os.environ["ATTNLIB_DETERMINISTIC"] = "1"        # worker processes and kernels inherit it
    from . import commands  # not before: `--help` is quick, and PyTorch reads the environment
    from .training.store import Busy, lacks_memory
    try:
        return getattr(commands, args.command)(args) or 0
    except (KeyError, IndexError):            # a mistake of ours, not of the caller's
        raise
    except BrokenPipeError:                   # of `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        print("stopped; finished epochs are saved, the same command goes on", file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, (ValueError, LookupError, OSError, Busy)):
            words = error.args[0] if len(error.args) == 1 else error
        elif isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
            words = (f"this needs {error.name}: in the clone, `python -m pip install -c "
                     f"constraints.txt -e '.[{EXTRAS[error.name]}]'`")
        elif lacks_memory(error):
            words = f"{error or 'out of memory'}; a smaller --batch-size or --width needs less"
        else:
            raise
        print(f"error: {words}", file=sys.stderr)
        return 2


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
    """The parser. ``with_train``: with the options of ``train``, whose defaults need PyTorch."""
    top = argparse.ArgumentParser(prog="python -m attnlib", description="Train, look and report.")
    commands = top.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for command, (says, options) in COMMANDS.items():
        own = commands.add_parser(command, help=says, description=says)
        own.set_defaults(own=own)
        for name, how in options.items():
            own.add_argument(*name.split(), **how)
    if with_train:
        from .commands import FIELDS, NUMBERS, default_of
        for name in FIELDS:
            commands.choices["train"].add_argument(
                f"--{name.replace('_', '-')}", dest=name, type=NUMBERS.get(name, str),
                default=argparse.SUPPRESS, help=default_of(name))
    return top


if __name__ == "__main__":
    sys.exit(main())
