"""What each command of ``python -m attnlib`` does: one function a command, given its options.

The rooms that draw and render are imported where they are asked for: a bare machine trains."""
import contextlib
import math
import shutil
import sys
import time

from .blocks import ATTENTION
from .data.arrays import SPLITS
from .data.datasets import DATASETS, load_dataset
from .experiments import formats, grid, planning, published, reading, repair, weights
from .experiments import predict as predicting
from .experiments import verify as verifying
from .experiments.studies import COMMITTED, PROFILES, STUDIES
from .names import choose
from .networks import BACKBONES
from .settings import data_dir, out_dir, runs_dir, shown
from .training import store, trainer
from .training.environment import environment, machine
from .training.recipes import RECIPES
from .training.run import NUMBERS, Run

FIELDS = ("dataset", "backbone", "attention", "placement", "recipe", "start",
          *NUMBERS)     # options of train
SAID = {"placement": "default: the block's own place",
        "start": "a finished run without attention, to go on from its weights; default: none"} | {
    field: f"{', '.join(names)}; default: {getattr(Run, field)}" for field, names in {
        "dataset": [*DATASETS, "folder:PATH", "npz:PATH"], "backbone": BACKBONES,
        "attention": ATTENTION, "recipe": RECIPES}.items()}
FEW_STEPS = 500                             # below it a network has hardly begun to learn


def default_of(name: str) -> str:
    """What a field of `Run` is where no option says otherwise."""
    if name in SAID:
        return SAID[name]
    own, recipe = getattr(Run, name), getattr(RECIPES[Run.recipe], name, None)
    if own is not None:
        return f"default: {own}"
    return "default: all" if recipe is None else f"default: the recipe's, {recipe} in {Run.recipe}"


def train(args) -> int:
    if args.weights:
        record = reading.find_record(weights.full_id(args.id or ""))
        print(f"{record['id']}: weights stored; the test accuracy differs from the record by "
              f"{trainer.train_weights(record):+.2f} points")
        return 0
    if args.id:
        raise ValueError(f"train {args.id}: say --weights to train a finished run again, or give "
                         "--dataset, --backbone, --attention … for a new one")
    if args.tensorboard:
        from .experiments import tensorboard  # noqa: F401    what is missing is told before training
    run = Run(**{k: v for k, v in vars(args).items() if k in FIELDS})
    known(args.profile)
    if not store.finished_record(args.profile, run.id):
        print_forecast(run)
    record = trainer.train(run, args.profile)
    if record["status"] != "done":
        print(f"{run.id}: {record['status']}")
        return 1
    test, model = record["test"], record["model"]
    print(f"{run.id}: test accuracy {100 * test['accuracy']:.2f} % on {test['n']} images, "
          f"{model['params']:,} parameters ({model['attention_params']:,} of attention), "
          f"{record['seconds']:.0f} s of training")
    if args.tensorboard:
        write_tensorboard([record])
    return 0


def write_tensorboard(records: list[dict]) -> None:
    from .experiments.tensorboard import write_events
    folders = [write_events(record) for record in records]
    print(f"{len(folders)} runs: tensorboard --logdir {shown(out_dir() / 'results/tensorboard')}")


