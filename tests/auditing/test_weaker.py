"""Settings that let an audit see less than its defaults are said first; stricter ones are not."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from audits import Harm, Policy
from privgen.auditing.requests import AuditOptions, GeneratorAudit, TilesAudit
from privgen.auditing.weaker import (
    skipped_files,
    weaker_than_default,
)
from privgen.data.tileset import TileSet


def tiles(prefix: str, **changes: Any) -> TileSet:
    pixels = np.zeros((3, 8, 8, 3), dtype=np.uint8)
    names = [f"{prefix}{row}" for row in range(3)]
    return replace(TileSet.from_arrays(pixels, ["a"] * 3, patients=names), **changes)


def said(**changes: Any) -> dict[str, list[str]]:
    """Sentences by setting, of an audit of a generator."""
    roles = changes.pop("roles", {"train": tiles("t"), "holdout": tiles("h")})
    synthetic = changes.pop("synthetic", tiles("s"))
    policy = changes.pop("policy", None)
    drawn = {name: changes.pop(name) for name in ("count", "truncation") if name in changes}
    what = GeneratorAudit(generator="run", **drawn)
    how = AuditOptions(**{"align": True, **changes})
    found: dict[str, list[str]] = {}
    for one in weaker_than_default(what, how, roles, synthetic, policy):
        found.setdefault(one.setting, []).append(one.sentence)
    return found


def test_tiles_that_are_audited_whole_are_not_too_few() -> None:
    what = TilesAudit(train="a", holdout="b", synthetic="c")
    roles = {"train": tiles("t"), "holdout": tiles("h")}
    assert weaker_than_default(what, AuditOptions(align=True), roles, tiles("s"), None) == []


@pytest.mark.parametrize("changes", [{}, {"count": 5000}, {"policy": Policy()}], ids=str)
def test_the_defaults_are_not_weaker_than_the_defaults(changes: dict[str, Any]) -> None:
    assert said(**changes) == {}


@pytest.mark.parametrize(
    ("changes", "setting", "words"),
    [
        ({"encoder": "pixels"}, "encoder", "The encoder is pixels, not effnet_lite0"),
        ({"encoder": "file:/secret/net.pt"}, "encoder", "The encoder is file, not effnet_lite0"),
        ({"align": False}, "align", "not looked for by key points"),
        ({"approximate": True}, "approximate", "inverted file, which misses copies"),
        ({"count": 200}, "count", "200 synthetic tiles were drawn, the default is 1,000"),
        ({"truncation": 0.7}, "truncation", "with truncation 0.7: the verdict is about such"),
    ],
)
def test_each_weaker_setting_is_one_sentence(
    changes: dict[str, Any], setting: str, words: str
) -> None:
    ((sentence,),) = (said(**changes)[setting],)
    assert words in sentence
    assert said(**changes).keys() == {setting}
    assert "secret" not in sentence


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"significance": 1e-9}, "significance is 1e-09, the default 0.05"),
        ({"copying_mdl80": 0.5}, "copying mdl80 is 0.5, the default 0.01"),
        ({"membership_excess": 0.4}, "membership excess is 0.4, the default 0.1"),
        ({"gates": (Harm.PATIENT_MEMBERSHIP,)}, "gates leave out copying, tile membership"),
        ({"copying_kinds": ("exact",)}, "copying kinds leave out symmetry, odd rotation, stain"),
        ({"attacks": ("shadow",)}, "attacks leave out full black box, density ratio"),
        ({"fractions": (0.1,)}, "fractions are not the default"),
    ],
)
def test_each_laxer_rule_of_a_policy_is_one_sentence(change: dict[str, Any], words: str) -> None:
    found = said(policy=replace(Policy(), **change))
    assert found.keys() == {"policy"}
    (sentence,) = found["policy"]
    assert words in sentence


def test_every_rule_of_a_policy_is_looked_at() -> None:
    """A rule added later is said where it differs, until somebody decides which side is weaker."""
    laxer = {"significance": 1e-9, "copying_mdl80": 0.5, "membership_excess": 0.4}
    laxer |= {"gates": (Harm.COPYING,), "copying_kinds": ("exact",), "attacks": ("shadow",)}
    laxer |= {"fractions": (0.1,), "membership": "release"}
    assert laxer.keys() == {rule.name for rule in fields(Policy)}
    assert len(said(policy=Policy(**laxer))["policy"]) == len(laxer)


@pytest.mark.parametrize(
    "change",
    [
        {"significance": 0.2},
        {"copying_mdl80": 0.001},
        {"membership_excess": 0.01},
        {"copying_kinds": (*Policy().copying_kinds, "blur")},
        {"attacks": (*Policy().attacks, "discriminator")},
    ],
    ids=str,
)
def test_a_stricter_policy_is_no_news(change: dict[str, Any]) -> None:
    assert said(policy=replace(Policy(), **change)) == {}


def test_skipped_files_are_counted_once() -> None:
    bad = (("x.png", "is no image"), ("y.png", "is no image"))
    roles = {"train": tiles("t", skipped=bad), "holdout": tiles("h", skipped=bad)}
    synthetic = tiles("s", skipped=bad[:1])
    assert skipped_files(roles, synthetic) == 2
    assert said(roles=roles, synthetic=synthetic) == {
        "on_bad_tile": ["2 files could not be used and were left out unseen."]
    }


@pytest.mark.parametrize("unit", ["tile", "slide"])
def test_a_grouping_finer_than_the_known_patients_is_said(unit: str) -> None:
    finer = tiles("h", group_unit=unit)
    slides = tuple(replace(record, slide=record.path) for record in finer.records)
    roles = {"train": tiles("t"), "holdout": replace(finer, records=slides)}
    (sentence,) = said(roles=roles)["group_by"]
    assert f"grouped by {unit} although each patient is known" in sentence
