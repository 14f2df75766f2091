"""Optimisers, learning rates, what the validation split decides, and averaged weights. Rates and
decisions follow from the recipe and the history alone, so resuming needs no state of theirs."""
import importlib
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import nn

from ..data.batches import side_at
from ..names import choose
from .recipes import Recipe


def load_dynamo() -> None:
    """Import what torch's optimisers want at first, in a thread: Ctrl-C, which reaches the main one
    alone, would leave half of it. ``ImportError`` where that has happened."""
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(importlib.import_module, "torch._dynamo").result()
    except Exception as error:
        raise ImportError("the import of PyTorch was cut short: restart Python") from error


def make_optimizer(model: nn.Module, how: Recipe) -> torch.optim.Optimizer:
    """Weight decay on the weights of 2-d convolutions and linear layers alone: not on biases, norms
    or a gate's own factors, but where the recipe says ``decay_all``."""
    layers = (m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    decayed = {id(m.weight) for m in layers}
    groups = [{"params": [p for p in model.parameters() if id(p) in decayed],
               "weight_decay": how.weight_decay},
              {"params": [p for p in model.parameters() if id(p) not in decayed],
               "weight_decay": how.weight_decay if how.decay_all else 0.0}]
    make, own = choose("optimizer", how.optimizer, OPTIMIZERS)
    # foreach is what CUDA does anyway. On a CPU it steps in two thirds of the default's time, to
    # the same bit; fused takes a quarter of it, but rounds otherwise: records would not repeat.
    return make(groups, lr=how.lr, foreach=True, **own(how.momentum))


OPTIMIZERS = {
    "sgd": (torch.optim.SGD, lambda beta: {"momentum": beta, "nesterov": True}),
    "heavyball": (torch.optim.SGD, lambda beta: {"momentum": beta}),
    "adam": (torch.optim.Adam, lambda beta: {"betas": (beta, 0.999)}),
}


def set_lr(optimizer: torch.optim.Optimizer, how: Recipe, progress: float, history=()) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate(how, progress, history)


def rate(how: Recipe, progress: float, history=()) -> float:
    """The learning rate at ``progress`` in 0..1, after the epochs of ``history``."""
    return how.lr * choose("schedule", how.schedule, SCHEDULES)(progress, how, history)


@torch.no_grad()
def descend(optimizer: torch.optim.Optimizer, lr: torch.Tensor) -> None:
    """``optimizer.step()`` at the rate in a tensor: PyTorch's own takes a number, which a CUDA
    graph would keep for ever, or is Adam's ``capturable``, which no CPU could test."""
    way = adam if isinstance(optimizer, torch.optim.Adam) else momentum
    for group in optimizer.param_groups:
        weights = [p for p in group["params"] if p.grad is not None]
        grads = [p.grad for p in weights]
        if group["weight_decay"]:
            torch._foreach_add_(grads, weights, alpha=group["weight_decay"])
        steps = torch._foreach_mul(way(optimizer.state, group, weights, grads), lr)
        torch._foreach_sub_(weights, steps)


def momentum(state: dict, group: dict, weights: list, grads: list) -> list:
    """v = β v + g; returns v, or Nesterov's g + β v."""
    velocities = kept(state, weights, "momentum_buffer")
    torch._foreach_mul_(velocities, group["momentum"])
    torch._foreach_add_(velocities, grads)
    if not group["nesterov"]:
        return velocities
    torch._foreach_add_(grads, velocities, alpha=group["momentum"])
    return grads


def adam(state: dict, group: dict, weights: list, grads: list) -> list:
    """m / (1 - β₁ⁿ) / (√(v / (1 - β₂ⁿ)) + ε) after n steps, with the running means m of g and v of
    g² (Kingma and Ba 2015, arXiv:1412.6980)."""
    first, second = group["betas"]
    means, squares = kept(state, weights, "exp_avg"), kept(state, weights, "exp_avg_sq")
    for p in weights:                                # PyTorch's own keeps its counts on the CPU
        state[p]["step"] = state[p].get("step", torch.zeros(())).to(p.device)
    counts = [state[p]["step"] for p in weights]
    torch._foreach_add_(counts, 1)
    torch._foreach_lerp_(means, grads, 1 - first)
    torch._foreach_mul_(squares, second)
    torch._foreach_addcmul_(squares, grads, grads, 1 - second)
    mean_share, square_share = ((1 - beta ** counts[0].double()).to(grads[0].dtype)
                                for beta in (first, second))
    scales = torch._foreach_sqrt(squares)
    torch._foreach_mul_(scales, square_share.rsqrt())
    torch._foreach_add_(scales, group["eps"])
    torch._foreach_mul_(scales, mean_share)
    return torch._foreach_div(means, scales)


def kept(state: dict, weights: list, name: str) -> list:
    """What an optimiser keeps of each weight under that name, zeros at first."""
    for p in weights:
        if name not in state[p]:
            state[p][name] = torch.zeros_like(p)
    return [state[p][name] for p in weights]


def cosine(progress: float, how: Recipe, history=()) -> float:
    """Linear from 0.01 to 1 over the warm-up, then half a cosine down to 0, or with a ``tail`` down
    to 0.01, where it stays for the tail's share of all steps."""
    if how.tail:
        return max(0.01, cosine(min(1.0, progress / (1 - how.tail)), replace(how, tail=0.0)))
    if progress < how.warmup:
        return 0.01 + 0.99 * progress / how.warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - how.warmup) / (1 - how.warmup)))


