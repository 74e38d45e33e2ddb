"""Copies in disguise are proven on real tissue, among real tiles of other patients.

One search holds everything: 12 copies of each kind, tiles of patients nobody copied, and a null in
which one patient stands under two names.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from audits import Aligned, Alignment, AuditResult
from audits.copy_evidence import aligned_copies
from audits.proof import alike
from privgen.copysearch.descriptors import describe
from privgen.copysearch.marks import Marks
from privgen.copysearch.searching import Searched, join, verify
from privgen.data.layouts import open_tiles
from privgen.encoders.orbit import fingerprint
from privgen.evidence import copy_kinds
from privgen.evidence.copy_kinds import plant

Tiles = NDArray[np.uint8]
Names = NDArray[np.str_]
Kind = Callable[[Tiles, np.random.Generator, Tiles], Tiles]

pytestmark = [pytest.mark.real_data, pytest.mark.slow]

SIDE = 64
COPIES = 12
TRAIN, OTHERS, INNOCENT, TWICE = 100, 100, 24, 1
LOOKED = 12
"""Innocent tiles of each of `LOOKS`."""

FULL = 100
"""Key points of a tile full of tissue."""


def planted(kind: str) -> Kind:
    return lambda tiles, rng, partners: plant(kind, tiles, rng, partners=partners)


def bent(tiles: Tiles, rng: np.random.Generator, partners: Tiles) -> Tiles:
    """Warped five times as far as the planted kind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copy_kinds, "ELASTIC_AMPLITUDE", 0.20)
        return plant("elastic", tiles, rng)


def blurred(tiles: Tiles, rng: np.random.Generator, partners: Tiles) -> Tiles:
    return np.stack([cv2.GaussianBlur(tile, (0, 0), 3) for tile in tiles])


def faint(tiles: Tiles, rng: np.random.Generator, partners: Tiles) -> Tiles:
    mean = tiles.mean(axis=(1, 2, 3), keepdims=True)
    return np.rint(mean + 0.08 * (tiles - mean)).astype(np.uint8)


KINDS: dict[str, Kind] = {
    **{
        kind: planted(kind)
        for kind in (
            "perspective",
            "jigsaw",
            "mosaic",
            "inset_50",
            "crop_25",
            "half_paste",
            "img_to_img",
            "down_up",
            "histogram",
        )
    },
    "blur 3": blurred,
    "blend .35": partial(copy_kinds._blend, weight=0.35),
    "elastic .20": bent,
    "contrast x .08": faint,
}


LOOKS = ("blur 3", "contrast x .08", "img_to_img", "down_up", "histogram")
"""Kinds that innocent tiles are given as well."""


@dataclass(frozen=True)
class Case:
    """What one search found; row i of `sources` is the train tile of synthetic tile i."""

    alignment: Alignment
    rows: dict[str, slice]

    def judged(self, *kinds: str, null: Aligned | None = None) -> AuditResult:
        """The proof over the innocent tiles and these kinds alone."""
        kept = np.concatenate([np.r_[self.rows[kind]] for kind in ("innocent", *kinds)])
        alignment = replace(self.alignment, synthetic=part(self.alignment.synthetic, kept))
        if null is not None:
            alignment = replace(alignment, null=null)
        return aligned_copies(alignment, np.random.default_rng(0))


def part(found: Aligned, rows: NDArray[np.intp]) -> Aligned:
    return Aligned(
        inliers=found.inliers[rows],
        strength=found.strength[rows],
        marked=found.marked[rows],
        featureless=found.featureless[rows],
    )


