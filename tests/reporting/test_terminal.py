"""What `augment-bench` prints: a table per regime that fits 100 columns, and what it amounts to."""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from privgen.reporting import words
from privgen.reporting.terminal import print_bench, print_summary
from tests.helpers.bench_example import bench as _bench
from tests.helpers.report_examples import EXAMPLES as _EXAMPLES

Printed = Callable[[dict[str, Any]], str]


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 100 columns."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("privgen.console._stderr._width", 100)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], wide: None) -> Printed:
    """What a bench prints on a terminal of 100 columns."""

    def show(bench: dict[str, Any]) -> str:
        print_bench(bench)
        return capsys.readouterr().err

    return show


def _cells(shown: str, arm: str) -> list[list[str]]:
    """The row of an arm in each table: a text a cell, its two lines joined by a space."""
    lines = [[cell.strip() for cell in line.split("│")] for line in shown.splitlines()]
    return [
        [f"{a} {b}".strip() for a, b in zip(first, second, strict=True)][2:-1]
        for first, second in pairwise(lines)
        if first[1:2] == [arm]
    ]


def test_tables_fit_100_columns_and_name_every_arm_whole(printed: Printed) -> None:
    bench = _bench()
    shown = printed(bench)
    assert max(len(line) for line in shown.splitlines() if re.match("[┏┃┡│└]", line)) <= 100
    for arm in {row["arm"] for row in bench["rows"]}:
        assert len(_cells(shown, arm)) == 2


def test_differences_stand_under_their_model_in_points_and_verdicts_are_words(
    printed: Printed,
) -> None:
    bench = _bench()
    cells = _cells(printed(bench), "real+synthetic x1")
    for row, regime in zip(cells, (0.1, 1.0), strict=True):
        own = [
            d
            for d in bench["differences"]
            if d["arm"] == "real+synthetic x1" and d["regime"] == regime
        ]
        for cell, less in zip(row, own, strict=True):
            plain = words.points_interval(less["estimate"]).replace("(", "").replace(")", "")
            assert cell == (f"helps {plain}" if regime == 0.1 else plain)


def test_real_tiles_alone_are_shown_with_their_accuracy(printed: Printed) -> None:
    bench = _bench()
    first = bench["rows"][0]["metrics"]["balanced_accuracy"]
    shown = _cells(printed(bench), "real")[0][0]
    assert shown == words.interval(first).replace("(", "").replace(")", "")


def test_more_than_four_models_go_into_further_tables(printed: Printed) -> None:
    bench = _bench()
    for rows in (bench["rows"], bench["differences"]):
        rows += [{**row, "model": "resnet50"} for row in rows if row["model"] == "resnet"]
    assert [len(row) for row in _cells(printed(bench), "real")] == [4, 1, 4, 1]


def test_controls_audits_warnings_and_last_the_conclusion_are_printed(printed: Printed) -> None:
    bench = _bench(warnings=("few seeds",))
    lines = printed(bench).splitlines()
    assert lines[-1] == bench["conclusion"]
    assert lines[-2] == "warning: few seeds"
    text = "\n".join(lines)
    assert "colour histogram alone, 10 % of the tiles: 0.58 (0.51 to 0.65)" in text
    assert sum("MDL80" in line for line in lines) == 8
    assert "LEAK, MDL80 0.005, undominated" in text
    assert "MDL80" not in printed(_bench(audited=False))


@pytest.mark.usefixtures("wide")
def test_a_long_sentence_is_printed_clause_by_clause(capsys: pytest.CaptureFixture[str]) -> None:
    audit = _EXAMPLES["no_leak_found"]()["audit"]
    audit["mdl80"] |= {"blend_50": 0.02, "blend_70": 0.02, "invert": None}
    sentence = audit["verdict"]["sentence"]
    long = ", ".join(f"kind {number}" for number in range(40))
    audit["verdict"]["sentence"] = sentence.replace("no other kind", f"{long}; no other kind")
    print_summary(audit, [])
    shown = capsys.readouterr().err
    lines = shown.splitlines()
    assert max(len(line) for line in lines) <= 100
    last = [line for line in lines[lines.index("NO LEAK FOUND:") :] if line.startswith("  - ")]
    assert len(last) == 4
    assert last[-1].strip() == "- membership AUROC excess > 0.1 excluded"
    together = " ".join(shown.split())
    assert long in together
    assert "- 0.02: blended 1 : 1 or 7 : 3 with another tile" in together
    assert "- at no share tried: inverted in colour" in together


@pytest.mark.usefixtures("wide")
def test_a_short_sentence_is_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(_EXAMPLES["leak"]()["audit"], [])
    assert capsys.readouterr().err.splitlines()[-1] == "LEAK: copying."
