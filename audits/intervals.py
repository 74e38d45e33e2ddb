"""Intervals for proportions and differences, and for anything a patient contributes to.

Conventions: `confidence` is two-sided; proportions are fractions; patients are the resampling unit.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audits.inputs import Floats, Strings


def clopper_pearson(count: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a binomial proportion (Clopper & Pearson 1934)."""
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(stats.beta.ppf(tail, count, n - count + 1))
    high = 1.0 if count == n else float(stats.beta.ppf(1 - tail, count + 1, n - count))
    return low, high


def wilson(proportion: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927); `n` may be an effective, fractional size."""
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    centre = (proportion + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(proportion * (1 - proportion) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def newcombe(
    first: float, n_first: float, second: float, n_second: float, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of `first - second`, two independent proportions (Newcombe 1998, method 10)."""
    low_1, high_1 = wilson(first, n_first, confidence=confidence)
    low_2, high_2 = wilson(second, n_second, confidence=confidence)
    difference = first - second
    low = difference - np.hypot(first - low_1, high_2 - second)
    high = difference + np.hypot(high_1 - first, second - low_2)
    return max(-1.0, float(low)), min(1.0, float(high))


def effective_size(hits: NDArray[np.bool_], patients: Strings) -> float:
    """Number of independent tiles that would estimate the hit rate as well as these do.

    `n / deff`, with the design effect from the between-patient variance of the ratio estimator and
    never below 1. Without a hit, or with one patient, nothing can be learned about clustering and
    `n` is returned.

    Args:
      hits: shape (n,).
      patients: patient of each tile, shape (n,).
    """
    n = len(hits)
    rate = hits.mean()
    names, owner = np.unique(patients, return_inverse=True)
    if rate in (0.0, 1.0) or len(names) < 2:
        return float(n)
    excess = np.bincount(owner, weights=hits - rate)
    clustered = (excess**2).sum() / n**2 * len(names) / (len(names) - 1)
    return float(n / max(1.0, clustered / (rate * (1 - rate) / n)))


def clustered_mean(
    values: Floats, patients: Strings, *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean over tiles with an interval whose unit is the patient: (mean, low, high).

    Linearised (ratio-estimator) variance with Student's t on patients - 1 degrees of freedom; with
    a single patient the tiles are all there is, and each counts as its own.
    """
    mean = float(values.mean())
    names, owner = np.unique(patients, return_inverse=True)
    if len(names) < 2:
        owner, names = np.arange(len(values)), np.arange(len(values)).astype(np.str_)
    groups = len(names)
    if groups < 2:
        return mean, mean, mean
    excess = np.bincount(owner, weights=values - mean)
    error = np.sqrt((excess**2).sum() * groups / (groups - 1)) / len(values)
    half = float(stats.t.ppf(0.5 + confidence / 2, groups - 1) * error)
    return mean, mean - half, mean + half


def jackknife(
    statistic: Callable[..., float],
    *groups: NDArray[np.intp],
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """A statistic of independent samples with its delete-one-group interval: (value, low, high).

    Preferred over the bootstrap for Frechet and kernel distances: a bootstrap sample repeats tiles,
    and those statistics read repetition as structure.

    Args:
      statistic: takes one keep-mask a sample, shape (n_i,).
      groups: for each sample the group of each tile, 0..g_i-1, shape (n_i,), g_i >= 2;
        patients, or blocks of them.
      confidence: two-sided; Student's t on the smallest g_i - 1 degrees of freedom.
    """
    everything = [np.ones(len(owner), dtype=np.bool_) for owner in groups]
    whole = statistic(*everything)
    variance = 0.0
    fewest = min(int(owner.max()) + 1 for owner in groups)
    for sample, owner in enumerate(groups):
        count = int(owner.max()) + 1
        masks = list(everything)
        left_out = np.empty(count)
        for group in range(count):
            masks[sample] = owner != group
            left_out[group] = statistic(*masks)
        variance += (count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum())
    half = float(stats.t.ppf(0.5 + confidence / 2, fewest - 1) * np.sqrt(variance))
    return whole, whole - half, whole + half