@pytest.fixture(scope="module")
def case(real_data: Callable[[str], Path]) -> Case:
    glas = open_tiles(real_data("glas"))
    rng = np.random.default_rng(0)
    names = rng.permutation(np.unique(glas.groups))
    mine = np.isin(glas.groups, names[: len(names) // 2])
    train, apart = (
        np.sort(rng.choice(np.flatnonzero(rows), count, replace=False))
        for rows, count in ((mine, TRAIN), (~mine, OTHERS + INNOCENT))
    )
    innocent = rng.permutation(apart)[:INNOCENT]
    others = np.setdiff1d(apart, innocent)
    ours, theirs, free = (glas.subset(rows).load(SIDE) for rows in (train, others, innocent))

    base = ready(ours, glas.groups[train])
    full = np.flatnonzero(base.descriptors.counts > FULL)
    sources = rng.choice(full, COPIES, replace=False)
    made, rows = [free], {"innocent": slice(0, INNOCENT)}
    lots = [(kind, make, ours[sources]) for kind, make in KINDS.items()]
    lots += [(f"innocent, {kind}", KINDS[kind], free[:LOOKED]) for kind in LOOKS]
    for number, (kind, make, originals) in enumerate(lots):
        start = sum(map(len, made))
        made.append(make(originals, np.random.default_rng([1, number]), theirs))
        rows[kind] = slice(start, start + len(originals))
    # A turned tile of a train patient stands among the others under a name of theirs.
    twice = plant("odd_rotation", ours[full[-TWICE:]], rng)
    pixels = np.concatenate([ours, theirs, twice])
    real = join(
        [
            base,
            ready(theirs, glas.groups[others]),
            ready(twice, np.repeat(glas.groups[others][:1], TWICE)),
        ]
    )
    assert real.groups is not None
    marks = Marks(real.descriptors.patches, real.groups)
    alignment = verify(
        synthetic=ready(np.concatenate(made), None),
        train=replace(base, marks=marks),
        real=real,
        real_fingerprints=np.array([fingerprint(tile) for tile in pixels]),
        rng=rng,
    )
    return Case(alignment, rows)


def ready(tiles: Tiles, groups: Names | None) -> Searched:
    """Described, and not embedded: votes and pictures have to do."""
    nothing = np.zeros((len(tiles), 1), dtype=np.float32)
    return Searched(descriptors=describe(tiles), embeddings=nothing, groups=groups)


LEAST = {"elastic .20": 9, "blur 3": 9, "blend .35": 5}
"""Fewest of the 12 copies proven; 11 of the other kinds."""


@pytest.mark.parametrize("kind", KINDS)
def test_copies_in_disguise_are_proven(kind: str, case: Case) -> None:
    found = case.judged(kind)
    assert found.rejected is True
    assert found.details["proven"] >= LEAST.get(kind, 11)
    assert found.details["proven"] <= COPIES
    assert found.details["above_floors"] >= found.details["proven"]


def test_tiles_of_patients_nobody_copied_are_not_however_they_look(case: Case) -> None:
    found = case.judged(*(f"innocent, {kind}" for kind in LOOKS))
    assert found.rejected is False
    assert found.details["above_floors"] == 0
    assert found.details["featureless"] > 0, "they too can lose their key points"


def test_whoever_stands_under_two_names_is_reported_and_hides_nobody(case: Case) -> None:
    """A turned tile and its original align with each other across patients."""
    assert case.judged().details["null_alike"] == 2 * TWICE
    assert case.judged().details["null_duplicates_removed"] == 0, "no pixels are the same"


@pytest.mark.parametrize("pairs", [1, 3, 8])
def test_a_null_that_holds_copies_hides_no_copy(pairs: int, case: Case) -> None:
    null = case.alignment.null
    inliers, strength = null.inliers.copy(), null.strength.copy()
    clean = np.flatnonzero(~alike(inliers, strength))[:pairs]
    inliers[clean], strength[clean] = 60, 12.0
    dirty = replace(null, inliers=inliers, strength=strength)
    seen = case.rows["perspective"]
    few = replace(case, rows={**case.rows, "perspective": slice(seen.start, seen.start + 4)})
    found = few.judged("perspective", null=dirty)
    assert found.rejected is True
    assert found.details["proven"] == 4
    assert found.details["null_alike"] == 2 * TWICE + pairs


def test_what_can_be_neither_proven_nor_cleared_is_counted(case: Case) -> None:
    """Of strongly blurred copies some have hardly a key point left."""
    rows, ours = case.rows["blur 3"], case.alignment.synthetic
    found = case.judged("blur 3")
    proven = alike(ours.inliers[rows], ours.strength[rows], needed=found.details["needed_score"])
    assert ours.featureless[rows].any()
    # An innocent tile may show as little.
    assert found.details["featureless"] >= (ours.featureless[rows] & ~proven).sum()
    assert found.details["searched"] + found.details["featureless"] == INNOCENT + COPIES
    assert found.statistic.n == found.details["searched"]
