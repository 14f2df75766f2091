"""The command line: ``python -m attnlib …``."""
import argparse
import contextlib
import math
import os
import shutil
import sys

from .settings import data_dir, out_dir, shown

MODEL = "a run's id or the beginning of one, or a weight file"
EXTRAS = {"distributed": "cluster", "tensorboard": "tensorboard", "onnx": "onnx",
          "onnxruntime": "onnx", "onnxscript": "onnx", "safetensors": "onnx"}


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 is success. A wrong name or missing file is one line on stderr and 2."""
    from .files import Busy
    args = parser().parse_args(argv)
    if getattr(args, "deterministic", False):
        os.environ["ATTNLIB_DETERMINISTIC"] = "1"        # worker processes and kernels inherit it
    try:
        return args.command(args) or 0
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
        print(f"error: this needs {error.name}: pip install 'attnlib[{EXTRAS[error.name]}]', or "
              f"in a clone '.[{EXTRAS[error.name]}]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; finished epochs are saved, the same command goes on", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m attnlib", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name, run, says, **options):
        sub = commands.add_parser(name, help=says, description=says, **options)
        sub.set_defaults(command=run)
        return sub

    sub = command("train", train, "train one run, or ID --weights: a finished run for its weights")
    sub.add_argument("id", nargs="?", help="the id of a finished run, with --weights")
    sub.add_argument("--weights", action="store_true", help="train ID again; keep its record")
    sub.add_argument("--profile", default="own", help="where the record goes (default: own)")
    sub.add_argument("--tensorboard", action="store_true", help="and write TensorBoard's files")
    from .training.run import NUMBERS
    for name in ("dataset", "backbone", "attention", "placement", "recipe", *NUMBERS):
        sub.add_argument(f"--{name.replace('_', '-')}", dest=name, type=NUMBERS.get(name, str),
                         default=argparse.SUPPRESS, help=default_of(name))

    for name, run, says in (("study", study, "train what a study still lacks"),
                            ("focus", focus, "store the class activation maps of a study's runs")):
        sub = command(name, run, says)
        sub.add_argument("name", help="a study, or all")
        sub.add_argument("--profile", default="auto")
        if name == "study":
            sub.add_argument("--time-budget", type=float, metavar="SECONDS",
                             help="stop cleanly at an epoch's end after this long")
            sub.add_argument("--jobs", default="auto", help="trainings side by side")
            sub.add_argument("--cluster", metavar="ADDRESS", help="train on a dask cluster: "
                             "tcp://host:8786, or local:N for N workers on this machine")
            sub.add_argument("--plan", action="store_true", help="only say what would be trained")

    sub = command("evaluate", evaluate, "score a trained run's weights on a split again")
    sub.add_argument("run", metavar="RUN", help=MODEL)
    sub.add_argument("--split", default="test", help="test (default), val or train")
    sub.add_argument("--gradcam", action="store_true", help="and draw where it looks")

    sub = command("predict", predict, "the classes that a trained network sees in picture files")
    sub.add_argument("run", metavar="RUN", help=MODEL)
    sub.add_argument("images", nargs="+", metavar="IMAGE", help="of any type that Pillow reads")
    sub.add_argument("--top", type=int, default=5, help="so many classes (default: 5)")
    sub.add_argument("--gradcam", action="store_true", help="and draw where it looks")

    sub = command("export", export, "write a trained run as a file to give away")
    sub.add_argument("run", metavar="RUN", nargs="?", help=MODEL)
    sub.add_argument("--output", metavar="FILE", help="default: results/weights/<id>.<ending>")
    sub.add_argument("--format", default="npz", choices=("npz", "safetensors", "onnx",
                     "torchscript"), help="npz (default): weights in float16, no code")
    sub.add_argument("--int8", action="store_true", help="and an ONNX file of 8 bits for phones, "
                     "with the accuracy and latency of both; needs the data")
    sub.add_argument("--published", action="store_true",
                     help="the weight files of the repository, their index and their card")

    sub = command("runs", runs, "list, check, repair or clean what is stored; TensorBoard's files")
    sub.add_argument("what", choices=("list", "check", "repair", "clean", "tensorboard"))
    sub.add_argument("ids", nargs="*", metavar="ID", help="tensorboard: of these alone")
    sub.add_argument("--profile", default=None)
    sub.add_argument("--dry-run", action="store_true", help="repair: only say what would be done")

    sub = command("data", data, "fetch or check the real data sets; check your own")
    sub.add_argument("what", choices=("get", "check"))
    sub.add_argument("names", nargs="*", default=["cifar10", "fashionmnist", "cifar100"])

    sub = command("notebooks", notebooks, "run, check, report or publish the notebooks")
    sub.add_argument("what", choices=("run", "check", "report", "publish"))
    sub.add_argument("names", nargs="*", help="such as 03_se; none: all seven")
    sub.add_argument("--profile", default="auto")
    sub.add_argument("--seeds", type=int, help="no more than this many seeds an arm")
    sub.add_argument("--jobs", default="auto", help="trainings side by side (default: auto)")
    sub.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE")

    sub = command("verify", verify, "check the records, and train a sample of them again")
    sub.add_argument("--profile", help="full, real, small …: by default all that are committed")
    sub.add_argument("--minutes", type=float, default=10, help="of training again (default: 10)")
    sub.add_argument("--seed", type=int, default=0, help="another sample (default: 0)")

    sub = command("bench", bench, "measure speed side by side with the plain loop")
    sub.add_argument("--minutes", type=float, help="about so long (default: 12; quick: 1)")
    sub.add_argument("--quick", action="store_true", help="everything once, tiny")
    sub.add_argument("--full", action="store_true", help="full width too (a GPU: always)")
    sub.add_argument("--notebook", default="", metavar="NAME", help="time this one, too: 03_se")
    sub.add_argument("--again", action="store_true",
                     help="replace stored rows even where they were measured for longer")

    for name in ("train", "study", "notebooks"):
        commands.choices[name].add_argument(
            "--deterministic", action="store_true",
            help="PyTorch's deterministic algorithms alone (also: ATTNLIB_DETERMINISTIC=1)")

    command("readme", readme, "write the README's results table from the records")
    return top


def default_of(name: str) -> str:
    """What a field of `Run` is where no option says otherwise."""
    from .training.recipes import RECIPES
    from .training.run import Run
    if name == "placement":
        return "default: the block's own place"
    names = f"{', '.join(RECIPES)}; " if name == "recipe" else ""
    recipe = getattr(RECIPES[Run.recipe], name, None)
    from_recipe = f"the recipe's, {recipe} in {Run.recipe}" if recipe is not None else "all"
    own = getattr(Run, name)
    return f"{names}default: {from_recipe if own is None else own}"


def train(args) -> None:
    from .experiments.planning import FEW_STEPS, steps_of
    from .experiments.reading import find_record
    from .experiments.weights import full_id
    from .training.run import NUMBERS, Run
    from .training.store import finished_record
    from .training.trainer import train as train_run
    from .training.trainer import train_weights
    if args.weights:
        record = find_record(full_id(args.id or ""))
        print(f"{record['id']}: weights stored; the test accuracy differs from the record by "
              f"{train_weights(record):+.2f} points")
        return
    if args.id:
        raise ValueError(f"train {args.id}: say --weights to train a finished run again, or give "
                         "--dataset, --backbone, --attention … for a new one")
    keys = ("dataset", "backbone", "attention", "placement", "recipe", *NUMBERS)
    run = Run(**{k: v for k, v in vars(args).items() if k in keys})
    known_profile(args.profile)
    warning = ""
    if not finished_record(args.profile, run.id):
        print_forecast(run)
        if steps_of(run) < FEW_STEPS:
            warning = (f"only {steps_of(run)} steps of {run.how.batch_size} images: a smaller "
                       "--batch-size or more --epochs would teach it more")
            print(warning, flush=True)
    record = train_run(run, args.profile)
    if record["status"] != "done":
        print(f"{run.id}: {record['status']}")
        raise SystemExit(1)
    test, model = record["test"], record["model"]
    print(f"{run.id}: test accuracy {100 * test['accuracy']:.2f} % on {test['n']} images, "
          f"{model['params']:,} parameters ({model['attention_params']:,} of attention), "
          f"{record['seconds']:.0f} s of training")
    if warning:
        print(warning)
    if args.tensorboard:
        write_tensorboard([record])


def write_tensorboard(records: list[dict]) -> None:
    from .experiments.tensorboard import write_events
    folders = [write_events(record) for record in records]
    top = shown(out_dir() / "results" / "tensorboard")
    print(f"{len(folders)} runs: tensorboard --logdir {top}")


def print_forecast(run) -> None:
    """What training a run will be, before it starts: data, device, about how long."""
    from .experiments.planning import estimate_seconds
    from .training.environment import environment
    from .training.trainer import data_of
    data = data_of(run)
    counts = {split: getattr(run, f"n_{split}") or len(y) for split, y in data.labels.items()}
    env, row = environment(), data.row
    print(f"{run.dataset}: {', '.join(f'{n:,} {split}' for split, n in counts.items())} images of "
          f"{len(data.classes)} classes, {row.size}×{row.size}×{row.channels}; {run.how.epochs} "
          f"epochs on {env['device']} in {env['precision']}, about "
          f"{math.ceil(estimate_seconds(run) / 60)} min", flush=True)


def known_profile(profile: str) -> None:
    from .experiments.studies import PROFILES
    from .names import choose
    choose("profile", profile, ("own", *PROFILES))


def named_studies(name: str) -> list[str]:
    from .experiments.studies import STUDIES
    from .names import choose
    if name == "all":
        return list(STUDIES)
    choose("study", name, [*STUDIES, "all"])
    return [name]


def study(args) -> None:
    import time

    from .experiments.grid import run_grid
    from .experiments.planning import plan_table, resolve_profile, status_line
    from .experiments.planning import study as study_runs
    profile = resolve_profile(args.profile)
    started = time.monotonic()
    names = named_studies(args.name)
    print(status_line(names, profile), flush=True)
    for name in names:
        rows = plan_table(name, profile)
        if len(rows):
            print(f"study {name}:\n{rows.to_string(index=False)}", flush=True)
    if args.plan:
        return
    left, workers = args.time_budget, contextlib.nullcontext()
    if args.cluster:
        from .experiments.cluster import cluster
        workers = cluster(args.cluster)
    with workers as executor:
        for name in names:
            if args.time_budget:
                left = args.time_budget - (time.monotonic() - started)
                if left <= 0:
                    break
            print(f"study {name}", flush=True)
            run_grid(study_runs(name, profile), profile, executor=executor, time_budget=left,
                     jobs=args.jobs)


def focus(args) -> None:
    from .experiments.planning import resolve_profile
    from .explain.camstore import focus_study
    profile = resolve_profile(args.profile)
    for name in named_studies(args.name):
        focus_study(name, profile)


def evaluate(args) -> None:
    from .data.arrays import SPLITS
    from .experiments.predict import evaluate as evaluate_run
    from .names import choose
    choose("split", args.split, SPLITS)
    from .figures.predicted import draw_evaluation
    found = evaluate_run(args.run, args.split, draw_evaluation if args.gradcam else None)
    there = found["recorded"]
    against = "" if there is None else (f"; the record says {100 * there:.2f} %, a difference of "
                                        f"{100 * (found['accuracy'] - there):+.2f} points")
    print(f"{found['id']}: {args.split} accuracy {100 * found['accuracy']:.2f} % on {found['n']} "
          f"images, NLL {found['nll']:.4f}{against}")
    wide = max(map(len, found["per_class"]))
    for name, share in found["per_class"].items():
        print(f"  {name:{wide}}  {100 * share:5.1f} %")
    if args.gradcam:
        print(f"where it looks, in right ones and wrong ones: {shown(found['sheet'])}")


def predict(args) -> int:
    from .experiments.predict import predict as predict_files
    if args.top < 1:
        raise ValueError(f"--top {args.top} should be at least 1")
    from .figures.predicted import draw_photo
    draw = draw_photo if args.gradcam else None
    return int(predict_files(args.run, args.images, args.top, draw) > 0)


def export(args) -> None:
    if bool(args.run) == args.published:
        raise ValueError("export takes a RUN, or --published")
    if args.published:
        from .experiments.published import publish
        for path in publish():
            print(f"{shown(path)}: {path.stat().st_size / 1e6:.2f} MB")
        return
    if args.int8 and args.format != "onnx":
        raise ValueError("--int8 goes with --format onnx")
    from .experiments.formats import OPSET, TOLERANCE, export_as, export_int8
    path, off = export_as(args.run, args.format, args.output)
    again = "" if args.format == "npz" else (
        f"; loaded again, probabilities differ by at most {off:.1e} (allowed: {TOLERANCE:.0e})")
    opset = f"; opset {OPSET}" if args.format == "onnx" else ""
    print(f"{shown(path)}: {path.stat().st_size / 1e6:.2f} MB{again}{opset}")
    for row in export_int8(args.run, path) if args.int8 else ():
        print(f"{shown(row['path'])}: {row['path'].stat().st_size / 1e6:.2f} MB, test accuracy "
              f"{100 * row['accuracy']:.2f} % on {row['n']} images, "
              f"{1000 * row['latency']:.2f} ms an image on one thread")


def runs(args) -> int:
    from .experiments.studies import PROFILES
    if args.what == "clean":
        for name in ("checkpoints", "executed"):
            folder = out_dir() / "results" / name
            shutil.rmtree(folder, ignore_errors=True)
            print(f"removed {shown(folder)}")
        return 0
    profiles = [args.profile] if args.profile else ["own", *PROFILES]
    if args.what == "tensorboard":
        from .experiments.reading import find_record
        from .experiments.weights import full_id
        from .training.store import all_records
        write_tensorboard([find_record(full_id(name), args.profile) for name in args.ids] or
                          [record for name in profiles for record in all_records(name)])
        return 0
    bad = 0
    for profile in profiles:
        known_profile(profile)
        bad += {"list": list_runs, "check": check_runs, "repair": repair_runs}[args.what](
            profile, args)
    return int(bad > 0)


def list_runs(profile: str, args) -> int:
    """A table of the records, and for each that is stale what has changed since."""
    from .experiments.reading import collect, find_record, outdated
    from .experiments.repair import kept_aside
    rows = collect(profile=profile)
    if len(rows):
        columns = ["profile", "id", "status", "accuracy", "seconds"]
        print(rows[columns].to_string(index=False, float_format="%.1f"))
    for run_id in rows.id[rows.status == "stale"]:
        print(f"stale: {run_id}: {outdated(find_record(run_id, profile))}")
    if kept_aside(profile):
        print(f"{profile}: {kept_aside(profile)} files set aside (*.corrupt, *.failed)")
    return 0


def check_runs(profile: str, args) -> int:
    from .experiments.repair import check
    good, bad = check(profile)
    print(f"{profile}: {good} good records, {bad} things to see to"
          + (" (`python -m attnlib runs repair --dry-run` says how)" if bad else ""))
    return bad


def repair_runs(profile: str, args) -> int:
    from .experiments.repair import FIXES, repair
    counts = repair(profile, args.dry_run)
    done = [f"{counts[kind]} {word}" for kind, (word, _) in FIXES.items() if counts[kind]]
    print(f"{profile}: {', '.join(done) or 'nothing to repair'}"
          + (" (a dry run: nothing was changed)" if args.dry_run else ""))
    return 0


def data(args) -> int:
    from .data.datasets import load_dataset
    bad = 0
    for name in args.names:
        try:
            found = load_dataset(name, download=args.what == "get")
            counts = ", ".join(f"{len(y)} {split}" for split, y in found.labels.items())
            print(f"{name}: {counts} images, {len(found.classes)} classes, good")
        except (FileNotFoundError, ValueError) as error:
            print(f"{name}: {error}")
            bad += 1
    print(f"data folder: {data_dir().resolve()}")
    return int(bad > 0)


def notebooks(args) -> int:
    from .report import notebooks as books
    if args.what == "run":
        pairs = dict(p.partition("=")[::2] for p in args.parameter)
        return books.run(args.names or None, profile=args.profile, seeds=args.seeds,
                         parameters=pairs, jobs=args.jobs)
    if args.what == "report":
        from .report.page import report
        print(shown(report()))
        return 0
    return {"check": books.check, "publish": books.publish}[args.what](args.names or None)


def verify(args) -> int:
    from .experiments.verify import verify as check
    from .training import store
    if args.profile:
        known_profile(args.profile)
    bad = [check(profile, args.minutes, args.seed)
           for profile in ([args.profile] if args.profile else ("pilot", "real", "full"))
           if args.profile or store.all_records(profile)]
    if not bad:
        raise LookupError("no record of profile pilot, real or full is here; --profile names "
                          "another")
    return int(sum(bad) > 0)


def bench(args) -> None:
    from .bench import bench as benches
    from .training.environment import machine
    minutes = args.minutes or (1 if args.quick else 12)
    if minutes <= 0:
        raise ValueError(f"--minutes {minutes:g} should be above 0")
    if args.quick:
        benches.run(benches.quick_plan(), minutes, "quick", again=True)
        return
    widths = (1, 0.25) if machine().device == "cuda" else (0.25, 1) if args.full else (0.25,)
    benches.run(benches.plan(widths, notebook=args.notebook), minutes, again=args.again)


def readme(args) -> None:
    from .report.readme import update
    for path in update():
        print(shown(path))


if __name__ == "__main__":
    sys.exit(main())
