"""Suspects: who is chosen, why, beside which train tile, and how often chance does as well."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from audits import Aligned, AuditData, AuditResult, Tiles
from audits.copy_evidence import proofs, score_copies
from audits.proof import CHANCE_INLIERS, INLIER_DECADES, MIN_SCORE, MIN_STRENGTH, joint_score
from privgen.copysearch.searching import search
from privgen.data.phantom import make_phantom
from privgen.data.tileset import TileSet
from privgen.encoders.loading import Encoder
from privgen.evidence.collect import Evidence, collect
from privgen.evidence.copy_kinds import plant
from privgen.evidence.suspects import MOST, Reason, Suspects, choose, frame, warped

TURNED, EQUAL, MIRRORED = 3, 5, 7
SOURCES = {TURNED: 17, EQUAL: 30, MIRRORED: 41}


@dataclass(frozen=True)
class Case:
    """Phantom tiles with three copies planted among the synthetic ones, and what was collected."""

    train: NDArray[np.uint8]
    synthetic: NDArray[np.uint8]
    evidence: Evidence
    proof: AuditResult

    def choose(self, **options: Any) -> Suspects:
        return choose(self.evidence, self.proof, score_copies(self.evidence.data), **options)

    @property
    def scores(self) -> NDArray[np.float64]:
        assert self.evidence.data.alignment is not None
        found = self.evidence.data.alignment.synthetic
        return joint_score(found.inliers, found.strength)


@pytest.fixture(scope="module")
def case(pixels: Encoder) -> Case:
    tiles = make_phantom(
        patients=15, tiles_per_patient=8, side=64, classes=("LYM", "MUS", "NORM", "STR", "TUM")
    )
    train, holdout, new = (
        tiles.subset(range(start, stop)) for start, stop in ((0, 64), (64, 104), (104, 120))
    )
    originals, synthetic = train.load(), new.load().copy()
    rng = np.random.default_rng(0)
    for row, kind in ((TURNED, "odd_rotation"), (EQUAL, "exact"), (MIRRORED, "mirror_stain")):
        synthetic[row] = plant(kind, originals[[SOURCES[row]]], rng)[0]
    evidence = collect(
        train=train,
        holdout=holdout,
        synthetic=TileSet.from_arrays(synthetic, new.labels),
        encoder=pixels,
        seed=0,
        search=search,
        planted_per_kind=1,
    )
    found = proofs(evidence.data, np.random.default_rng(0))
    return Case(originals, synthetic, evidence, found[-1])


@pytest.fixture
def revised(case: Case) -> Callable[..., Case]:
    """`revised(null=..., details=...)` is the case with other alignments or thresholds."""

    def change(
        *, null: Aligned | None = None, twice: list[bool] | None = None, **other: Any
    ) -> Case:
        data, proof = case.evidence.data, case.proof
        assert data.alignment is not None
        alignment = data.alignment
        if null is not None:
            alignment = replace(alignment, null=null, null_duplicates=np.array(twice))
        if "synthetic" in other:
            alignment = replace(alignment, synthetic=other["synthetic"])
        data = replace(data, alignment=alignment, holdout=other.get("holdout", data.holdout))
        proof = replace(proof, details={**proof.details, **other.get("details", {})})
        proof = replace(proof, rejected=other.get("rejected", proof.rejected))
        return replace(case, evidence=replace(case.evidence, data=data), proof=proof)

    return change


def likeness(a: NDArray[np.uint8], b: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """Correlation of the grey values of two tiles inside a mask."""
    return float(np.corrcoef(a.mean(axis=2)[mask], b.mean(axis=2)[mask])[0, 1])


def reach(transform: NDArray[np.float64], side: int) -> NDArray[np.bool_]:
    """Pixels of the synthetic tile that a train tile covers, found by mapping each of them."""
    y, x = np.mgrid[:side, :side]
    places = np.stack([x, y], axis=-1) @ transform[:, :2].T + transform[:, 2]
    return np.asarray(((places >= 0) & (places <= side - 1)).all(axis=-1))


def test_planted_copies_are_proven_come_first_and_name_their_source(case: Case) -> None:
    found = case.choose()
    first = found.chosen[:3]
    assert all(suspect.proven and suspect.reasons[0] is Reason.ALIGNED for suspect in first)
    assert {suspect.synthetic: suspect.train for suspect in first} == SOURCES
    assert [suspect.score for suspect in first] == sorted(
        (suspect.score for suspect in first), reverse=True
    )
    assert not any(suspect.proven for suspect in found.chosen[3:])
    assert found.counts[Reason.ALIGNED] == 3 == found.proof.details["proven"]


def test_equal_pixels_are_a_second_reason_of_one_copy_alone(case: Case) -> None:
    equal = [s.synthetic for s in case.choose().chosen if Reason.EQUAL in s.reasons]
    assert equal == [EQUAL]
    assert case.choose().counts[Reason.EQUAL] == 1


def test_what_is_shown_is_what_was_judged(case: Case) -> None:
    assert case.evidence.data.alignment is not None
    judged = case.evidence.data.alignment.synthetic
    for suspect in case.choose().chosen[:3]:
        row = suspect.synthetic
        assert (suspect.inliers, suspect.strength) == (judged.inliers[row], judged.strength[row])
        assert suspect.score == case.scores[row]
        assert len(suspect.points) == len(suspect.targets) >= suspect.inliers
        moved = suspect.points @ suspect.transform[:, :2].T + suspect.transform[:, 2]
        assert np.linalg.norm(moved - suspect.targets, axis=1).max() < 0.02 * 64


@pytest.mark.parametrize("row", SOURCES)
def test_the_warped_source_looks_like_the_copy_and_no_other_tile_does(case: Case, row: int) -> None:
    suspect = next(s for s in case.choose().chosen if s.synthetic == row)
    mask = reach(suspect.transform, 64)
    assert mask.mean() > 0.6
    ours = case.synthetic[row]
    assert likeness(ours, warped(case.train[suspect.train], suspect.transform), mask) > 0.9
    others = [t for t in range(0, 64, 5) if t != suspect.train]
    alike = [likeness(ours, warped(case.train[t], suspect.transform), mask) for t in others]
    assert max(alike) < 0.6


def test_the_frame_is_where_the_corners_of_the_train_tile_come_to_lie() -> None:
    half = np.array([[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]])
    corners = frame(half, 64)
    assert corners == pytest.approx(np.array([[-1, -1], [127, -1], [127, 127], [-1, 127]]))


def test_the_list_is_filled_up_with_the_next_nearest_and_no_longer_than_asked(case: Case) -> None:
    found = case.choose(most=7)
    assert len(found.chosen) == 7
    assert len({suspect.synthetic for suspect in found.chosen}) == 7
    rest = [s for s in found.chosen if s.reasons == (Reason.NEXT,)]
    assert rest
    assert all(suspect.train == suspect.nearest for suspect in rest)
    every = [suspect.synthetic for suspect in case.choose().chosen]
    assert [suspect.synthetic for suspect in found.chosen] == every[:7]
    assert len(every) == 16 < MOST


def test_a_distance_is_ranked_among_the_holdouts_own(case: Case) -> None:
    data = case.evidence.data
    gaps = data.holdout.embeddings[:, None].astype(float) - data.train.embeddings[None]
    holdout = np.linalg.norm(gaps, axis=2).min(axis=1)
    found = case.choose()
    assert np.sort(found.holdout) == pytest.approx(np.sort(holdout), rel=1e-5)
    for suspect in found.chosen:
        own = data.synthetic.embeddings[suspect.synthetic].astype(float) - data.train.embeddings
        assert suspect.distance == pytest.approx(np.linalg.norm(own, axis=1).min(), abs=1e-4)
        assert suspect.nearest == np.linalg.norm(own, axis=1).argmin()
        assert suspect.beaten == (found.holdout > suspect.distance).sum()


def test_the_phantom_rate_counts_searched_null_tiles_with_at_least_the_score(
    case: Case, revised: Callable[..., Case]
) -> None:
    """Null tiles that show another patient's tissue are no chance, and not counted."""
    row = next(s for s in case.choose().chosen if s.reasons == (Reason.NEXT,)).synthetic
    best = next(s for s in case.choose().chosen if s.synthetic == row)
    at = float(np.sqrt(2 * np.log(10) * best.score))  # the strength that makes this score alone
    null = Aligned(
        inliers=np.array([0, 0, 0, 0, 0, 0, 90]),
        strength=np.array([0.0, at - 1e-6, at + 1e-6, at + 1e-3, at + 1, at + 1, 20.0]),
        marked=np.zeros(7),
        featureless=np.array([False, False, False, False, True, False, False]),
    )
    twice = [False, False, False, False, False, True, False]
    found = revised(null=null, twice=twice).choose()
    suspect = next(s for s in found.chosen if s.synthetic == row)
    assert 0 < best.score < MIN_SCORE
    assert (suspect.phantoms, found.null_tiles) == (2, 4)


