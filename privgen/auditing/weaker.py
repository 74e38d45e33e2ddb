"""Which settings make an audit weaker than its defaults: said first, before any verdict is read.

A verdict is as good as the settings it was reached with, and "no leak found" after an audit by
pixels alone, without alignment, of 200 tiles, is not what a reader takes it for. Each setting that
can only see less is one short sentence at the top of the terminal's summary, of report.json, of
report.html and of the model card. Stricter settings are no news.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import audits
from privgen.auditing.requests import (
    DEFAULT_COUNT,
    DEFAULT_ENCODER,
    AuditOptions,
    AuditSubject,
    GeneratorAudit,
)
from privgen.data.owners import GROUP_UNITS
from privgen.data.tileset import TileSet
from privgen.reporting import words
from privgen.reporting.sections import WeakerDict

_LESS_IS_WEAKER = ("significance",)
_MORE_IS_WEAKER = ("copying_mdl80", "membership_excess")
_SOME_LEFT_OUT_IS_WEAKER = ("gates", "copying_kinds", "attacks")


@dataclass(frozen=True, kw_only=True)
class Weaker:
    """One setting that makes an audit weaker.

    Attributes:
      setting: parameter of `privgen.audit`.
      sentence: what it does, for the reader of the verdict.
    """

    setting: str
    sentence: str

    def to_dict(self) -> WeakerDict:
        """Plain JSON-able data."""
        return {"setting": self.setting, "sentence": self.sentence}


def weaker_than_default(
    what: AuditSubject,
    how: AuditOptions,
    roles: Mapping[str, TileSet],
    synthetic: TileSet,
    policy: audits.Policy | None,
) -> list[Weaker]:
    """What is weaker than the default in these settings, in the order of their effect.

    Args:
      what, how: as asked for, with `align` decided.
      roles, synthetic: the tiles that are audited.
      policy: in force; None is the default.
    """
    truncation = what.truncation if isinstance(what, GeneratorAudit) else 1.0
    found = {
        "encoder": _encoder(how.encoder),
        "align": "" if how.align else "Single copies were not looked for by key points.",
        "approximate": "Key points voted through an inverted file, which misses copies that the "
        "exact search finds."
        if how.approximate
        else "",
        "count": f"{what.count:,} synthetic tiles were drawn, the default is {DEFAULT_COUNT:,}: "
        "rarer copies stay unseen."
        if what.draws and what.count is not None and what.count < DEFAULT_COUNT
        else "",
        "truncation": f"The tiles were drawn with truncation {truncation:g}: the verdict is about "
        "such tiles only."
        if truncation != 1
        else "",
        "on_bad_tile": _skipped(roles, synthetic),
        "group_by": _grouping(roles),
    }
    said = [Weaker(setting=name, sentence=text) for name, text in found.items() if text]
    rules = () if policy is None else _policy(policy, audits.Policy())
    return said + [Weaker(setting="policy", sentence=sentence) for sentence in rules]


def skipped_files(roles: Mapping[str, TileSet], synthetic: TileSet) -> int:
    """Files left out of any role; one that several roles of one set share counts once."""
    return len(
        {
            (str(tiles.source), path)
            for tiles in (*roles.values(), synthetic)
            for path, _ in tiles.skipped
        }
    )


def _encoder(spec: str) -> str:
    kind = spec.partition(":")[0]  # what follows may be the path of a file
    if spec == DEFAULT_ENCODER:
        return ""
    return f"The encoder is {kind}, not {DEFAULT_ENCODER}: the audit was not measured with it."


def _skipped(roles: Mapping[str, TileSet], synthetic: TileSet) -> str:
    count = skipped_files(roles, synthetic)
    return f"{count:,} files could not be used and were left out unseen." if count else ""


def _grouping(roles: Mapping[str, TileSet]) -> str:
    for tiles in roles.values():
        for unit in GROUP_UNITS[: GROUP_UNITS.index(tiles.group_unit)]:
            if all(getattr(record, unit) is not None for record in tiles.records):
                named, used = words.spoken(unit), words.spoken(tiles.group_unit)
                return (
                    f"Tiles are grouped by {used} although each {named} is known: intervals are "
                    f"too narrow, and a {named} may stand on both sides."
                )
    return ""


def _policy(policy: audits.Policy, default: audits.Policy) -> Iterator[str]:
    """One sentence for each rule of the policy that lets more pass than the default's."""
    for rule in fields(audits.Policy):
        ours, theirs = getattr(policy, rule.name), getattr(default, rule.name)
        name = words.spoken(rule.name)
        if rule.name in _LESS_IS_WEAKER:
            if ours < theirs:
                yield f"The policy's {name} is {ours:g}, the default {theirs:g}."
        elif rule.name in _MORE_IS_WEAKER:
            if ours > theirs:
                yield f"The policy's {name} is {ours:g}, the default {theirs:g}."
        elif rule.name in _SOME_LEFT_OUT_IS_WEAKER:
            left_out = [words.spoken(str(one)) for one in theirs if one not in ours]
            if left_out:
                yield f"The policy's {name} leave out {', '.join(left_out)}."
        elif rule.name == "membership":
            if ours != theirs:
                left = "recipe" if ours == "release" else "release"
                yield f"The policy lets the {ours} alone decide membership, not the {left}."
        elif ours != theirs:
            yield f"The policy's {name} are not the default."
