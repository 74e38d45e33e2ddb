"""Quality of a recipe's runs: new tiles of strangers are as good as real ones, noise is not."""

from dataclasses import replace

import numpy as np
import pytest

from audits import AuditResult
from audits.recipe_quality import recipe_quality
from audits.recipe_scores import Look
from tests.helpers.recipes import FEATURES, experiment


def measured(shift: float) -> dict[str, AuditResult]:
    data = experiment(runs=4)
    look = Look(
        real=data.look.real,
        synthetic=[tiles + np.float32(shift) for tiles in data.look.synthetic],
    )
    found = recipe_quality(data, look, "judge", np.random.default_rng(0))
    return {result.name.removeprefix("quality/"): result for result in found}


def test_worse_tiles_are_farther_and_cover_less() -> None:
    good, bad = measured(0.0), measured(0.5)
    assert bad["kid"].statistic.value > 10 * abs(good["kid"].statistic.value)
    assert bad["coverage"].statistic.value < 0.1 < good["coverage"].statistic.value
    assert bad["kid_floor"].statistic.value == pytest.approx(good["kid_floor"].statistic.value)


def test_intervals_are_over_runs() -> None:
    found = measured(0.0)["kid"].statistic
    assert (found.n, found.unit) == (4, "run")
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_too_few_tiles_say_nothing() -> None:
    data = experiment(runs=4, synthetic=20)
    few = replace(data, held_back=np.arange(len(data.patients)) % 12 > 0)
    tiny = Look(real=data.look.real, synthetic=[np.zeros((3, FEATURES), np.float32)] * 4)
    assert recipe_quality(few, tiny, "judge", np.random.default_rng(0)) == []
