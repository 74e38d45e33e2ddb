"""Collecting: roles, rows and copies stay aligned, and nothing is embedded twice."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import audits
from privgen.copysearch import descriptors
from privgen.copysearch.alignment import Alignments, best_alignments
from privgen.copysearch.searching import Searched
from privgen.data.blocks import native_side
from privgen.data.images import resize
from privgen.data.layouts import open_tiles
from privgen.data.tileset import TileSet
from privgen.encoders.cache import EmbeddingCache
from privgen.encoders.loading import Encoder, load_encoder
from privgen.encoders.orbit import Whitening, fingerprint, orbit_mean, symmetries
from privgen.errors import InputError
from privgen.evidence import collect as module
from privgen.evidence import planted_copies
from privgen.evidence.collect import Evidence, collect, plain_features
from privgen.evidence.copy_kinds import AUDITED_KINDS, KINDS

Tiles = NDArray[np.uint8]
SIDE = 32


def textures(count: int, seed: int, side: int = SIDE) -> Tiles:
    """Smooth random colour fields; different seeds share nothing."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (count, 6, 6, 3), dtype=np.uint8)
    return resize(coarse, side)


def tile_set(count: int, seed: int, patients: int, prefix: str, side: int = SIDE) -> TileSet:
    return TileSet.from_arrays(
        textures(count, seed, side),
        [("a", "b")[row % 2] for row in range(count)],
        patients=[f"{prefix}{row % patients}" for row in range(count)],
        slides=[f"{prefix}{row % patients}-{row % 3}" for row in range(count)],
    )


def synthetic_set(tiles: Tiles) -> TileSet:
    return TileSet.from_arrays(tiles, ["a"] * len(tiles))


class Counting:
    """An encoder that counts the tiles it is given."""

    def __init__(self, inner: Encoder) -> None:
        self.inner = inner
        self.name, self.digest, self.width = inner.name, inner.digest, inner.width
        self.seen = 0

    def embed(self, tiles: Tiles) -> NDArray[np.float32]:
        self.seen += len(tiles)
        return self.inner.embed(tiles)


@pytest.fixture(scope="module")
def train() -> TileSet:
    return tile_set(150, 1, 10, "T")


@pytest.fixture(scope="module")
def holdout() -> TileSet:
    return tile_set(60, 2, 6, "H")


@pytest.fixture(scope="module")
def synthetic(train: TileSet) -> TileSet:
    """40 new tiles, then train tiles 3, 5 and 8: as they are, turned, mirrored."""
    copied = train.subset([3, 5, 8]).load()
    copied[1] = np.rot90(copied[1])
    copied[2] = copied[2][:, ::-1]
    return synthetic_set(np.concatenate([textures(40, 3), copied]))


@pytest.fixture(scope="module")
def evidence(train: TileSet, holdout: TileSet, synthetic: TileSet, pixels: Encoder) -> Evidence:
    return collect(
        train=train,
        holdout=holdout,
        synthetic=synthetic,
        siblings=tile_set(20, 4, 10, "T"),
        reference=tile_set(30, 5, 3, "R"),
        encoder=pixels,
        seed=0,
        planted_per_kind=24,
    )


def distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    difference = a.astype(np.float64)[:, None] - b.astype(np.float64)[None]
    return np.asarray(np.linalg.norm(difference, axis=2))


def test_every_role_keeps_its_rows_labels_patients_and_slides(
    evidence: Evidence, train: TileSet, holdout: TileSet
) -> None:
    counts = {role: len(tiles) for role, tiles in evidence.data.roles().items()}
    assert counts == {
        "train": 150,
        "siblings": 20,
        "holdout": 60,
        "reference": 30,
        "synthetic": 43,
    }
    for judged, given in ((evidence.data.train, train), (evidence.data.holdout, holdout)):
        np.testing.assert_array_equal(judged.labels, given.labels)
        np.testing.assert_array_equal(judged.patients, given.groups)
        np.testing.assert_array_equal(judged.slides, given.slides)
    assert evidence.data.encoder == "pixels"
    assert evidence.data.group_unit == "patient"
    assert evidence.side == SIDE


