"""Metrics of a trained classifier on a test split, and on bootstrap draws of its patients.

All fractions: balanced accuracy (mean recall), macro F1, AUROC (one class against the rest, mean
over classes), ECE (expected calibration error, 15 bins; Guo et al. 2017) and the recall of the
worst class. A class that a bootstrap draw does not hold is left out of its means.

Source: docs/methods.md#classifier-benefit.
"""

import numpy as np
from numpy.typing import NDArray

from privgen.benefit.results.statistics import Floats, Indices, Resamples

METRICS = ("balanced_accuracy", "macro_f1", "auroc", "ece", "worst_class_recall")

ECE_BINS = 15

_CHUNK = 2_000_000  # weights held at a time, 16 MB
_TABLE = 400  # measured: the table of patients is the faster way up to g^2 = 400 n


def metric_draws(labels: Indices, probabilities: Floats, resamples: Resamples) -> dict[str, Floats]:
    """Every metric on the test split and on each bootstrap draw of it.

    Args:
      labels: true class of each test tile, 0..c-1, shape (n,).
      probabilities: predicted, shape (n, c), rows sum to 1.
      resamples: of the same n tiles.

    Returns:
      For each of `METRICS` an array of shape (draws + 1,); element 0 is the metric itself.
    """
    predicted = probabilities.argmax(axis=1)
    confusion = _confusions(labels, probabilities, resamples)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    true, called = confusion.sum(axis=2), confusion.sum(axis=1)
    present = true > 0
    recall = _ratio(hits, true)
    return {
        "balanced_accuracy": _mean_over(recall, present),
        "macro_f1": _mean_over(_ratio(2 * hits, true + called), present),
        "auroc": _auroc_draws(labels, probabilities, resamples),
        "ece": _ece_draws(predicted == labels, probabilities.max(axis=1), resamples),
        "worst_class_recall": np.where(present, recall, np.inf).min(axis=1),
    }


def balanced_accuracy_draws(labels: Indices, probabilities: Floats, resamples: Resamples) -> Floats:
    """The first of `metric_draws` alone, shape (draws + 1,)."""
    confusion = _confusions(labels, probabilities, resamples)
    true = confusion.sum(axis=2)
    return _mean_over(_ratio(np.diagonal(confusion, axis1=1, axis2=2), true), true > 0)


def _confusions(labels: Indices, probabilities: Floats, resamples: Resamples) -> Floats:
    """Tiles by true class and by called class in each draw, shape (draws + 1, c, c)."""
    c = probabilities.shape[1]
    table = _patient_sums(labels * c + probabilities.argmax(axis=1), resamples, c**2)
    return np.asarray((resamples.weights @ table).reshape(-1, c, c))


def _patient_sums(
    cell: Indices, resamples: Resamples, cells: int, values: Floats | None = None
) -> Floats:
    """Sum of `values` (1 each without) of each patient's tiles in each cell, shape (g, cells)."""
    flat = resamples.owner * cells + cell
    sums = np.bincount(flat, weights=values, minlength=resamples.patients * cells)
    return np.asarray(sums.reshape(resamples.patients, cells), dtype=np.float64)


def _ratio(above: Floats, below: Floats) -> Floats:
    quotient: Floats = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return quotient


def _mean_over(values: Floats, present: NDArray[np.bool_]) -> Floats:
    """Mean of each row over its `present` columns; NaN where there are none."""
    count = present.sum(axis=1)
    total = np.where(present, values, 0.0).sum(axis=1)
    mean: Floats = np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
    return mean


def _ece_draws(correct: NDArray[np.bool_], confidence: Floats, resamples: Resamples) -> Floats:
    """Sum over bins of |mean confidence - accuracy|, weighted by the tiles in the bin.

    Bins are (0, 1/15], (1/15, 2/15], ... as in Guo et al. 2017.
    """
    bins = np.clip(np.ceil(confidence * ECE_BINS) - 1, 0, ECE_BINS - 1).astype(np.intp)
    gap = resamples.weights @ _patient_sums(bins, resamples, ECE_BINS, confidence - correct)
    tiles = resamples.weights @ np.bincount(resamples.owner, minlength=resamples.patients)
    return np.asarray(np.abs(gap).sum(axis=1) / tiles)


def _auroc_draws(labels: Indices, probabilities: Floats, resamples: Resamples) -> Floats:
    """Mean over classes of the weighted rank statistic P(own class above the rest) + P(tie) / 2."""
    weights, owner = resamples.weights, resamples.owner
    area = np.zeros((len(weights), probabilities.shape[1]))
    defined = np.zeros(area.shape, dtype=np.bool_)
    few = resamples.patients**2 <= _TABLE * len(labels)
    for label in range(area.shape[1]):
        order = np.argsort(probabilities[:, label], kind="stable")
        scores, own = probabilities[order, label], labels[order] == label
        starts = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))
        count = _concordant_by_patient if few else _concordant_by_tile
        concordant = count(weights, owner[order], own, starts)
        positive, negative = (
            weights @ np.bincount(owner[order][side], minlength=resamples.patients)
            for side in (own, ~own)
        )
        defined[:, label] = positive * negative > 0
        area[:, label] = _ratio(concordant, positive * negative)
    return _mean_over(area, defined)


def _concordant_by_patient(
    weights: Floats, owner: Indices, own: NDArray[np.bool_], starts: Indices
) -> Floats:
    """Weighted pairs in which the tile of the class scores higher, ties half; a (g, g) table.

    Args:
      weights: of each patient in each draw, shape (d, g).
      owner, own: patient of each tile, and whether it is of the class, by rising score, shape (n,).
      starts: where each new score begins, shape (s,).

    Returns:
      Shape (d,).
    """
    tiles = np.zeros((2, len(owner), weights.shape[1]))
    tiles[own.astype(np.intp), np.arange(len(owner)), owner] = 1
    negative, positive = np.add.reduceat(tiles, starts, axis=1)
    table = positive.T @ (np.cumsum(negative, axis=0) - negative / 2)
    return np.asarray(((weights @ table) * weights).sum(axis=1))


def _concordant_by_tile(
    weights: Floats, owner: Indices, own: NDArray[np.bool_], starts: Indices
) -> Floats:
    """The same without a table of patients: for as many patients as tiles, or nearly."""
    found = np.empty(len(weights))
    step = max(1, _CHUNK // len(owner))
    for first in range(0, len(weights), step):
        weight = weights[first : first + step][:, owner]
        positive = np.add.reduceat(weight * own, starts, axis=1)
        negative = np.add.reduceat(weight * ~own, starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        found[first : first + step] = (positive * below).sum(axis=1)
    return found