def halving(progress: float, how: Recipe, history=()) -> float:
    """Halved ten times over the run: P1's every 30 of 300 epochs."""
    return 0.5 ** math.floor(10 * progress)


def plateau(progress: float, how: Recipe, history=()) -> float:
    """Cut after every ``how.plateau`` epochs in a row without a better watched value."""
    factor, best, waited = 1.0, -math.inf, 0
    for row in history:
        value = watched(row, how)
        best, waited = (value, 0) if value > best else (best, waited + 1)
        if waited == how.plateau:
            factor, waited = factor * how.plateau_factor, 0
    return factor


SCHEDULES = {"cosine": cosine, "halving": halving, "plateau": plateau}


# --- What the validation split decides ---


def scores(probs: torch.Tensor, labels: torch.Tensor) -> dict:
    """``accuracy`` in 0..1 and ``nll`` in nats of class probabilities [N, classes]."""
    picked = probs.gather(1, labels[:, None]).clamp_min(1e-12)
    return {"accuracy": (probs.argmax(1) == labels).float().mean().item(),
            "nll": -picked.log().mean().item(), "n": len(labels)}


def watched(row: dict, how: Recipe) -> float:
    """The value of an epoch that the recipe goes by; more is better."""
    value = row[choose("watched value", how.watch, ("val_accuracy", "val_nll"))]
    return -value if how.watch == "val_nll" else value


def best_epoch(history: list[dict], how: Recipe) -> int:
    """The first of the best epochs, counted from 0."""
    values = [watched(row, how) for row in history]
    return values.index(max(values))


def is_over(history: list[dict], how: Recipe) -> bool:
    return bool(history and how.patience) and \
        len(history) - 1 - best_epoch(history, how) >= how.patience


def ending(history: list[dict], how: Recipe) -> dict:
    """What a record says of a run that the validation split could end: the epoch whose weights it
    kept, counted from 1, and whether it was stopped early."""
    if not how.watch:
        return {}
    chosen = best_epoch(history, how) + 1 if how.keep_best else len(history)
    return {"selected_epoch": chosen, "early_stopped": len(history) < how.epochs}


def progress_line(run_id: str, how: Recipe, history: list[dict], lanes: int = 1) -> str:
    row, n = history[-1], len(history)
    areas = [side_at(e, how.epochs, 100, how.grow_from) ** 2 for e in range(how.epochs)]
    wait = lanes * sum(h["seconds"] for h in history) * sum(areas[n:]) / sum(areas[:n])
    return (f"{run_id}  epoch {n}/{how.epochs}  loss {row['loss']:.3f}  "
            f"train {100 * row['train_accuracy']:.1f} %  val {100 * row['val_accuracy']:.1f} %  "
            f"{row['seconds']:.1f} s, {wait:.0f} s left")


# --- Averaged weights ---


def pairs(mean: nn.Module, model: nn.Module) -> tuple[list, list]:
    """The (mean's, model's) weights and statistics, and their counters, side by side."""
    return tuple([[x for x in net.state_dict().values() if x.is_floating_point() == real]
                  for net in (mean, model)] for real in (True, False))


@torch.no_grad()
def average(floats: list, counters: list, decay: float, step: int) -> None:
    """mean = d mean + (1-d) model, with d = min(decay, (1+step) / (10+step)), so that the first
    steps do not linger (the rule of TensorFlow's moving average). The norms' running statistics are
    averaged like the weights; their counters are copied."""
    torch._foreach_lerp_(*floats, 1 - min(decay, (1 + step) / (10 + step)))
    if counters[0]:
        torch._foreach_copy_(*counters)
