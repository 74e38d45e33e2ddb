from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from audits.results import Estimate
from privgen.benefit.results.caveats import data_caveats, require_patients, result_caveats
from privgen.benefit.results.records import ArmRow, Convergence, Difference, HistogramRow
from privgen.data.layouts import open_tiles
from privgen.data.splits import split_by_patient
from privgen.data.tileset import TileSet
from privgen.errors import InputError


def estimate(value: float, half: float = 0.05) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=9, unit="patient")


def row(
    accuracy: float = 0.9,
    *,
    arm: str = "real",
    role: str = "baseline",
    improving: bool = False,
    regime: float = 1.0,
    seeds: int = 5,
    generators: int = 1,
) -> ArmRow:
    return ArmRow(
        regime=regime,
        model="mobilenet",
        arm=arm,
        ratio=None,
        role=role,
        train_tiles=10,
        updates=10,
        seeds=seeds,
        generators=generators,
        metrics={"balanced_accuracy": estimate(accuracy)},
        robustness={},
        convergence=Convergence(
            curve=(), train_accuracy=1.0, chosen=(10,), still_improving=improving
        ),
    )


def difference(
    value: float, arm: str, role: str = "control", *, detectable: float | None = 0.1
) -> Difference:
    return Difference(
        regime=0.1,
        model="mobilenet",
        arm=arm,
        ratio=1.0,
        role=role,
        estimate=estimate(value),
        metrics={"balanced_accuracy": estimate(value)},
        robustness={},
        p=0.5,
        p_holm=None,
        verdict=role,
        detectable=detectable,
    )


def found_in(
    rows: list[ArmRow],
    differences: list[Difference],
    *,
    histogram: float = 0.8,
    classes: int = 20,
    patients: int = 9,
    group_unit: str = "patient",
) -> list[str]:
    metrics = {"balanced_accuracy": estimate(histogram)}
    return result_caveats(
        rows,
        differences,
        histograms=[HistogramRow(regime=1.0, metrics=metrics)],
        classes=classes,
        patients=patients,
        group_unit=group_unit,
    )


Splits = dict[str, TileSet]


def warned(splits: Splits, **changed: TileSet) -> list[str]:
    used = splits | changed
    return data_caveats(
        train={0.1: used["train"]},
        validation=used["validation"],
        test=used["test"],
        synthetic={0.1: [used["synthetic"]]},
    )


@pytest.fixture(name="splits")
def _splits(textures: Callable[..., TileSet]) -> Splits:
    return {
        "train": textures("train"),
        "validation": textures("choose"),
        "test": textures("test", patients=6),
        "synthetic": textures("made"),
    }


def test_sound_data_raise_no_warning(splits: Splits) -> None:
    assert warned(splits) == []


def test_tiles_without_patients_are_said_to_be_so(
    textures: Callable[..., TileSet], splits: Splits
) -> None:
    (found,) = warned(splits, test=textures("test", grouped=False))
    assert "names no patients" in found


def test_a_class_of_few_patients_is_called_confounded_without_their_number(
    splits: Splits,
) -> None:
    test = splits["test"]
    few = {"down": ["test0", "test1"], "check": ["test2"]}
    keep = np.ones(len(test), dtype=bool)
    for label, patients in few.items():
        keep &= (test.labels != label) | np.isin(test.groups, patients)
    (found,) = warned(splits, test=test.subset(np.flatnonzero(keep)))
    assert "confounded: very few test patients have check, down." in found
    assert "one patient alone" in found
    assert not any(digit in found for digit in "0123456789")


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("validation", "the validation split has no check"),
        ("synthetic", "regime 0.1, generator 0: no synthetic tile is check"),
    ],
)
def test_a_class_missing_from_a_set_is_named(splits: Splits, role: str, words: str) -> None:
    tiles = splits[role]
    lacking = tiles.subset(np.flatnonzero(tiles.labels != "check"))
    (found,) = warned(splits, **{role: lacking})
    assert words in found


def filtered(splits: Splits, dropped: np.ndarray) -> list[str]:
    made = splits["synthetic"]
    return data_caveats(
        train={0.1: splits["train"], 1.0: splits["train"]},
        validation=splits["validation"],
        test=splits["test"],
        synthetic={0.1: [made, made], 1.0: [made]},
        kept={0.1: [np.ones(len(made), dtype=bool), ~dropped], 1.0: [np.ones(len(made), bool)]},
    )


def test_a_filter_that_drops_half_is_no_matter_and_more_is(splits: Splits) -> None:
    order = np.arange(36)
    assert filtered(splits, order < 18) == []
    (found,) = filtered(splits, order < 19)
    assert found.startswith("regime 0.1, generator 1: the filter dropped 19 of 36 synthetic tiles")


def test_a_filter_that_drops_a_whole_class_is_named(splits: Splits) -> None:
    (found,) = filtered(splits, splits["synthetic"].labels == "check")
    assert found.startswith("regime 0.1, generator 1: the filter dropped every tile of check")


