"""What an audit by repeated training could see, before any generator is trained.

Simulated: scores of one patient vary normally over runs, patients and runs have effects of their
own, and being in training adds a shift that gives the AUROC asked about. Only ranks within patients
count, so the size of the effects of patients does not matter.

Source: docs/methods.md#repeated-training.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from audits.coins import Design
from audits.intervals import clopper_pearson
from audits.repeated import Indices, Retossed, ranked, upper_bound
from audits.results import Estimate

SEEN_AUROC = 0.6
"""The effect whose detection is reported."""

_REPETITIONS = 200
_RETOSSES = 999


@dataclass(frozen=True, kw_only=True)
class PlannedPower:
    """What a design could see.

    Attributes:
      runs, patients: K and P.
      detects: share of experiments with a within-patient AUROC of .6 that reject.
      excludes: share of experiments without any effect whose one-sided bound excludes `excess`.
      upper: mean of that bound, as excess over .5.
      null_sd: of the AUROC without effect.
      excess: of the policy.
      level: one-sided, of the test.
    """

    runs: int
    patients: int
    detects: Estimate
    excludes: Estimate
    upper: float
    null_sd: float
    excess: float
    level: float


def planned_power(
    design: Design,
    strata: Indices,
    *,
    excess: float,
    level: float,
    rng: np.random.Generator,
    repetitions: int = _REPETITIONS,
) -> PlannedPower:
    """Power of a design.

    Args:
      design: how coins are tossed.
      strata: class group of each patient, shape (P,).
      excess: over .5, to be excluded.
      level: of the test.
      rng: of the simulation.
      repetitions: simulated experiments of each kind.
    """
    retossed = Retossed.of(design.toss(rng), rng, draws=_RETOSSES)
    shift = np.sqrt(2) * stats.norm.ppf(SEEN_AUROC)
    detected, uppers = 0, []
    for included in design.retoss(repetitions, rng):
        noise = rng.standard_normal(included.shape)
        uppers.append(upper_bound(noise, included, strata, retossed) - 0.5)
        detected += retossed.p_of(noise + shift * included, included, strata) <= level
    spread = float(retossed.aurocs(ranked(rng.standard_normal(included.shape))).std())
    return PlannedPower(
        runs=design.runs,
        patients=design.patients,
        detects=_share(detected, repetitions),
        excludes=_share(int((np.array(uppers) <= excess).sum()), repetitions),
        upper=float(np.mean(uppers)),
        null_sd=spread,
        excess=excess,
        level=level,
    )


def _share(count: int, n: int) -> Estimate:
    low, high = clopper_pearson(count, n)
    return Estimate(value=count / n, low=low, high=high, n=n, unit="simulated experiment")
