"""Whether the roles of an audit became pixels by different ways, and what is done about it.

Train and clean synthetic tiles as JPEG beside a lossless holdout look like a leak of patients: the
synthetic tiles lie nearer to the training tiles, by their files. Where the roles differ, all of
them are brought to one way (`harmonise.Step`) before anything is embedded. Decided from the
measurements of `measuring` alone. What cannot be brought to one way is confounded, and what is
left after the step is given to the audit, whose control says whether train and holdout patients
still differ in it by more than chance.

Which roles count: the real ones, since membership compares them. Synthetic tiles count where they
carry a coding or are large enough to have had the one the real tiles have; a generator's smaller
tiles have been through no file, and what it learnt of one is in its pixels.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from audits import Harm, Tiles
from privgen.choices import Harmonise
from privgen.data.coding import Coding
from privgen.data.tileset import TileSet
from privgen.pipelines import account
from privgen.pipelines.account import Difference, Pair, PipelineDict
from privgen.pipelines.harmonise import Step
from privgen.pipelines.measuring import Look, Measured, Shares, headers, look, measure, sample
from privgen.pipelines.traces import BANDS, Floats

Looks = Mapping[str, Look]

REAL = ("train", "siblings", "holdout", "reference")

_RARE = 0.05
_MOST_TABLES = 16
_FIRST_BAND = 4
_DIFFERENT_DB = 4.0
_ERRORS = 3.0
_LEAST_ERROR_DB = 0.7
_ALIKE_DB = 2.0
_SAME_SCALE = 1.05

_COMPARED = {
    Harm.COPYING: (("train", "holdout"),),
    Harm.TILE_MEMBERSHIP: (("train", "siblings"),),
    Harm.PATIENT_MEMBERSHIP: (("train", "holdout"), ("siblings", "holdout")),
}
"""Roles whose difference would be taken for that harm."""


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """What was found and done.

    Attributes:
      step: what every tile goes through before it is embedded; None leaves it as it is.
      measured: train and holdout as they are embedded, for the audit's control; None where all
        tiles of one are blank.
      confounded: for each harm that cannot be judged by comparing roles, why, in a sentence.
      warnings: for the report.
      facts: the block `pipeline` of report.json.
    """

    step: Step | None
    measured: tuple[Tiles, Tiles] | None
    confounded: Mapping[Harm, str]
    warnings: tuple[str, ...]
    facts: PipelineDict


def inspect(roles: Mapping[str, TileSet], *, side: int, harmonise: Harmonise) -> Pipeline:
    """Measure every role, decide the step, and say so.

    Args:
      roles: tiles by role; "train", "holdout" and "synthetic" are there.
      side: of the audit, pixels.
      harmonise: "off" measures and warns, and changes nothing.

    Raises:
      TileError: a file cannot be read.
    """
    rows = {role: sample(tiles) for role, tiles in roles.items()}
    told = {role: headers(tiles) for role, tiles in roles.items()}
    own = _own_tables([coding for each in told.values() for coding in each.codings])
    measured = {role: measure(tiles, rows[role], told[role], own) for role, tiles in roles.items()}

    def looked(step: Step) -> dict[str, Look]:
        return {role: look(roles[role], rows[role], step) for role in REAL if role in roles}

    return decide(measured, looked, side=side, harmonise=harmonise)


def _own_tables(codings: Iterable[Coding | None]) -> list[Coding]:
    """Codings with tables that are not the standard's, the most common ones."""
    counted = Counter(coding for coding in codings if coding is not None)
    own = [
        coding
        for coding, _ in counted.most_common()
        if coding.luma != Coding.standard(coding.quality, coding.sampling).luma
    ]
    return own[:_MOST_TABLES]


