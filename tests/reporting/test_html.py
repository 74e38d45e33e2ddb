"""The page: what is shown, in which order, and what never is."""

import base64
import copy
import errno
import hashlib
import html as entities
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audits import AuditData, Planted, Tiles, audit
from privgen.errors import DiskFullError
from privgen.reporting import html, words
from privgen.reporting.writing import write_report

ROOT = Path(__file__).parents[2]

Example = Callable[[str], dict[str, Any]]


@cache
def _render_text(report: str) -> str:
    return html.render(json.loads(report))


def _render(report: dict[str, Any]) -> str:
    """The page of a report, made once for all tests that look at the same one."""
    return _render_text(json.dumps(report))


class _Page(HTMLParser):
    """Tags with their attributes, headings in order, and the visible text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[tuple[int, str]] = []
        self.rows: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self._in_row = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("style", "title"):
            self._open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append((int(tag[1]), ""))
            self._open.append(tag)
        if tag == "tr":
            self.rows.append("")
            self._in_row = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr":
            self._in_row = False
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["style"]:
            return
        self.text += data
        if self._in_row:
            self.rows[-1] += data
        if self._open and self._open[-1] in ("h1", "h2", "h3"):
            level, title = self.headings[-1]
            self.headings[-1] = (level, title + data)

    def row(self, title: str) -> str:
        """The one table row that starts with `title`."""
        (found,) = [row for row in self.rows if row.strip().startswith(title)]
        return found


def test_what_the_audit_writes_is_valid_and_can_be_shown(wrap: Callable[..., Any]) -> None:
    rng = np.random.default_rng(5)
    patients = np.repeat([f"p{i}" for i in range(24)], 10)
    centres = np.repeat(rng.normal(size=(24, 16)), 10, axis=0)
    real = (centres + rng.normal(size=(240, 16))).astype(np.float32)
    train, siblings, holdout = np.arange(0, 120, 2), np.arange(1, 120, 2), np.arange(120, 240)
    fake = np.concatenate([real[train[:8]], rng.normal(size=(120, 16), scale=1.4)])

    def tiles(name: str, rows: np.ndarray) -> Tiles:
        prints = np.array([f"{name}{row}" for row in rows])
        return Tiles(name, real[rows], patients=patients[rows], fingerprints=prints)

    data = AuditData(
        train=tiles("train", train),
        siblings=tiles("siblings", siblings),
        holdout=tiles("holdout", holdout),
        synthetic=Tiles("synthetic", fake, fingerprints=[f"s{i}" for i in range(128)]),
        planted={"stain": Planted(embeddings=real[train] + 0.1, sources=np.arange(60))},
        encoder="effnet_lite0",
        group_unit="source_image",
    )
    outputs = {"train": real[train], "holdout": real[holdout], "synthetic": fake}
    features = {"effnet_lite0": outputs, "inception_fid": outputs}
    found = audit(data, rng=3, features=features)
    page = _Page(html.render(wrap(found)))
    assert found.verdict.sentence in page.text
    assert "Other measurements" not in page.text, "every result of today's audit has its place"
    for result in found.to_dict()["results"]:
        assert words.interval(result["statistic"]) in page.text


def test_weak_settings_come_before_the_verdict_and_only_where_there_are_any(
    any_example: dict[str, Any],
) -> None:
    page = _render(any_example)
    weaker = any_example["weaker_than_default"]
    assert ("Weaker than the default:" in page) == bool(weaker)
    for one in weaker:
        assert page.index(one["sentence"]) < page.index('id="verdict"')


def test_the_sentence_to_sign_stands_in_clauses_and_once_in_one_piece(example: Example) -> None:
    report = example("no_leak_found")
    page = _render(report)
    quote = page.partition("<blockquote>")[2].partition("</blockquote>")[0]
    clauses = [entities.unescape(text) for text in re.findall("<li>(.*?)</li>", quote)]
    sentence = report["audit"]["verdict"]["sentence"]
    assert sentence == f"NO LEAK FOUND ({'; '.join(clauses)})."
    assert clauses[0].startswith("copied share >= 0.005 at power .8, of the kinds exact, mirrored")
    assert sentence in entities.unescape(page.partition("Its result:")[2])


def test_kinds_seen_from_the_same_share_share_a_row(example: Example) -> None:
    report = example("no_leak_found")
    report["audit"]["mdl80"] = {"exact": 0.002, "symmetry": 0.002, "blend_90": None, "stain": 0.1}
    rows = _render(report).partition('class="verdict-power"')[2].partition("</table>")[0]
    kinds = re.findall(r'<th scope="row">(.*?)</th>', rows)
    assert kinds == [
        "exact, mirrored or turned by 90°",
        "turned by another angle",
        "stained differently",
        "blended 9 : 1 with another tile",
    ]


def test_order_is_verdict_then_power_then_warnings_then_the_rest(
    any_example: dict[str, Any],
) -> None:
    titles = [" ".join(title.split()) for _, title in _Page(_render(any_example)).headings]
    assert titles[0] == "Release audit of synthetic tiles"
    assert titles[1] == f"Verdict {any_example['audit']['verdict']['outcome']}"
    assert titles[2] == "What this audit could have seen"
    assert titles[3] in ("Warnings", "No warnings")
    wanted = ["Three harms", "Tests", "Power", "Membership", "Fidelity"]
    if any_example["augment_bench"]:
        wanted.append("Benefit")
    wanted += [
        "Synthetic tiles",
        "Data and generator",
        "Method",
        "Limits",
        "How to reproduce",
        "Signature",
    ]
    rest = [next(i for i, t in enumerate(titles) if t.startswith(name)) for name in wanted]
    assert rest == sorted(rest)


def test_headings_never_skip_a_level(any_example: dict[str, Any]) -> None:
    levels = [level for level, _ in _Page(_render(any_example)).headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


def test_every_statistic_p_and_interval_of_the_family_stands_in_its_row(
    any_example: dict[str, Any],
) -> None:
    page = _Page(_render(any_example))
    results = {result["name"]: result for result in any_example["audit"]["results"]}
    for name in any_example["audit"]["verdict"]["family"]:
        result = results[name]
        row = page.row("".join(words.TESTS[name]))
        assert words.interval(result["statistic"]) in row
        assert words.p_value(result["p_value"]) in row
        assert words.p_value(result["p_adjusted"]) in row
        assert row.rstrip().endswith("yes" if result["rejected"] else "no")


def test_every_warning_reason_and_remedy_is_shown(any_example: dict[str, Any]) -> None:
    text = _Page(_render(any_example)).text
    for warning in any_example["audit"]["warnings"]:
        assert warning in text
    for harm in any_example["audit"]["verdict"]["harms"]:
        assert harm["reason"] in text
        assert harm["remedy"] in text


def test_mdl80_stands_beside_the_verdict_for_every_kind(example: Example) -> None:
    page = _Page(_render(example("inconclusive")))
    assert "0.004" in page.row("exact")
    assert page.row("exact").rstrip().endswith("yes")
    assert "above 0.1" in page.row("turned by another angle")
    assert page.row("turned by another angle").rstrip().endswith("no")


def test_where_copies_were_found_the_power_figures_say_that_they_are_too_good(
    example: Example,
) -> None:
    warning = "Copies were found in the tiles as they are"
    assert _Page(_render(example("leak"))).text.count(warning) == 2
    assert warning not in _Page(_render(example("inconclusive"))).text


def test_a_kind_the_policy_names_but_nobody_planted_is_said_so(example: Example) -> None:
    report = example("inconclusive")
    del report["audit"]["mdl80"]["stain"]
    report["audit"]["power"] = [p for p in report["audit"]["power"] if p["kind"] != "stain"]
    row = _Page(html.render(report)).row("stained differently")
    assert "not planted" in row
    assert row.rstrip().endswith("no")


def test_an_audit_without_planted_copies_says_that_its_power_is_unknown(example: Example) -> None:
    report = example("inconclusive")
    report["audit"]["power"], report["audit"]["mdl80"] = [], {}
    assert "what this audit could have missed is unknown" in _Page(html.render(report)).text


def test_what_is_no_patient_is_not_called_one(example: Example) -> None:
    page = _Page(_render(example("inconclusive")))
    row = page.row("".join(words.TESTS["patient_membership"]))
    assert "20 slides" in row
    assert "20 patients" not in row


def test_a_result_with_an_unknown_name_is_still_shown(example: Example) -> None:
    report = example("leak")
    new = copy.deepcopy(report["audit"]["results"][-1])
    new["name"] = "epsilon/one_run"
    new["statistic"] = {**new["statistic"], "value": 1.77, "low": 0.91, "high": 2.63}
    report["audit"]["results"].append(new)
    page = _Page(html.render(report))
    assert "1.8 (0.9 to 2.6)" in page.row("epsilon, one run")


def test_a_report_without_an_audit_never_looks_like_a_pass(wrap: Callable[..., Any]) -> None:
    text = _Page(html.render(wrap(None))).text
    assert "NOT AUDITED" in text
    assert "nothing can be released on its strength" in text
    assert "Signature" not in text


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b </style>"]
)
def test_hostile_strings_stay_text(example: Example, hostile: str) -> None:
    report = example("no_leak_found")
    plain = _Page(html.render(report))
    report["data"]["classes"] = {hostile: {"train": 3}}
    report["data"]["layout"] = hostile
    report["generator"]["classes"] = [hostile]
    report["generator"]["family"] = hostile
    report["audit"]["encoder"] = hostile
    report["augment_bench"]["classes"] = [hostile, "benign"]
    for row in report["augment_bench"]["rows"] + report["augment_bench"]["differences"]:
        row["model"] = row["arm"] = hostile
    report["augment_bench"]["conclusion"] = hostile
    report["audit"]["warnings"] = [hostile]
    report["audit"]["verdict"]["sentence"] = hostile
    report["audit"]["results"][0]["note"] = hostile
    page = _Page(html.render(report))
    assert page.text.count(hostile) >= 8
    assert {tag for tag, _ in page.tags} - {"ul", "li"} <= {tag for tag, _ in plain.tags}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]


def test_the_page_is_self_contained(any_example: dict[str, Any]) -> None:
    source = _render(any_example)
    page = _Page(source)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base", "a"}
    for tag, attrs in page.tags:
        for name in ("src", "href", "xlink:href", "data", "action", "style"):
            assert (attrs.get(name) or "#").startswith(("#", "data:image/png;base64,")), (
                tag,
                attrs,
            )
    assert not re.search(r"url\((?!#)", source)
    assert "@import" not in source


def test_the_page_allows_its_own_style_sheet_and_nothing_else(example: Example) -> None:
    source = _render(example("leak"))
    style = re.search(r"<style>(.*?)</style>", source, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(attrs["content"] for tag, attrs in _Page(source).tags if "http-equiv" in attrs)
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:"


def test_ids_are_unique_and_tables_and_figures_are_labelled(any_example: dict[str, Any]) -> None:
    page = _Page(_render(any_example))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")
    named = {attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs}
    assert named <= set(ids)
    pictures = [attrs for tag, attrs in page.tags if attrs.get("role") == "img" or tag == "img"]
    assert pictures
    assert all(attrs.get("aria-label") or attrs.get("alt") for attrs in pictures)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("figure") == tags.count("figcaption") > 0
    assert ("html", {"lang": "en"}) in page.tags


def test_the_page_claims_nothing_it_must_not(
    any_example: dict[str, Any], wrap: Callable[..., Any]
) -> None:
    for report in (any_example, wrap(None)):
        source = entities.unescape(html.render(report)).lower()
        source = re.sub(r"base64,[a-z0-9+/=]+|sha256-[a-z0-9+/=]+", "", source)
        assert not re.search(r"safe|anonym|\bprivate\b|harmless|guaranteed|\brisk-free\b", source)


def test_nothing_of_the_thresholds_which_are_tile_scores_is_shown(example: Example) -> None:
    assert "1.83" not in _render(example("leak"))


def test_the_written_page_is_the_rendered_one(example: Example, tmp_path: Path) -> None:
    write_report(example("leak"), tmp_path)
    assert (tmp_path / "report.html").read_bytes() == _render(example("leak")).encode()
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.html"}


@pytest.mark.parametrize("full_at", [0, 1, 2])
def test_a_disk_that_fills_up_leaves_no_part_of_a_report(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: int
) -> None:
    moved: list[str] = []

    def replace(source: str, target: Path) -> None:
        moved.append(target.name)
        if len(moved) > full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        Path(source).rename(target)

    monkeypatch.setattr("privgen.files.os.replace", replace)
    with pytest.raises(DiskFullError):
        write_report(example("leak"), tmp_path, suspects_page="page")
    assert len(moved) == full_at + 1
    assert list(tmp_path.iterdir()) == []


def test_withheld_counts_are_explained(example: Example) -> None:
    report = example("leak")
    assert "Withheld" not in _render(report)
    counts = next(iter(report["data"]["classes"].values()))
    counts["train"] = None
    page = _render(report)
    assert page.count(">withheld<") == 1
    assert "Withheld: fewer than 5 real tiles" in page


def test_the_same_report_gives_the_same_page(any_example: dict[str, Any]) -> None:
    assert html.render(any_example) == html.render(copy.deepcopy(any_example))


def test_the_page_does_not_depend_on_the_process(example: Example, tmp_path: Path) -> None:
    program = (
        "import sys; from privgen.reporting import html;"
        "from tests.helpers.report_examples import EXAMPLES;"
        "open(sys.argv[1], 'w', encoding='utf-8').write(html.render(EXAMPLES['leak']()))"
    )
    out = tmp_path / "page.html"
    subprocess.run(
        [sys.executable, "-c", program, str(out)],
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "12345", "TZ": "Asia/Tokyo", "PYTHONPATH": str(ROOT)},
    )
    assert out.read_text(encoding="utf-8") == _render(example("leak"))
