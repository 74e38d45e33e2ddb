"""Kernel distance and manifold scores against brute force and the packages others use."""

import numpy as np
import pytest
from numpy.typing import NDArray

from audits.distances import Cloud, compare, kernel_distance, manifold_scores
from audits.intervals import jackknife

Floats = NDArray[np.float64]


def brute_kid(x: Floats, y: Floats) -> float:
    def kernel(a: Floats, b: Floats) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


class TestKernelDistance:
    def test_equals_the_unbiased_double_sum(self, rng: np.random.Generator) -> None:
        x, y = rng.normal(size=(14, 5)), rng.normal(size=(11, 5)) + 0.3
        value, _, _ = kernel_distance(x, y, groups_x=np.arange(14) % 3, groups_y=np.arange(11) % 4)
        assert value == pytest.approx(brute_kid(x, y), rel=1e-10)

    def test_leaving_a_block_out_equals_computing_without_it(
        self, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("audits.distances._ROWS", 4)
        x, y = rng.normal(size=(12, 4)), rng.normal(size=(10, 4)) - 0.2
        groups_x, groups_y = np.arange(12) % 3, np.arange(10) % 4
        got = kernel_distance(x, y, groups_x=groups_x, groups_y=groups_y)
        direct = jackknife(lambda a, b: brute_kid(x[a], y[b]), groups_x, groups_y)
        assert got == pytest.approx(direct, rel=1e-9)

    def test_centres_on_zero_for_equal_laws_and_covers_it(self) -> None:
        values, covered = [], 0
        for run in range(60):
            rng = np.random.default_rng(run)
            x, y = rng.normal(size=(2, 60, 6))
            groups = np.arange(60) % 10
            value, low, high = kernel_distance(x, y, groups_x=groups, groups_y=groups)
            values.append(value)
            covered += low <= 0 <= high
        assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(60)
        assert covered / 60 > 0.85

    @pytest.mark.peer
    def test_equals_torch_fidelity_and_clean_fid_over_one_full_size_subset(
        self, rng: np.random.Generator
    ) -> None:
        torch = pytest.importorskip("torch")
        x, y = rng.normal(size=(90, 7)) + 1, 0.8 * rng.normal(size=(90, 7)) + 1.3
        groups = np.arange(90) % 3
        value, _, _ = kernel_distance(x, y, groups_x=groups, groups_y=groups)
        peer = pytest.importorskip("torch_fidelity.metric_kid")
        measured = peer.kid_features_to_metric(
            torch.from_numpy(x),
            torch.from_numpy(y),
            kid_subsets=1,
            kid_subset_size=90,
            kid_kernel="poly",
            kid_kernel_poly_degree=3,
            kid_kernel_poly_gamma=None,
            kid_kernel_poly_coef0=1,
            rng_seed=0,
            verbose=False,
        )
        assert value == pytest.approx(measured["kernel_inception_distance_mean"], rel=1e-9)
        clean = pytest.importorskip("cleanfid.fid")
        again = clean.kernel_distance(x, y, num_subsets=1, max_subset_size=90)
        assert value == pytest.approx(again, rel=1e-9)

    def test_the_order_of_rows_changes_nothing(self, rng: np.random.Generator) -> None:
        x, y, order = rng.normal(size=(30, 4)), rng.normal(size=(40, 4)), rng.permutation(30)
        groups_x, groups_y = np.arange(30) % 3, np.arange(40) % 4
        whole = kernel_distance(x, y, groups_x=groups_x, groups_y=groups_y)
        shuffled = kernel_distance(x[order], y, groups_x=groups_x[order], groups_y=groups_y)
        assert shuffled == pytest.approx(whole, rel=1e-9)

    def test_an_offset_of_all_features_enters_the_kernel(self, rng: np.random.Generator) -> None:
        """Rows are centred before they are multiplied; the kernel is that of the rows as given."""
        x, y = rng.normal(size=(12, 3)) + 20, rng.normal(size=(12, 3)) + 21
        groups = np.arange(12) % 3
        value, _, _ = kernel_distance(x, y, groups_x=groups, groups_y=groups)
        assert value == pytest.approx(brute_kid(x, y), rel=1e-9)


class TestManifold:
    @pytest.mark.parametrize(("n", "m", "k"), [(60, 80, 5), (40, 25, 3), (7, 7, 5)])
    def test_equals_the_prdc_package(
        self, rng: np.random.Generator, capsys: pytest.CaptureFixture[str], n: int, m: int, k: int
    ) -> None:
        peer = pytest.importorskip("prdc")
        x, y = rng.normal(size=(n, 6)), rng.normal(size=(m, 6)) * 0.9 + 0.1
        expected = peer.compute_prdc(x, y, nearest_k=k)
        got = {name: terms.mean() for name, terms in manifold_scores(x, y, k=k).items()}
        assert got == pytest.approx(expected, abs=1e-12)

    def test_blocks_of_rows_change_nothing(
        self, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        x, y = rng.normal(size=(50, 4)), rng.normal(size=(45, 4))
        whole = manifold_scores(x, y)
        monkeypatch.setattr("audits.distances._ROWS", 7)
        for name, terms in manifold_scores(x, y).items():
            np.testing.assert_array_equal(terms, whole[name])

    def test_identical_laws_have_density_1_and_coverage_969(self) -> None:
        rng = np.random.default_rng(0)
        scores = manifold_scores(rng.normal(size=(1200, 12)), rng.normal(size=(1200, 12)))
        assert scores["density"].mean() == pytest.approx(1, abs=0.05)
        assert scores["coverage"].mean() == pytest.approx(1 - 2**-5, abs=0.012)

    def test_disjoint_laws_have_nothing_in_common(self, rng: np.random.Generator) -> None:
        scores = manifold_scores(rng.normal(size=(30, 3)), rng.normal(size=(30, 3)) + 100)
        assert all(terms.mean() == 0 for terms in scores.values())

    def test_terms_belong_to_the_side_they_are_counted_over(self, rng: np.random.Generator) -> None:
        scores = manifold_scores(rng.normal(size=(30, 3)), rng.normal(size=(20, 3)))
        assert {name: len(terms) for name, terms in scores.items()} == {
            "precision": 20,
            "density": 20,
            "recall": 30,
            "coverage": 30,
        }

    def test_the_order_of_rows_changes_nothing(self, rng: np.random.Generator) -> None:
        x, y = rng.normal(size=(50, 4)), rng.normal(size=(45, 4))
        order_x, order_y = rng.permutation(50), rng.permutation(45)
        whole, shuffled = manifold_scores(x, y), manifold_scores(x[order_x], y[order_y])
        for name, terms in shuffled.items():
            order = order_y if name in ("precision", "density") else order_x
            np.testing.assert_array_equal(terms, whole[name][order])

    def test_a_tile_on_the_rim_of_a_ball_is_outside(self) -> None:
        """k = 1 on a line: balls of radius 1 around 0, 1 and 5 +- 4, by hand."""
        real, synthetic = np.array([[0.0], [1.0], [5.0]]), np.array([[2.0], [-1.0], [2.5]])
        scores = manifold_scores(real, synthetic, k=1)
        assert scores["precision"].tolist() == [1, 0, 1]
        assert scores["density"].tolist() == [1, 0, 1]
        assert scores["coverage"].tolist() == [0, 0, 1]
        # Balls of 2, -1 and 2.5 reach .5, 3 and .5: 1 lies within 3 of -1, 5 on no inside.
        assert scores["recall"].tolist() == [1, 1, 0]

    def test_a_ball_of_radius_0_holds_nothing_not_even_its_centre(self) -> None:
        alike, spread = np.zeros((3, 1)), np.array([[-1.0], [0.0], [1.0]])
        scores = manifold_scores(alike, spread, k=1)
        assert (scores["density"].sum(), scores["coverage"].sum()) == (0, 0)
        assert manifold_scores(spread, alike, k=1)["recall"].tolist() == [0, 0, 0]

    @pytest.mark.parametrize("offset", [0.0, 0.1, 1000.0])
    def test_rounding_puts_no_copy_inside_the_ball_it_lies_on(
        self, rng: np.random.Generator, offset: float
    ) -> None:
        """Copies of the neighbours that set the radii lie exactly on the rim."""
        real = rng.normal(size=(40, 16)) + offset
        scores = manifold_scores(real, real.copy(), k=3)
        # Each real ball holds itself and its 2 nearest others; the third is on the rim.
        assert scores["density"].sum() == 40 * 3 / 3

    def test_one_pass_gives_both_kinds_of_figures(self, rng: np.random.Generator) -> None:
        x, y = rng.normal(size=(30, 4)), rng.normal(size=(25, 4))
        groups_x, groups_y = np.arange(30) % 3, np.arange(25) % 4
        both = compare(Cloud(x, groups=groups_x), Cloud(y, groups=groups_y))
        assert both.kernel_distance() == kernel_distance(x, y, groups_x=groups_x, groups_y=groups_y)
        for name, terms in manifold_scores(y, x).items():
            np.testing.assert_array_equal(terms, both.scores[name])

    @pytest.mark.parametrize("k", [1, 5, 9])
    def test_radii_are_distances_to_the_kth_other_tile(
        self, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, k: int
    ) -> None:
        monkeypatch.setattr("audits.distances._ROWS", 4)
        x = rng.normal(size=(10, 3))
        squared = np.sort(((x[:, None] - x) ** 2).sum(axis=2), axis=1)[:, k]
        np.testing.assert_allclose(Cloud(x, k=k).radii, squared / 3, rtol=1e-9)