def test_chance_is_read_off_the_fitted_tail(case: Case, revised: Callable[..., Case]) -> None:
    best = float(case.scores[MIRRORED])
    tail = {"tail_exceedances": 30, "null_scores": 300, "tail_shape": 0.0, "tail_scale": 2.0}

    def chance(threshold: float, **other: Any) -> float | None:
        changed = revised(details={**tail, "tail_threshold": threshold}, **other)
        return next(s for s in changed.choose().chosen if s.synthetic == MIRRORED).chance

    assert chance(best - 1) == pytest.approx(0.1 * np.exp(-1 / 2), rel=1e-6)
    assert chance(best - 5) == pytest.approx(0.1 * np.exp(-5 / 2), rel=1e-6)
    assert chance(best) is None
    assert chance(best - 5, rejected=None) is None


def test_a_proof_reaches_the_needed_score(case: Case, revised: Callable[..., Case]) -> None:
    """Raising the threshold by the least amount takes the proof away."""
    best = float(case.scores[TURNED])

    def reason(needed: float) -> Reason:
        found = revised(details={"needed_score": needed}).choose().chosen
        return next(s for s in found if s.synthetic == TURNED).reasons[0]

    assert reason(best) is Reason.ALIGNED
    assert reason(np.nextafter(best, np.inf)) is Reason.CLOSE_FIT


