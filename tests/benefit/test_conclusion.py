"""Whole paragraphs, word by word: what is printed is what is tested."""

import pytest

from audits.results import Estimate
from privgen.benefit.results.conclusion import conclude
from privgen.benefit.results.records import ArmRow, Convergence, Difference, HistogramRow
from privgen.benefit.results.statistics import HARMS, HELPS, NO_EVIDENCE

ASKED = (
    "The question was whether classifiers of real tiles get better when synthetic tiles are added "
    "to their training set, tested on 250 tiles of 6 patients that no training ever saw. "
)
WHOSE = (
    " All this speaks of these 6 patients and of others like them; elsewhere it has to be measured "
    "again."
)


def estimate(value: float, half: float = 0.04) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=6, unit="patient")


def baseline(accuracy: float, model: str = "resnet", regime: float = 1.0) -> ArmRow:
    return ArmRow(
        regime=regime,
        model=model,
        arm="real",
        ratio=None,
        role="baseline",
        train_tiles=10,
        updates=10,
        seeds=5,
        generators=1,
        metrics={"balanced_accuracy": estimate(accuracy)},
        robustness={},
        convergence=Convergence(curve=(), train_accuracy=1.0, chosen=(), still_improving=False),
    )


def difference(
    value: float,
    verdict: str = NO_EVIDENCE,
    *,
    arm: str = "real+synthetic x1",
    model: str = "resnet",
    regime: float = 1.0,
    detectable: float | None = 0.06,
) -> Difference:
    return Difference(
        regime=regime,
        model=model,
        arm=arm,
        ratio=1.0,
        role="control" if verdict == "control" else "tested",
        estimate=estimate(value),
        metrics={},
        robustness={},
        p=0.5,
        p_holm=None,
        verdict=verdict,
        detectable=detectable,
    )


def paragraph(
    differences: list[Difference],
    rows: list[ArmRow] | None = None,
    histograms: dict[float, float] | None = None,
    *,
    tiles: int = 250,
    classes: int = 20,
    patients: int = 6,
    group_unit: str = "patient",
) -> str:
    return conclude(
        rows=rows or [baseline(0.9)],
        differences=differences,
        histograms=[
            HistogramRow(regime=regime, metrics={"balanced_accuracy": estimate(value)})
            for regime, value in (histograms or {}).items()
        ],
        classes=classes,
        tiles=tiles,
        patients=patients,
        group_unit=group_unit,
    )


def test_helps() -> None:
    found = paragraph(
        [
            difference(0.072, HELPS),
            difference(0.113, HELPS, model="densenet", arm="real+filtered x1"),
            difference(0.2, NO_EVIDENCE, model="mobilenet"),
        ]
    )
    assert found == (
        f"{ASKED}With all real training tiles, synthetic tiles helped in 2 and showed no evidence "
        "of benefit in 1 of 3 comparisons. The largest significant gain was +11.3 points (95 % "
        f"interval +7.3 to +15.3) with densenet (real+filtered x1).{WHOSE}"
    )


def test_no_evidence() -> None:
    found = paragraph(
        [
            difference(0.01, regime=0.1, detectable=0.031),
            difference(0.02, regime=0.1, detectable=0.052),
            difference(-0.03, regime=0.1, detectable=0.24),
        ],
        [baseline(0.9, regime=0.1)],
    )
    assert found == (
        f"{ASKED}With 10 % of the real training tiles, there was no evidence of benefit in any of "
        "3 comparisons. A gain smaller than about 5.2 points would often have been missed: that "
        f"is what one such comparison finds four times in five.{WHOSE}"
    )


def test_no_evidence_in_a_single_comparison_where_nothing_varied() -> None:
    found = paragraph([difference(0.0, detectable=None)])
    assert found == (
        f"{ASKED}With all real training tiles, there was no evidence of benefit in the one "
        f"comparison.{WHOSE}"
    )


def test_harms() -> None:
    found = paragraph([difference(-0.01, HARMS), difference(-0.05, HARMS, model="densenet")])
    assert found == (
        f"{ASKED}With all real training tiles, synthetic tiles harmed in 2 of 2 comparisons. The "
        "largest significant loss was -5.0 points (95 % interval -9.0 to -1.0) with densenet "
        "(real+synthetic x1). A gain smaller than about 6.0 points would often have been missed: "
        f"that is what one such comparison finds four times in five.{WHOSE}"
    )


