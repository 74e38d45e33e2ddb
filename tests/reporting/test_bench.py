"""augment-bench on the page: every figure in its place, verdicts in words, nothing claimed."""

import html as entities
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
import pytest

from privgen.benefit.arms import ARMS
from privgen.benefit.plan import BenchPlan, Cell
from privgen.benefit.results.records import (
    BenchReport,
    CellResult,
    GeneratorRow,
    Point,
    RegimeRow,
)
from privgen.benefit.results.statistics import resample_patients
from privgen.benefit.results.summary import histogram_row, summarise
from privgen.benefit.trials.fitting import CurvePoint, Recipe
from privgen.errors import RuntimeFailure
from privgen.reporting import bench as shown_bench
from privgen.reporting import html, words
from tests.helpers import bench_example

Wrap = Callable[..., dict[str, Any]]


@pytest.fixture
def bench() -> dict[str, Any]:
    """The example: it helps with a tenth of the tiles and not with all."""
    example: dict[str, Any] = bench_example.bench()
    return example


@pytest.fixture
def small() -> dict[str, Any]:
    """The example with one model, for what does not depend on their number."""
    example: dict[str, Any] = bench_example.bench(models=("resnet",))
    return example


def _text(markup: str) -> str:
    return " ".join(entities.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


@cache
def _render(report: str) -> str:
    return html.render(json.loads(report))


def _section(wrap: Wrap, bench: dict[str, Any]) -> str:
    """The part of the page that speaks of the bench, as markup."""
    page = _render(json.dumps(wrap(None, augment_bench=bench)))
    found = re.search(r'<section aria-labelledby="bench">.*?</section>', page, re.DOTALL)
    assert found is not None
    return found[0]


def _rows(markup: str, start: str) -> list[list[str]]:
    """Cells of every table row that starts with these words, as text."""
    rows = re.findall(r"<tr.*?</tr>", markup, re.DOTALL)
    cells = [[_text(c) for c in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)] for row in rows]
    return [row for row in cells if row[0].startswith(start)]


def test_what_augment_bench_writes_is_valid_and_can_be_shown(wrap: Wrap) -> None:
    rng = np.random.default_rng(8)
    labels = np.tile([0, 1, 2], 12)
    resamples = resample_patients(np.repeat([f"p{i}" for i in range(6)], 6), draws=50, rng=rng)
    curve = tuple(
        CurvePoint(
            update=50 * i, train_loss=1.0, validation_loss=1.1, validation_balanced_accuracy=0.3 * i
        )
        for i in (1, 2)
    )
    plan = BenchPlan(
        models=("resnet", "mobilenet"),
        ratios=(0.5,),
        seeds=(0, 1),
        recipe=Recipe(updates=100, batch=8, evaluations=2),
        device="cpu",
    )
    trained = [
        CellResult(
            cell=Cell(
                regime=0.5, model=model, arm=arm.name, ratio=0.5 if arm.sized else None, seed=seed,
                generator=made,
            ),
            train_tiles=60,
            updates=100,
            chosen=50,
            curve=curve,
            train_accuracy=0.9,
            probabilities=rng.dirichlet([1, 1, 1], size=36),
            stressed={"hue": rng.dirichlet([1, 1, 1], size=36)},
        )
        for model in plan.models
        for arm in ARMS.values()
        for made in ((0, 1) if arm.synthetic else (None,))
        for seed in plan.seeds
    ]  # fmt: skip
    rows, differences = summarise(trained, labels=labels, resamples=resamples)
    histogram = histogram_row(
        0.5, rng.dirichlet([1, 1, 1], size=36), labels=labels, resamples=resamples
    )
    made = GeneratorRow(
        name="cdcgan, seed 0", synthetic=30, kept=None, dropped_confidence=None,
        dropped_distance=None,
    )  # fmt: skip
    found = BenchReport(
        rows=rows,
        differences=differences,
        histograms=(histogram,),
        regimes=(RegimeRow(share=0.5, tiles=60, patients=4, generators=(made,)),),
        plane=(
            Point(
                regime=0.5, generator=made.name, filtered=False, gain=differences[0].estimate,
                outcome=None, mdl80=None,
            ),
        ),
        conclusion="No evidence of benefit.",
        warnings=("few seeds",),
        classes=("ADI", "LYM", "TUM"),
        counts={
            "validation": {"tiles": 30, "patients": 3},
            "test": {"tiles": 36, "patients": 6},
        },
        group_unit="patient",
        config=asdict(plan)
        | {
            "regimes": [0.5], "weights": {"resnet": "scratch", "mobilenet": "scratch"}, "side": 32,
            "primary_ratio": 0.5, "primary_metric": "balanced_accuracy", "significance": 0.05,
            "draws": 50,
        },
        seed=4,
    )  # fmt: skip
    text = _text(_section(wrap, found.to_dict()))
    for difference in found.to_dict()["differences"]:
        assert words.points_interval(difference["estimate"]) in text


