"""C_T, authenticity and DCR share against closed forms, published sweeps and planted truth."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.datasets import make_moons
from sklearn.neighbors import KernelDensity

import audits.averages
from audits import AuditInputError, Tiles
from audits.averages import (
    _paired_rows,
    _relabellings,
    authenticity,
    c_t,
    c_t_statistic,
    dcr_share,
    is_authentic,
    rank_z,
)
from audits.copying import CopyScores, copy_scores, own_copy_scores
from audits.neighbors import nearest

Floats = NDArray[np.float64]


@pytest.fixture
def few_relabellings(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda draws: monkeypatch.setattr(audits.averages, "DRAWS", draws)


def side(
    rng: np.random.Generator, name: str, *, patients: int = 8, tiles: int = 12, icc: float = 0.0
) -> Tiles:
    owner = np.repeat(np.arange(patients), tiles)
    x = np.sqrt(icc) * rng.normal(size=(patients, 8))[owner]
    x = x + np.sqrt(1 - icc) * rng.normal(size=(len(owner), 8))
    return Tiles(name, x, patients=np.char.add(name, owner.astype(np.str_)))


class TestRankZ:
    @pytest.mark.parametrize("levels", [5, 10_000])
    def test_equals_the_tie_corrected_mann_whitney_z(
        self, rng: np.random.Generator, levels: int
    ) -> None:
        a, b = (rng.integers(0, levels, n).astype(np.float64) for n in (70, 40))
        expected = stats.mannwhitneyu(
            a, b, alternative="less", method="asymptotic", use_continuity=False
        ).pvalue
        assert stats.norm.cdf(rank_z(a, b)) == pytest.approx(expected, rel=1e-9)

    def test_nearer_is_negative_and_constant_is_zero(self) -> None:
        assert rank_z(np.zeros(5), np.ones(5)) < -2 < 2 < rank_z(np.ones(5), np.zeros(5))
        assert rank_z(np.ones(4), np.ones(3)) == 0.0


class TestCT:
    def test_null_sd_of_three_equal_cells_is_one_over_root_three(
        self, rng: np.random.Generator
    ) -> None:
        cells = np.repeat(np.arange(3), 50)
        values = [
            c_t_statistic(
                rng.random(150), rng.random(150), synthetic_cells=cells, holdout_cells=cells
            )
            for _ in range(800)
        ]
        assert values[0].null_sd == pytest.approx(1 / np.sqrt(3))
        assert np.std([v.value for v in values]) == pytest.approx(0.577, rel=0.08)
        assert abs(np.mean([v.value for v in values])) < 0.08

    def test_weights_are_the_holdouts_and_lone_cells_drop_out(self) -> None:
        found = c_t_statistic(
            np.array([1.0, 1.0, 9.0]),
            np.array([2.0, 2.0, 2.0, 8.0]),
            synthetic_cells=np.array([0, 0, 1]),
            holdout_cells=np.array([0, 0, 0, 2]),
        )
        assert found.weights.tolist() == [1.0]
        assert found.value == rank_z(np.array([1.0, 1.0]), np.array([2.0, 2.0, 2.0]))

    def test_no_shared_cell_is_an_error(self) -> None:
        with pytest.raises(AuditInputError, match="both synthetic and holdout"):
            c_t_statistic(
                np.ones(2),
                np.ones(2),
                synthetic_cells=np.array([0, 0]),
                holdout_cells=np.array([1, 1]),
            )

    def test_moons_sweep_crosses_zero_at_the_likeliest_bandwidth(self) -> None:
        """A kernel density estimate of T copies T below, and underfits above, the best bandwidth.

        The published experiment: 75 bandwidths from 1e-3 to 10.
        """
        rng = np.random.default_rng(0)
        points, _ = make_moons(3000, noise=0.15, random_state=1)
        train, holdout = points[:2000].astype(np.float32), points[2000:].astype(np.float32)
        cells = KMeans(3, n_init=3, random_state=0).fit(np.concatenate([train, holdout]))
        widths = np.logspace(-3, 1, 75)
        own = nearest(holdout, train, k=1).distances[:, 0]
        values, likelihood = [], []
        for width in widths:
            made = (train[:1000] + width * rng.normal(size=(1000, 2))).astype(np.float32)
            found = c_t_statistic(
                nearest(made, train, k=1).distances[:, 0],
                own,
                synthetic_cells=cells.predict(made),
                holdout_cells=cells.predict(holdout),
            )
            values.append(found.value)
        coarse = widths[::3]
        likelihood = [
            KernelDensity(bandwidth=width, rtol=1e-4).fit(train).score(holdout) for width in coarse
        ]
        best = coarse[int(np.argmax(likelihood))]
        crossing = widths[int(np.argmax(np.array(values) > 0))]
        assert best / 3 < crossing < best * 3
        assert max(np.array(values)[widths < best / 10]) < -10
        assert min(np.array(values)[widths > best * 10]) > 10

    def test_copies_of_many_patients_reject_and_new_tiles_do_not(
        self, rng: np.random.Generator, few_relabellings: Callable[[int], None]
    ) -> None:
        few_relabellings(199)
        train, holdout = side(rng, "t"), side(rng, "h")
        copied = Tiles("s", train.embeddings + 0.05 * rng.normal(size=(96, 8)))
        leak = c_t(train, holdout, copied, rng)
        assert leak.p_value is not None
        assert leak.p_value <= 0.025, "1 of 2^8 ways to swap pairs, and the draws that hit it"
        assert leak.statistic.value < -5
        assert leak.statistic.high is not None
        assert leak.statistic.high < 0
        clean = c_t(train, holdout, side(rng, "s"), rng)
        assert clean.p_value is not None
        assert clean.p_value > 0.01
        reverse = c_t(holdout, train, copied, rng)
        assert reverse.p_value is not None
        assert reverse.p_value > 0.99

    @pytest.mark.parametrize("icc", [0.0, 0.3])
    def test_p_is_valid_under_correlation_within_patients(
        self, icc: float, few_relabellings: Callable[[int], None]
    ) -> None:
        few_relabellings(19)
        rejections = []
        for seed in range(100):
            rng = np.random.default_rng(seed)
            t, h, s = (side(rng, name, patients=6, tiles=8, icc=icc) for name in "ths")
            p = c_t(t, h, s, rng).p_value
            assert p is not None
            rejections.append(p <= 0.1)
        assert np.mean(rejections) <= 0.2

    def test_cells_that_no_holdout_tile_shares_are_merged(self, rng: np.random.Generator) -> None:
        train, holdout = side(rng, "t"), side(rng, "h")
        far = Tiles("holdout", holdout.embeddings + 50, patients=holdout.patients)
        found = c_t(train, far, side(rng, "s"), rng)
        assert found.details["cells"] == 1
        assert found.statistic.value < -5

    def test_one_patient_is_an_error(self, rng: np.random.Generator) -> None:
        with pytest.raises(AuditInputError, match="needs 2 in t"):
            c_t(side(rng, "t", patients=1), side(rng, "h"), side(rng, "s"), rng)


class TestAuthenticity:
    @pytest.mark.parametrize(("width", "expected"), [(1, 1 / 3), (2, 0.3785), (3, 0.4074)])
    def test_of_uniform_data_is_the_closed_form(self, width: int, expected: float) -> None:
        rng = np.random.default_rng(width)
        train = rng.random((6000, width)).astype(np.float32)
        made = (0.15 + 0.7 * rng.random((8000, width))).astype(np.float32)
        share = is_authentic(copy_scores(made, train), own_copy_scores(train)).mean()
        # The standard error is .0055; the three answers lie .029 and more apart.
        assert share == pytest.approx(expected, abs=0.014)

    def test_difference_is_zero_for_new_tiles_and_falls_with_copies(
        self, rng: np.random.Generator
    ) -> None:
        x = rng.normal(size=(3, 600, 16)).astype(np.float32)
        own = own_copy_scores(x[0])
        patients = np.repeat(np.arange(30), 20).astype(np.str_)

        def result(made: NDArray[np.float32]) -> tuple[float, float, float]:
            e = authenticity(
                copy_scores(made, x[0]), copy_scores(x[1], x[0]), own, holdout_patients=patients
            ).statistic
            assert e.low is not None
            assert e.high is not None
            return e.low, e.value, e.high

        low, _, high = result(x[2])
        assert low < 0 < high
        copied = x[2].copy()
        copied[:300] = x[0, :300]
        assert result(copied)[2] < -0.2

    def test_a_tie_is_not_authentic(self) -> None:
        def scores(nearest: list[float], source: list[int]) -> CopyScores:
            values = np.array(nearest)
            return CopyScores(
                nearest=values, ratio=values, extraction=values, source=np.array(source)
            )

        own = scores([1.0, 2.0], [1, 0])
        found = is_authentic(scores([1.0, 1.5, 1.5], [0, 0, 1]), own)
        assert found.tolist() == [False, True, False]


class TestDcrShare:
    def test_is_a_half_although_train_is_five_times_as_large(
        self, rng: np.random.Generator
    ) -> None:
        train, holdout = side(rng, "t", patients=30), side(rng, "h", patients=6)
        result = dcr_share(train, holdout, side(rng, "s", patients=60), rng)
        e = result.statistic
        assert e.low is not None
        assert e.high is not None
        assert e.low < 0.5 < e.high
        assert abs(e.value - 0.5) < 0.12
        assert result.details["tiles_a_side"] == 6 * 12
        assert result.details["pairs"] == 6

    def test_copies_of_train_give_one_and_of_holdout_zero(self, rng: np.random.Generator) -> None:
        train, holdout = side(rng, "t"), side(rng, "h")
        both = Tiles("s", np.concatenate([train.embeddings, holdout.embeddings]))
        copied = dcr_share(train, holdout, Tiles("s", train.embeddings), rng)
        assert (copied.statistic.value, copied.statistic.high) == (1.0, 1.0)
        assert copied.p_value is not None
        assert copied.p_value < 0.02
        other = dcr_share(train, holdout, Tiles("s", holdout.embeddings), rng)
        assert (other.statistic.value, other.p_value) == (0.0, 1.0)
        assert dcr_share(train, holdout, both, rng).statistic.value == 0.5

    def test_ties_count_half(self, rng: np.random.Generator) -> None:
        train, holdout = side(rng, "t"), side(rng, "h")
        same = Tiles("h", train.embeddings, patients=holdout.patients)
        assert dcr_share(train, same, side(rng, "s"), rng).statistic.value == 0.5

    @pytest.mark.parametrize("icc", [0.0, 0.3])
    def test_p_and_interval_hold_under_correlation_within_patients(self, icc: float) -> None:
        rejected, covered = [], []
        for seed in range(120):
            rng = np.random.default_rng(seed)
            t, h, s = (side(rng, name, patients=8, tiles=6, icc=icc) for name in "ths")
            result = dcr_share(t, h, s, rng)
            e = result.statistic
            assert result.p_value is not None
            assert e.low is not None
            assert e.high is not None
            rejected.append(result.p_value <= 0.05)
            covered.append(e.low <= 0.5 <= e.high)
        assert np.mean(rejected) <= 0.11
        assert np.mean(covered) >= 0.88

    def test_few_pairs_give_the_exact_p_over_every_relabelling(
        self, rng: np.random.Generator
    ) -> None:
        """Four pairs: the p-value of all 16 ways to swap them, counted one by one."""
        train, holdout = side(rng, "t", patients=4), side(rng, "h", patients=4)
        made = side(rng, "s", patients=20, tiles=3)
        result = dcr_share(train, holdout, made, np.random.default_rng(3))
        (rows, others), pairs = _paired_rows(train, holdout, np.random.default_rng(3))
        assert (pairs, result.details["relabellings"]) == (4, 16)
        shares = []
        for swapped in product([False, True], repeat=4):
            sides = [[], []]
            for tiles, (chosen, block), at in ((train, rows, 0), (holdout, others, 1)):
                for row, pair in zip(chosen, block, strict=True):
                    sides[at ^ swapped[pair]].append(tiles.embeddings[row])
            first, second = (nearest(made.embeddings, np.array(x), k=1).distances for x in sides)
            shares.append((first < second).mean())
        assert result.statistic.value == shares[0]
        assert result.p_value == np.mean(np.array(shares) >= shares[0])

    def test_up_to_nine_pairs_are_relabelled_in_every_way(self, rng: np.random.Generator) -> None:
        swaps = _relabellings(9, rng)
        assert swaps.shape == (512, 9)
        assert len(np.unique(swaps, axis=0)) == 512
        assert not swaps[0].any()
        drawn = _relabellings(10, rng)
        assert drawn.shape == (500, 10)
        assert not drawn[0].any()

    def test_many_patients_are_merged_into_blocks(self, rng: np.random.Generator) -> None:
        result = dcr_share(
            side(rng, "t", patients=45, tiles=2),
            side(rng, "h", patients=45, tiles=2),
            side(rng, "s"),
            rng,
        )
        assert result.details["pairs"] == 20
        assert result.details["tiles_a_side"] == 90

    def test_one_patient_is_an_error(self, rng: np.random.Generator) -> None:
        with pytest.raises(AuditInputError, match="needs 2 in h"):
            dcr_share(side(rng, "t"), side(rng, "h", patients=1), side(rng, "s"), rng)
