"""Kinds of copies by name, and which of them an audit covers."""

import re
from pathlib import Path

import pytest

from audits.kinds import FAMILIES, KINDS, Coverage, kind_name, name_kinds

STATISTICS = Path(__file__).parents[2] / "docs" / "statistics.md"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("exact", "exact"),
        ("symmetry", "mirrored or turned by 90°"),
        ("crop_60", "cropped to 0.6 of the side"),
        ("crop_25", "cropped to 0.25 of the side"),
        ("jpeg_40", "JPEG of quality 40"),
        ("blend_90", "blended 9 : 1 with another tile"),
        ("blend_50", "blended 1 : 1 with another tile"),
        ("blend_35", "blended 7 : 13 with another tile"),
        ("img_to_img", "redrawn as by an image-to-image network"),
        ("odd_new_kind", "odd new kind"),
        ("wave_30", "wave 30"),
    ],
)
def test_every_kind_has_a_name(kind: str, name: str) -> None:
    assert kind_name(kind) == name


def test_a_family_is_told_together_where_its_first_kind_stands() -> None:
    told = name_kinds(["crop_60", "exact", "crop_35", "blend_90", "crop_25"])
    assert told == (
        "cropped to 0.6, 0.35 or 0.25 of the side, exact, blended 9 : 1 with another tile"
    )
    assert name_kinds([]) == ""


def test_no_name_breaks_a_sentence_into_clauses() -> None:
    texts = [*KINDS.values(), *(family.text for family in FAMILIES.values())]
    assert not [text for text in texts if ";" in text or "(" in text]
    assert len(set(texts)) == len(texts)


def test_a_kind_is_covered_only_where_it_was_seen_as_early_as_the_policy_asks() -> None:
    found = Coverage.of({"exact": 0.002, "stain": 0.01, "blur": 0.0101, "invert": None}, 0.01)
    assert (found.seen, found.share) == (("exact", "stain"), 0.01)
    assert found.later == {"blur": 0.0101}
    assert found.unseen == ("invert",)
    assert found.limits() == [
        "seen at larger shares only: blurred (from 0.0101)",
        "not seen at any share tried: inverted in colour",
    ]
    nothing = Coverage.of({}, 0.01)
    assert (nothing.seen, nothing.share, nothing.limits()) == ((), None, [])


def test_the_documentation_has_the_same_names() -> None:
    rows = dict(re.findall(r"^\| `([a-z0-9_]+)` \| (.+?) \|$", STATISTICS.read_text(), re.M))
    assert {kind: rows.get(kind) for kind in KINDS} == KINDS
    for family in FAMILIES:
        told = [kind for kind in rows if kind.startswith(f"{family}_")]
        assert told
        assert all(rows[kind] == kind_name(kind) for kind in told)


def test_a_kind_of_very_many_digits_is_told_as_it_stands() -> None:
    assert kind_name("blend_50") != "blend 50"
    assert kind_name("blend_" + "9" * 5000) == "blend " + "9" * 5000