def test_two_test_patients_are_refused_and_three_are_not(textures: Callable[..., TileSet]) -> None:
    with pytest.raises(InputError, match="needs 3 test patients or more: got 2"):
        require_patients(textures("test", patients=2))
    require_patients(textures("test", patients=3))


def test_a_converged_baseline_raises_no_warning() -> None:
    rows = [row(0.9), row(0.9, arm="real+synthetic x1", role="tested", generators=2)]
    differences = [
        difference(0.0, "oversampled x1"),
        difference(-0.1, "shuffled x1"),
        difference(0.2, "real+synthetic x1", "tested"),
    ]
    assert found_in(rows, differences) == []


def test_few_patients_are_told_how_many_would_do() -> None:
    sizes = (0.08, 0.1, 0.3)
    differences = [difference(0.0, "made", "tested", detectable=size) for size in sizes]
    differences.append(difference(0.0, "oversampled x1", detectable=0.9))
    (found,) = found_in([row()], differences, patients=5, group_unit="source_image")
    # The median, .1: 5 * (.1 / .05)^2 = 20.
    assert found == (
        "the test split has 5 source images: its intervals rest on 4 degrees of freedom at most. "
        "Judging from the standard errors found, 20 would be needed to see a gain of 5 points with "
        "power .8."
    )
    assert found_in([row()], differences, patients=6) == []


@pytest.mark.parametrize("detectable", [0.04, None])
def test_patients_that_are_few_and_enough_are_counted_without_advice(
    detectable: float | None,
) -> None:
    differences = [difference(0.0, "made", "tested", detectable=detectable)]
    (found,) = found_in([row()], differences, patients=4)
    assert found.endswith("3 degrees of freedom at most.")


def test_the_number_of_patients_is_rounded_up() -> None:
    differences = [difference(0.0, "made", "tested", detectable=0.071)]
    (found,) = found_in([row()], differences, patients=4)
    # 4 * (.071 / .05)^2 = 8.07.
    assert "found, 9 would be needed" in found


def test_a_baseline_below_the_colour_histogram_is_called_undertrained() -> None:
    (found,) = found_in([row(0.3)], [])
    assert "regime 1: real tiles" in found
    assert "colour histogram (0.80) with mobilenet (0.30)" in found
    assert "undertrained" in found


def test_the_colour_histogram_of_another_regime_is_no_measure() -> None:
    assert found_in([row(0.3, regime=0.1)], []) == []


def test_a_rising_baseline_is_named_and_another_arm_is_not() -> None:
    rows = [row(improving=True), row(improving=True, arm="oversampled x1", role="control")]
    (found,) = found_in(rows, [])
    assert "still improving with mobilenet (regime 1) when" in found


@pytest.mark.parametrize(("value", "count"), [(0.1, 1), (0.04, 0)])
def test_repeated_real_tiles_that_gain_beyond_their_interval_are_suspicious(
    value: float, count: int
) -> None:
    found = found_in([row()], [difference(value, "oversampled x1")])
    assert len(found) == count
    assert all("repeated, nothing new, gained too" in line for line in found)


def test_a_tested_arm_that_gains_is_not_suspicious() -> None:
    assert found_in([row()], [difference(0.3, "real+synthetic x1", "tested")]) == []


def test_shuffled_labels_that_do_no_harm_are_suspicious() -> None:
    (found,) = found_in([row()], [difference(0.012, "shuffled x1")])
    assert "shuffled labels do not harm with mobilenet (regime 0.1, +0.012)" in found


def test_two_seeds_are_few() -> None:
    (found,) = found_in([row(seeds=2)], [])
    assert found.startswith("2 seeds")


def test_a_single_generator_speaks_for_itself_alone() -> None:
    rows = [
        row(),
        row(arm="real+synthetic x1", role="tested", regime=0.1, generators=1),
        row(arm="real+synthetic x1", role="tested", regime=1.0, generators=2),
    ]
    (found,) = found_in(rows, [])
    assert found.startswith("regime 0.1: one generator was trained.")


@pytest.mark.real_data
def test_glas_is_called_confounded(real_data: Callable[[str], Path]) -> None:
    glas = open_tiles(real_data("glas"))
    outer = split_by_patient(glas, siblings=0.0, seed=0)
    known, test = glas.subset(outer.train), glas.subset(outer.holdout)
    inner = split_by_patient(known, holdout=0.25, siblings=0.0, seed=0)
    train = known.subset(inner.train)
    found = data_caveats(
        train={1.0: train},
        validation=known.subset(inner.holdout),
        test=test,
        synthetic={1.0: [train]},
    )
    (said,) = (line for line in found if "confounded" in line)
    assert "very few test patients have adenomatous, healthy, moderate_to_poor, poor." in said


def test_a_baseline_whose_interval_reaches_chance_is_named() -> None:
    low = row(0.25)
    assert (low.metrics["balanced_accuracy"].low or 0) <= 0.25
    (said,) = (one for one in found_in([low], [], classes=4) if "chance" in one)
    assert "not above chance (0.25)" in said
    assert "mobilenet (regime" in said
    assert not [one for one in found_in([low], [], classes=20) if "above chance" in one]
