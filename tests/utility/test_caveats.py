from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from audits.results import Estimate
from privgen.data.layouts import open_tiles
from privgen.data.splits import split_by_patient
from privgen.data.tileset import TileSet
from privgen.utility.caveats import data_caveats, result_caveats
from privgen.utility.plan import check_splits
from privgen.utility.summary import ArmRow, Convergence, Difference


def estimate(value: float, half: float = 0.05) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=9, unit="patient")


def baseline(accuracy: float, *, improving: bool = False) -> ArmRow:
    return ArmRow(
        family="mobilenet",
        arm="real",
        ratio=None,
        control=False,
        train_tiles=10,
        updates=10,
        metrics={"balanced_accuracy": estimate(accuracy)},
        convergence=Convergence(
            curve=(), train_accuracy=1.0, chosen=(10,), still_improving=improving
        ),
    )


def difference(value: float, *, control: bool) -> Difference:
    return Difference(
        family="mobilenet",
        arm="some x1",
        ratio=1.0,
        control=control,
        estimate=estimate(value),
        metrics={"balanced_accuracy": estimate(value)},
        p=0.5,
        p_holm=None,
        verdict="control",
    )


def splits(textures: Callable[..., TileSet], **changed: TileSet) -> dict[str, TileSet]:
    return {
        "train": textures("train"),
        "validation": textures("choose"),
        "test": textures("test", patients=6),
        "synthetic": textures("made"),
    } | changed


def test_sound_data_raise_no_warning(textures: Callable[..., TileSet]) -> None:
    assert data_caveats(**splits(textures)) == []


def test_few_test_patients_are_counted(textures: Callable[..., TileSet]) -> None:
    (found,) = data_caveats(**splits(textures, test=textures("test", patients=4)))
    assert "has 4 patients" in found
    assert "3 degrees of freedom" in found


def test_tiles_without_patients_are_said_to_be_so(textures: Callable[..., TileSet]) -> None:
    (found,) = data_caveats(**splits(textures, test=textures("test", grouped=False)))
    assert "names no patients" in found


def test_a_class_of_two_patients_is_called_confounded(textures: Callable[..., TileSet]) -> None:
    test = textures("test", patients=6)
    keep = (test.labels != "down") | np.isin(test.groups, ["test0", "test1"])
    (found,) = data_caveats(**splits(textures, test=test.subset(np.flatnonzero(keep))))
    assert "confounded" in found
    assert "down (2)" in found


@pytest.mark.parametrize(("role", "words"), [("validation", "split"), ("synthetic", "set")])
def test_a_class_missing_from_a_set_is_named(
    textures: Callable[..., TileSet], role: str, words: str
) -> None:
    tiles = textures("other")
    lacking = tiles.subset(np.flatnonzero(tiles.labels != "check"))
    (found,) = data_caveats(**splits(textures, **{role: lacking}))
    assert f"the {role} {words} has no check" in found


def test_a_converged_baseline_raises_no_warning() -> None:
    rows, differences = [baseline(0.9)], [difference(0.0, control=True)]
    assert result_caveats(rows, differences, histogram=estimate(0.8), seeds=5) == []


def test_a_baseline_below_the_colour_histogram_is_called_undertrained() -> None:
    (found,) = result_caveats([baseline(0.3)], [], histogram=estimate(0.8), seeds=5)
    assert "colour histogram (0.80) with mobilenet (0.30)" in found
    assert "undertrained" in found


def test_a_rising_baseline_is_named() -> None:
    rows = [baseline(0.9, improving=True)]
    (found,) = result_caveats(rows, [], histogram=estimate(0.8), seeds=5)
    assert "still improving with mobilenet" in found


@pytest.mark.parametrize(("control", "count"), [(True, 1), (False, 0)])
def test_only_a_control_that_gains_is_suspicious(control: bool, count: int) -> None:
    differences = [difference(0.1, control=control)]
    found = result_caveats([baseline(0.9)], differences, histogram=estimate(0.8), seeds=5)
    assert len(found) == count


def test_two_seeds_are_few() -> None:
    (found,) = result_caveats([baseline(0.9)], [], histogram=estimate(0.8), seeds=2)
    assert found.startswith("2 seeds")


@pytest.mark.real_data
def test_glas_is_called_confounded(real_data: Callable[[str], Path]) -> None:
    glas = open_tiles(real_data("glas"))
    outer = split_by_patient(glas, siblings=0.0, seed=0)
    known, test = glas.subset(outer.train), glas.subset(outer.holdout)
    inner = split_by_patient(known, holdout=0.25, siblings=0.0, seed=0)
    roles = {"train": known.subset(inner.train), "validation": known.subset(inner.holdout)}
    check_splits(**roles, test=test, synthetic=roles["train"])
    found = data_caveats(**roles, test=test, synthetic=roles["train"])
    assert any("confounded" in line and "healthy (1)" in line for line in found)
