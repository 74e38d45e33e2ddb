"""What a trained classifier is worth, with patients, seeds and generators as sources of chance.

Metrics on a test split, all fractions: balanced accuracy (mean recall), macro F1, AUROC (one class
against the rest, mean over classes), ECE (expected calibration error, 15 bins; Guo et al. 2017) and
the recall of the worst class. A class that a bootstrap draw does not hold is left out of its means.

Three things vary between repetitions of the benchmark: which patients stand in the test split, how
training went (seed: initial weights, batches, which synthetic tiles were drawn), and how the
training of the generator went. Every cell is tested on the same patients, and every seed is run
with every generator, so all three are crossed. A difference between two arms is taken seed by seed
on the same tiles, then averaged over seeds and generators. Its variance is the sum of
- the patient part: the same resampled patients for both arms and all cells (a paired,
  patient-clustered bootstrap of the average), times g/(g - 1) for g patients;
- the seed part: the variance of the seeds' means over the number of seeds, K;
- the generator part: the same of the G generators' means; none with one generator, whose interval
  then speaks of that generator and not of the method.
In mean squares of the two-way layout the last two are (MS_seed + MS_generator) / KG. The unbiased
form subtracts MS_interaction; left in, the sum is never negative and errs towards wide intervals.
The interval is Student's t with Satterthwaite's degrees of freedom, from g - 1, K - 1 and G - 1.
Resampling seeds along with the patients, as one would first think of, is wrong with few of them:
two differences of one sign never reach 0, and half of all comparisons without an effect look
significant.

Share of comparisons without any effect that this test calls significant at .05 (6,000 normal data
sets a figure; K = 3 and 5, worst of both; patients vary by sd 1 each, seeds by .15, interactions
by .1 to .2, generators as given):

| generators | generator sd | g = 3 | g = 6 | g = 10 | g = 16 |
|---|---|---|---|---|---|
| 2 | 0 | .06 | .05 | .04 | .05 |
| 2 | .5 | .04 | .05 | .06 | .08 |
| 2 | 1.5 to 3 | .08 | .11 | .11 | .13 |
| 3 | 0 | .07 | .05 | .04 | .04 |
| 3 | .5 | .05 | .04 | .05 | .06 |
| 3 | 1.5 to 3 | .05 | .07 | .08 | .08 |
| 1 | 0 | .07 | .05 | .05 | .05 |
| 1 | .5 | .11 | .16 | .24 | .34 |

Two generators that differ much are a poor sample twice over: .13 where .05 was meant, and where
nothing else varies an interval of 6 generator sds to either side (t with one degree of freedom; 2
with three generators). With two seeds the rates reach .13 as well. Interactions alone: .02 or less.

Source: METHODS.md 7; Owen 2007, "The pigeonhole bootstrap"; Satterthwaite 1946.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audits.permutation import holm
from audits.results import Estimate

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Key = TypeVar("Key", bound=Hashable)

METRICS = ("balanced_accuracy", "macro_f1", "auroc", "ece", "worst_class_recall")
PRIMARY = "balanced_accuracy"
"""The metric that is tested; differences in the others are shown with their intervals."""

ECE_BINS = 15
SIGNIFICANCE = 0.05
CONFIDENCE = 0.95
POWER = 0.8

HELPS = "helps"
HARMS = "harms"
NO_EVIDENCE = "no evidence of benefit"

_CHUNK = 2_000_000  # weights held at a time, 16 MB
_TABLE = 400  # measured: the table of patients is the faster way up to g^2 = 400 n


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


@dataclass(frozen=True, kw_only=True)
class Crossed:
    """A mean over seeds and generators, tested against 0.

    Attributes:
      estimate: with its interval.
      p: two-sided, of the hypothesis that its expectation is 0.
      error: its standard error.
      freedom: degrees of freedom of `error`.
    """

    estimate: Estimate
    p: float
    error: float
    freedom: float

    @property
    def detectable(self) -> float | None:
        """Smallest true value found with power `POWER` at the level .05; None without an error."""
        if self.error == 0:
            return None
        reach = stats.t.ppf(0.5 + CONFIDENCE / 2, self.freedom) + stats.t.ppf(POWER, self.freedom)
        return float(reach) * self.error


def crossed_estimate(
    draws: Floats, resamples: Resamples, *, bounds: tuple[float, float]
) -> Crossed:
    """Average over seeds and generators, with these and the patients counted as chance.

    Args:
      draws: of each seed and generator the statistic and its bootstrap draws, shape (seeds,
        generators, draws + 1); (1, 1, draws + 1) when nothing was trained at random.
      resamples: the draws' patients, 2 or more.
      bounds: where the statistic can lie; the interval is cut there.
    """
    g = resamples.patients
    cells = draws[:, :, 0]
    value = float(cells.mean())
    parts = np.array(
        [
            float(np.nanvar(draws[:, :, 1:].mean(axis=(0, 1)), ddof=1)) * g / (g - 1),
            _part(cells.mean(axis=1)),
            _part(cells.mean(axis=0)),
        ]
    )
    variance, error = float(parts.sum()), 0.0
    freedom = float(g - 1)
    if variance < 1e-20:
        # No draw differs from another: the least p that this many draws can support, never 0.
        p = 1.0 if abs(value) < 1e-10 else 1 / draws.shape[2]
        half = 0.0
    else:
        each = np.maximum(1, np.array([g, *cells.shape]) - 1)
        freedom = variance**2 / float((parts**2 / each).sum())
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
    return Crossed(estimate=estimate, p=p, error=error, freedom=freedom)


def _part(means: Floats) -> float:
    """Variance of the mean of `means`; 0 where there is one."""
    return float(means.var(ddof=1)) / len(means) if len(means) > 1 else 0.0


def arm_estimates(draws: Mapping[str, Floats], resamples: Resamples) -> dict[str, Estimate]:
    """Every given metric of one arm; each of shape (seeds, generators, draws + 1)."""
    return {
        metric: crossed_estimate(values, resamples, bounds=(0.0, 1.0)).estimate
        for metric, values in draws.items()
    }


def arm_differences(
    arm: Mapping[str, Floats], baseline: Mapping[str, Floats], resamples: Resamples
) -> dict[str, Crossed]:
    """Arm minus baseline in every metric of the arm, seed by seed, for each generator.

    Args:
      arm: for each metric shape (seeds, generators, draws + 1).
      baseline: the same seeds in the same order, shape (seeds, 1, draws + 1).
      resamples: shared by both.
    """
    return {
        metric: crossed_estimate(values - baseline[metric], resamples, bounds=(-1.0, 1.0))
        for metric, values in arm.items()
    }


def verdicts(
    tested: Mapping[Key, Crossed], *, significance: float = SIGNIFICANCE
) -> dict[Key, tuple[float, str]]:
    """Holm-adjusted p and verdict of each tested comparison.

    Args:
      tested: the differences, which together are the family.
      significance: family-wise error rate.

    Returns:
      For each comparison the adjusted p and "helps", "harms" or "no evidence of benefit".
    """
    adjusted = holm({str(place): found.p for place, found in enumerate(tested.values())})
    words = {}
    for place, (key, found) in enumerate(tested.items()):
        p = adjusted[str(place)]
        direction = HELPS if found.estimate.value > 0 else HARMS
        words[key] = (p, direction if p <= significance else NO_EVIDENCE)
    return words
