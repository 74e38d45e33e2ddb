"""What a trained classifier is worth, with patients and training seeds as the sources of chance.

Metrics on a test split, all fractions: balanced accuracy (mean recall), macro F1, AUROC (one class
against the rest, mean over classes), ECE (expected calibration error, 15 bins; Guo et al. 2017) and
the recall of the worst class.

Two things vary between repetitions of the benchmark: which patients stand in the test split, and
how training went (initial weights, batches, which synthetic tiles were drawn). Every seed is tested
on the same patients, so the two are crossed. A difference between two arms is taken seed by seed on
the same tiles, then averaged over seeds. Its variance is the sum of
- the patient part: the same resampled patients for both arms and all seeds (a paired,
  patient-clustered bootstrap of the seed average), times g/(g - 1) for g patients;
- the seed part: the variance of the per-seed differences over the number of seeds.
The interval is Student's t with Satterthwaite's degrees of freedom, from g - 1 and seeds - 1.
Resampling the seeds along with the patients, as one would first think of, is wrong with few of
them: two differences of one sign never reach 0, so that half of all comparisons without any effect
look significant. Simulated without an effect (3 to 40 patients; patients, seeds, their interaction,
or all at once as sources of chance), this test rejects at 5 % in .01 to .06 of runs with 5 seeds,
in up to .07 with 3 and up to .12 with 2.

A class that a bootstrap draw happens not to hold is left out of that draw's mean over classes.

Source: METHODS.md 7; Owen 2007, "The pigeonhole bootstrap".
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audits.permutation import holm
from audits.results import Estimate

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

METRICS = ("balanced_accuracy", "macro_f1", "auroc", "ece", "worst_class_recall")
PRIMARY = "balanced_accuracy"
"""The metric that is tested; differences in the others are shown with their intervals."""

ECE_BINS = 15
SIGNIFICANCE = 0.05
CONFIDENCE = 0.95

HELPS = "helps"
HARMS = "harms"
NO_EVIDENCE = "no evidence of benefit"

_CHUNK = 2_000_000  # weights held at a time, 16 MB


@dataclass(frozen=True, kw_only=True, eq=False)
class Resamples:
    """The test patients, and how often each stands in each bootstrap draw.

    Attributes:
      owner: patient of each test tile, 0..g-1, shape (n,).
      weights: times each patient was drawn, shape (draws + 1, g); row 0 is the split as it is.
    """

    owner: Indices
    weights: Floats

    @property
    def patients(self) -> int:
        """g."""
        return int(self.weights.shape[1])


def resample_patients(
    groups: NDArray[np.str_], *, draws: int, rng: np.random.Generator
) -> Resamples:
    """Draw g patients of g with replacement, `draws` times.

    Args:
      groups: patient of each test tile, shape (n,).
      draws: bootstrap draws, 2 or more.
      rng: of the draws.
    """
    names, owner = np.unique(groups, return_inverse=True)
    g = len(names)
    drawn = rng.multinomial(g, np.full(g, 1 / g), size=draws)
    weights = np.concatenate([np.ones((1, g)), drawn]).astype(np.float64)
    return Resamples(owner=owner.astype(np.intp), weights=weights)


def metric_draws(labels: Indices, probabilities: Floats, resamples: Resamples) -> dict[str, Floats]:
    """Every metric on the test split and on each bootstrap draw of it.

    Args:
      labels: true class of each test tile, 0..c-1, shape (n,).
      probabilities: predicted, shape (n, c), rows sum to 1.
      resamples: of the same n tiles.

    Returns:
      For each of `METRICS` an array of shape (draws + 1,); element 0 is the metric itself.
    """
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    table = _patient_sums(labels * classes + predicted, resamples, classes**2)
    confusion = (resamples.weights @ table).reshape(-1, classes, classes)
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
    draws, classes = len(resamples.weights), probabilities.shape[1]
    area = np.zeros((draws, classes))
    defined = np.zeros((draws, classes), dtype=np.bool_)
    step = max(1, _CHUNK // len(labels))
    for label in range(classes):
        order = np.argsort(probabilities[:, label], kind="stable")
        scores, own = probabilities[order, label], labels[order] == label
        starts = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))
        for first in range(0, draws, step):
            rows = slice(first, first + step)
            weight = resamples.weights[rows][:, resamples.owner[order]]
            positive = np.add.reduceat(weight * own, starts, axis=1)
            negative = np.add.reduceat(weight * ~own, starts, axis=1)
            below = np.cumsum(negative, axis=1) - negative / 2
            pairs = positive.sum(axis=1) * negative.sum(axis=1)
            concordant = (positive * below).sum(axis=1)
            defined[rows, label] = pairs > 0
            area[rows, label] = _ratio(concordant, pairs)
    return _mean_over(area, defined)


def crossed_estimate(
    draws: Floats, resamples: Resamples, *, bounds: tuple[float, float]
) -> tuple[Estimate, float]:
    """Average over seeds, with patients and seeds both counted as chance.

    Args:
      draws: of each seed the statistic and its bootstrap draws, shape (seeds, draws + 1); one row
        when nothing was trained at random.
      resamples: the draws' patients, 2 or more.
      bounds: where the statistic can lie; the interval is cut there.

    Returns:
      The estimate, and the two-sided p of the hypothesis that its expectation is 0.
    """
    seeds, g = len(draws), resamples.patients
    value = float(draws[:, 0].mean())
    average = draws[:, 1:].mean(axis=0)
    by_patient = float(np.nanvar(average, ddof=1)) * g / (g - 1)
    by_seed = float(draws[:, 0].var(ddof=1)) / seeds if seeds > 1 else 0.0
    variance = by_patient + by_seed
    if variance < 1e-20:
        # No draw differs from another: the least p that this many draws can support, never 0.
        p = 1.0 if abs(value) < 1e-10 else 1 / draws.shape[1]
        half = 0.0
    else:
        freedom = variance**2 / (by_patient**2 / (g - 1) + by_seed**2 / max(1, seeds - 1))
        error = float(np.sqrt(variance))
        half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) * error
        p = float(2 * stats.t.sf(abs(value) / error, freedom))
    estimate = Estimate(
        value=value,
        low=max(bounds[0], value - half),
        high=min(bounds[1], value + half),
        confidence=CONFIDENCE,
        n=g,
        unit="patient",
    )
    return estimate, p


def arm_metrics(draws: Mapping[str, Floats], resamples: Resamples) -> dict[str, Estimate]:
    """Every metric of one arm; `draws[metric]` has shape (seeds, draws + 1)."""
    return {
        metric: crossed_estimate(draws[metric], resamples, bounds=(0.0, 1.0))[0]
        for metric in METRICS
    }


def arm_differences(
    arm: Mapping[str, Floats], baseline: Mapping[str, Floats], resamples: Resamples
) -> tuple[dict[str, Estimate], float]:
    """Arm minus baseline, seed by seed, for every metric, and the p of the primary one.

    Args:
      arm, baseline: for each metric shape (seeds, draws + 1), the same seeds in the same order.
    """
    found = {
        metric: crossed_estimate(arm[metric] - baseline[metric], resamples, bounds=(-1.0, 1.0))
        for metric in METRICS
    }
    return {metric: pair[0] for metric, pair in found.items()}, found[PRIMARY][1]


def verdicts(
    tested: Mapping[str, tuple[Estimate, float]], *, significance: float = SIGNIFICANCE
) -> dict[str, tuple[float, str]]:
    """Holm-adjusted p and verdict of each tested comparison.

    Args:
      tested: for each comparison the difference and its unadjusted p; together they are the family.
      significance: family-wise error rate.

    Returns:
      For each comparison the adjusted p and "helps", "harms" or "no evidence of benefit".
    """
    adjusted = holm({name: p for name, (_, p) in tested.items()})
    words = {}
    for name, (difference, _) in tested.items():
        direction = HELPS if difference.value > 0 else HARMS
        words[name] = direction if adjusted[name] <= significance else NO_EVIDENCE
    return {name: (adjusted[name], words[name]) for name in tested}
