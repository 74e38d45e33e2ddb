"""Collecting: copies are found where they are, and planted ones name their sources."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from privgen.copysearch.alignment import Alignments, best_alignments
from privgen.copysearch.searching import Searched
from privgen.data.layouts import open_tiles
from privgen.data.tileset import TileSet
from privgen.encoders.loading import Encoder
from privgen.encoders.orbit import fingerprint, symmetries
from privgen.evidence import planted_copies
from privgen.evidence.collect import Evidence, collect
from privgen.evidence.copy_kinds import AUDITED_KINDS, KINDS
from tests.helpers.collected import SIDE, Tiles, distances, synthetic_set, textures, tile_set


def test_copies_in_the_synthetic_set_are_found_where_they_are(evidence: Evidence) -> None:
    data = evidence.data
    apart = distances(data.synthetic.embeddings, data.train.embeddings)
    assert list(apart[40:].argmin(axis=1)) == [3, 5, 8]
    assert apart[40, 3] == 0
    assert apart[41:].min(axis=1).max() < 0.01 < apart[:40].min() / 10
    assert data.synthetic.fingerprints is not None
    assert data.train.fingerprints is not None
    known = np.isin(data.synthetic.fingerprints, data.train.fingerprints)
    assert list(np.flatnonzero(known)) == [40, 41, 42]


def test_planted_copies_name_their_sources(evidence: Evidence) -> None:
    data = evidence.data
    assert tuple(data.planted) == AUDITED_KINDS
    for kind, planted in data.planted.items():
        assert planted.embeddings.shape == (24, data.train.embeddings.shape[1])
        apart = distances(planted.embeddings, data.train.embeddings)
        own = apart[np.arange(24), planted.sources]
        if kind == "exact":
            assert (own == 0).all()
        if kind == "symmetry":
            assert own.max() < 0.01 * apart.mean()


def test_planted_fingerprints_prove_equal_pixels_only(evidence: Evidence) -> None:
    train = evidence.data.train.fingerprints
    assert train is not None
    for kind, planted in evidence.data.planted.items():
        assert planted.fingerprints is not None
        same = planted.fingerprints == train[planted.sources]
        assert same.all() if kind in ("exact", "symmetry") else not same.any()


def test_planted_copies_are_spread_evenly_over_patients(evidence: Evidence, train: TileSet) -> None:
    sources = evidence.data.planted["exact"].sources
    assert len(set(sources)) == 24
    _, counts = np.unique(train.groups[sources], return_counts=True)
    assert sorted(counts) == [2] * 6 + [3] * 4


def test_a_copy_at_native_size_still_matches_after_scaling(pixels: Encoder) -> None:
    train = tile_set(60, 1, 6, "T", side=96)
    copies = train.subset([4, 7]).load()
    found = collect(
        train=train,
        holdout=tile_set(40, 2, 4, "H", side=40),
        synthetic=synthetic_set(np.concatenate([textures(20, 3, 96), copies])),
        encoder=pixels,
        seed=0,
    )
    assert found.side == 40
    assert found.data.synthetic.fingerprints is not None
    assert found.data.train.fingerprints is not None
    assert list(found.data.synthetic.fingerprints[20:]) == list(
        found.data.train.fingerprints[[4, 7]]
    )


def test_a_turned_copy_made_at_the_generators_side_matches(pixels: Encoder) -> None:
    train = tile_set(60, 1, 6, "T", side=96)
    copies = np.rot90(train.subset([4, 7]).load(SIDE), axes=(1, 2))
    found = collect(
        train=train,
        holdout=tile_set(40, 2, 4, "H", side=96),
        synthetic=synthetic_set(np.concatenate([textures(20, 3), copies])),
        encoder=pixels,
        seed=0,
    )
    assert found.side == SIDE
    assert found.data.synthetic.fingerprints is not None
    assert found.data.train.fingerprints is not None
    known = np.isin(found.data.synthetic.fingerprints, found.data.train.fingerprints)
    assert list(np.flatnonzero(known)) == [20, 21]


def test_blank_tiles_are_marked_and_never_planted(holdout: TileSet, pixels: Encoder) -> None:
    tiles = textures(40, 1)
    tiles[::2] = 240
    train = TileSet.from_arrays(tiles, ["a"] * 40, patients=[f"T{r % 4}" for r in range(40)])
    found = collect(
        train=train, holdout=holdout, synthetic=synthetic_set(tiles[:6]), encoder=pixels, seed=0
    )
    assert found.data.train.fingerprints is not None
    assert (found.data.train.fingerprints[::2] == "").all()
    assert (found.data.planted["exact"].sources % 2 == 1).all()
    assert len(found.data.planted["exact"].sources) == 20


def test_all_blank_train_tiles_leave_nothing_to_plant(holdout: TileSet, pixels: Encoder) -> None:
    blank = np.full((10, SIDE, SIDE, 3), 240, dtype=np.uint8)
    blank += np.random.default_rng(0).integers(0, 4, blank.shape, dtype=np.uint8)
    found = collect(
        train=TileSet.from_arrays(blank, ["a"] * 10, patients=["T0", "T1"] * 5),
        holdout=holdout,
        synthetic=synthetic_set(textures(10, 3)),
        encoder=pixels,
        seed=0,
    )
    assert {len(planted.sources) for planted in found.data.planted.values()} == {0}


@pytest.mark.real_data
def test_real_tissue_copies_stand_out_from_the_holdout(
    real_data: Callable[[str], Path], lite0: Encoder
) -> None:
    tiles = open_tiles(real_data("glas"))
    patients = np.unique(tiles.groups)
    rows = {
        role: np.flatnonzero(np.isin(tiles.groups, chosen))[::6][:24]
        for role, chosen in (("train", patients[::2]), ("holdout", patients[1::2]))
    }
    copied = rows["train"][:6]
    turned = next(v for i, v in enumerate(symmetries(tiles.subset(copied).load(64))) if i == 5)
    found = collect(
        train=tiles.subset(rows["train"]),
        holdout=tiles.subset(rows["holdout"]),
        synthetic=synthetic_set(turned),
        encoder=lite0,
        seed=0,
        planted_per_kind=2,
    )
    apart = distances(found.data.synthetic.embeddings, found.data.train.embeddings)
    control = distances(found.data.holdout.embeddings, found.data.train.embeddings)
    assert list(apart.argmin(axis=1)) == list(range(6))
    assert apart.min(axis=1).max() < 0.1 * control.min()
    assert found.data.synthetic.fingerprints is not None
    assert found.data.synthetic.fingerprints[0] == fingerprint(turned[0])


def test_with_a_search_every_kind_is_planted_and_everything_aligned(pixels: Encoder) -> None:
    asked: list[tuple[int, int, bool]] = []

    def search(queries: Searched, base: Searched, *, other_groups: bool = False) -> Alignments:
        asked.append((len(queries), len(base), other_groups))
        return best_alignments(
            queries.descriptors, base.descriptors, np.full((len(queries), 1), -1)
        )

    found = collect(
        train=tile_set(30, 1, 5, "T"),
        holdout=tile_set(20, 2, 5, "H"),
        synthetic=synthetic_set(textures(10, 3)),
        encoder=pixels,
        seed=0,
        search=search,
        planted_per_kind=2,
    )
    assert tuple(found.data.planted) == KINDS
    copies = 2 * len(AUDITED_KINDS) + len(KINDS) - len(AUDITED_KINDS)
    assert sorted(asked) == [(10, 30, False), (copies, 30, False), (50, 50, True)]
    for kind, planted in found.data.planted.items():
        assert planted.aligned is not None
        assert len(planted.aligned.inliers) == len(planted.sources), kind
        assert len(planted.aligned.strength) == len(planted.aligned.marked) == len(planted.sources)
        assert (planted.embeddings is not None) == (kind in AUDITED_KINDS), "for counts to see"
    assert found.data.alignment is not None
    assert len(found.data.alignment.synthetic.inliers) == 10
    assert set(found.searched) == {"train", "holdout", "synthetic"}
    assert found.searched["train"].marks is not None
    assert len(found.searched["train"].marks) == 50, "real tiles alone say what a mark is"
    assert found.searched["synthetic"].marks is None


def test_the_same_kind_is_planted_alike_whatever_else_is_planted(
    evidence: Evidence, train: TileSet, holdout: TileSet, synthetic: TileSet, pixels: Encoder
) -> None:
    def nothing(queries: Searched, base: Searched, *, other_groups: bool = False) -> Alignments:
        return best_alignments(
            queries.descriptors, base.descriptors, np.full((len(queries), 1), -1)
        )

    options = {"train": train, "holdout": holdout, "synthetic": synthetic, "encoder": pixels}
    few = collect(**options, seed=3, planted_per_kind=4)  # type: ignore[arg-type]
    many = collect(**options, seed=3, planted_per_kind=4, search=nothing)  # type: ignore[arg-type]
    for kind in AUDITED_KINDS:
        np.testing.assert_array_equal(
            few.data.planted[kind].embeddings, many.data.planted[kind].embeddings
        )


def test_blends_are_made_with_tiles_of_other_patients(
    train: TileSet, holdout: TileSet, pixels: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a train tile for the other half, either half would prove a copy."""
    seen: list[Tiles] = []

    def watched(kind: str, tiles: Tiles, rng: np.random.Generator, *, partners: Tiles) -> Tiles:
        seen.append(partners)
        return tiles.copy()

    monkeypatch.setattr(planted_copies, "plant", watched)
    collect(
        train=train,
        holdout=holdout,
        synthetic=synthetic_set(textures(10, 3)),
        encoder=pixels,
        seed=0,
        planted_per_kind=2,
    )
    known = {fingerprint(tile) for tile in holdout.load()}
    assert len(seen) == len(AUDITED_KINDS)
    assert {fingerprint(tile) for tile in seen[0]} <= known