def test_embeddings_are_orbit_means_whitened_over_all_roles(
    evidence: Evidence, train: TileSet, holdout: TileSet, synthetic: TileSet, pixels: Encoder
) -> None:
    every = [train, holdout, synthetic, tile_set(20, 4, 10, "T"), tile_set(30, 5, 3, "R")]
    means = [orbit_mean(pixels, tiles.load()) for tiles in every]
    expected = Whitening.fit(np.concatenate(means)).apply(means[1])
    np.testing.assert_allclose(evidence.data.holdout.embeddings, expected, atol=1e-4)


def test_features_are_the_plain_embeddings_of_every_role(
    evidence: Evidence, train: TileSet, synthetic: TileSet, pixels: Encoder
) -> None:
    features = evidence.features["pixels"]
    assert set(features) == {"train", "siblings", "holdout", "reference", "synthetic"}
    np.testing.assert_array_equal(features["train"], pixels.embed(train.load()))
    np.testing.assert_array_equal(features["synthetic"], pixels.embed(synthetic.load()))


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


def test_a_seed_fixes_everything(
    train: TileSet, holdout: TileSet, synthetic: TileSet, pixels: Encoder
) -> None:
    def planted(seed: int) -> NDArray[np.float32]:
        found = collect(
            train=train,
            holdout=holdout,
            synthetic=synthetic,
            encoder=pixels,
            seed=seed,
            planted_per_kind=8,
        )
        return found.data.planted["odd_rotation"].embeddings

    first = planted(1)
    np.testing.assert_array_equal(first, planted(1))
    assert (first != planted(2)).any()


def test_no_tile_is_embedded_twice(train: TileSet, holdout: TileSet, pixels: Encoder) -> None:
    counting = Counting(pixels)
    collect(
        train=train,
        holdout=holdout,
        synthetic=synthetic_set(textures(30, 3)),
        encoder=counting,
        seed=0,
        planted_per_kind=10,
    )
    altered = len(AUDITED_KINDS) - 1  # exact copies keep their embedding
    assert counting.seen == 8 * (150 + 60 + 30 + altered * 10)


