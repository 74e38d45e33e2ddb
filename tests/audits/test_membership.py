"""Patient scores and both arms: enumeration, known answers and simulated nulls."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from audits import AuditInputError, Harm
from audits.membership import (
    draw_size,
    has_enough,
    intra_patient_correlation,
    patient_draws,
    patient_membership,
    patient_scores,
    tile_membership,
)
from audits.permutation import auroc
from audits.results import AuditResult

Floats = NDArray[np.float64]
Strings = NDArray[np.str_]


def owners(patients: int, tiles: int) -> Strings:
    return np.repeat(np.arange(patients), tiles).astype(np.str_)


def clustered(
    rng: np.random.Generator, patients: int, tiles: int, correlation: float
) -> NDArray[np.float64]:
    effect = np.repeat(rng.normal(size=patients), tiles)
    noise = rng.normal(size=patients * tiles)
    scores: Floats = np.sqrt(correlation) * effect + np.sqrt(1 - correlation) * noise
    return scores


def patient_arm(members: Floats, others: Floats, tiles: int, seed: int = 0) -> AuditResult:
    return patient_membership(
        "patient_membership",
        members,
        others,
        member_patients=owners(len(members) // tiles, tiles),
        nonmember_patients=owners(len(others) // tiles, tiles),
        rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize(
    ("own", "tiles", "top"),
    [(7, 4, 2), (7, 7, 5), (6, 1, 5), (5, 3, 5), (8, 6, 5), (1, 1, 5), (4, 2, 1)],
)
def test_patient_score_is_the_mean_over_all_subsets_of_their_highest(
    rng: np.random.Generator, own: int, tiles: int, top: int
) -> None:
    scores = np.round(rng.normal(size=own), 1)
    expected = np.mean([np.sort(draw)[::-1][:top].mean() for draw in combinations(scores, tiles)])
    names, got = patient_scores(scores, np.full(own, "p"), tiles=tiles, top=top)
    assert names.tolist() == ["p"]
    assert got == pytest.approx([expected])


def test_patient_scores_keep_patients_apart_and_in_the_order_of_their_names() -> None:
    scores, patients = np.array([1.0, 10.0, 3.0, 30.0]), np.array(["b", "a", "b", "a"])
    names, got = patient_scores(scores, patients, tiles=2, top=5)
    assert names.tolist() == ["a", "b"]
    assert got.tolist() == [20.0, 2.0]


def test_more_tiles_give_a_patient_no_advantage() -> None:
    """The plain mean of the 5 highest would call every large patient a member."""
    rng = np.random.default_rng(2)
    many, few = rng.normal(size=40 * 200), rng.normal(size=40 * 10)
    _, large = patient_scores(many, owners(40, 200), tiles=10)
    _, small = patient_scores(few, owners(40, 10), tiles=10)
    naive = np.sort(many.reshape(40, 200), axis=1)[:, -5:].mean(axis=1)
    assert auroc(naive, small) > 0.99
    assert abs(large.mean() - small.mean()) < 4 * small.std() / np.sqrt(40)


def test_a_draw_larger_than_a_patient_is_an_error() -> None:
    with pytest.raises(AuditInputError, match="2 tiles, fewer than 3"):
        patient_scores(np.ones(2), np.array(["a", "a"]), tiles=3)


def test_draw_size_is_what_four_in_five_patients_of_every_group_have() -> None:
    uneven = np.repeat(list("abcdefghij"), [1, 2, 9, 9, 9, 9, 9, 9, 9, 9])
    assert draw_size(uneven) == 9
    assert draw_size(uneven, owners(3, 4)) == 4
    assert draw_size(np.array(["x", "x", "y"])) == 1
    assert has_enough(np.array(["x", "y", "x"]), 2).tolist() == [True, False, True]
    assert has_enough(np.array(["x", "y", "x"]), 1).all()


@pytest.mark.parametrize(("own", "tiles", "top"), [(6, 3, 2), (6, 1, 5), (4, 4, 2), (1, 1, 5)])
def test_patient_draws_are_uniform_subsets_without_repetition(
    rng: np.random.Generator, own: int, tiles: int, top: int
) -> None:
    scores = rng.normal(size=own)
    got = patient_draws(scores, np.full(own, "p"), rng, tiles=tiles, draws=6000, top=top)[:, 0]
    every = [np.sort(draw)[::-1][:top].mean() for draw in combinations(scores, tiles)]
    values, counts = np.unique(np.round(got, 9), return_counts=True)
    expected, ways = np.unique(np.round(every, 9), return_counts=True)
    np.testing.assert_array_equal(values, expected)
    assert stats.chisquare(counts, ways / len(every) * 6000).pvalue > 1e-4 or len(values) == 1


class TestIntraPatientCorrelation:
    def test_known_answer(self) -> None:
        """Pairs (1,2) (3,4) (5,6): between 8, within .5, so (8 - .5) / (8 + .5)."""
        got = intra_patient_correlation(np.arange(1.0, 7.0), owners(3, 2))
        assert got == pytest.approx(7.5 / 8.5)

    def test_limits(self, rng: np.random.Generator) -> None:
        assert intra_patient_correlation(np.repeat([1.0, 2.0, 3.0], 4), owners(3, 4)) == 1.0
        assert intra_patient_correlation(np.tile([1.0, 2.0], 3), owners(3, 2)) == 0.0
        assert intra_patient_correlation(rng.normal(size=6), owners(1, 6)) == 0.0
        assert intra_patient_correlation(rng.normal(size=6), owners(6, 1)) == 0.0
        assert intra_patient_correlation(np.ones(6), owners(3, 2)) == 0.0

    def test_recovers_the_correlation_it_was_made_with_also_for_uneven_patients(self) -> None:
        rng = np.random.default_rng(6)
        sizes = rng.integers(5, 80, size=400)
        patients = np.repeat(np.arange(400), sizes)
        scores = np.sqrt(0.3) * rng.normal(size=400)[patients]
        scores += np.sqrt(0.7) * rng.normal(size=len(patients))
        assert intra_patient_correlation(scores, patients.astype(np.str_)) == pytest.approx(
            0.3, abs=0.04
        )


class TestPatientArm:
    def test_a_leaking_set_is_found_with_certainty(self) -> None:
        rng = np.random.default_rng(1)
        result = patient_arm(rng.normal(size=80) + 50, rng.normal(size=80), tiles=10)
        e = result.statistic
        assert (e.value, e.high) == (1.0, 1.0)
        assert e.low is not None
        assert e.low > 0.7
        assert result.p_value is not None
        assert result.p_value < 1e-3
        assert (e.n, e.unit, result.harm) == (16, "patient", Harm.PATIENT_MEMBERSHIP)

    def test_statistic_is_the_auroc_of_patient_scores(self) -> None:
        rng = np.random.default_rng(4)
        members, others = clustered(rng, 6, 9, 0.3) + 0.4, clustered(rng, 7, 9, 0.3)
        ours = np.sort(members.reshape(6, 9), axis=1)[:, -5:].mean(axis=1)
        theirs = np.sort(others.reshape(7, 9), axis=1)[:, -5:].mean(axis=1)
        result = patient_arm(members, others, tiles=9)
        assert result.statistic.value == pytest.approx(auroc(ours, theirs))
        assert result.details["tile_auroc"] == pytest.approx(auroc(members, others))
        exact = stats.mannwhitneyu(ours, theirs, alternative="greater", method="exact").pvalue
        assert result.p_value == pytest.approx(exact, abs=0.02)

    @pytest.mark.parametrize("correlation", [0.0, 0.3])
    def test_rejects_at_its_level_whatever_the_intra_patient_correlation(
        self, correlation: float
    ) -> None:
        """8 + 8 patients; the tile-level test would reject far too often at .3."""
        rng = np.random.default_rng(17)
        p, tile_p = np.empty(300), np.empty(300)
        for run in range(300):
            members, others = (clustered(rng, 8, 20, correlation) for _ in range(2))
            result = patient_arm(members, others, tiles=20, seed=run)
            p[run] = result.p_value
            tile_p[run] = stats.mannwhitneyu(members, others, alternative="greater").pvalue
        assert 0.02 <= (p <= 0.05).mean() <= 0.08
        assert ((tile_p <= 0.05).mean() > 0.15) == (correlation > 0)

    @pytest.mark.parametrize(("ours", "theirs"), [(2, 20), (20, 2)])
    def test_rejects_at_its_level_when_one_side_has_many_more_tiles(
        self, ours: int, theirs: int
    ) -> None:
        """30 + 30 patients, scores skewed as distances are: expected scores reject too often."""
        rng = np.random.default_rng(23)
        p, expected, auc = np.empty(120), np.empty(120), np.empty(120)
        for run in range(120):
            members, others = (-rng.gamma(2.0, size=30 * tiles) for tiles in (ours, theirs))
            result = patient_membership(
                "x",
                members,
                others,
                member_patients=owners(30, ours),
                nonmember_patients=owners(30, theirs),
                rng=rng,
            )
            p[run], auc[run] = result.p_value, result.statistic.value
            _, one = patient_scores(members, owners(30, ours), tiles=2)
            _, two = patient_scores(others, owners(30, theirs), tiles=2)
            expected[run] = stats.mannwhitneyu(one, two, alternative="greater").pvalue
        assert (p <= 0.05).mean() <= 0.085
        assert abs(auc.mean() - 0.5) < 0.02
        if ours < theirs:
            assert (expected <= 0.05).mean() > 0.1

    def test_patients_with_a_single_tile_are_scored_where_they_are_many(self) -> None:
        rng = np.random.default_rng(9)
        patients = np.array(["a"] + ["b"] * 1000 + ["c"] * 3)
        result = patient_membership(
            "x",
            rng.normal(size=1004),
            rng.normal(size=1004),
            member_patients=patients,
            nonmember_patients=patients,
            rng=rng,
        )
        assert result.details["tiles_scored_a_patient"] == 1
        assert result.details["patients_with_too_few_tiles"] == 0
        assert 0 <= result.statistic.value <= 1
        assert result.p_value is not None
        assert result.p_value > 0.04

    def test_one_patient_with_one_tile_does_not_blind_the_attack_on_all_others(self) -> None:
        rng = np.random.default_rng(2)
        names = np.repeat(np.arange(20).astype(np.str_), 30)
        members, others = rng.normal(size=600), rng.normal(size=600)
        members[::30] += 6
        members[1::30] += 6

        def attacked(rows: NDArray[np.bool_]) -> AuditResult:
            return patient_membership(
                "x",
                members,
                others[rows],
                member_patients=names,
                nonmember_patients=names[rows],
                rng=np.random.default_rng(0),
            )

        whole = attacked(np.ones(600, dtype=np.bool_))
        cut = attacked((names != "0") | (np.arange(600) == 0))
        assert whole.statistic.value > 0.95
        assert cut.statistic.value == pytest.approx(whole.statistic.value, abs=0.02)
        assert cut.details["patients_with_too_few_tiles"] == 1
        assert cut.details["nonmember_patients"] == 19

    @pytest.mark.parametrize("icc", [0.0, 0.3])
    def test_level_holds_for_few_patients_with_few_tiles_against_many_with_many(
        self, icc: float
    ) -> None:
        """The plain rank sum of averaged draws rejected 20 % here at "5 %"."""
        rejected = []
        for seed in range(200):
            rng = np.random.default_rng(seed)
            result = patient_membership(
                "x",
                clustered(rng, 8, 2, icc),
                clustered(rng, 40, 60, icc),
                member_patients=owners(8, 2),
                nonmember_patients=owners(40, 60),
                rng=rng,
            )
            assert result.p_value is not None
            rejected.append(result.p_value <= 0.05)
        assert np.mean(rejected) <= 0.1

    def test_upper_bound_is_honest_at_five_patients_a_side(self) -> None:
        """A true AUROC of .6 may be excluded (bound below .6) in about 2.5 % of data sets."""
        rng = np.random.default_rng(31)
        shift = stats.norm.ppf(0.6) * np.sqrt(2)
        excluded = 0
        for run in range(300):
            result = patient_arm(rng.normal(size=5) + shift, rng.normal(size=5), 1, run)
            assert result.statistic.high is not None
            excluded += result.statistic.high < 0.6
        assert excluded / 300 <= 0.055

    def test_upper_end_is_never_below_the_exact_spread_at_one_half(
        self, rng: np.random.Generator
    ) -> None:
        """4 + 4 patients in one order have no bootstrap spread: AUROC 0, and still up to .54."""
        result = patient_membership(
            "x",
            np.arange(4.0),
            10 + np.arange(4.0),
            member_patients=np.array(list("abcd")),
            nonmember_patients=np.array(list("efgh")),
            rng=rng,
        )
        assert (result.statistic.value, result.statistic.low) == (0.0, 0.0)
        assert result.statistic.high == pytest.approx(1.95996 * np.sqrt(9 / (12 * 16)), rel=1e-4)

    def test_smallest_reachable_p_is_one_over_the_arrangements(self) -> None:
        rng = np.random.default_rng(0)
        result = patient_arm(rng.normal(size=3), rng.normal(size=4), tiles=1)
        assert result.details["smallest_p"] == pytest.approx(1 / 35)

    def test_one_patient_on_a_side_is_an_error(self) -> None:
        with pytest.raises(AuditInputError, match="2 patients per side: got 1 and 2"):
            patient_arm(np.arange(3.0), np.arange(6.0), tiles=3)


def tile_arm(
    train: Floats,
    siblings: Floats,
    train_slides: Strings,
    sibling_slides: Strings,
    seed: int = 0,
    patients: tuple[Strings, Strings] | None = None,
) -> AuditResult:
    train_patients, sibling_patients = patients or (train_slides, sibling_slides)
    return tile_membership(
        train,
        siblings,
        train_slides=train_slides,
        sibling_slides=sibling_slides,
        train_patients=train_patients,
        sibling_patients=sibling_patients,
        rng=np.random.default_rng(seed),
    )


class TestTileArm:
    def test_a_leaking_set_is_found_with_certainty(self) -> None:
        rng = np.random.default_rng(0)
        result = tile_arm(rng.random(80) + 5, rng.random(24), owners(8, 10), owners(8, 3))
        e = result.statistic
        assert (e.value, e.low, e.high, e.n) == (1.0, 1.0, 1.0, 8)
        assert result.p_value == 1e-4
        assert result.harm is Harm.TILE_MEMBERSHIP

    def test_compares_within_slides_only_by_hand(self) -> None:
        """Slide a: 2 wins of 2; slide b: 0 of 1; slide c has no sibling."""
        result = tile_arm(
            np.array([2.0, 3.0, 10.0, 99.0]),
            np.array([1.0, 11.0]),
            np.array(["a", "a", "b", "c"]),
            np.array(["a", "b"]),
        )
        assert result.statistic.value == pytest.approx(2 / 3)
        assert result.details["slides_compared"] == 2
        assert result.details["slides"] == 3
        assert result.details["smallest_p"] == pytest.approx(1 / 6)

    def test_slides_of_one_name_in_two_patients_are_two_slides(self) -> None:
        train_patients, sibling_patients = np.array(["p", "q"]), np.array(["p", "q"])
        result = tile_arm(
            np.array([1.0, 10.0]),
            np.array([0.0, 11.0]),
            np.array(["s", "s"]),
            np.array(["s", "s"]),
            patients=(train_patients, sibling_patients),
        )
        assert result.details["slides"] == 2
        assert result.statistic.value == 0.5

    @pytest.mark.parametrize("correlation", [0.0, 0.9])
    def test_rejects_at_its_level_under_strong_correlation(self, correlation: float) -> None:
        rng = np.random.default_rng(41)
        p = np.empty(300)
        for run in range(300):
            scores = clustered(rng, 8, 10, correlation).reshape(8, 10)
            scores = rng.permuted(scores, axis=1)
            p[run] = tile_arm(
                scores[:, 3:].ravel(), scores[:, :3].ravel(), owners(8, 7), owners(8, 3), run
            ).p_value
        assert 0.02 <= (p <= 0.05).mean() <= 0.08

    def test_interval_with_three_patients_still_covers(self) -> None:
        rng = np.random.default_rng(43)
        missed = 0
        for run in range(200):
            result = tile_arm(
                rng.normal(size=45) + 0.2, rng.normal(size=12), owners(3, 15), owners(3, 4), run
            )
            assert result.statistic.high is not None
            missed += result.statistic.high < stats.norm.cdf(0.2 / np.sqrt(2))
        assert missed / 200 <= 0.055

    def test_one_patient_gives_no_interval_to_rely_on(self) -> None:
        rng = np.random.default_rng(0)
        result = tile_arm(rng.random(30), rng.random(10), np.full(30, "a"), np.full(10, "a"))
        assert (result.statistic.low, result.statistic.high) == (0.0, 1.0)

    def test_no_shared_slide_is_an_error(self) -> None:
        with pytest.raises(AuditInputError, match="slides with both"):
            tile_arm(np.ones(2), np.ones(2), np.array(["a", "b"]), np.array(["c", "d"]))