def decide(
    measured: Mapping[str, Measured],
    looked: Callable[[Step], Looks],
    *,
    side: int,
    harmonise: Harmonise,
) -> Pipeline:
    """The step, and what is said of it.

    Args:
      measured: every role.
      looked: the real roles after a step.
      side, harmonise: as in `inspect`.
    """
    plain = step = Step(side=side, detail=side)
    differ = _codec(measured)
    if differ:
        step = replace(
            plain,
            codings=tuple(_applied(measured.values()).items()),
            off_grid=any(each.off_grid for each in measured.values()),
        )
    looks = looked(plain if harmonise == "off" else step)
    bands = {pair: _bands_alike(looks, pair) for pair in combinations(looks, 2)}
    blurred = [pair for pair, alike in bands.items() if alike < BANDS]
    if blurred:
        step = replace(step, detail=min(bands.values()) * side // BANDS)
    differences = [
        *(Difference("codec", pair, mended=bool(step.codings)) for pair in differ),
        *(Difference("resolution", pair, mended=True) for pair in blurred),
        *(Difference("scale", pair, mended=False) for pair in _scales(looks)),
    ]
    if harmonise == "off":
        differences = [replace(each, mended=False) for each in differences]
        step = plain
    elif blurred:
        looks = looked(step)
    confounded = {
        harm: sentence
        for harm, pairs in _COMPARED.items()
        if (sentence := account.confounded(measured, differences, pairs))
    }
    return Pipeline(
        step=step if step.changes else None,
        measured=_for_control(looks),
        confounded=confounded,
        warnings=tuple(account.warnings(measured, differences, step)),
        facts=account.facts(measured, differences, step, harmonise),
    )


def _codec(measured: Mapping[str, Measured]) -> list[Pair]:
    """Pairs of roles whose tiles went through different codings."""
    shares = {role: each.shares() for role, each in measured.items()}
    largest = max(_applied(each for role, each in measured.items() if role in REAL), default=0)
    counted = [
        role
        for role, each in measured.items()
        if role in REAL or _applied([each]) or int(np.median(each.sides)) >= largest
    ]
    return [
        (a, b)
        for a, b in combinations(counted, 2)
        if _apart(shares[a], shares[b]) > max(measured[role].uncertainty for role in (a, b))
    ]


def _apart(ours: Shares, theirs: Shares) -> float:
    """Total variation distance, 0 to 1."""
    every = ours.keys() | theirs.keys()
    return sum(abs(ours.get(each, 0) - theirs.get(each, 0)) for each in every) / 2


def _applied(measured: Iterable[Measured]) -> dict[int, Coding]:
    """The coarsest coding of any role, by the side of its tiles, largest side first.

    Of each role the coarsest tiles, as far as they are rare, are not looked at: a few of them would
    blur all. Tables of different make are joined step by step, so that all are covered.
    """
    joined: dict[int, Coding] = {}
    for role in measured:
        kept = [(each, share) for each, share in role.shares().items() if each is not None]
        kept.sort(key=lambda each: -each[0][1].coarseness)
        behind = np.cumsum([share for _, share in kept])
        common = [each for each, passed in zip(kept, behind, strict=True) if passed > _RARE]
        sides: dict[int, float] = {}
        for (size, _), share in common:
            sides[size] = sides.get(size, 0) + share
        for (_, coding), _ in common:
            size = max(sides, key=lambda each: sides[each])
            joined[size] = joined[size].joined(coding) if size in joined else coding
    return dict(sorted(joined.items(), reverse=True))


def _bands_alike(looks: Looks, pair: Pair) -> int:
    """Bands of the spectrum, from the lowest, in which two roles agree.

    All, where they differ in none by more than patients do. Of 800 random splits of GlaS patients
    at 64 and 256 pixels none was told apart; scaled by .9 from .905 to all were, by .7 all.
    """
    ours, theirs = (looks[role].by_patient() for role in pair)
    if min(len(ours), len(theirs)) == 0:
        return BANDS
    apart = np.abs(ours.mean(axis=0) - theirs.mean(axis=0))[_FIRST_BAND:]
    error = np.sqrt(_variance_of_mean(ours) + _variance_of_mean(theirs))[_FIRST_BAND:]
    error = np.maximum(error, _LEAST_ERROR_DB)
    if not ((apart > _DIFFERENT_DB) & (apart > _ERRORS * error)).any():
        return BANDS
    return _FIRST_BAND + int((apart > _ALIKE_DB).argmax())


def _variance_of_mean(rows: Floats) -> Floats:
    if len(rows) < 2:
        return np.zeros(rows.shape[1])
    variance: Floats = rows.var(axis=0, ddof=1) / len(rows)
    return variance


def _scales(looks: Looks) -> list[Pair]:
    """Pairs of roles none of whose tiles show tissue at the same scale, where both are known."""
    known = {role: each.scales[np.isfinite(each.scales)] for role, each in looks.items()}
    return [
        (a, b)
        for a, b in combinations(looks, 2)
        if len(known[a])
        and len(known[b])
        and max(known[a].min() / known[b].max(), known[b].min() / known[a].max()) > _SAME_SCALE
    ]


def _for_control(looks: Looks) -> tuple[Tiles, Tiles] | None:
    """Measures of train and holdout tiles, with the scale where it is known of all."""
    pair = [looks[role] for role in ("train", "holdout")]
    if min(len(each.measures) for each in pair) == 0:
        return None
    parts = [each.measures for each in pair]
    if all(np.isfinite(each.scales).all() for each in pair):
        parts = [np.column_stack([each.measures, np.log2(each.scales)]) for each in pair]
    train, holdout = (
        Tiles(role, part, patients=each.patients)
        for role, part, each in zip(("train", "holdout"), parts, pair, strict=True)
    )
    return train, holdout