def print_forecast(run: Run) -> None:
    """What training a run will be, before it starts: data, device, about how long."""
    data, env = trainer.data_of(run), environment()
    row = data.row
    counts = {s: len(data.split(s, getattr(run, f"n_{s}"))[1]) for s in data.labels}
    print(f"{run.dataset}: {', '.join(f'{n:,} {split}' for split, n in counts.items())} images of "
          f"{len(data.classes)} classes, {row.size}×{row.size}×{row.channels}; epochs: "
          f"{run.how.epochs}, on {env['device']} in {env['precision']}, about "
          f"{math.ceil(planning.estimate_seconds(run) / 60)} min", flush=True)
    steps = run.how.epochs * max(1, counts["train"] // run.how.batch_size)
    if steps < FEW_STEPS:
        print(f"only {steps} steps of {run.how.batch_size} images: a smaller --batch-size or more "
              "--epochs would teach it more", flush=True)


def known(profile: str) -> str:
    return choose("profile", profile, ("own", *PROFILES))


def studies_of(args) -> list[str]:
    """The studies that a command names."""
    choose("study", args.name, [*STUDIES, "all"])
    return list(STUDIES) if args.name == "all" else [args.name]


def study(args) -> None:
    profile, names, left = planning.profile_to_train(args.profile), studies_of(args), None
    end = time.monotonic() + (args.time_budget or 0)
    print(f"profile: {profile} ({choose('profile', profile, PROFILES).says})", flush=True)
    for name in names:
        rows = planning.plan_table(name, profile)
        print(f"study {name}:\n" + (rows.to_string(index=False) if len(rows) else
              f"no runs in {profile}; it has some in {', '.join(STUDIES[name].plans)}"), flush=True)
    if args.plan:
        return
    workers = contextlib.nullcontext()
    if args.cluster:
        from .experiments.cluster import cluster
        workers = cluster(args.cluster)
    with workers as executor:
        for k, name in enumerate(names):
            if args.time_budget is not None:
                left = end - time.monotonic()
                if left < 0:
                    print(f"time up: not begun: study {', '.join(names[k:])}")
                    break
            print(f"study {name}", flush=True)
            grid.run_grid(planning.study(name, profile), profile, executor=executor,
                          time_budget=left, jobs=args.jobs)


def focus(args) -> None:
    from .explain.camstore import focus_study
    profile = planning.profile_to_train(args.profile)
    for name in studies_of(args):
        focus_study(name, profile)


def evaluate(args) -> None:
    choose("split", args.split, SPLITS)
    draw = None
    if args.gradcam:
        from .figures.predicted import draw_evaluation as draw
    found = predicting.evaluate(args.run, args.split, draw)
    accuracy, against = 100 * found["accuracy"], ""
    if found["recorded"] is not None:
        recorded = 100 * found["recorded"]
        against = (f"; the record says {recorded:.2f} %, a difference of "
                   f"{accuracy - recorded:+.2f} points")
    print(f"{found['id']}: {args.split} accuracy {accuracy:.2f} % on {found['n']} images, NLL "
          f"{found['nll']:.4f}{against}")
    wide = max(map(len, found["per_class"]))
    for name, share in found["per_class"].items():
        print(f"  {name:{wide}}  {100 * share:5.1f} %")
    if args.gradcam:
        print(f"where it looks, in right ones and wrong ones: {shown(found['sheet'])}")


def predict(args) -> int:
    if args.top < 1:
        raise ValueError(f"--top {args.top} should be at least 1")
    model = weights.load_model(args.run)
    print(f"{model.id}: shown {model.size}×{model.size} pixels, "
          f"{'colour' if model.channels == 3 else 'grey'}; it knows {len(model.classes)} classes "
          "and always names one of them")
    bad = []
    for path, image, probs, why in predicting.predict(model, args.images):
        if why:
            bad.append(f"  {path}: {why}")
            continue
        print(path)
        for k in (-probs).argsort(kind="stable")[:args.top]:
            print(f"  {100 * probs[k]:5.1f} %  {model.classes[k]}")
        if args.gradcam:
            from .figures.predicted import draw_photo
            print(f"  where it looks: {shown(draw_photo(model, path, image, probs))}")
    if bad:
        print("\n".join([f"error: {len(bad)} of {len(args.images)} pictures could not be used:",
                         *bad]), file=sys.stderr)
    return int(bool(bad))


def export(args) -> None:
    if bool(args.run) == args.published:
        raise ValueError("export takes a RUN, or --published")
    if args.published:
        for path in published.publish():
            print(f"{shown(path)}: {path.stat().st_size / 1e6:.2f} MB")
        return
    if args.int8 and args.format != "onnx":
        raise ValueError("--int8 goes with --format onnx")
    path, off = formats.export_as(args.run, args.format, args.output)
    opset = f"; opset {formats.OPSET}" if args.format == "onnx" else ""
    print(f"{shown(path)}: {path.stat().st_size / 1e6:.2f} MB; loaded again, probabilities differ "
          f"by at most {off:.1e} (allowed: {formats.TOLERANCE[path.suffix]:.0e}){opset}")
    for row in formats.export_int8(args.run, path) if args.int8 else ():
        print(f"{shown(row['path'])}: {row['path'].stat().st_size / 1e6:.2f} MB, test accuracy "
              f"{100 * row['accuracy']:.2f} % on {row['n']} images, "
              f"{1000 * row['latency']:.2f} ms an image on one thread")


def runs(args) -> int:
    given = {"ids": args.ids, "--dry-run": args.dry_run, "--profile": args.profile}
    takes = {"tensorboard": ("ids", "--profile"), "repair": ("--dry-run", "--profile"), "clean": ()}
    for word in set(filter(given.get, given)) - {*takes.get(args.what, ("--profile",))}:
        raise ValueError(f"runs {args.what} takes no {word}: nothing was done")
    if args.what == "clean":
        for name in ("checkpoints", "executed"):
            folder = out_dir() / "results" / name
            if folder.exists():
                shutil.rmtree(folder)
                print(f"removed {shown(folder)}")
        return 0
    profiles = [known(args.profile)] if args.profile else ["own", *PROFILES]
    if args.what == "tensorboard":
        write_tensorboard([reading.find_record(weights.full_id(name, args.profile), args.profile)
                           for name in args.ids] or
                          [record for name in profiles for record in store.all_records(name)])
        return 0
    bad = 0
    for profile in profiles:
        if args.what == "list":
            list_runs(profile)
        elif args.what == "check":
            bad += repair.check(profile)[1]
        else:
            counts = repair.repair(profile, args.dry_run)
            done = [f"{counts[kind]} {repair.FIXES[kind][0]}" for kind in counts]
            dry = " (a dry run: nothing was changed)" if args.dry_run else ""
            print(f"{profile}: {', '.join(done) or 'nothing to repair'}{dry}")
    return int(bad > 0)


def list_runs(profile: str) -> None:
    """A table of the records, and for each that is stale what has changed since."""
    rows = reading.collect(profile=profile)
    if len(rows):
        columns = ["profile", "id", "recipe", "epochs", "status", "accuracy", "seconds"]
        print(rows[columns].to_string(index=False, float_format="%.1f"))
    for run_id in rows.id[rows.status == "stale"]:
        print(f"stale: {run_id}: {reading.outdated(reading.find_record(run_id, profile))}")
    if kept := sum(path.suffix in (".corrupt", ".failed") for path in runs_dir(profile).glob("*")):
        print(f"{profile}: {kept} files set aside (*.corrupt, *.failed)")


def data(args) -> int:
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
    from .report.page import report
    names = args.names or None
    if args.what == "run":
        pairs = dict(p.partition("=")[::2] for p in args.parameter)
        return books.run_books(names, profile=args.profile, seeds=args.seeds, parameters=pairs,
                         jobs=args.jobs)
    if args.what == "report":
        print(shown(report()))
        return 0
    return {"check": books.check_books, "publish": books.publish_books}[args.what](names)


def verify(args) -> int:
    profiles = [known(args.profile)] if args.profile else list(filter(store.all_records, COMMITTED))
    if not profiles:
        raise LookupError(f"no record of profile {', '.join(COMMITTED)} is here; --profile names "
                          "another")
    return int(sum(verifying.verify(p, args.minutes, args.seed) for p in profiles) > 0)


def bench(args) -> None:
    from .bench import bench as benches
    minutes = (1 if args.quick else 9) if args.minutes is None else args.minutes
    if minutes <= 0:
        raise ValueError(f"--minutes {minutes:g} should be above 0")
    widths = (0.25, 1) if args.full else (0.25,)
    if machine().device == "cuda":
        widths = (1, 0.25)
    rows = benches.quick_plan() if args.quick else benches.plan(widths, notebook=args.notebook)
    benches.run_bench(rows, minutes, "quick" * args.quick, again=args.quick or args.again)


def readme(args) -> None:
    from .report.readme import update
    for path in update():
        print(shown(path))