def test_results_do_not_depend_on_the_block(
    train: TileSet, holdout: TileSet, pixels: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def features() -> NDArray[np.float32]:
        found = collect(
            train=train,
            holdout=holdout,
            synthetic=synthetic_set(textures(30, 3)),
            encoder=pixels,
            seed=0,
        )
        return found.data.train.embeddings

    whole = features()
    monkeypatch.setattr("privgen.data.blocks._BLOCK", 7)
    np.testing.assert_array_equal(features(), whole)


def test_every_role_is_seen_at_the_smallest_side(train: TileSet, pixels: Encoder) -> None:
    large = tile_set(40, 6, 5, "H", side=48)
    copies = train.subset([0, 1]).load()
    found = collect(
        train=train,
        holdout=large,
        synthetic=synthetic_set(copies),
        encoder=pixels,
        seed=0,
    )
    assert found.side == SIDE
    np.testing.assert_array_equal(
        found.features["pixels"]["holdout"], pixels.embed(large.load(SIDE))
    )


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


def test_tiles_without_patients_stand_for_themselves(pixels: Encoder) -> None:
    real = [TileSet.from_arrays(textures(30, seed), ["a"] * 30) for seed in (1, 2)]
    found = collect(
        train=real[0],
        holdout=real[1],
        synthetic=synthetic_set(textures(20, 3)),
        encoder=pixels,
        seed=0,
    )
    assert found.data.train.patient_count == found.data.holdout.patient_count == 30
    assert found.data.group_unit == "tile"


def test_the_weakest_grouping_of_the_real_roles_is_named(pixels: Encoder) -> None:
    train = tile_set(30, 1, 5, "T")
    found = collect(
        train=train,
        holdout=TileSet.from_arrays(textures(20, 2), ["a"] * 20, slides=["S"] * 20),
        synthetic=synthetic_set(textures(20, 3)),
        encoder=pixels,
        seed=0,
    )
    assert found.data.group_unit == "slide"


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


@pytest.mark.parametrize("role", ["train", "holdout", "synthetic"])
def test_an_empty_role_is_one_clear_line(
    role: str, train: TileSet, holdout: TileSet, synthetic: TileSet, pixels: Encoder
) -> None:
    roles = {"train": train, "holdout": holdout, "synthetic": synthetic}
    roles[role] = roles[role].subset([])
    with pytest.raises(InputError, match=f"an audit needs {role} tiles"):
        collect(
            train=roles["train"],
            holdout=roles["holdout"],
            synthetic=roles["synthetic"],
            encoder=pixels,
            seed=0,
        )


def test_an_empty_optional_role_counts_as_absent(
    train: TileSet, holdout: TileSet, synthetic: TileSet, pixels: Encoder
) -> None:
    found = collect(
        train=train,
        holdout=holdout,
        synthetic=synthetic,
        siblings=train.subset([]),
        encoder=pixels,
        seed=0,
    )
    assert found.data.siblings is None
    assert "siblings" not in found.features["pixels"]


def test_a_train_tile_in_the_holdout_is_refused_even_when_turned(
    train: TileSet, synthetic: TileSet, pixels: Encoder
) -> None:
    tiles = np.concatenate([textures(20, 2), np.rot90(train.subset([9]).load(), axes=(1, 2))])
    holdout = TileSet.from_arrays(tiles, ["a"] * 21, patients=["H"] * 21)
    with pytest.raises(audits.AuditInputError, match="share no fingerprints"):
        collect(train=train, holdout=holdout, synthetic=synthetic, encoder=pixels, seed=0)


def test_plain_features_of_a_further_encoder_follow_the_audits_side(
    train: TileSet, holdout: TileSet, synthetic: TileSet
) -> None:
    colour = load_encoder("colour")
    roles = {"train": train, "holdout": holdout, "siblings": train}
    found = plain_features(colour, roles, synthetic, side=16)
    assert list(found) == ["colour"]
    assert set(found["colour"]) == {"train", "holdout", "synthetic"}
    np.testing.assert_array_equal(found["colour"]["holdout"], colour.embed(holdout.load(16)))


def test_the_native_side_is_that_of_the_smallest_tile(train: TileSet) -> None:
    assert native_side(train) == SIDE
    unknown = replace(
        train, records=tuple(replace(r, width=None, height=None) for r in train.records)
    )
    assert native_side(unknown) == SIDE


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


def test_a_cache_spares_the_next_audit_the_embedding(
    train: TileSet, holdout: TileSet, synthetic: TileSet, pixels: Encoder, tmp_path: Path
) -> None:
    def run(encoder: Encoder) -> Evidence:
        return collect(
            train=train,
            holdout=holdout,
            synthetic=synthetic,
            encoder=encoder,
            seed=0,
            cache=EmbeddingCache(tmp_path / "cache"),
            planted_per_kind=2,
        )

    first = run(pixels)
    counting = Counting(pixels)
    again = run(counting)
    assert counting.seen == 8 * 2 * (len(AUDITED_KINDS) - 1), "planted copies alone"
    np.testing.assert_array_equal(again.data.synthetic.embeddings, first.data.synthetic.embeddings)
    np.testing.assert_array_equal(
        again.features["pixels"]["train"], first.features["pixels"]["train"]
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


def test_a_reference_is_never_described(
    train: TileSet, holdout: TileSet, pixels: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    described: list[int] = []
    real = descriptors.describe
    monkeypatch.setattr(
        module, "describe", lambda tiles: described.append(len(tiles)) or real(tiles)
    )

    def nothing(queries: Searched, base: Searched, *, other_groups: bool = False) -> Alignments:
        return best_alignments(
            queries.descriptors, base.descriptors, np.full((len(queries), 1), -1)
        )

    found = collect(
        train=train,
        holdout=holdout,
        synthetic=synthetic_set(textures(10, 3)),
        reference=tile_set(33, 5, 3, "R"),
        encoder=pixels,
        seed=0,
        search=nothing,
        planted_per_kind=2,
    )
    assert sum(described) == len(train) + len(holdout) + 10
    assert "reference" not in found.searched
