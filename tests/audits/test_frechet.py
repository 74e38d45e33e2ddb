"""The Frechet distance against closed forms, the packages others use, and its own limit."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import linalg

from audits import AuditInputError, frechet
from audits.frechet import frechet_distance, frechet_infinity, frechet_interval
from audits.intervals import jackknife

Floats = NDArray[np.float64]


def eigenvalue_form(x: Floats, y: Floats) -> float:
    """tr((S1 S2)^1/2) = sum of square roots of the eigenvalues of S1^1/2 S2 S1^1/2."""
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = linalg.eigh(np.atleast_2d(s1))
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(linalg.eigvalsh(root @ np.atleast_2d(s2) @ root), 0, None)).sum()
    means = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    return float(means + np.trace(np.atleast_2d(s1)) + np.trace(np.atleast_2d(s2)) - 2 * cross)


class TestFrechet:
    @pytest.fixture
    def pair(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        mix = rng.normal(size=(24, 24))
        x = rng.normal(size=(400, 24)) @ mix
        return x, 0.3 + rng.normal(size=(300, 24)) @ (mix + 0.2 * rng.normal(size=(24, 24)))

    @pytest.mark.filterwarnings("ignore:The `disp` argument is deprecated:DeprecationWarning")
    @pytest.mark.parametrize(
        ("module", "function"),
        [
            ("pytorch_fid.fid_score", "calculate_frechet_distance"),
            ("cleanfid.fid", "frechet_distance"),
        ],
    )
    @pytest.mark.peer
    def test_equals_the_fid_packages_on_the_same_features(
        self, pair: tuple[Floats, Floats], module: str, function: str
    ) -> None:
        pytest.importorskip("torch")
        peer = getattr(pytest.importorskip(module), function)
        moments = [part for x in pair for part in (x.mean(axis=0), np.cov(x, rowvar=False))]
        assert frechet_distance(*pair) == pytest.approx(float(peer(*moments)), rel=1e-6)

    @pytest.mark.peer
    def test_equals_torch_fidelity_on_the_same_features(self, pair: tuple[Floats, Floats]) -> None:
        torch = pytest.importorskip("torch")
        peer = pytest.importorskip("torch_fidelity.metric_fid")
        statistics = [peer.fid_features_to_statistics(torch.from_numpy(x)) for x in pair]
        expected = peer.fid_statistics_to_metric(*statistics, verbose=False)
        assert frechet_distance(*pair) == pytest.approx(
            expected["frechet_inception_distance"], rel=1e-6
        )

    def test_one_dimension_by_hand(self) -> None:
        """Means 1 and 5, standard deviations sqrt 2 and sqrt 8: 16 + 2 + 8 - 2 * 4."""
        x, y = np.array([[0.0], [2.0]]), np.array([[3.0], [7.0]])
        assert frechet_distance(x, y) == pytest.approx(16 + (np.sqrt(8) - np.sqrt(2)) ** 2)

    def test_two_gaussians_with_known_moments(self, rng: np.random.Generator) -> None:
        """Whitened samples given exact moments: diagonal covariances have a closed form."""

        def exact(sd: Floats, mean: float) -> Floats:
            z = rng.normal(size=(200, 3))
            z -= z.mean(axis=0)
            z = z @ linalg.inv(linalg.cholesky(np.cov(z, rowvar=False)))
            moved: Floats = z * sd + mean
            return moved

        sd_x, sd_y = np.array([1.0, 2.0, 0.5]), np.array([3.0, 1.0, 0.5])
        expected = 3 * 0.5**2 + ((sd_x - sd_y) ** 2).sum()
        assert frechet_distance(exact(sd_x, 0.0), exact(sd_y, 0.5)) == pytest.approx(expected)

    @pytest.mark.parametrize(("n", "m", "width"), [(20, 30, 50), (5, 200, 40), (300, 6, 10)])
    def test_singular_covariances_agree_with_the_eigenvalue_form(
        self, rng: np.random.Generator, n: int, m: int, width: int
    ) -> None:
        x, y = rng.normal(size=(n, width)), 1.5 * rng.normal(size=(m, width))
        assert frechet_distance(x, y) == pytest.approx(eigenvalue_form(x, y), rel=1e-6)

    def test_is_zero_for_itself_symmetric_and_never_negative(
        self, rng: np.random.Generator
    ) -> None:
        x, y = rng.normal(size=(50, 8)), rng.normal(size=(60, 8))
        assert frechet_distance(x, x) == pytest.approx(0, abs=1e-10)
        assert frechet_distance(x, x) >= 0
        assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x))

    def test_float32_features_offset_by_1000_lose_nothing(self, rng: np.random.Generator) -> None:
        x = np.round(rng.normal(size=(60, 6)) * 64) / 64
        y = np.round(rng.normal(size=(60, 6)) * 64) / 64
        shifted = frechet_distance((x + 1000).astype("f4"), (y + 1000).astype("f4"))
        assert shifted == pytest.approx(frechet_distance(x, y), rel=1e-9)

    def test_the_order_of_rows_changes_nothing(self, rng: np.random.Generator) -> None:
        x, y = rng.normal(size=(50, 8)), rng.normal(size=(60, 8))
        shuffled = frechet_distance(rng.permutation(x), rng.permutation(y))
        assert shuffled == pytest.approx(frechet_distance(x, y), rel=1e-12)


class TestInterval:
    """Sums over blocks must give what the rows give, whichever way the factors come about."""

    @pytest.mark.parametrize(
        ("n", "m", "width"), [(120, 90, 8), (30, 200, 40), (21, 22, 20), (40, 44, 40), (8, 9, 20)]
    )
    def test_equals_leaving_the_rows_out(
        self, rng: np.random.Generator, n: int, m: int, width: int
    ) -> None:
        x, y = rng.normal(size=(n, width)) + 5, 1.3 * rng.normal(size=(m, width)) + 5.2
        groups_x, groups_y = np.arange(n) % 4, rng.permutation(np.arange(m) % 5)
        direct = jackknife(lambda a, b: frechet_distance(x[a], y[b]), groups_x, groups_y)
        got = frechet_interval(x, y, groups_x=groups_x, groups_y=groups_y)
        assert got == pytest.approx(direct, rel=1e-9)

    @pytest.mark.parametrize("spoil", ["dead", "doubled", "scales"])
    def test_singular_and_badly_scaled_features_lose_no_precision(
        self, rng: np.random.Generator, spoil: str
    ) -> None:
        x, y = rng.normal(size=(80, 6)), 0.1 + rng.normal(size=(70, 6))
        if spoil == "dead":
            x[:, 2] = 0.0
        elif spoil == "doubled":
            y[:, 3] = y[:, 1]
        else:
            x, y = x * np.logspace(0, -7, 6), y * np.logspace(0, -7, 6)
        groups = (np.arange(80) % 4, np.arange(70) % 4)
        direct = jackknife(lambda a, b: frechet_distance(x[a], y[b]), *groups)
        got = frechet_interval(x, y, groups_x=groups[0], groups_y=groups[1])
        assert got == pytest.approx(direct, rel=1e-9)

    @pytest.mark.parametrize(("tiles", "rows_read"), [(40, False), (28, True)])
    def test_rows_are_read_again_only_where_sums_will_not_do(
        self,
        rng: np.random.Generator,
        monkeypatch: pytest.MonkeyPatch,
        tiles: int,
        rows_read: bool,
    ) -> None:
        """Without a quarter, 40 tiles still outnumber 21 features, 28 tiles do not."""
        read, from_rows = [], frechet._moments
        monkeypatch.setattr(frechet, "_moments", lambda x: read.append(len(x)) or from_rows(x))
        x, groups = rng.normal(size=(tiles, 21)), np.arange(tiles) % 4
        frechet_interval(x, x + 1, groups_x=groups, groups_y=groups)
        assert read == [21] * 8 * rows_read

    def test_nearly_singular_sums_are_not_trusted(self, rng: np.random.Generator) -> None:
        """Rotated, so that no scaling of single features could help the factor."""
        turn = linalg.qr(rng.normal(size=(8, 8)))[0]
        spread = np.array([1, 1, 1, 1, 1e-8, 1e-8, 1e-8, 1e-8])
        x, y = (rng.normal(size=(60, 8)) * spread @ turn for _ in range(2))
        y = y @ linalg.qr(rng.normal(size=(8, 8)))[0]
        groups = np.arange(60) % 4
        direct = jackknife(lambda a, b: frechet_distance(x[a], y[b]), groups, groups)
        got = frechet_interval(x, y, groups_x=groups, groups_y=groups)
        assert got == pytest.approx(direct, rel=1e-12)

    def test_float32_features_are_summed_in_float64(self, rng: np.random.Generator) -> None:
        x = (rng.normal(size=(60, 5)) + 1000).astype("f4")
        y = (rng.normal(size=(60, 5)) + 1000).astype("f4")
        groups = np.arange(60) % 5
        wide = frechet_interval(x.astype("f8"), y.astype("f8"), groups_x=groups, groups_y=groups)
        assert frechet_interval(x, y, groups_x=groups, groups_y=groups) == pytest.approx(
            wide, rel=1e-12
        )


def infinity(
    x: Floats, y: Floats, *, groups: int = 10, seed: int = 0
) -> tuple[float, float, float]:
    return frechet_infinity(
        x,
        y,
        groups_x=np.arange(len(x)) % groups,
        groups_y=np.arange(len(y)) % groups,
        rng=np.random.default_rng(seed),
    )


class TestInfinity:
    def test_two_samples_of_one_law_are_0_apart_where_the_plain_distance_is_132(self) -> None:
        """docs/methods.md#why-the-obvious-figures-mislead: 512 features, 1000 tiles per side."""
        x, y = np.random.default_rng(0).normal(size=(2, 1000, 512))
        assert frechet_distance(x, y) == pytest.approx(132, rel=0.03)
        value, low, high = infinity(x, y)
        assert abs(value) < 3.1
        assert low < 0 < high

    @pytest.mark.parametrize(
        ("groups", "shift", "scale"), [(10, 0.2, 1.0), (5, 0.0, 1.4), (4, 0.1, 1)]
    )
    def test_averages_the_closed_form_and_covers_it(
        self, groups: int, shift: float, scale: float
    ) -> None:
        """N(0, 1) against N(shift, scale^2) in 12 dimensions: 12 (shift^2 + (scale - 1)^2)."""
        truth, values, plain, covered = 12 * (shift**2 + (scale - 1) ** 2), [], [], 0
        for run in range(60):
            rng = np.random.default_rng(run)
            x, y = rng.normal(size=(150, 12)), shift + scale * rng.normal(size=(180, 12))
            value, low, high = infinity(x, y, groups=groups, seed=run)
            values.append(value)
            plain.append(frechet_distance(x, y))
            covered += low <= truth <= high
        error = np.std(values) / np.sqrt(60)
        assert abs(np.mean(values) - truth) < 3 * error
        assert np.mean(plain) - truth > 10 * error
        assert covered >= 52

    def test_interval_is_not_much_wider_than_the_spread(self) -> None:
        ends = []
        for run in range(40):
            rng = np.random.default_rng(run)
            ends.append(infinity(rng.normal(size=(200, 8)), 0.3 + rng.normal(size=(200, 8))))
        values, low, high = np.array(ends).T
        assert 1.5 < np.mean(high - low) / 2 / np.std(values) < 5

    def test_a_distance_linear_in_1_over_n_is_extrapolated_exactly(
        self, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Sizes are read off the moments: the groups here are of unequal size."""
        monkeypatch.setattr("audits.frechet._Groups.moments", lambda self, kept: self.sizes[kept])
        monkeypatch.setattr("audits.frechet._distance", lambda a, b: 7 + 3 / a.sum() + 3 / b.sum())
        groups = np.repeat(np.arange(5), [2, 5, 9, 4, 7])
        got = frechet_infinity(
            rng.normal(size=(27, 2)),
            rng.normal(size=(27, 2)),
            groups_x=groups,
            groups_y=groups[::-1].copy(),
            rng=rng,
        )
        assert got == pytest.approx((7, 7, 7))

    def test_the_order_of_rows_changes_nothing(self, rng: np.random.Generator) -> None:
        x, y = rng.normal(size=(60, 4)), rng.normal(size=(80, 4))
        groups_x, groups_y = np.arange(60) % 5, np.arange(80) % 5
        order = rng.permutation(60)
        whole, shuffled = (
            frechet_infinity(
                x[rows],
                y,
                groups_x=groups_x[rows],
                groups_y=groups_y,
                rng=np.random.default_rng(1),
            )
            for rows in (np.arange(60), order)
        )
        assert shuffled == pytest.approx(whole, rel=1e-9)

    def test_one_generator_state_gives_one_answer(self, rng: np.random.Generator) -> None:
        x, y = rng.normal(size=(2, 60, 4))
        assert infinity(x, y, seed=3) == infinity(x, y, seed=3)
        assert infinity(x, y, seed=3) != infinity(x, y, seed=4)

    @pytest.mark.parametrize(
        ("groups_x", "groups_y", "got"),
        [
            (np.arange(12) % 3, np.arange(12) % 3, "3 and 3 groups"),
            (np.arange(12) % 4, np.arange(12) % 5, "4 and 5 groups"),
            (np.arange(26) % 13, np.arange(26) % 13, "13 and 13 groups"),
            (np.arange(7) % 4, np.arange(12) % 4, "smallest of 1 tiles"),
        ],
    )
    def test_groups_that_cannot_be_halved_are_refused(
        self, groups_x: NDArray[np.intp], groups_y: NDArray[np.intp], got: str
    ) -> None:
        with pytest.raises(AuditInputError, match=got):
            frechet_infinity(
                np.ones((len(groups_x), 2)),
                np.ones((len(groups_y), 2)),
                groups_x=groups_x,
                groups_y=groups_y,
                rng=np.random.default_rng(0),
            )

    @pytest.mark.parametrize("groups", [4, 12])
    def test_fewest_and_most_groups_and_two_tiles_in_each_are_enough(self, groups: int) -> None:
        x, y = np.random.default_rng(0).normal(size=(2, 2 * groups, 1))
        assert np.isfinite(infinity(x, y, groups=groups)).all()
