"""The fingerprint search from tiles to a verdict, on phantom tissue of known patients."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from audits import AuditResult, Harm, Outcome
from privgen.auditing import judging
from privgen.auditing.run import Audit, audit
from privgen.copysearch import searching
from privgen.copysearch.alignment import Alignments, best_alignments
from privgen.copysearch.descriptors import describe
from privgen.copysearch.searching import Searched, join, search
from privgen.data.phantom import make_phantom
from privgen.data.tileset import TileSet
from privgen.evidence.copy_kinds import plant

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def phantom() -> TileSet:
    """Tissue with key points: 56 patients, 5 tiles each."""
    return make_phantom(
        patients=56, tiles_per_patient=5, classes=("NORM", "TUM", "LYM"), side=64, seed=1
    )


def of_patients(tiles: TileSet, numbers: range) -> TileSet:
    names = np.unique(tiles.groups)
    return tiles.subset(np.flatnonzero(np.isin(tiles.groups, names[list(numbers)])))


def audited(phantom: TileSet, copies: int) -> Audit:
    train, holdout = of_patients(phantom, range(12)), of_patients(phantom, range(12, 51))
    made = of_patients(phantom, range(51, 56)).load().copy()
    rng = np.random.default_rng(0)
    made[:copies] = plant("odd_rotation_stain", train.load()[5 : 5 + copies], rng)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "collect", partial(judging.collect, planted_per_kind=16))
        return audit(train=train, holdout=holdout, synthetic=made, align=True, encoder="colour")


def result(found: Audit, name: str) -> AuditResult:
    return next(r for r in found.report.results if r.name == name)


@pytest.mark.slow
def test_two_turned_and_restained_copies_are_proven_one_by_one(phantom: TileSet) -> None:
    found = audited(phantom, 2)
    proof = result(found, "aligned_copies")
    assert (proof.details["proven"], proof.rejected) == (2, True), "the other 23 are new tiles"
    assert proof.details["null_scores"] >= 200
    copying = next(v for v in found.verdict.harms if v.harm is Harm.COPYING)
    assert copying.outcome is Outcome.LEAK
    assert "2 of 25 synthetic tiles show the tissue of a train tile" in copying.reason
    assert found.document["reproduce"]["command"].endswith("--align --seed 0")
    share = found.report.mdl80["odd_rotation"]
    assert share is not None
    assert share <= 0.05, "one turned copy among 25 tiles is proof already"


def searched(tiles: TileSet) -> Searched:
    pixels = tiles.load()
    flat = pixels.reshape(len(pixels), -1)[:, ::97].astype(np.float32)
    return Searched(descriptors=describe(pixels), embeddings=flat, groups=tiles.groups)


def test_the_null_never_looks_at_the_querys_own_patient(phantom: TileSet) -> None:
    tiles = of_patients(phantom, range(4))
    everything = searched(tiles)
    found = search(everything, everything, other_groups=True)
    partner = tiles.groups[found.candidates]
    assert (partner != tiles.groups)[found.candidates >= 0].all()
    itself = search(everything, everything)
    assert (itself.candidates == np.arange(len(tiles))).all()


def test_joined_sets_keep_their_order(phantom: TileSet) -> None:
    one, two = (searched(of_patients(phantom, range(k, k + 1))) for k in (0, 1))
    both = join([one, two])
    assert len(both.descriptors) == 10
    assert both.groups is not None
    np.testing.assert_array_equal(both.embeddings[5:], two.embeddings)
    np.testing.assert_array_equal(
        both.subset(np.array([7])).descriptors.vectors,
        two.subset(np.array([2])).descriptors.vectors,
    )


def test_tiles_another_patient_has_too_are_known_duplicates() -> None:
    marks = np.array(["a", "a", "b", "b", "", ""])
    groups = np.array(["p", "q", "p", "p", "p", "q"])
    shared = searching._shared(marks, groups)
    assert shared.tolist() == [True, True, False, False, False, False]


def test_the_null_leaves_out_tiles_searched_among_far_fewer_than_the_synthetic(
    phantom: TileSet,
) -> None:
    """One patient brings most tiles: among the few others, chance would look too innocent."""
    train = searched(of_patients(phantom, range(4)))
    real = replace(train, groups=np.array(["big"] * 11 + ["b"] * 5 + ["c"] * 4))
    for allowed, patients in ((18, {"big", "b", "c"}), (19, {"b", "c"})):
        asked: list[set[str]] = []

        def remember(
            queries: Searched,
            base: Searched,
            *,
            other_groups: bool = False,
            heard: list[set[str]] = asked,
        ) -> Alignments:
            if other_groups:
                assert queries.groups is not None
                heard.append(set(queries.groups.tolist()))
            return best_alignments(
                queries.descriptors, base.descriptors, np.full((len(queries), 1), -1)
            )

        searching.verify(
            synthetic=train.subset(np.arange(2)),
            train=train.subset(np.arange(allowed)),
            real=real,
            real_fingerprints=np.array([str(row) for row in range(20)]),
            rng=np.random.default_rng(0),
            search=remember,
        )
        assert asked == [patients], "9 others are half of 18, not of 19"
