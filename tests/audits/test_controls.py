"""Controls against planted truth, hand-made curves and exchangeable groups."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from audits import AuditInputError, AuditResult, Estimate, PowerPoint, Tiles
from audits.controls import (
    PlantedScores,
    attack_minus_blind,
    blind_baseline,
    minimum_detectable,
    power_curve,
    split_half,
)
from audits.copying import tail_count

Floats = NDArray[np.float64]


def curve(
    synthetic: Floats,
    holdout: Floats,
    copies: Floats,
    *,
    proven: bool = False,
    fractions: Sequence[float] = (0.01, 0.03, 0.1),
    significance: float = 0.05,
    patients: NDArray[np.str_] | None = None,
    own: Floats | None = None,
    sources: NDArray[np.intp] | None = None,
    seed: int = 0,
) -> tuple[PowerPoint, ...]:
    count = len(copies)
    return power_curve(
        synthetic,
        holdout,
        holdout if own is None else own,
        {
            "exact": PlantedScores(
                ratio=copies,
                sources=np.arange(count) if sources is None else sources,
                proven=np.full(count, proven),
                patients=np.arange(count).astype(np.str_) if patients is None else patients,
            )
        },
        fractions=fractions,
        significance=significance,
        rng=np.random.default_rng(seed),
    )


class TestPowerCurve:
    def test_a_proven_copy_is_found_every_time(self, rng: np.random.Generator) -> None:
        points = curve(rng.random(300) + 1, rng.random(300) + 1, rng.random(50) + 1, proven=True)
        assert [point.power.value for point in points] == [1.0, 1.0, 1.0]
        assert [point.copies for point in points] == [3, 9, 30]
        assert points[0].fraction == 0.01

    def test_copies_as_far_as_holdout_tiles_are_not_found_beyond_the_significance(
        self, few_draws: Callable[[int], None]
    ) -> None:
        few_draws(40)
        rng = np.random.default_rng(5)
        power = [
            curve(rng.random(200), rng.random(200), rng.random(200), fractions=(0.1,), seed=run)[0]
            for run in range(150)
        ]
        mean = np.mean([point.power.value for point in power])
        assert mean < 0.06

    def test_copies_no_closer_than_the_patients_own_tiles_are_not_found(
        self, rng: np.random.Generator
    ) -> None:
        """Against the holdout alone they would be: the within-patient control has the last word."""
        synthetic, holdout = rng.random(400) + 2, rng.random(400) + 2
        copies, close, far = 1 + 0.1 * rng.random(50), rng.random(400) + 1, rng.random(400) + 2
        hidden = curve(synthetic, holdout, copies, own=close - 0.2, fractions=(0.1,))
        seen = curve(synthetic, holdout, copies, own=far, fractions=(0.1,))
        assert (hidden[0].power.value, seen[0].power.value) == (0.0, 1.0)

    def test_copies_already_there_lend_the_planted_ones_no_power(
        self, rng: np.random.Generator
    ) -> None:
        """30 undetected or detected copies in the set must not make far ones visible."""
        holdout = 1 + rng.random(300)
        innocent, leaking = 1 + rng.random(300), 1 + rng.random(300)
        leaking[:30] = 0.0
        far, near = np.full(50, 9.0), np.zeros(50)
        shares = (0.01, 0.02, 0.03, 0.1)
        for copies in (far, near):
            clean = [p.power.value for p in curve(innocent, holdout, copies, fractions=shares)]
            dirty = [p.power.value for p in curve(leaking, holdout, copies, fractions=shares)]
            assert all(b <= a + 0.1 for a, b in zip(clean, dirty, strict=True)) or copies is near
        assert max(p.power.value for p in curve(leaking, holdout, far, fractions=shares)) == 0.0

    def test_repeats_of_one_train_tile_count_once_within_patients(
        self, rng: np.random.Generator
    ) -> None:
        synthetic, holdout = 1 + rng.random(300), 1 + rng.random(300)
        copies = np.zeros(50)
        one = curve(synthetic, holdout, copies, sources=np.zeros(50, dtype=np.intp))
        many = curve(synthetic, holdout, copies)
        assert one[-1].power.value == 0.0
        assert many[-1].power.value == 1.0

    def test_power_grows_with_the_share_and_with_closeness(self, rng: np.random.Generator) -> None:
        synthetic, holdout = rng.random(400) + 1, rng.random(400) + 1
        shares = (0.005, 0.01, 0.02, 0.05, 0.1)
        near = curve(synthetic, holdout, 1 + 0.01 * rng.random(100), fractions=shares)
        far = curve(synthetic, holdout, 1 + 0.1 * rng.random(100), fractions=shares)
        for points in (near, far):
            power = [point.power.value for point in points]
            assert all(b >= a - 0.06 for a, b in itertools.pairwise(power))
        assert near[-1].power.value == 1.0
        assert sum(p.power.value for p in near) > sum(p.power.value for p in far)

    def test_found_means_what_the_registered_test_would_have_said(
        self, rng: np.random.Generator, few_draws: Callable[[int], None]
    ) -> None:
        """Every synthetic tile replaced: the curve must agree with the test on the copies alone."""
        few_draws(1)
        for seed in range(30):
            draw = np.random.default_rng(seed)
            holdout, level = draw.random(150), 0.3
            copies = np.full(60, draw.random() * 0.04)
            (point,) = curve(draw.random(60), holdout, copies, fractions=(1.0,), significance=level)
            test = tail_count("x", copies, holdout, holdout_patients=np.array(["p"] * 150))
            assert test.p_value is not None
            assert point.power.value == float(test.p_value <= level)

    def test_shares_too_small_for_one_tile_plant_one_tile(self, rng: np.random.Generator) -> None:
        points = curve(rng.random(20), rng.random(50), np.zeros(5), fractions=(0.001, 0.01, 0.1))
        assert [point.copies for point in points] == [1, 2]

    def test_patients_are_drawn_before_tiles(self, few_draws: Callable[[int], None]) -> None:
        """One patient has 99 invisible copies, one has a single perfect one: half are found."""
        few_draws(2000)
        rng = np.random.default_rng(3)
        copies = np.concatenate([np.zeros(1), np.full(99, 5.0)])
        patients = np.array(["a"] + ["b"] * 99)
        (point,) = power_curve(
            rng.random(50) + 1,
            rng.random(50) + 1,
            rng.random(50) + 1,
            {
                "exact": PlantedScores(
                    ratio=copies,
                    sources=np.arange(100),
                    proven=copies == 0,
                    patients=patients,
                )
            },
            fractions=(0.02,),
            significance=0.001,
            rng=rng,
        )
        assert point.power.value == pytest.approx(0.5, abs=0.05)
        assert point.power.low is not None
        assert point.power.high is not None
        assert point.power.low < point.power.value < point.power.high


def points(kind: str, power: dict[float, float]) -> list[PowerPoint]:
    return [
        PowerPoint(
            kind=kind,
            fraction=share,
            copies=int(share * 1000),
            power=Estimate(value=value, low=0.0, high=1.0, n=400, unit="draw"),
        )
        for share, value in power.items()
    ]


class TestMinimumDetectable:
    @pytest.mark.parametrize(
        ("power", "expected"),
        [
            ({0.01: 0.1, 0.03: 0.85, 0.1: 1.0}, 0.03),
            ({0.01: 0.8, 0.03: 0.9, 0.1: 1.0}, 0.01),
            ({0.01: 0.9, 0.03: 0.7, 0.1: 1.0}, 0.1),  # one lucky simulation does not set it
            ({0.01: 0.9, 0.03: 0.9, 0.1: 0.79}, None),
            ({0.1: 1.0, 0.01: 0.2}, 0.1),
        ],
    )
    def test_smallest_share_from_which_on_power_is_80_percent(
        self, power: dict[float, float], expected: float | None
    ) -> None:
        assert minimum_detectable(points("exact", power)) == {"exact": expected}

    def test_kinds_are_judged_apart(self) -> None:
        both = points("exact", {0.01: 1.0}) + points("stain", {0.01: 0.3, 0.03: 0.9})
        assert minimum_detectable(both) == {"exact": 0.01, "stain": 0.03}
        assert minimum_detectable(both, power=0.95) == {"exact": 0.01, "stain": None}


class TestSplitHalf:
    def test_centres_on_a_half_with_the_spread_of_chance(self, rng: np.random.Generator) -> None:
        patients = np.repeat(np.arange(12), 10).astype(np.str_)
        values = np.repeat(rng.normal(size=12), 10) + 0.1 * rng.normal(size=120)
        result = split_half("control/x", values, patients, rng)
        e = result.statistic
        assert e.low is not None
        assert e.high is not None
        assert e.value == pytest.approx(0.5, abs=0.03)
        # the Mann-Whitney U of 6 + 6 has sd sqrt(36 * 13 / 12) / 36 = .173
        assert e.high - e.low == pytest.approx(2 * 1.96 * 0.173, abs=0.12)
        assert (e.n, result.harm, result.p_value) == (12, None, None)

    def test_needs_four_patients(self, rng: np.random.Generator) -> None:
        with pytest.raises(AuditInputError, match="4 patients: got 3"):
            split_half("control/x", np.arange(6.0), np.array(list("aabbcc")), rng)


def two_sides(
    rng: np.random.Generator, offset: float, *, patients: int = 8, tiles: int = 12, width: int = 6
) -> tuple[Tiles, Tiles]:
    sides = []
    for name, shift in (("train", 0.0), ("holdout", offset)):
        owner = np.repeat(np.arange(patients), tiles)
        x = rng.normal(size=(patients, width))[owner] + rng.normal(size=(len(owner), width)) + shift
        sides.append(Tiles(name, x, patients=np.char.add(name, owner.astype(np.str_))))
    return sides[0], sides[1]


class TestBlindBaseline:
    def test_is_about_a_half_between_exchangeable_patients_and_seldom_fires(self) -> None:
        results = [
            blind_baseline(*two_sides(np.random.default_rng(run), 0.0), np.random.default_rng(run))
            for run in range(20)
        ]
        assert np.mean([r.statistic.value for r in results]) == pytest.approx(0.5, abs=0.1)
        fired = [r.statistic.low is not None and r.statistic.low > 0.5 for r in results]
        assert np.mean(fired) <= 0.15

    def test_finds_an_offset_between_train_and_holdout(self, rng: np.random.Generator) -> None:
        result = blind_baseline(*two_sides(rng, 2.5), rng)
        assert result.statistic.low is not None
        assert result.statistic.value > 0.9
        assert result.statistic.low > 0.5
        assert result.name == "control/blind_baseline"
        assert result.harm is None

    def test_finds_groups_that_differ_in_spread_alone(self, rng: np.random.Generator) -> None:
        owner = np.repeat(np.arange(20), 20).astype(np.str_)
        train, wider = (
            Tiles(name, spread * rng.normal(size=(400, 16)), patients=np.char.add(name, owner))
            for name, spread in (("train", 1.0), ("holdout", 1.15))
        )
        result = blind_baseline(train, wider, rng)
        assert result.p_value is not None
        assert result.p_value <= 0.005

    @pytest.mark.parametrize("sizes", [(8, 8), (4, 12)])
    def test_p_is_exact_where_permuted_scores_reject_too_often(
        self, sizes: tuple[int, int]
    ) -> None:
        rejected = []
        for run in range(200):
            rng = np.random.default_rng(run)
            train, _ = two_sides(rng, 0.0, patients=sizes[0])
            _, holdout = two_sides(rng, 0.0, patients=sizes[1])
            p = blind_baseline(train, holdout, rng).p_value
            assert p is not None
            rejected.append(p <= 0.05)
        assert np.mean(rejected) <= 0.09

    def test_never_scores_a_patient_with_a_model_that_saw_that_patient(self) -> None:
        """Patients are unmistakable but sides are exchangeable: leaking patients would give 1."""
        values = []
        for run in range(10):
            rng = np.random.default_rng(run)
            train, holdout = two_sides(rng, 0.0, patients=6, tiles=10, width=40)
            values.append(blind_baseline(train, holdout, rng).statistic.value)
        assert abs(np.mean(values) - 0.5) < 0.15

    @pytest.mark.parametrize("sizes", [(1, 1), (1000, 1), (1, 1, 1000), (2, 400, 1, 1)])
    def test_odd_patient_sizes_are_judged(
        self, rng: np.random.Generator, sizes: tuple[int, ...]
    ) -> None:
        owner = np.repeat(np.arange(len(sizes)), sizes).astype(np.str_)
        train, holdout = (
            Tiles(name, rng.normal(size=(len(owner), 3)), patients=np.char.add(name, owner))
            for name in ("train", "holdout")
        )
        assert 0 <= blind_baseline(train, holdout, rng).statistic.value <= 1

    def test_constant_features_are_judged_as_chance(self, rng: np.random.Generator) -> None:
        train, holdout = (
            Tiles(name, np.ones((6, 2)), patients=[f"{name}{i // 2}" for i in range(6)])
            for name in ("train", "holdout")
        )
        assert 0 <= blind_baseline(train, holdout, rng).statistic.value <= 1

    def test_needs_two_patients_a_side(self, rng: np.random.Generator) -> None:
        one = Tiles("train", rng.normal(size=(4, 2)), patients=["a"] * 4)
        with pytest.raises(AuditInputError, match="2 patients per side"):
            blind_baseline(one, Tiles("holdout", rng.normal(size=(4, 2))), rng)


class TestAttackMinusBlind:
    def result(self, value: float, low: float, high: float) -> AuditResult:
        estimate = Estimate(value=value, low=low, high=high, n=20, unit="patient")
        return AuditResult(name="x", harm=None, statistic=estimate)

    def test_difference_and_square_and_add_interval_by_hand(self) -> None:
        e = attack_minus_blind(self.result(0.8, 0.5, 0.9), self.result(0.7, 0.66, 1.1)).statistic
        assert e.low is not None
        assert e.high is not None
        assert e.value == pytest.approx(0.1)
        assert e.low == pytest.approx(0.1 - 0.5)
        assert e.high == pytest.approx(0.1 + math.hypot(0.1, 0.04))
