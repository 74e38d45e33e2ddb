"""Whether repeated training keeps its level and covers, and what it can see.

Simulated scores of P patients under K runs: patients differ by ten times the noise, runs by three
times, and in every run each class is shifted by three times the noise. Then the same with a shift
that gives a within-patient AUROC of .6, and one that gives away a quarter of the patients only, on
which the interval's model is wrong.

Per cell: how often the test of the average and the test of single patients reject at .05, how often
the two-sided interval and the one-sided bound cover the truth, how often an excess of .1 is
excluded. Coins are tossed anew for every experiment, and re-tossed 999 times.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import Kept, Options, Outcome
from scipy import stats

from audits.coins import Design
from audits.repeated import Retossed, effect, standing_out

REPEATS = 2_000
PART = 250
RETOSSES = 999
AUROC, LEVEL, EXCESS = 0.6, 0.05, 0.1
BOUNDS = (0.02, 0.08)
COVERAGE, POWER = 0.93, 0.8
POWERFUL = ((16, 16), (40, 8))
SIZES = [(patients, runs) for patients in (8, 16, 40) for runs in (4, 8, 16)]
CLASSES = 2


@dataclass(frozen=True)
class Cell:
    """Patients, runs, how coins are tossed, and who is given away."""

    patients: int
    runs: int
    scheme: Any
    leak: str

    @property
    def name(self) -> str:
        return f"{self.patients} x {self.runs}, {self.scheme}, {self.leak}"


CELLS = [
    *(Cell(p, k, "complementary", leak) for leak in ("none", "all") for p, k in SIZES),
    *(
        Cell(16, 8, scheme, leak)
        for scheme in ("independent", "balanced")
        for leak in ("none", "all")
    ),
    Cell(16, 16, "complementary", "a quarter"),
]


def strata(patients: int) -> np.ndarray:
    return np.arange(patients) % CLASSES


def shifts(cell: Cell) -> np.ndarray:
    """What being in training adds to the scores of each patient."""
    whole = np.sqrt(2) * stats.norm.ppf(AUROC)
    if cell.leak == "none":
        return np.zeros(cell.patients)
    if cell.leak == "all":
        return np.full(cell.patients, whole)
    few = np.zeros(cell.patients)
    few[: cell.patients // 4] = 4 * whole
    return few


def truth(cell: Cell) -> float:
    """The within-patient AUROC that an endless experiment would show."""
    return float(stats.norm.cdf(shifts(cell) / np.sqrt(2)).mean())


def part(cell: Cell, number: int, repeats: int, seed: int) -> dict[str, int]:
    """Counts over some experiments of a cell."""
    rng = np.random.default_rng([seed, CELLS.index(cell), number])
    groups = strata(cell.patients)
    tiles = np.zeros((cell.patients, CLASSES), dtype=np.int64)
    tiles[np.arange(cell.patients), groups] = 20
    design = Design(scheme=cell.scheme, runs=cell.runs, class_tiles=tiles)
    retossed = Retossed.of(design.toss(rng), rng, draws=RETOSSES)
    moved, target = shifts(cell), truth(cell)
    counts = dict.fromkeys(("rejects", "single", "covers", "bounds", "excludes"), 0)
    for _ in range(repeats):
        included = design.toss(rng).included
        scores = rng.normal(size=included.shape) + moved * included
        scores += 10 * rng.normal(size=cell.patients) + 3 * rng.normal(size=(cell.runs, 1))
        scores += 3 * rng.normal(size=(cell.runs, CLASSES))[:, groups]
        found = effect(scores, included, groups, retossed)
        counts["rejects"] += found.p_value <= LEVEL
        single = standing_out(scores, included, groups, retossed, paired=design.paired)
        counts["single"] += single.p_value <= LEVEL
        counts["covers"] += found.low <= target <= found.high
        counts["bounds"] += target <= found.upper
        counts["excludes"] += found.upper - 0.5 <= EXCESS
    return counts


def _parts(options: Options) -> Iterator[tuple[Cell, int, int]]:
    repeats = PART if options.quick else REPEATS
    for cell in CELLS:
        for number in range(repeats // PART):
            yield cell, number, options.seed


def _work(task: tuple[Cell, int, int]) -> dict[str, int]:
    cell, number, seed = task
    return part(cell, number, PART, seed)


def run(options: Options) -> Outcome:
    """Simulate every cell."""
    sources = [Path(__file__), *(Path("audits") / f"{n}.py" for n in ("coins", "repeated"))]
    kept = Kept("recipe-null", sources, [options.seed, REPEATS, PART])
    tasks = list(_parts(options))
    left = [t for t in tasks if f"{t[0].name} {t[1]}" not in kept]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for task, found in zip(left, pool.map(_work, left), strict=True):
            kept.keep(f"{task[0].name} {task[1]}", {k: int(v) for k, v in found.items()})
    rows, figures, failures = [], {}, []
    for cell in CELLS:
        parts = [kept[f"{c.name} {n}"] for c, n, _ in tasks if c == cell]
        total = PART * len(parts)
        rates = {name: sum(one[name] for one in parts) / total for name in parts[0]}
        figures[cell.name] = {"experiments": total, "truth": truth(cell), **rates}
        rows.append([cell.name, f"{truth(cell):.3f}", *(f"{rate:.3f}" for rate in rates.values())])
        failures += list(_faults(cell, rates))
    figure = "all met" if not failures else "; ".join(failures)
    if not failures and not options.quick:
        kept.forget()
    return Outcome(
        columns=["patients x runs", "AUROC", "rejects", "single", "covers", "bounds", "excludes"],
        rows=rows,
        figures=figures,
        figure=figure,
        target=(
            f"p in [{BOUNDS[0]}, {BOUNDS[1]}] at .05 without a leak, coverage >= {COVERAGE}, power "
            f">= {POWER} at 16 x 16 and 40 x 8"
        ),
        passed=not failures,
        notes=["single: the test of single patients, which few runs cannot reject at all"],
    )


def _faults(cell: Cell, rates: dict[str, float]) -> Iterator[str]:
    """What misses its target."""
    uniform = cell.leak != "a quarter"
    if cell.leak == "none":
        # A test over few arrangements attains less than .05, and single patients less still.
        if not BOUNDS[0] <= rates["rejects"] <= BOUNDS[1]:
            yield f"{cell.name} rejects {rates['rejects']:.3f}"
        if rates["single"] > BOUNDS[1]:
            yield f"{cell.name} single {rates['single']:.3f}"
    if uniform and rates["covers"] < COVERAGE:
        yield f"{cell.name} covers {rates['covers']:.3f}"
    if uniform and rates["bounds"] < COVERAGE:
        yield f"{cell.name} bounds {rates['bounds']:.3f}"
    powerful = (cell.patients, cell.runs) in POWERFUL and cell.scheme == "complementary"
    if cell.leak == "all" and powerful and rates["rejects"] < POWER:
        yield f"{cell.name} power {rates['rejects']:.3f}"
