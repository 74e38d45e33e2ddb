"""Images a second of augment-bench's classifiers while they train, and whether they learn the same.

The plain side is the loop one writes first: the network as built, in memory as torch has it (NCHW),
fp32, AdamW and cross-entropy as torch has them. Ours is `fit`, as augment-bench calls it. Both
start from the same weights and are shown the same batches of the same tiles; what lies between the
first and the last update is timed, so that evaluations count on neither side.

Two comparisons, in turns. Per core: one thread on each side. Per machine: augment-bench trains as
many classifiers at a time as there are cores, each in a process of one thread; the plain side
trains one after another with all cores in every layer.

Accuracy: both sides train on the phantom and are tested on other patients of it after the last
update. So that little but arithmetic differs, the plain side follows the recipe's learning rates,
decay and label smoothing, and renews its batch norm too. The difference in balanced accuracy is
paired by family and seed; the interval is Student's t over those pairs, and each family's is
Bonferroni's for four.

CPU only, and on a machine with nothing else to do: where others want the cores, the plain side's
threads wait for one another in every layer, and its machine figure is no longer its own.
"""

import math
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

import numpy as np
import torch
from harness import Options, Outcome, Timing
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import nn
from torch.nn import functional as F

from privgen.benefit.arms import Composition
from privgen.benefit.trials.classifiers import FAMILIES, Classifier, build, uses_bfloat16
from privgen.benefit.trials.fitting import Recipe, fit, predict
from privgen.data.phantom import make_phantom
from privgen.data.tileset import TileSet

SIDE = 64
CLASSES = ("LYM", "MUC", "STR", "TUM")
PATIENTS, EACH = 6, 24
TIMED = Recipe(updates=13, batch=32, evaluations=1)
TAUGHT = Recipe(updates=48, batch=32, evaluations=1)
PAIRS = 3
SEEDS = 5
TARGET = 1.3
CONFIDENCE = 0.95
CPU = torch.device("cpu")