def test_where_no_proof_was_possible_nothing_is_called_proven_by_alignment(
    revised: Callable[..., Case],
) -> None:
    found = revised(rejected=None).choose()
    assert found.counts[Reason.ALIGNED] == 0
    assert found.counts[Reason.CLOSE_FIT] == 3
    by_row = {suspect.synthetic: suspect for suspect in found.chosen}
    assert by_row[EQUAL].reasons[:2] == (Reason.EQUAL, Reason.CLOSE_FIT)
    assert found.chosen[0].synthetic == EQUAL
    assert by_row[TURNED].reasons[0] is Reason.CLOSE_FIT
    assert not by_row[TURNED].proven
    assert {row: by_row[row].train for row in SOURCES} == SOURCES


@pytest.mark.parametrize(
    ("inliers", "strength", "close"),
    [
        (int(np.ceil(CHANCE_INLIERS + MIN_SCORE / INLIER_DECADES)), MIN_STRENGTH, True),
        (0, np.sqrt(2 * np.log(10) * MIN_SCORE) + 1e-6, True),
        (0, np.sqrt(2 * np.log(10) * MIN_SCORE) - 1e-6, False),
        (500, MIN_STRENGTH - 1e-6, False),
    ],
)
def test_an_alignment_is_close_above_the_fixed_floors(
    case: Case, revised: Callable[..., Case], inliers: int, strength: float, close: bool
) -> None:
    count = len(case.synthetic)
    synthetic = Aligned(
        inliers=np.where(np.arange(count) == TURNED, inliers, 0),
        strength=np.where(np.arange(count) == TURNED, strength, 0.0),
        marked=np.zeros(count),
        featureless=np.zeros(count, dtype=np.bool_),
    )
    found = revised(synthetic=synthetic, rejected=None).choose()
    assert found.counts[Reason.CLOSE_FIT] == int(close)


def test_a_featureless_tile_that_aligns_is_a_suspect_all_the_same(
    case: Case, revised: Callable[..., Case]
) -> None:
    """Too blurred for key points, it cannot be cleared, but it can be proven."""
    assert case.evidence.data.alignment is not None
    before = case.evidence.data.alignment.synthetic
    blank = replace(before, featureless=np.ones(len(case.synthetic), dtype=np.bool_))
    found = revised(synthetic=blank).choose()
    assert found.counts[Reason.ALIGNED] == 3


def test_the_tail_lies_strictly_below_the_holdouts_smallest(
    case: Case, revised: Callable[..., Case]
) -> None:
    """A holdout tile just as near as the mirrored copy takes it out of the tail."""
    data = case.evidence.data
    assert any(s.synthetic == MIRRORED and Reason.TAIL in s.reasons for s in case.choose().chosen)
    embeddings = data.holdout.embeddings.copy()
    embeddings[0] = data.synthetic.embeddings[MIRRORED]
    equal = Tiles(
        "holdout",
        embeddings,
        labels=data.holdout.labels,
        patients=data.holdout.patients,
        fingerprints=data.holdout.fingerprints,
    )
    found = revised(holdout=equal).choose()
    assert not any(s.synthetic == MIRRORED and Reason.TAIL in s.reasons for s in found.chosen)


def test_a_blank_tile_is_never_a_suspect_for_resembling_blank_tiles(case: Case) -> None:
    data = case.evidence.data
    assert data.synthetic.fingerprints is not None
    prints = data.synthetic.fingerprints.copy()
    prints[[EQUAL, 0]] = ""
    blank = Tiles("synthetic", data.synthetic.embeddings, fingerprints=prints)
    changed: AuditData = replace(data, synthetic=blank)
    found = replace(case, evidence=replace(case.evidence, data=changed)).choose()
    by_row = {suspect.synthetic: suspect for suspect in found.chosen}
    assert 0 not in by_row
    assert by_row[EQUAL].reasons == (Reason.ALIGNED,)


def test_only_an_alignment_whose_tissue_agrees_is_worth_a_warp(case: Case) -> None:
    suspect = case.choose().chosen[0]
    assert suspect.fits
    assert replace(suspect, inliers=0).fits, "a whole picture that agrees has no key points"
    assert replace(suspect, strength=MIN_STRENGTH).fits
    assert not replace(suspect, strength=MIN_STRENGTH - 1e-9).fits
