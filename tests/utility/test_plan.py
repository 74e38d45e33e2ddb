import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from privgen.data.tileset import TileSet
from privgen.errors import ConfigError, InputError, PrivgenError, SplitError
from privgen.utility.fitting import Recipe
from privgen.utility.plan import Plan, check_splits

RECIPE = Recipe(updates=10, batch=8, evaluations=2)


def plan(**changed: Any) -> Plan:
    options: dict[str, Any] = {
        "families": ("mobilenet", "resnet"),
        "ratios": (0.5, 1.0),
        "seeds": (0, 1),
        "arms": ("real", "real+synthetic", "oversampled"),
        "recipe": RECIPE,
        "size": "small",
        "device": "cpu",
        "seed": 0,
    }
    return Plan(**(options | changed))


def test_every_family_is_trained_in_every_arm_at_every_ratio_with_every_seed() -> None:
    cells = plan().cells()
    assert len(cells) == len({cell.name for cell in cells}) == 2 * (1 + 2 + 2) * 2
    assert {cell.label for cell in cells} == {
        "real",
        "real+synthetic x0.5",
        "real+synthetic x1",
        "oversampled x0.5",
        "oversampled x1",
    }


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"families": ("resnett",)}, "families .* got 'resnett'. Did you mean resnet?"),
        ({"families": ()}, "families must be one or more"),
        ({"arms": ("real", "real+fake")}, "got 'real\\+fake'"),
        ({"arms": ("oversampled",)}, "arms must hold 'real'"),
        ({"size": "medium"}, "size must be of standard, small: got 'medium'"),
        ({"ratios": (1.0, 1.0)}, "ratios must be one or more different ones"),
        ({"ratios": (0.0,)}, "ratios must be above 0"),
        ({"ratios": (math.nan,)}, "ratios must be above 0"),
        ({"seeds": (0,)}, "seeds must be 2 or more"),
        ({"seeds": (-1, 0)}, "from 0"),
        ({"recipe": Recipe(updates=10, batch=1, evaluations=2)}, "batch must be 2 or more: got 1"),
        ({"recipe": Recipe(updates=10, batch=8, evaluations=1)}, "evaluations must be 2"),
        ({"recipe": Recipe(updates=1, batch=8, evaluations=2)}, "updates must be 2 or more"),
        ({"seed": -1}, "seed must be 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(changed: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        plan(**changed)


def splits(textures: Callable[..., TileSet], **changed: TileSet) -> dict[str, TileSet]:
    return {
        "train": textures("train"),
        "validation": textures("choose", patients=2),
        "test": textures("test"),
        "synthetic": textures("made", grouped=False),
    } | changed


def without(tiles: TileSet, label: str) -> TileSet:
    return tiles.subset(np.flatnonzero(tiles.labels != label))


def test_disjoint_splits_with_all_classes_pass(textures: Callable[..., TileSet]) -> None:
    check_splits(**splits(textures))


def test_synthetic_may_lack_a_class(textures: Callable[..., TileSet]) -> None:
    check_splits(**splits(textures, synthetic=without(textures("made"), "down")))


@pytest.mark.parametrize(
    ("role", "change", "error", "rule"),
    [
        ("test", lambda t: without(t("test"), "down"), InputError, "test split: down is missing"),
        ("train", lambda t: without(t("train"), "down"), InputError, "validation class.*: down is"),
        ("train", lambda t: t("train", classes=("down",)), InputError, "2 classes or more"),
        ("test", lambda t: t("test", patients=1), InputError, "2 patients or more: got 1"),
        ("validation", lambda t: t("choose").subset(np.arange(0)), InputError, "must hold tiles"),
        ("test", lambda t: t("train"), SplitError, "may not share a patient"),
        ("validation", lambda t: t("train", patients=2), SplitError, "may not share a patient"),
        ("synthetic", lambda t: t("test", grouped=False), SplitError, "in the test split: 36 do"),
        (
            "synthetic",
            lambda t: t("choose", patients=2, grouped=False),
            SplitError,
            "in the validation split",
        ),
    ],
)
def test_unusable_splits_are_refused(
    textures: Callable[..., TileSet],
    role: str,
    change: Callable[[Callable[..., TileSet]], TileSet],
    error: type[PrivgenError],
    rule: str,
) -> None:
    with pytest.raises(error, match=rule) as raised:
        check_splits(**splits(textures, **{role: change(textures)}))
    assert "\n" not in str(raised.value)


def test_synthetic_tiles_of_another_class_are_refused(textures: Callable[..., TileSet]) -> None:
    made = textures("made")
    relabelled = TileSet.from_arrays(
        made.load(), np.where(made.labels == "down", "up", made.labels)
    )
    with pytest.raises(InputError, match=r"synthetic class .* up is not \(across, check, down are"):
        check_splits(**splits(textures, synthetic=relabelled))