@pytest.mark.parametrize(
    ("keys", "value", "where"),
    [
        (("differences", 1, "p_holm"), None, "differences[1]"),
        (("differences", 1, "verdict"), "control", "differences[1]"),
        (("differences", 0, "verdict"), "helps", "differences[0]"),
        (("differences", 0, "p_holm"), 0.2, "differences[0]"),
        (("differences", 1, "verdict"), "promising", "differences[1]"),
        (("rows", 0, "regime"), 0, "rows[0].regime"),
        (("rows", 0, "probabilities"), [0.1], "rows[0]"),
        (("config", "folder"), "tiles", "config"),
        (("regimes", 0, "generators", 0, "kept"), 1.5, "regimes[0].generators[0].kept"),
        (("plane", 0, "outcome"), "PASS", "plane[0].outcome"),
        (("conclusion",), "", "conclusion"),
        (("conclusion",), "see /data/P0012/tiles", "conclusion"),
    ],
)
def test_a_fault_is_refused_with_its_json_path(
    wrap: Wrap, small: dict[str, Any], keys: tuple[str | int, ...], value: object, where: str
) -> None:
    html.validate(wrap(None, augment_bench=small))
    place: Any = small
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(RuntimeFailure, match=re.escape(f" at $.augment_bench.{where}")):
        html.validate(wrap(None, augment_bench=small))


def test_the_conclusion_comes_first_then_the_warnings(wrap: Wrap, small: dict[str, Any]) -> None:
    small["warnings"] = ["the baseline was still learning"]
    text = _text(_section(wrap, small))
    places = [
        text.index(part)
        for part in (small["conclusion"], "the baseline was still learning", "Networks were")
    ]
    assert places == sorted(places)
    assert places[0] < 80


def test_every_arm_stands_in_its_row_and_every_model_in_its_column(
    wrap: Wrap, bench: dict[str, Any]
) -> None:
    markup = _section(wrap, bench)
    for arm, ratio in {(row["arm"], row["ratio"]): None for row in bench["rows"]}:
        found = [row for row in _rows(markup, words.arm(arm, ratio)[0]) if len(row) == 5]
        assert len(found) == 2, "one in the table of each regime"
        for cells, regime in zip(found, (0.1, 1.0), strict=True):
            for cell, model in zip(cells[1:], bench_example.MODELS, strict=True):
                key = {"regime": regime, "model": model, "arm": arm}
                (row,) = [r for r in bench["rows"] if key.items() <= r.items()]
                wanted = words.interval(row["metrics"]["balanced_accuracy"])
                if row["role"] != "baseline":
                    (less,) = [d for d in bench["differences"] if key.items() <= d.items()]
                    wanted += " " + words.points_interval(less["estimate"])
                    sign = {"helps": "▲ ", "harms": "▼ "}.get(less["verdict"], "")
                    if less["role"] == "tested":
                        wanted += f" {sign}{less['verdict']}"
                assert cell == wanted


def test_the_example_helps_in_one_regime_and_not_in_the_other(bench: dict[str, Any]) -> None:
    helps = [row["regime"] for row in bench["differences"] if row["verdict"] == "helps"]
    assert set(helps) == {0.1}
    assert len(helps) > 8


def test_harm_is_said_as_plainly_as_help(wrap: Wrap, small: dict[str, Any]) -> None:
    less = next(row for row in small["differences"] if row["role"] == "tested")
    less["verdict"] = "harms"
    assert "▼ harms" in _text(_section(wrap, small))


def test_more_models_than_fit_side_by_side_go_into_further_tables(
    wrap: Wrap, bench: dict[str, Any]
) -> None:
    for rows in (bench["rows"], bench["differences"]):
        rows += [{**row, "model": "resnet50"} for row in rows if row["model"] == "resnet"]
    markup = _section(wrap, bench)
    widths = sorted(len(row) for row in _rows(markup, "real tiles alone"))
    assert widths == [2, 2, 5, 5]
    assert "ResNet-50" in _text(markup)


def test_losses_on_spoiled_tiles_are_clean_less_spoiled(wrap: Wrap, small: dict[str, Any]) -> None:
    for row in small["rows"]:
        if row["model"] == "resnet" and row["regime"] == 0.1:
            clean = {"real": 0.7, "real+synthetic x1": 0.75}.get(row["arm"], 0.1)
            row["metrics"]["balanced_accuracy"]["value"] = clean
            row["robustness"]["hue"]["value"] = 0.6
    (cells,) = [
        row for row in _rows(_section(wrap, small), "ResNet") if row[1].startswith("10.0 → 15.0")
    ]
    (less,) = [
        row
        for row in small["differences"]
        if (row["regime"], row["model"], row["arm"]) == (0.1, "resnet", "real+synthetic x1")
    ]
    assert cells[1].endswith(words.points_interval(less["robustness"]["hue"]))


