"""Splitting tiles by patient, and refusing roles that overlap.

A patient (or the nearest thing the data have: `TileSet.groups`) stands in one role only. Patients
whose tiles share a digest or pixels, or are tied by the caller, are kept together, so that no split
can part a picture from its copy; so are patients whose names are alike (`audits.patients`), who may
be one. Featureless tiles tie nobody: blank glass is equal in everybody. Siblings are tiles of
training slides held back from training, drawn uniformly at random within each slide: train against
siblings is then a randomised experiment whose null distribution is known exactly, slide by slide
(docs/methods.md#tile-and-patient-membership).

Which tiles share pixels is what `privgen.data.overlap` finds. Where single tiles are the groups and
share pixels there is nothing to split by: the pixels trained on would stand in the holdout.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from audits.patients import alike
from privgen.data.balance import assign
from privgen.data.overlap import Overlap, find_overlap
from privgen.data.owners import GROUP_UNITS, GroupUnit
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError, SplitError

Indices = NDArray[np.intp]

_NAMED = 3
"""Most examples in a message."""


@dataclass(frozen=True, eq=False)
class Split:
    """Which tile plays which role: sorted indices into the TileSet, every tile exactly once.

    Attributes:
      train: members.
      siblings: non-members from slides of training patients; may be empty.
      holdout: non-members of patients the training never saw.
      reference: the same, kept for calibration; empty unless asked for.
    """

    train: Indices
    siblings: Indices
    holdout: Indices
    reference: Indices

    def roles(self) -> dict[str, Indices]:
        """Role name to indices, in a fixed order, empty roles included."""
        return {role.name: getattr(self, role.name) for role in fields(self)}


def split_by_patient(
    tiles: TileSet,
    tied: Indices | None = None,
    /,
    *,
    holdout: float = 0.35,
    reference: float = 0.0,
    siblings: float = 0.1,
    seed: int,
) -> Split:
    """Split so that no patient is on two sides and every role looks like the whole.

    Of many random starts, each improved patient by patient, the assignment wins whose tile counts a
    class come nearest to the shares asked for. A class that two patients have is put on
    both sides, train and holdout, wherever that is possible at all.

    Args:
      tiles: the set; `tiles.groups` are its patients.
      tied: further pairs of tiles that may not be parted, such as near-duplicates, shape (k, 2).
      holdout, reference: share of the tiles for each; the rest goes to train and siblings.
      siblings: share of the training patients' tiles to hold back; a slide keeps at least one tile
        in train, and a tile that shares its digest or pixels with another, or is tied to one, stays
        in train.
      seed: the same seed gives the same split.

    Raises:
      ConfigError: a share is out of range.
      SplitError: there are fewer patients than roles, or single tiles that share pixels are the
        groups.

    Source: docs/methods.md#patient-as-the-unit, docs/methods.md#tile-and-patient-membership,
      docs/methods.md#slides-and-splits.
    """
    if not (holdout > 0 and reference >= 0 and holdout + reference < 1 and 0 <= siblings < 1):
        raise ConfigError(
            "shares must leave tiles for train: 0 < holdout, 0 <= reference, holdout + reference "
            f"< 1, 0 <= siblings < 1; got holdout {holdout}, reference {reference}, siblings "
            f"{siblings}. Give smaller shares."
        )
    rng = np.random.default_rng(seed)
    shares = np.array([1 - holdout - reference, holdout, reference][: 3 if reference else 2])
    overlap = find_overlap(tiles.records)
    if tiles.group_unit == "tile":
        _require_apart(overlap)
    pairs = _tied_pairs(tiles, overlap, tied)
    unit = _joined(tiles, pairs)
    unit_count = int(unit.max(initial=-1)) + 1
    if unit_count < len(shares):
        groups = len(np.unique(tiles.groups))
        reason = "they share digests or pixels, or their names are alike"
        glued = f" ({groups}, but {reason})" if groups > unit_count else ""
        raise SplitError(
            f"train, holdout{' and reference' if reference else ''} need a {tiles.group_unit} "
            f"each, {len(shares)} in all: got {unit_count}{glued}. Add {tiles.group_unit}s, or "
            "correct the manifest's grouping."
        )
    classes, class_of = np.unique(tiles.labels, return_inverse=True)
    counts = np.zeros((unit_count, len(classes)), dtype=np.int64)
    np.add.at(counts, (unit, class_of), 1)
    role = assign(counts, shares, rng)[unit]
    lone = np.ones(len(tiles), dtype=bool)
    lone[pairs] = False
    held_back = _draw_siblings(tiles.slides, role == 0, lone, siblings, rng)
    split = Split(
        train=np.flatnonzero((role == 0) & ~held_back),
        siblings=np.flatnonzero(held_back),
        holdout=np.flatnonzero(role == 1),
        reference=np.flatnonzero(role == 2),
    )
    placed = np.sort(np.concatenate(list(split.roles().values())))
    assert np.array_equal(placed, np.arange(len(tiles))), "every tile has exactly one role"
    return split


def hold_back(tiles: TileSet, share: float, *, seed: int) -> NDArray[np.bool_]:
    """Tiles of every slide that no training is to see, drawn at random, shape (n,).

    As the siblings of `split_by_patient`: a slide keeps a tile to train on, and a tile that shares
    its digest or pixels with another is never held back.

    Args:
      tiles: the whole set.
      share: of each slide's tiles.
      seed: the same seed gives the same tiles.
    """
    lone = np.ones(len(tiles), dtype=bool)
    lone[_tied_pairs(tiles, find_overlap(tiles.records), None)] = False
    rng = np.random.default_rng(seed)
    return _draw_siblings(tiles.slides, np.ones(len(tiles), dtype=bool), lone, share, rng)


def require_disjoint(**roles: TileSet) -> None:
    """Refuse roles that share a patient, a picture or pixels, or may share a patient.

    Args:
      **roles: TileSets by role name. `siblings` may share patients with `train`, nothing else.
        Patients are compared where both sides have a grouping above the single tile; where the
        groupings differ, by the finer one. Featureless tiles are nobody's picture.

    Raises:
      SplitError: names the two roles, how many are shared and the first of them; or patients whose
        names are alike (`audits.patients`).
    """
    for (first, a), (second, b) in combinations(roles.items(), 2):
        pair = f"{first} and {second}"
        if {first, second} != {"train", "siblings"}:
            _refuse_shared_groups(pair, a, b)
        same = np.intersect1d(a.digests[~a.featureless], b.digests[~b.featureless])
        if len(same):
            examples = [
                f"{a.records[i].path} = {b.records[j].path}"
                for i, j in ((_row_of(a, digest), _row_of(b, digest)) for digest in same[:_NAMED])
            ]
            raise SplitError(
                f"{pair} may not share a picture: {len(same)} stand in both, pixel for pixel "
                f"({_first(examples)}). Take them out of one side."
            )
        crossing = find_overlap((*a.records, *b.records)).pairs
        crossing = crossing[(crossing[:, 0] < len(a)) & (crossing[:, 1] >= len(a))]
        if len(crossing):
            examples = [
                f"{a.records[i].path} and {b.records[j - len(a)].path}"
                for i, j in crossing[:_NAMED]
            ]
            raise SplitError(
                f"{pair} may not share pixels: {len(crossing)} pairs of tiles overlap on their "
                f"slide ({_first(examples)}). Split by slide or patient, or drop one of each pair."
            )


def _refuse_shared_groups(pair: str, a: TileSet, b: TileSet) -> None:
    """Refuse two sets that have a group in common, or groups whose names are alike."""
    unit = _comparable(a, b)
    if unit is None:
        return
    name = unit.replace("_", " ")
    ours, theirs = (np.unique(known) for known in (_known(a, unit), _known(b, unit)))
    shared = np.intersect1d(ours, theirs)
    if len(shared):
        raise SplitError(
            f"{pair} may not share a {name}: {len(shared)} stand in both ({_first(shared)}). Split "
            f"by {name}, or take them out of one side."
        )
    pairs = alike(ours, theirs)
    if pairs:
        named = [f"{one} / {other}" for one, other in pairs]
        raise SplitError(
            f"{pair} may not hold {name}s whose names differ only in case, leading zeros or signs: "
            f"{len(pairs)} pairs do ({_first(named)}). Write one {name} one way; if they are "
            "different, rename one of each pair."
        )


def _comparable(a: TileSet, b: TileSet) -> GroupUnit | None:
    """The unit by which two sets can be compared, the finer of their groupings; None for tiles."""
    unit = max(a.group_unit, b.group_unit, key=GROUP_UNITS.index)
    return None if unit == "tile" else unit


def _known(tiles: TileSet, unit: GroupUnit) -> list[str]:
    names = (getattr(record, unit) for record in tiles.records)
    return [name for name in names if name is not None]


def incomparable(**roles: TileSet) -> list[str]:
    """A warning for each two roles of which nobody can say whether they share a patient.

    Args:
      **roles: TileSets by role name; without any groups (single tiles) nothing is claimed, and the
        audit says that itself.
    """
    warnings = []
    for (first, a), (second, b) in combinations(roles.items(), 2):
        unit = _comparable(a, b)
        if unit is None or a.group_unit == b.group_unit:
            continue
        known = [len(_known(tiles, unit)) == len(tiles) for tiles in (a, b)]
        by = f"were compared by {unit}" if all(known) else "could not be compared"
        warnings.append(
            f"{first} is grouped by {a.group_unit} and {second} by {b.group_unit}: they {by}, and "
            "may share patients. Give both the same columns."
        )
    return warnings


def _row_of(tiles: TileSet, digest: str) -> int:
    return int(np.flatnonzero(tiles.digests == digest)[0])


def _first(names: Sequence[str] | NDArray[np.str_]) -> str:
    return f"first: {', '.join(map(str, names[:_NAMED]))}"


def units(tiles: TileSet, tied: Indices | None = None) -> Indices:
    """What no split may part: groups, joined where their tiles share pictures or pixels.

    Groups whose names are alike are joined too.

    Args:
      tiles: the set.
      tied: as for `split_by_patient`.

    Returns:
      Number of each tile's unit, from 0, shape (n,).
    """
    return _joined(tiles, _tied_pairs(tiles, find_overlap(tiles.records), tied))


def _require_apart(overlap: Overlap) -> None:
    """Refuse a split tile by tile of tiles that share pixels."""
    if len(overlap.pairs):
        raise SplitError(
            f"tiles that share pixels may not be split tile by tile: {len(overlap.pairs)} pairs of "
            f"{len(np.unique(overlap.pairs))} tiles overlap on their slide, and a tile has up to "
            f"{overlap.largest:.0%} of its pixels in common with another and typically "
            f"{overlap.covered():.0%} with all others together. Group by slide or patient, or cut "
            "again without overlap."
        )


def _tied_pairs(tiles: TileSet, overlap: Overlap, tied: Indices | None) -> Indices:
    """Pairs of tiles, shape (k, 2): they share pixels, form a chain of one digest, or are given.

    Featureless tiles are in no chain.
    """
    told = np.flatnonzero(~tiles.featureless)
    order = told[np.argsort(tiles.digests[told], kind="stable")]
    repeats = np.flatnonzero(tiles.digests[order[1:]] == tiles.digests[order[:-1]])
    chain = np.stack([order[repeats], order[repeats + 1]], axis=1)
    known = [] if tied is None else [tied]
    return np.concatenate([overlap.pairs, chain, *known])


def _joined(tiles: TileSet, pairs: Indices) -> Indices:
    names, group_of = np.unique(tiles.alike, return_inverse=True)
    joins = group_of[pairs]
    graph = coo_array((np.ones(len(joins)), (joins[:, 0], joins[:, 1])), shape=(len(names),) * 2)
    _, unit_of_group = connected_components(graph, directed=False)
    joined: Indices = unit_of_group.astype(np.intp)[group_of]
    return joined


def _draw_siblings(
    slides: NDArray[np.str_],
    candidates: NDArray[np.bool_],
    lone: NDArray[np.bool_],
    share: float,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Which of the `candidates` become siblings, shape (n,).

    Fractional counts a slide are rounded along a random order of the slides so that they add up;
    given its count, each lone tile of a slide is equally likely.
    """
    drawn = np.zeros(len(slides), dtype=bool)
    members = np.flatnonzero(candidates)
    _, slide_of = np.unique(slides[members], return_inverse=True)
    by_slide = np.split(
        members[np.argsort(slide_of, kind="stable")], np.cumsum(np.bincount(slide_of))[:-1]
    )
    due = rng.random()
    for position in rng.permutation(len(by_slide)):
        inside = by_slide[position]
        eligible = inside[lone[inside]]
        most = min(len(eligible), len(inside) - 1)
        if most < 1:
            continue
        due += share * len(inside)
        count = min(int(due), most)
        due %= 1.0
        drawn[rng.choice(eligible, count, replace=False)] = True
    return drawn