def test_mixed_verdicts_regimes_and_controls() -> None:
    found = paragraph(
        [
            difference(0.09, HELPS, regime=0.1),
            difference(-0.09, HARMS, regime=0.1, arm="real+synthetic x3"),
            difference(0.0, regime=0.1, arm="real+filtered x1"),
            difference(0.06, "control", regime=0.1, arm="oversampled x1"),
            difference(-0.0401, "control", regime=0.1, arm="oversampled x1", model="densenet"),
            difference(-0.11, "control", regime=0.1, arm="shuffled x1"),
            difference(0.001, arm="real+synthetic x1"),
        ],
        [baseline(0.9, regime=0.1), baseline(0.9)],
        {0.1: 0.612, 1.0: 0.7},
    )
    assert found == (
        f"{ASKED}With 10 % of the real training tiles, synthetic tiles helped in 1, harmed in 1 "
        "and showed no evidence of benefit in 1 of 3 comparisons. The largest significant gain was "
        "+9.0 points (95 % interval +5.0 to +13.0) with resnet (real+synthetic x1). The largest "
        "significant loss was -9.0 points (95 % interval -13.0 to -5.0) with resnet "
        "(real+synthetic x3). Repeating real tiles instead gained beyond chance with 1 of 2 models "
        "and lost with 1 (+1.0 point on average). Adding synthetic tiles under shuffled labels "
        "gained beyond chance with 0 of 1 model and lost with 1 (-11.0 points on average). Trained "
        "on real tiles alone, every model beat a colour histogram (61.2 % balanced accuracy). With "
        "all real training tiles, there was no evidence of benefit in the one comparison. A gain "
        "smaller than about 6.0 points would often have been missed: that is what one such "
        "comparison finds four times in five. Trained on real tiles alone, every model beat a "
        f"colour histogram (70.0 % balanced accuracy).{WHOSE}"
    )


@pytest.mark.parametrize(
    ("weak", "words"),
    [
        ({"resnet": 0.7}, "resnet did not beat a colour histogram"),
        ({"resnet": 0.7, "densenet": 0.8}, "resnet and densenet did not beat a colour histogram"),
    ],
)
def test_a_histogram_that_beats_networks(weak: dict[str, float], words: str) -> None:
    rows = [baseline(0.95, "mobilenet"), *(baseline(value, name) for name, value in weak.items())]
    found = paragraph([difference(0.05, HELPS)], rows, {1.0: 0.82})
    them = "it" if len(weak) == 1 else "them"
    assert found == (
        f"{ASKED}With all real training tiles, synthetic tiles helped in 1 of 1 comparison. The "
        "largest significant gain was +5.0 points (95 % interval +1.0 to +9.0) with resnet "
        f"(real+synthetic x1). Trained on real tiles alone, {words} (82.0 % balanced accuracy), so "
        f"that gains over {them} say little.{WHOSE}"
    )


def test_what_rounds_to_nothing_has_no_sign() -> None:
    found = paragraph([difference(-0.0001, "control", arm="oversampled x1")])
    assert "(0.0 points on average)" in found


def test_other_units_and_single_ones_are_named() -> None:
    found = paragraph([], tiles=1, patients=1, group_unit="source_image")
    assert "tested on 1 tile of 1 source image that" in found
    assert found.endswith(
        "All this speaks of this 1 source image and of others like it; elsewhere it has to be "
        "measured again."
    )


def test_tiles_without_patients_are_counted_once() -> None:
    found = paragraph([], tiles=2500, patients=2500, group_unit="tile")
    assert "tested on 2,500 tiles that no training ever saw." in found
    assert "speaks of these 2,500 tiles and" in found


def test_a_baseline_that_guesses_is_said_to() -> None:
    said = paragraph([difference(0.0)], [baseline(0.22), baseline(0.4, "densenet")], classes=5)
    assert (
        "Trained on real tiles alone, resnet cannot be told from guessing (20 %) on new patients, "
        "so that neither a gain nor its absence means much there." in said
    )
