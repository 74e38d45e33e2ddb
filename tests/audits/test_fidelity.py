"""Fidelity against closed forms, brute force and the packages others use."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import linalg

from audits import AuditInputError
from audits.fidelity import fidelity, frechet_distance, kernel_distance, manifold_scores
from audits.intervals import jackknife
from audits.results import AuditResult

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
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_equals_pytorch_fid_on_the_same_features(self, rng: np.random.Generator) -> None:
        pytest.importorskip("torch")
        peer = pytest.importorskip("pytorch_fid.fid_score")
        mix = rng.normal(size=(24, 24))
        x = rng.normal(size=(400, 24)) @ mix
        y = 0.3 + rng.normal(size=(300, 24)) @ (mix + 0.2 * rng.normal(size=(24, 24)))
        expected = peer.calculate_frechet_distance(
            x.mean(axis=0), np.cov(x, rowvar=False), y.mean(axis=0), np.cov(y, rowvar=False)
        )
        assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)

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
        monkeypatch.setattr("audits.fidelity._ROWS", 4)
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
        monkeypatch.setattr("audits.fidelity._ROWS", 7)
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


def owners(patients: int, tiles: int) -> NDArray[np.str_]:
    return np.repeat(np.arange(patients), tiles).astype(np.str_)


def report(
    train: Floats,
    holdout: Floats,
    synthetic: Floats,
    *,
    train_patients: NDArray[np.str_],
    holdout_patients: NDArray[np.str_],
    name: str = "tiny",
) -> dict[str, AuditResult]:
    results = fidelity(
        {"train": train, "holdout": holdout, "synthetic": synthetic},  # type: ignore[dict-item]
        {"train": train_patients, "holdout": holdout_patients},
        feature_name=name,
        rng=np.random.default_rng(0),
    )
    return {result.name: result for result in results}


class TestFidelity:
    def test_triples_and_floors_have_their_names(self, rng: np.random.Generator) -> None:
        got = report(
            rng.normal(size=(60, 4)),
            rng.normal(size=(40, 4)),
            rng.normal(size=(50, 4)),
            train_patients=owners(6, 10),
            holdout_patients=owners(4, 10),
        )
        pairs = ("synthetic_train", "synthetic_holdout", "train_holdout")
        scores = ("precision", "recall", "density", "coverage")
        assert set(got) == (
            {f"{metric}/{pair}" for metric in ("fd_tiny", "kid_tiny") for pair in pairs}
            | {f"{s}_tiny/{side}_holdout" for s in scores for side in ("synthetic", "train")}
        )
        assert "floor" in got["fd_tiny/train_holdout"].note
        assert "floor" in got["density_tiny/train_holdout"].note
        for result in got.values():
            e = result.statistic
            assert e.low is not None
            assert e.high is not None
            assert e.low <= e.value <= e.high
            assert result.harm is None
            assert result.p_value is None

    def test_only_the_fid_network_may_be_called_fid(self, rng: np.random.Generator) -> None:
        x = rng.normal(size=(20, 3))
        got = report(
            x,
            x + 1,
            x,
            train_patients=owners(4, 5),
            holdout_patients=owners(4, 5),
            name="inception_fid",
        )
        assert "fid/synthetic_train" in got
        assert "kid_inception_fid/synthetic_train" in got
        assert got["fid/synthetic_holdout"].statistic.value == pytest.approx(3)

    def test_first_sides_have_equal_numbers_of_tiles(self, rng: np.random.Generator) -> None:
        got = report(
            rng.normal(size=(90, 3)),
            rng.normal(size=(40, 3)),
            rng.normal(size=(30, 3)),
            train_patients=owners(9, 10),
            holdout_patients=owners(4, 10),
        )
        firsts = {
            got[f"fd_tiny/{pair}"].details["first_tiles"]
            for pair in ("synthetic_train", "synthetic_holdout", "train_holdout")
        }
        assert firsts == {30}

    def test_copying_is_rewarded_against_train_and_not_against_the_holdout(
        self, rng: np.random.Generator
    ) -> None:
        train, holdout = rng.normal(size=(2, 80, 6))
        got = report(
            train,
            holdout,
            train.copy(),
            train_patients=owners(8, 10),
            holdout_patients=owners(8, 10),
        )
        assert got["fd_tiny/synthetic_train"].statistic.value < 1e-6
        floor = got["fd_tiny/train_holdout"].statistic.value
        assert got["fd_tiny/synthetic_holdout"].statistic.value == pytest.approx(floor)

    def test_one_patient_with_nearly_all_tiles_gives_finite_intervals(
        self, rng: np.random.Generator
    ) -> None:
        patients = np.array(["a"] * 39 + ["b"])
        got = report(
            rng.normal(size=(40, 3)),
            rng.normal(size=(40, 3)),
            rng.normal(size=(40, 3)),
            train_patients=patients,
            holdout_patients=patients,
        )
        for result in got.values():
            e = result.statistic
            assert np.isfinite(np.array([e.value, e.low, e.high], dtype=float)).all(), result.name

    def test_too_few_tiles_give_no_rows(self, rng: np.random.Generator) -> None:
        x = rng.normal(size=(5, 3))
        assert report(x, x, x, train_patients=owners(5, 1), holdout_patients=owners(5, 1)) == {}

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda f: {"train": f["train"]}, "need train, holdout and synthetic"),
            (lambda f: f | {"synthetic": np.ones((10, 4))}, "equally wide"),
            (lambda f: f | {"synthetic": np.ones(10)}, "equally wide"),
            (lambda f: f | {"holdout": np.full((10, 3), np.nan)}, "holdout must be finite"),
            (lambda f: f | {"train": np.full((10, 3), np.inf)}, "train must be finite"),
            (lambda f: f | {"train": np.ones((9, 3))}, "9 rows for 10 tiles"),
        ],
    )
    def test_features_that_do_not_fit_are_named(self, spoil: object, message: str) -> None:
        features = {role: np.eye(10, 3) for role in ("train", "holdout", "synthetic")}
        with pytest.raises(AuditInputError, match=message):
            fidelity(
                spoil(features),  # type: ignore[operator]
                {"train": owners(5, 2), "holdout": owners(5, 2)},
                feature_name="tiny",
                rng=np.random.default_rng(0),
            )
