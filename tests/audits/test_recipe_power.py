"""Power of a design before anything is trained: it foretells what simulated experiments show."""

import numpy as np

from audits.recipe_power import planned_power
from tests.helpers.recipes import design, strata


def test_sixteen_patients_and_sixteen_runs_are_enough() -> None:
    found = planned_power(
        design(16, 16),
        np.zeros(16, dtype=np.intp),
        excess=0.1,
        level=0.05,
        rng=np.random.default_rng(0),
        repetitions=150,
    )
    assert found.detects.value >= 0.7
    assert found.excludes.value >= 0.7
    assert 0.03 < found.null_sd < 0.045
    assert (found.runs, found.patients) == (16, 16)


def test_more_runs_see_more() -> None:
    few, many = (
        planned_power(
            design(8, runs),
            strata(8),
            excess=0.1,
            level=0.05,
            rng=np.random.default_rng(1),
            repetitions=60,
        )
        for runs in (4, 24)
    )
    assert few.excludes.value < many.excludes.value
    assert few.upper > many.upper