def test_p_values_and_what_would_be_found_stand_in_the_details(
    wrap: Wrap, bench: dict[str, Any]
) -> None:
    (details,) = re.findall(
        r"<details>\s*<summary>Every measure and p-value, with 10 %.*?</details>",
        _section(wrap, bench),
        re.DOTALL,
    )
    own = [row for row in bench["differences"] if row["regime"] == 0.1]
    shown = [row for row in _rows(details, "") if len(row) == 7 and row[3].startswith("p ")]
    assert len(shown) == len(own) == 40
    for row, difference in zip(shown, own, strict=True):
        assert row[3:] == [
            words.p_value(difference["p"]),
            words.p_value(difference["p_holm"]),
            words.points(difference["detectable"]),
            difference["verdict"],
        ]


def test_unequal_updates_are_said(wrap: Wrap, small: dict[str, Any]) -> None:
    assert "made the same number of updates: 90 with 10 %; 300 with 100 %." in _text(
        _section(wrap, small)
    )
    small["rows"][3]["updates"] = 120
    text = _text(_section(wrap, small))
    assert "did not make the same number of updates" in text
    assert "90 or 120 with 10 %" in text


def test_how_far_training_had_come_is_told_in_figures(wrap: Wrap, small: dict[str, Any]) -> None:
    base = next(row for row in small["rows"] if row["role"] == "baseline")
    looks = [look["validation_balanced_accuracy"] for look in base["convergence"]["curve"]]
    shown = [row for row in _rows(_section(wrap, small), "ResNet") if len(row) == 6]
    assert shown[0][3] == " → ".join(f"{look:.2f}" for look in looks)


def test_undominated_points_are_named_and_ringed(wrap: Wrap, bench: dict[str, Any]) -> None:
    markup = _section(wrap, bench)
    named = [point for point in bench["plane"] if point["undominated"]]
    assert 0 < len(named) < len(bench["plane"])
    shown = [row for row in _rows(markup, "") if len(row) == 6 and row[0].isdigit()]
    assert len(shown) == 8
    assert [row[5] for row in shown].count("yes") == len(named)
    figure = re.search(r'<svg[^>]*aria-label="Gain and audit.*?</svg>', markup, re.DOTALL)
    assert figure is not None
    bold = re.findall(r'font-weight="700"[^>]*>([^<]*)<', figure[0])
    assert bold == [row[0] for row in shown if row[5] == "yes"] + [
        "10 % of the tiles",
        "100 % of the tiles",
    ]


def test_points_come_by_regime_and_then_by_what_the_audit_saw(small: dict[str, Any]) -> None:
    small["plane"][0]["mdl80"] = None
    shown = shown_bench.section(small)["plane"]["rows"]
    assert [row["regime"] for row in shown] == [0.1] * 4 + [1.0] * 4
    assert [row["column"] for row in shown[:4]] == ["0.005", "0.01", "0.01", "not seen"]


def test_without_an_audit_the_page_says_that_gains_stand_alone(wrap: Wrap) -> None:
    text = _text(_section(wrap, bench_example.bench(models=("resnet",), audited=False)))
    assert "None of these tiles were audited in this run" in text
    assert "NO LEAK FOUND" not in text
    assert "Left to right" not in text


def test_without_a_filter_no_column_speaks_of_one(wrap: Wrap, small: dict[str, Any]) -> None:
    assert "Dropped by distance" in _section(wrap, small)
    for part in small["regimes"]:
        for made in part["generators"]:
            made |= dict.fromkeys(("kept", "dropped_confidence", "dropped_distance"))
    assert "Dropped by distance" not in _section(wrap, small)


@pytest.mark.parametrize("arms", [("real",), ("real", "oversampled"), ("real", "real+synthetic")])
def test_a_bench_of_few_arms_one_ratio_and_no_plane_is_shown(
    wrap: Wrap, small: dict[str, Any], arms: tuple[str, ...]
) -> None:
    for key in ("rows", "differences"):
        small[key] = [
            row
            for row in small[key]
            if row["ratio"] in (None, 1.0) and row["arm"].removesuffix(" x1") in arms
        ]
    small["plane"] = []
    for part in small["regimes"]:
        part["generators"] = []
    markup = _section(wrap, small)
    assert "Figure: gain by ratio" not in markup
    assert "Benefit and leaks together" not in markup
    assert ("Figure: differences" in markup) == (len(arms) > 1)


def test_an_interval_that_is_missing_is_left_out(wrap: Wrap, small: dict[str, Any]) -> None:
    for row in small["differences"]:
        row["estimate"] |= {"low": None, "high": None, "value": 0.0512}
    for point in small["plane"]:
        point["gain"] |= {"low": None, "high": None}
    assert "+5.1" in _text(_section(wrap, small))


def test_tables_have_captions_scopes_and_a_name(wrap: Wrap, bench: dict[str, Any]) -> None:
    markup = _section(wrap, bench)
    tables = re.findall(r"<table>.*?</table>", markup, re.DOTALL)
    assert all("<caption>" in table for table in tables)
    assert all("scope=" in head for head in re.findall(r"<th[ >][^>]*>?", markup))
    names = re.findall(r'class="scroll" role="region" tabindex="0" aria-label="([^"]*)"', markup)
    assert len(names) == len(set(names))
    assert len(names) >= len(tables)