Side = Literal["ours", "plain"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Data:
    """Tiles and class numbers of patients for training and of others for testing."""

    train: NDArray[np.uint8]
    train_labels: NDArray[np.intp]
    test: NDArray[np.uint8]
    test_labels: NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """When the first and the last update ended, seconds; balanced accuracy on the test tiles."""

    first: float
    last: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class _Order:
    """A training to be done."""

    side: Side
    family: str
    seed: int
    recipe: Recipe


def run(options: Options) -> Outcome:
    """Speed-ups per core and per machine, and the difference in accuracy."""
    pairs, seeds = (1, 3) if options.quick else (PAIRS, SEEDS)
    cores = os.cpu_count() or 1
    data = _data(options.seed)
    with ExitStack() as stack:
        single = [stack.enter_context(_worker(data, threads=1)) for _ in range(cores)]
        wide = stack.enter_context(_worker(data, threads=cores))
        speeds = {family: _speeds(family, single, wide, pairs) for family in FAMILIES}
        apart = _accuracy_differences(single, [options.seed + k for k in range(seeds)])
    each = {
        family: _interval(of_family, 1 - (1 - CONFIDENCE) / len(FAMILIES))
        for family, of_family in apart.items()
    }
    rows = []
    for family, levels in speeds.items():
        cells = [family]
        for level in levels.values():
            speed = level["speed_up"]
            cells += [
                f"{level['plain']:.0f}",
                f"{level['ours']:.0f}",
                f"{speed['median']:.2f} ({speed['low']:.2f} to {speed['high']:.2f})",
            ]
        rows.append([*cells, _points(each[family])])
    medians = {
        name: [speeds[family][name]["speed_up"]["median"] for family in FAMILIES]
        for name in ("core", "machine")
    }
    means = {name: math.exp(float(np.mean(np.log(ratios)))) for name, ratios in medians.items()}
    slowest = min(min(ratios) for ratios in medians.values())
    pooled = _interval(np.concatenate(list(apart.values())), CONFIDENCE)
    same = all(low <= 0 <= high for _, low, high in (pooled, *each.values()))
    return Outcome(
        columns=[
            "small network",
            "plain/s, core",
            "ours/s",
            "speed-up",
            "plain/s, machine",
            "ours/s",
            "speed-up",
            "accuracy, points",
        ],
        rows=rows,
        figures={
            "side_px": SIDE,
            "batch": TIMED.batch,
            "cores": cores,
            "speed": speeds,
            "geometric_mean": means,
            "slowest": slowest,
            "mean_rate_per_core": float(np.mean([speeds[f]["core"]["ours"] for f in FAMILIES])),
            "accuracy_difference": {
                "pooled": pooled,
                "families": each,
                "pairs": {family: of_family.tolist() for family, of_family in apart.items()},
                "updates": TAUGHT.updates,
            },
        },
        figure=(
            f"{means['core']:.2f}x a core, {means['machine']:.2f}x a machine, slowest family "
            f"{slowest:.2f}x; accuracy {_points(pooled)} points"
        ),
        target=f"means >= {TARGET}x, slowest >= 1x, intervals hold 0",
        passed=min(means.values()) >= TARGET and slowest >= 1 and same,
        notes=[
            f"images per second at {SIDE} px; machine: {cores} processes of one thread against one "
            f"process of {cores} threads",
            f"accuracy: ours less plain, {seeds} seeds of {TAUGHT.updates} updates per family",
        ],
    )


def _data(seed: int) -> _Data:
    def numbers(tiles: TileSet) -> NDArray[np.intp]:
        return np.searchsorted(np.array(CLASSES), tiles.labels)

    tiles = make_phantom(
        patients=2 * PATIENTS, tiles_per_patient=EACH, side=SIDE, seed=seed, classes=CLASSES
    )
    count = PATIENTS * EACH
    train, test = tiles.subset(np.arange(count)), tiles.subset(np.arange(count, 2 * count))
    return _Data(
        train=train.load(), train_labels=numbers(train), test=test.load(), test_labels=numbers(test)
    )


@contextmanager
def _worker(data: _Data, *, threads: int) -> Iterator[Connection]:
    """A process that trains what it is sent and answers with `_Trained`."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(data, threads, there), daemon=True)
    process.start()
    try:
        yield here
    finally:
        here.send(None)
        process.join()


def _serve(data: _Data, threads: int, pipe: Connection) -> None:
    torch.set_num_threads(threads)
    while (order := pipe.recv()) is not None:
        pipe.send({"ours": _ours, "plain": _plain}[order.side](data, order))


def _all_done(pipes: Sequence[Connection], orders: Sequence[_Order]) -> list[_Trained]:
    """The first orders at once, one per process; each process takes the next when it is free."""
    for pipe, order in zip(pipes, orders, strict=False):
        pipe.send(order)
    waiting = dict(enumerate(pipes[: len(orders)]))
    left = list(range(len(pipes), len(orders)))
    done: dict[int, _Trained] = {}
    while waiting:
        ready = wait(list(waiting.values()))
        for place, pipe in list(waiting.items()):
            if pipe in ready:
                done[place] = pipe.recv()
                del waiting[place]
                if left:
                    waiting[left[0]] = pipe
                    pipe.send(orders[left.pop(0)])
    return [done[place] for place in range(len(orders))]


def _speeds(
    family: str, single: Sequence[Connection], wide: Connection, pairs: int
) -> dict[str, dict[str, Any]]:
    """Images a second and speed-ups, per core and per machine."""
    orders: dict[Side, _Order] = {
        side: _Order(side=side, family=family, seed=0, recipe=TIMED) for side in ("ours", "plain")
    }
    cores = len(single)
    images = (TIMED.updates - 1) * TIMED.batch
    core, whole = Timing(), Timing()
    for pair in range(pairs + 1):
        (ours,) = _all_done(single[:1], [orders["ours"]])
        (plain,) = _all_done(single[:1], [orders["plain"]])
        beside = _all_done(single, [orders["ours"]] * cores)
        (after,) = _all_done([wide], [orders["plain"]])
        if pair:  # the first of each is not measured
            core.ours.append(ours.last - ours.first)
            core.plain.append(plain.last - plain.first)
            whole.ours.append(max(one.last for one in beside) - min(one.first for one in beside))
            whole.plain.append(cores * (after.last - after.first))
    return {
        name: {
            "plain": count * images / float(np.median(timing.plain)),
            "ours": count * images / float(np.median(timing.ours)),
            "speed_up": timing.summary(),
        }
        for name, timing, count in (("core", core, 1), ("machine", whole, cores))
    }


def _accuracy_differences(
    single: Sequence[Connection], seeds: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """Balanced accuracy of ours less the plain one's, a seed, by family."""
    orders = [
        _Order(side=side, family=family, seed=seed, recipe=TAUGHT)
        for family in FAMILIES
        for seed in seeds
        for side in ("ours", "plain")
    ]
    accuracy = np.array([one.accuracy for one in _all_done(single, orders)])
    ours, plain = accuracy.reshape(len(FAMILIES), len(seeds), 2).transpose(2, 0, 1)
    return dict(zip(FAMILIES, ours - plain, strict=True))


def _interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float, float]:
    """Mean and Student's t interval."""
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    reach = float(student.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return mean, mean - reach, mean + reach


def _points(estimate: tuple[float, float, float]) -> str:
    value, low, high = (100 * one for one in estimate)
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _fresh(order: _Order) -> Classifier:
    return build(order.family, classes=len(CLASSES), side=SIDE, seed=order.seed, size="small")


def _ours(data: _Data, order: _Order) -> _Trained:
    moments: list[float] = []
    fitted = fit(
        _fresh(order),
        tiles=data.train,
        composition=Composition(rows=np.arange(len(data.train)), labels=data.train_labels),
        validation=data.test[: len(CLASSES)],  # one evaluation, after the last update: no choice
        validation_labels=data.test_labels[: len(CLASSES)],
        recipe=order.recipe,
        seed=order.seed,
        augment=False,
        bfloat16=uses_bfloat16(order.family, CPU),
        device=CPU,
        on_update=lambda: moments.append(time.perf_counter()),
    )
    guess = predict(fitted.model, data.test).argmax(axis=1)
    return _Trained(first=moments[0], last=moments[-1], accuracy=_balanced(data, guess))


def _plain(data: _Data, order: _Order) -> _Trained:
    recipe, count = order.recipe, len(data.train)
    network = _fresh(order).network.to(memory_format=torch.contiguous_format)
    optimiser = torch.optim.AdamW(
        network.parameters(), weight_decay=recipe.weight_decay, betas=(0.9, 0.99)
    )
    rng = np.random.default_rng(order.seed)
    rng.permutation(count)  # ours draws the tiles of its evaluation first
    walk = np.concatenate([rng.permutation(count) for _ in range(recipe.updates)])
    torch.manual_seed(order.seed)
    network.train()
    moments = []
    for update in range(recipe.updates):
        rows = walk[update * recipe.batch : (update + 1) * recipe.batch]
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * _share_of_rate(update, recipe.updates)
        optimiser.zero_grad()
        logits = network(_nchw(data.train[rows]))
        labels = torch.from_numpy(data.train_labels[rows])
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        loss.backward()
        optimiser.step()
        loss.item()
        moments.append(time.perf_counter())
    network.eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
            layer.train()
    with torch.no_grad():
        for start in range(0, count, 64):
            network(_nchw(data.train[start : start + 64]))
        logits = network.eval()(_nchw(data.test))
    guess = logits.argmax(dim=1).numpy()
    return _Trained(first=moments[0], last=moments[-1], accuracy=_balanced(data, guess))


def _share_of_rate(update: int, updates: int) -> float:
    """Up over the first fifth, then down along half a cosine."""
    ramp = max(1, round(0.2 * updates))
    fall = max(0, update - ramp) / max(1, updates - ramp)
    return min((update + 1) / ramp, 0.5 * (1 + math.cos(math.pi * fall)))


def _nchw(tiles: NDArray[np.uint8]) -> torch.Tensor:
    x = torch.from_numpy(tiles).permute(0, 3, 1, 2).float().contiguous()
    return (x - 127.5) / 63.75


def _balanced(data: _Data, guess: NDArray[np.intp]) -> float:
    hits = guess == data.test_labels
    return float(np.mean([hits[data.test_labels == k].mean() for k in range(len(CLASSES))]))
