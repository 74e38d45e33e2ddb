"""A control: do train and holdout patients differ in how their tiles became pixels?

The measurements (sharpness, blocks, colour detail, scale: a handful, made elsewhere) say nothing of
tissue that training could have changed. Where they tell the two sides apart by more than patients
differ among themselves, a membership result between the sides proves nothing. The blind baseline
asks the same of embeddings, in a thousand directions at once, and overlooks it: JPEG of quality 30
on one side gave a membership AUROC of .92 (GlaS, 4 + 4 patients), which it did not explain.

Source: docs/methods.md#controls.
"""

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from audits.errors import AuditInputError
from audits.inputs import Floats, Tiles
from audits.permutation import auroc
from audits.results import AuditResult, Estimate

PIPELINE = "control/pipeline_baseline"

LEVEL = 0.03
"""Of p, at or below which the sides are confounded: the finest that 4 + 4 patients can reach is
2/70, since the largest difference is the same for the labels exchanged."""

_MOST_RELABELLINGS = 20_000
_DRAWN = 4_999
_SAME = 1e-9


def pipeline_baseline(train: Tiles, holdout: Tiles, rng: np.random.Generator) -> AuditResult:
    """The measurement in which patients of the two sides differ most, tested by relabelling them.

    Each patient counts by the mean of their tiles. The statistic is the largest difference between
    the sides in any measurement, over its standard deviation within them; p is exact over all
    relabellings, or over a random sample where there are more than 20,000.

    Args:
      train, holdout: measurements in place of embeddings; at least 2 patients each.
      rng: relabellings, where not all are tried.

    Returns:
      How well the measurement alone tells the sides apart, as an AUROC of .5 or more, and p.

    Raises:
      AuditInputError: fewer than 2 patients on a side.
    """
    sides = [_by_patient(tiles) for tiles in (train, holdout)]
    m, n = (len(side) for side in sides)
    if min(m, n) < 2:
        raise AuditInputError(f"the pipeline baseline needs 2 patients per side: got {m} and {n}.")
    means = np.concatenate(sides)
    labels = _labels(m, n, rng)
    ours = labels @ means / m
    theirs = ~labels @ means / n
    squares = means**2
    within = labels @ squares - m * ours**2 + ~labels @ squares - n * theirs**2
    spread = np.sqrt(np.maximum(within, 0) / (m + n - 2))
    # A measurement that is the same for all patients of a side, but not of both, differs without
    # bound; one that is the same for all does not differ.
    floor = _SAME * np.maximum(np.abs(means).max(axis=0), 1)
    apart = np.abs(ours - theirs)
    differences = np.where(apart > floor, apart / np.maximum(spread, floor), 0)
    largest = differences.max(axis=1)
    which = int(differences[0].argmax())
    value = auroc(means[:m, which], means[m:, which])
    return AuditResult(
        name=PIPELINE,
        harm=None,
        statistic=Estimate(
            value=max(value, 1 - value), low=None, high=None, n=m + n, unit="patient"
        ),
        p_value=float((largest >= largest[0] * (1 - _SAME)).mean()),
        details={
            "measurements": means.shape[1],
            "which": which,
            "difference_in_deviations": float(largest[0]),
            "relabellings": len(labels) - 1,
            "train_tiles": len(train),
            "holdout_tiles": len(holdout),
        },
        note="The measurement that differs most, out of several: an AUROC above .5 is expected, "
        "and only p says whether it is more than patients differ.",
    )


def _by_patient(tiles: Tiles) -> Floats:
    """Mean measurements of each patient, shape (p, k); neither names nor order have a part."""
    order = np.lexsort(tiles.embeddings.T)
    _, owner, sizes = np.unique(tiles.patients[order], return_inverse=True, return_counts=True)
    total = np.zeros((len(sizes), tiles.embeddings.shape[1]))
    np.add.at(total, owner, tiles.embeddings[order].astype(np.float64))
    means = total / sizes[:, None]
    found: Floats = means[np.lexsort(means.T)]
    return found


def _labels(m: int, n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which patients are called train, the true ones first, shape (relabellings, m + n)."""
    if math.comb(m + n, m) <= _MOST_RELABELLINGS:
        chosen = np.array(list(combinations(range(m + n), m)))
        labels = np.zeros((len(chosen), m + n), dtype=np.bool_)
        labels[np.arange(len(chosen))[:, None], chosen] = True
        return labels
    labels = np.tile(np.arange(m + n) < m, (_DRAWN + 1, 1))
    labels[1:] = rng.permuted(labels[1:], axis=1)
    return labels
