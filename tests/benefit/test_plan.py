import math
from typing import Any

import pytest

from privgen.benefit.arms import ARMS
from privgen.benefit.plan import BenchPlan
from privgen.benefit.trials.fitting import Recipe
from privgen.errors import ConfigError

RECIPE = Recipe(updates=10, batch=8, evaluations=2)


def plan(**changed: Any) -> BenchPlan:
    options: dict[str, Any] = {
        "models": ("mobilenet", "resnet18"),
        "ratios": (0.5, 1.0),
        "seeds": (0, 1),
        "recipe": RECIPE,
    }
    return BenchPlan(**(options | changed))


def test_arms_seeds_and_generators_are_fully_crossed() -> None:
    cells = plan().cells({0.1: 2, 1.0: 1})
    labels = {
        "real": 1,
        "real+classical": 1,
        "real+synthetic x0.5": 2,
        "real+synthetic x1": 2,
        "real+filtered x1": 2,
        "synthetic x1": 2,
        "oversampled x1": 1,
        "shuffled x1": 2,
    }
    assert len(cells) == len({cell.name for cell in cells})
    for regime, generators in ((0.1, 2), (1.0, 1)):
        for model in ("mobilenet", "resnet18"):
            for label, repeated in labels.items():
                own = [
                    (cell.seed, cell.generator)
                    for cell in cells
                    if (cell.regime, cell.model, cell.label) == (regime, model, label)
                ]
                made = range(generators) if repeated == 2 else (None,)
                assert sorted(own, key=str) == sorted(
                    ((seed, one) for seed in (0, 1) for one in made), key=str
                )
    assert {cell.label for cell in cells} == set(labels)


def test_controls_are_run_at_the_ratio_nearest_to_one() -> None:
    assert plan(ratios=(0.25, 0.8, 3.0)).primary_ratio == 0.8
    assert plan(ratios=(2.0, 0.5)).primary_ratio == 0.5  # equally near: the smaller
    cells = plan(ratios=(0.25, 3.0), arms=("real", "shuffled", "real+synthetic")).cells({1.0: 1})
    assert {cell.ratio for cell in cells if cell.arm == "shuffled"} == {3.0}
    assert {cell.ratio for cell in cells if cell.arm == "real+synthetic"} == {0.25, 3.0}


def test_every_arm_is_run_unless_some_are_named() -> None:
    assert plan().arms == tuple(ARMS)
    assert plan().filters
    assert not plan(arms=("real", "shuffled")).filters


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"models": ("resnt",)}, "models .* got 'resnt'. Did you mean resnet?"),
        ({"models": ("resnet81",)}, r"got 'resnet81'. Did you mean resnet18\?"),
        ({"models": ()}, "models must be one or more"),
        ({"models": ("resnet", "resnet")}, "models must be one or more different"),
        ({"arms": ("real", "real+fake")}, "got 'real\\+fake'"),
        ({"arms": ("oversampled",)}, "arms must hold 'real'"),
        ({"size": "medium"}, "size must be of .*small.*: got 'medium'"),
        ({"weights": (("densenet", "torchvision"),)}, "models with weights .* got 'densenet'"),
        ({"ratios": (1.0, 1.0)}, "ratios must be one or more different ones"),
        ({"ratios": ()}, "ratios must be one or more"),
        ({"ratios": (0.0,)}, "ratios must be above 0"),
        ({"ratios": (math.nan,)}, "ratios must be above 0"),
        ({"ratios": (math.inf,)}, "ratios must be above 0"),
        ({"seeds": (0,)}, "seeds must be 2 or more"),
        ({"seeds": (-1, 0)}, "from 0"),
        ({"recipe": Recipe(updates=10, batch=1, evaluations=2)}, "batch must be 2 or more: got 1"),
        ({"recipe": Recipe(updates=10, batch=8, evaluations=1)}, "evaluations must be 2"),
        ({"recipe": Recipe(updates=1, batch=8, evaluations=2)}, "updates must be 2 or more"),
        ({"seed": -1}, "seed must be 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(changed: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule) as raised:
        plan(**changed)
    assert "\n" not in str(raised.value)


def test_a_model_starts_from_scratch_unless_weights_are_named() -> None:
    given = plan(weights=(("resnet18", "torchvision"),))
    assert given.weights_of("resnet18") == "torchvision"
    assert given.weights_of("mobilenet") is None
