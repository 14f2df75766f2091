"""Many runs on one GPU at once.

The kernels of a narrow network are so short that Python takes longer to launch them than the GPU to
run them. Here a run's step of training is captured in a CUDA graph, which one call launches, and
the graphs of many runs go side by side, each on a stream of its own. What is computed is
`Trainer.epoch`'s, to which a test holds it; a record says how many runs went ``together``. On an
H200 a captured step of 256 images takes 2.7 ms alone and 2.5 among twelve in ResNet-18 (width 1/4),
1.2 and 0.8 in speednet (1/2), 6.2 and 6.3 in the slim ResNet-50 (1/4): most is won by the graph."""
import contextlib
import time
from functools import cache

import torch
from torch import nn

from ..data.batches import side_at
from ..networks.build import build_model
from ..settings import checkpoints_dir
from . import store
from .environment import determinism, machine
from .optim import descend, is_over, progress_line, rate
from .run import Run
from .trainer import TimeUp, Trainer, conclude, data_of, judge

SAVE_AFTER = 60             # seconds: epochs are so short here that not each is saved


def fits(run: Run) -> bool:
    """Whether a step of this run can be captured: nothing in it may depend on a number that changes
    from step to step in Python (a loss scale, the share in an average, dropout)."""
    return not run.how.ema and machine().autocast is not torch.float16 and not drops(run.backbone)


@cache
def drops(backbone: str) -> bool:
    """Whether a network has dropout: its draws would depend on what else is trained beside it."""
    with torch.device("meta"):
        modules = build_model(backbone).modules()
    return any(isinstance(m, nn.Dropout) and m.p > 0 for m in modules)


def alike(run: Run) -> tuple:
    """Runs of which this is the same share their images and go through them in step."""
    return run.dataset, run.n_train, run.n_val, run.n_test, run.how


class Lane:
    """One run's way through an epoch, in tensors that stay where they are."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.stream = torch.cuda.Stream() if trainer.machine.device == "cuda" else None
        self.held: dict[str, torch.Tensor] = {}
        self.graph = self.side = None

    def begin(self) -> None:
        """What the next epoch needs, all of it on the device."""
        t, epoch = self.trainer, len(self.trainer.history)
        how, batches, device = t.how, t.batches["train"], t.machine.device
        t.model.train()
        rates = [rate(how, (epoch + step / t.steps) / how.epochs, t.history)
                 for step in range(t.steps)]
        zero = torch.zeros((), device=device)
        values = batches.plan(epoch) | {
            "rates": torch.tensor(rates, device=device), "loss": zero, "right": zero.clone(),
            "at": torch.arange(min(how.batch_size, len(batches.labels)), device=device),
            "step": torch.zeros(1, dtype=torch.long, device=device)}
        for name, value in values.items():
            self.held.setdefault(name, value).copy_(value)
        side = side_at(epoch, how.epochs, t.row.size, how.grow_from)
        if side != self.side:
            self.graph, self.side = None, side
        t.optimizer.param_groups[0]["lr"] = rates[-1]              # for the history's row

    def step(self, first: bool) -> None:
        """The first step of an epoch is taken as it is, which warms up libraries; the second is
        captured, where the last epoch's graph does not serve."""
        if self.graph is None and not first and self.stream is not None:
            self.capture()
        if self.graph is None:
            self.compute()
        else:
            self.graph.replay()

    def compute(self) -> None:
        t, held = self.trainer, self.held
        x, y = t.batches["train"].cut(held["order"][held["at"]], held, self.side)
        loss, right = t.forward(x, y)
        t.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        descend(t.optimizer, held["rates"][held["step"]].squeeze())
        held["loss"] += loss.detach()
        held["right"] += right
        held["at"] += t.how.batch_size
        held["step"] += 1

    def capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        self.trainer.optimizer.zero_grad(set_to_none=True)         # its gradients live in the graph
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            self.compute()
        finally:
            graph.capture_end()                    # else the stream would stay in capture
        self.graph = graph


def train_together(runs: list[Run], profile: str = "own", *, deadline: float | None = None) -> None:
    """Train runs that are `alike` and that `fits` side by side, and store their records; as
    `train` otherwise. `TimeUp` where time is up, all saved."""
    with contextlib.ExitStack() as stack:
        for run in runs:
            stack.enter_context(store.lock(profile, run.id))
        stack.enter_context(determinism())
        runs = [run for run in runs if not store.finished_record(profile, run.id)]
        if not runs:
            return
        data, trainers = data_of(runs[0]), []
        for run in runs:
            trainers.append(Trainer(run, data, trainers[0] if trainers else None))
            trainers[-1].resume(checkpoints_dir(profile, run.id))
        if machine().device == "cuda":
            torch.cuda.synchronize()               # what was built here is used on other streams
        go_side_by_side(trainers, profile, deadline)


def go_side_by_side(trainers: list[Trainer], profile: str, deadline: float | None) -> None:
    lanes, saved = [Lane(t) for t in trainers], time.monotonic()

    def leave_ended(diverged=()) -> None:
        for lane in list(lanes):
            t = lane.trainer
            if lane in diverged or len(t.history) == t.how.epochs or is_over(t.history, t.how):
                lanes.remove(lane)
                if t.best and lane not in diverged:
                    t.judged.load_state_dict(t.best)
                status = "diverged" if lane in diverged else "done"
                conclude(t, profile, status, len(trainers))

    leave_ended()                                  # all epochs saved before, but no record
    while lanes:
        least = min(len(lane.trainer.history) for lane in lanes)   # after a resumption they differ
        leave_ended(epoch([lane for lane in lanes if len(lane.trainer.history) == least]))
        now = time.monotonic()
        late = deadline is not None and now > deadline
        if late or now - saved > SAVE_AFTER:
            saved = now
            for t in (lane.trainer for lane in lanes):
                store.save_checkpoint(checkpoints_dir(profile, t.run.id),
                                      f"ckpt-{len(t.history)}", t.state())
        if lanes:
            t = lanes[0].trainer
            print(f"{len(lanes)} together:", progress_line(t.run.id, t.how, t.history,
                                                                    len(lanes)), flush=True)
            if late:
                raise TimeUp(f"{len(lanes)} runs stopped after epoch {least + 1}, all saved")


def epoch(lanes: list[Lane]) -> list[Lane]:
    """One epoch of each lane; returns those that diverged."""
    started, steps = time.perf_counter(), lanes[0].trainer.steps
    for lane in lanes:
        with torch.cuda.stream(lane.stream):
            lane.begin()
    for step in range(steps):
        for lane in lanes:
            with torch.cuda.stream(lane.stream):
                lane.step(step == 0)
    diverged = []
    for lane in lanes:
        with torch.cuda.stream(lane.stream):
            row = lane.trainer.epoch_row(lane.held["loss"], lane.held["right"], started)
            if not judge(lane.trainer, row):
                diverged.append(lane)
    share = (time.perf_counter() - started) / len(lanes)
    for lane in lanes:
        lane.trainer.history[-1]["seconds"] = share
    return diverged
