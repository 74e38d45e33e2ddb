"""Collecting: roles and rows stay aligned, and nothing is embedded twice."""

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
from privgen.data.tileset import TileSet
from privgen.encoders.cache import EmbeddingCache
from privgen.encoders.loading import Encoder, load_encoder
from privgen.encoders.orbit import Whitening, orbit_mean
from privgen.errors import InputError
from privgen.evidence import collect as module
from privgen.evidence.collect import Evidence, collect, plain_features
from privgen.evidence.copy_kinds import AUDITED_KINDS
from tests.helpers.collected import SIDE, Tiles, synthetic_set, textures, tile_set


class Counting:
    """An encoder that counts the tiles it is given."""

    def __init__(self, inner: Encoder) -> None:
        self.inner = inner
        self.name, self.digest, self.width = inner.name, inner.digest, inner.width
        self.seen = 0

    def embed(self, tiles: Tiles) -> NDArray[np.float32]:
        self.seen += len(tiles)
        return self.inner.embed(tiles)


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
