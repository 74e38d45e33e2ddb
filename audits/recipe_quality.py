"""How good the tiles of a recipe's runs are, beside what it gives away.

The tiles of each run are compared with real tiles of the patients whom that run did not have; the
floor is the same for the real tiles it was trained on. A recipe that leaks less and makes nothing
worth sharing has won nothing.

Source: docs/methods.md#fidelity, docs/methods.md#repeated-training.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audits.distances import NEIGHBORS, Cloud, compare
from audits.recipe_scores import Look, RecipeData
from audits.results import AuditResult, Estimate

QUALITY = "quality/"
"""Prefix of the results."""

_MOST_TILES = 600
_MEASURES = {
    "kid": "Lower is closer.",
    "coverage": "Share of those tiles that have one near; higher is better.",
}


def recipe_quality(
    data: RecipeData, look: Look, encoder: str, rng: np.random.Generator
) -> list[AuditResult]:
    """Kernel distance and coverage of the runs, and of real tiles in their place.

    Args:
      data: the runs.
      look: plain outputs of an encoder that trained nobody.
      encoder: its name.
      rng: draws equally many tiles of each kind, 600 at most.

    Returns:
      Means over runs with Student's t intervals; none where a run has too few tiles.
    """
    found: dict[str, list[float]] = {}
    for run, included in enumerate(data.coins.included):
        inside = included[data.patients]
        own, others = np.flatnonzero(inside & ~data.held_back), np.flatnonzero(~inside)
        size = min(_MOST_TILES, len(own), len(others), len(look.synthetic[run]))
        if size <= NEIGHBORS:
            return []
        held_out = _cloud(look.real[_some(others, size, rng)])
        for name, tiles in (
            ("", look.synthetic[run][_some(np.arange(len(look.synthetic[run])), size, rng)]),
            ("_floor", look.real[_some(own, size, rng)]),
        ):
            compared = compare(_cloud(tiles), held_out)
            measured = {
                "kid": compared.kernel_distance()[0],
                "coverage": float(compared.scores["coverage"].mean()),
            }
            for measure, value in measured.items():
                found.setdefault(f"{measure}{name}", []).append(value)
    return [_described(f"{QUALITY}{name}", values, encoder) for name, values in found.items()]


def _some(rows: NDArray[np.intp], size: int, rng: np.random.Generator) -> NDArray[np.intp]:
    return np.sort(rng.choice(rows, size, replace=False))


def _cloud(tiles: NDArray[np.float32]) -> Cloud:
    """Tiles in two blocks, the fewest that a kernel distance takes; its interval is not used."""
    return Cloud(tiles, groups=np.arange(len(tiles)) % 2)


def _described(name: str, values: Sequence[float], encoder: str) -> AuditResult:
    measure, _, floor = name.removeprefix(QUALITY).partition("_")
    mean, runs = float(np.mean(values)), len(values)
    half = float(stats.t.ppf(0.975, runs - 1) * np.std(values, ddof=1) / np.sqrt(runs))
    note = _MEASURES[measure]
    return AuditResult(
        name=name,
        harm=None,
        statistic=Estimate(value=mean, low=mean - half, high=mean + half, n=runs, unit="run"),
        note=f"{note} Seen by {encoder}"
        + (", of the real tiles a run was trained on." if floor else "."),
    )
