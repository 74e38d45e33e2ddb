"""What a trained classifier is worth, with patients, seeds and generators as sources of chance.

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
The interval is Student's t with Satterthwaite's degrees of freedom, from f, K - 1 and G - 1. f is
g - 1 where patients count alike and less where few have most tiles (`_freedom`; Bell and McCaffrey
2002 do so for regression). The factor g/(g - 1) is kept: scaling to the same model's true variance
as well made uneven tables still more cautious.
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

The same for uneven test patients, without generators (1,500 data sets a figure; the range over
effects of patients, of patients in classes and of both, with one classifier and with K = 5 seeds):

| tiles of the test patients | f | counting g - 1 | as it is |
|---|---|---|---|
| GlaS, 6 patients, 5 classes | 2.6 of 5 | .07 to .10 | .03 to .05 |
| 300, 100, 20, 5, 5, 5 in each class | 1.6 of 5 | .11 to .13 | .01 to .03 |
| ten, 200 falling to 2 by equal ratios | 2.5 of 9 | .11 to .13 | .02 to .04 |
| ten, 200 falling to 2 by equal steps | 5.1 of 9 | .05 to .07 | .04 to .05 |
| 96, 2, 2 in each class | 1.3 of 2 | .05 to .07 | .01 to .05 |
| eight, 1 to 29 at random in 4 classes | 5.6 of 7 | .05 to .07 | .04 to .06 |
| six, two in each of 3 classes | 4.1 of 5 | .05 to .07 | .05 to .06 |
| 3, 4, 6, 10, 16 equal ones | g - 1 | .04 to .07 | the same |

Where one patient has nearly all tiles the test is too cautious. The spread between patients in a
class that one patient alone has cannot be seen at all: here it is like that in the other classes.

Source: docs/methods.md#classifier-benefit; Owen 2007, "The pigeonhole bootstrap"; Satterthwaite
1946; Bell and McCaffrey 2002, "Bias reduction in standard errors for linear regression with
multi-stage samples".
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

PRIMARY = "balanced_accuracy"
"""The metric that is tested; differences in the others are shown with their intervals."""

SIGNIFICANCE = 0.05
CONFIDENCE = 0.95
POWER = 0.8

HELPS = "helps"
HARMS = "harms"
NO_EVIDENCE = "no evidence of benefit"


@dataclass(frozen=True, kw_only=True, eq=False)
class Resamples:
    """The test patients, and how often each stands in each bootstrap draw.

    Attributes:
      owner: patient of each test tile, 0..g-1, shape (n,).
      weights: times each patient was drawn, shape (draws + 1, g); row 0 is the split as it is.
      freedom: degrees of freedom of a variance between these patients, 1 to g - 1; None: g - 1, as
        if all of them counted alike.
    """

    owner: Indices
    weights: Floats
    freedom: float | None = None

    @property
    def patients(self) -> int:
        """g."""
        return int(self.weights.shape[1])


def resample_patients(
    groups: NDArray[np.str_],
    *,
    draws: int,
    rng: np.random.Generator,
    labels: NDArray[np.str_] | Indices | None = None,
) -> Resamples:
    """Draw g patients of g with replacement, `draws` times.

    Args:
      groups: patient of each test tile, shape (n,).
      draws: bootstrap draws, 2 or more.
      rng: of the draws.
      labels: true class of each test tile, shape (n,), for the degrees of freedom where patients
        count unevenly; None: as if they counted alike.
    """
    names, owner = np.unique(groups, return_inverse=True)
    g = len(names)
    drawn = rng.multinomial(g, np.full(g, 1 / g), size=draws)
    weights = np.concatenate([np.ones((1, g)), drawn]).astype(np.float64)
    freedom = None
    if labels is not None:
        classes, label = np.unique(labels, return_inverse=True)
        tiles = np.bincount(owner * len(classes) + label, minlength=g * len(classes))
        freedom = _freedom(weights[1:], tiles.reshape(g, -1).astype(np.float64))
    return Resamples(owner=owner.astype(np.intp), weights=weights, freedom=freedom)


def _freedom(weights: Floats, tiles: Floats) -> float:
    """Degrees of freedom of the bootstrap's variance of a mean recall.

    If patients have independent effects e of one variance, alike in all classes, a draw's mean
    recall is sum_p S_p e_p, with S_p the mean over classes of the patient's share of the class's
    tiles, and the bootstrap's variance is e' V e with V = cov(S) over draws. Matching two moments,
    its degrees of freedom are (tr V)^2 / tr V^2. Patients who count alike have g - 1 of them; the
    same draws of such patients serve as the yardstick, so that equal ones get exactly that.

    Args:
      weights: times each patient was drawn, shape (draws, g).
      tiles: of each patient in each class, shape (g, c).

    Returns:
      From 1 to g - 1.
    """
    most = float(weights.shape[1] - 1)
    own, alike = (
        _concentration(_shares(weights, one)) for one in (tiles, np.ones((len(tiles), 1)))
    )
    if own <= alike or alike <= 0:
        return most
    return max(1.0, most * alike / own)


def _shares(weights: Floats, tiles: Floats) -> Floats:
    """Mean over a draw's classes of each patient's share of the class, shape (draws, g)."""
    total = np.zeros(weights.shape)
    present = np.zeros((len(weights), 1))
    for own in tiles.T:
        count = (weights @ own)[:, np.newaxis]
        total += np.divide(weights * own, count, out=np.zeros_like(total), where=count > 0)
        present += count > 0
    return np.asarray(total / present)


def _concentration(shares: Floats) -> float:
    """Tr V^2 / (tr V)^2 for the covariance V that the draws, shape (draws, g), are a sample of."""
    centred = shares - shares.mean(axis=0)
    tall = len(centred) > centred.shape[1]
    products = centred.T @ centred if tall else centred @ centred.T
    # A sample covariance of d draws overstates the ratio by 1 / (d - 1), to first order.
    scale = float(np.trace(products)) ** 2
    return float((products**2).sum()) / scale - 1 / (len(centred) - 1) if scale > 0 else 0.0


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
    between = float(g - 1) if resamples.freedom is None else resamples.freedom
    freedom = between
    if variance < 1e-20:
        # No draw differs from another: the least p that this many draws can support, never 0.
        p = 1.0 if abs(value) < 1e-10 else 1 / draws.shape[2]
        half = 0.0
    else:
        each = np.maximum(1, np.array([between, *(count - 1 for count in cells.shape)]))
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
