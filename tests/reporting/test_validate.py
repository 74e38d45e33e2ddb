"""What may not stand in a report: wrong shapes, odd numbers, and anything that names a patient."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from audits import Outcome
from privgen.errors import RuntimeFailure
from privgen.reporting import html

Example = Callable[[str], dict[str, Any]]


def _with(report: dict[str, Any], value: object, *keys: str | int) -> dict[str, Any]:
    """The report with one value changed."""
    place: Any = report
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return report


def test_all_three_examples_are_valid(any_example: dict[str, Any]) -> None:
    html.validate(any_example)


@pytest.mark.parametrize(
    ("keys", "value", "where", "fault"),
    [
        (("audit", "results", 1, "p_value"), float("nan"), "$.audit.results[1].p_value", "finite"),
        (("audit", "mdl80", "exact"), float("inf"), "$.audit.mdl80.exact", "finite"),
        (("audit", "seed"), np.int64(3), "$.audit.seed", "int64"),
        (("audit", "verdict", "outcome"), "PASS", "$.audit.verdict.outcome", "PASS"),
        (("audit", "results", 0, "p_value"), 1.2, "$.audit.results[0].p_value", "1.2"),
        (("audit", "results", 0, "extra"), 1, "$.audit.results[0]", "extra"),
        (("audit", "verdict", "extra"), 1, "$.audit.verdict", "extra"),
        (("extra",), 1, "$", "extra"),
        (("created",), "yesterday", "$.created", "yesterday"),
        (("schema",), "privgen-report/2", "$.schema", "privgen-report/1"),
        (("reproduce", "seed"), -1, "$.reproduce.seed", "-1"),
        (("samples_png",), "<svg/>", "$.samples_png", "svg"),
        (("samples_png",), b"png", "$.samples_png", "bytes"),
    ],
)  # fmt: skip
def test_a_fault_is_refused_with_its_json_path(
    example: Example, keys: tuple[str | int, ...], value: object, where: str, fault: str
) -> None:
    report = _with(example("inconclusive"), value, *keys)
    with pytest.raises(RuntimeFailure, match=re.escape(fault)) as refused:
        html.validate(report)
    assert f" at {where}: " in str(refused.value)


def test_a_missing_verdict_is_refused(example: Example) -> None:
    report = example("leak")
    del report["audit"]["verdict"]
    with pytest.raises(RuntimeFailure, match=r"at \$\.audit: 'verdict' is a required property"):
        html.validate(report)


@pytest.mark.parametrize(
    "text",
    [
        "/mnt/pathology/P0012/slide.svs could not be read",
        "skipped: benign/P0012_x1024.PNG",
        "see ../data/glas for the tiles",
        "from ~/tiles/benign",
        "C:\\tiles\\P0012",
        "\\\\server\\share",
        "left out (/data/P0012/)",
    ],
)
def test_a_text_that_names_a_file_or_folder_is_refused(example: Example, text: str) -> None:
    report = example("inconclusive")
    report["audit"]["warnings"].append(text)
    with pytest.raises(RuntimeFailure, match=r"\$\.audit\.warnings\[3\]: no file or folder"):
        html.validate(report)


@pytest.mark.parametrize(
    "text",
    ["train and/or holdout", "fd_x/synthetic_train", "0.5 / 0.6", "3/4", "PathMNIST .npz (train)"],
)
def test_a_slash_alone_is_not_a_path(example: Example, text: str) -> None:
    report = example("inconclusive")
    report["audit"]["warnings"].append(text)
    html.validate(report)


def test_a_command_names_no_folder(example: Example) -> None:
    report = _with(example("leak"), "privgen audit --train tiles/P0012", "reproduce", "command")
    with pytest.raises(RuntimeFailure, match=r"\$\.reproduce\.command"):
        html.validate(report)


@pytest.mark.parametrize(
    "details",
    [
        {"scores": [0.1, 0.2, 0.3]},
        {"TCGA-A6-2671": 0.4},
        {"by_patient": {"p": 0.4}},
        {"closest": "P0012 tile 7"},
    ],
)
def test_details_hold_no_tile_scores_and_no_patients(
    example: Example, details: dict[str, Any]
) -> None:
    report = example("leak")
    report["audit"]["results"][1]["details"] = details
    with pytest.raises(RuntimeFailure, match=r"\$\.audit\.results\[1\]\.details"):
        html.validate(report)


def test_synthetic_tiles_are_withheld_when_copies_were_found(example: Example) -> None:
    picture = example("no_leak_found")["samples_png"]
    with pytest.raises(RuntimeFailure, match=r"at \$\.samples_png"):
        html.validate(_with(example("leak"), picture, "samples_png"))
    assert "<img" not in html.render(example("leak"))
    assert "<img" in html.render(example("no_leak_found"))


def test_two_results_of_one_name_are_refused(example: Example) -> None:
    report = example("leak")
    report["audit"]["results"].append(report["audit"]["results"][0])
    with pytest.raises(RuntimeFailure, match="two results are called 'identical_tiles'"):
        html.validate(report)


def test_tuples_and_enumerations_count_as_the_json_they_become(example: Example) -> None:
    report = example("leak")
    report["audit"]["warnings"] = tuple(report["audit"]["warnings"])
    report["audit"]["verdict"]["outcome"] = Outcome.LEAK
    html.validate(report)
