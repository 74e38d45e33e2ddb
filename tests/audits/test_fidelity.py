"""The fidelity block: which figures stand in it, and what they can and cannot see."""

import numpy as np
import pytest
from numpy.typing import NDArray

from audits import AuditInputError
from audits.fidelity import fidelity
from audits.frechet import frechet_interval
from audits.results import AuditResult
from audits.samples import patient_blocks

Floats = NDArray[np.float64]
Labels = dict[str, NDArray[np.str_]]


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
    labels: Labels | None = None,
    seed: int = 0,
) -> dict[str, AuditResult]:
    results = fidelity(
        {"train": train, "holdout": holdout, "synthetic": synthetic},  # type: ignore[dict-item]
        {"train": train_patients, "holdout": holdout_patients},
        feature_name=name,
        rng=np.random.default_rng(seed),
        labels=labels,
    )
    return {result.name: result for result in results}


class TestBlocks:
    def test_hold_whole_patients_the_largest_dealt_first(self, rng: np.random.Generator) -> None:
        """5 | 4, then 3 to the 4, 3 to the 5, and the last 3 to the 7: 8 and 10 tiles."""
        patients = rng.permutation(np.repeat(list("abcde"), [5, 4, 3, 3, 3]))
        blocks = patient_blocks(patients, 18, rng, most=2)
        assert np.bincount(blocks).tolist() == [8, 10]
        assert len(set(zip(patients, blocks, strict=True))) == 5
        assert patient_blocks(owners(24, 2), 48, rng).max() == 9

    @pytest.mark.parametrize(("others", "by_patient"), [(1, False), (2, True)])
    def test_are_of_tiles_where_one_patient_has_all_but_one(
        self, rng: np.random.Generator, others: int, by_patient: bool
    ) -> None:
        patients = np.array(["a"] * 30 + ["b"] * others)
        blocks = patient_blocks(patients, len(patients), rng)
        assert (len(np.unique(blocks)) == 2) == by_patient
        assert (blocks.max() == 9) != by_patient

    def test_are_of_tiles_drawn_at_random_without_patients(self, rng: np.random.Generator) -> None:
        blocks = patient_blocks(None, 25, rng)
        assert sorted(np.bincount(blocks)) == [2] * 5 + [3] * 5
        assert blocks.tolist() != sorted(blocks.tolist())
        assert patient_blocks(None, 6, rng).max() == 5


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
            | {
                f"{metric}_tiny/{side}_holdout"
                for metric in (*scores, "fd_infinity")
                for side in ("synthetic", "train")
            }
        )
        assert "floor" in got["fd_tiny/train_holdout"].note
        assert "floor" in got["density_tiny/train_holdout"].note
        assert "floor" in got["fd_infinity_tiny/train_holdout"].note
        assert got["fd_tiny/synthetic_holdout"].note == ""
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
            (lambda f: f | {"train": np.full((10, 3), -1e15)}, r"train must be .* below 1e\+15"),
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

    @pytest.mark.parametrize(("tiles", "present"), [(31, False), (32, True)])
    @pytest.mark.parametrize("few", ["train", "holdout", "synthetic"])
    def test_extrapolation_needs_twice_as_many_tiles_as_features(
        self, rng: np.random.Generator, few: str, tiles: int, present: bool
    ) -> None:
        counts = {"train": 80, "holdout": 80, "synthetic": 80} | {few: tiles}
        patients = {role: np.resize(owners(4, 1), count) for role, count in counts.items()}
        features = {role: rng.normal(size=(count, 16)) for role, count in counts.items()}
        got = report(
            features["train"],
            features["holdout"],
            features["synthetic"],
            train_patients=patients["train"],
            holdout_patients=patients["holdout"],
        )
        assert ("fd_infinity_tiny/synthetic_holdout" in got) == present
        assert ("fd_infinity_tiny/train_holdout" in got) == present
        assert ("takes 32 tiles or more" in got["fd_tiny/synthetic_holdout"].note) != present

    @pytest.mark.parametrize(
        "patients", [owners(3, 20), np.array(["a"] * 40 + ["b"] * 12 + ["c"] * 7 + ["d"])]
    )
    def test_extrapolation_needs_4_blocks_of_patients_with_2_tiles(
        self, rng: np.random.Generator, patients: NDArray[np.str_]
    ) -> None:
        got = report(
            rng.normal(size=(60, 3)),
            rng.normal(size=(60, 3)),
            rng.normal(size=(60, 3)),
            train_patients=owners(10, 6),
            holdout_patients=patients,
        )
        assert not [name for name in got if "infinity" in name]
        assert "4 blocks of patients" in got["fd_tiny/synthetic_holdout"].note

    def test_blocks_of_exactly_2_tiles_are_extrapolated(self, rng: np.random.Generator) -> None:
        x, patients = rng.normal(size=(3, 8, 2)), owners(4, 2)
        got = report(*x, train_patients=patients, holdout_patients=patients)
        assert got["fd_infinity_tiny/train_holdout"].details["blocks"] == 4

    def test_extrapolation_of_equal_laws_finds_0_where_the_plain_distance_does_not(
        self, rng: np.random.Generator
    ) -> None:
        train, holdout, synthetic = rng.normal(size=(3, 300, 40))
        got = report(
            train,
            holdout,
            synthetic,
            train_patients=owners(10, 30),
            holdout_patients=owners(7, 43)[:300],
        )
        for side in ("synthetic", "train"):
            found = got[f"fd_infinity_tiny/{side}_holdout"].statistic
            assert got[f"fd_tiny/{side}_holdout"].statistic.value > 2.5
            assert abs(found.value) < 0.6
            assert found.low is not None
            assert found.high is not None
            assert found.low < 0 < found.high
            assert got[f"fd_infinity_tiny/{side}_holdout"].details["blocks"] == 7


def classes(counts: dict[str, int]) -> NDArray[np.str_]:
    return np.repeat(list(counts), list(counts.values())).astype(np.str_)


class TestClasses:
    """Two classes, `n` at 0 and `t` at 6 in every feature."""

    @pytest.fixture
    def tiles(self, rng: np.random.Generator) -> dict[str, Floats]:
        centre = np.repeat([0.0, 6.0], 40)[:, None]
        return {
            role: centre + rng.normal(size=(80, 3)) for role in ("train", "holdout", "synthetic")
        }

    def figures(
        self, tiles: dict[str, Floats], labels: Labels | None, name: str = "tiny"
    ) -> dict[str, AuditResult]:
        return report(
            tiles["train"],
            tiles["holdout"],
            tiles["synthetic"],
            train_patients=np.tile(owners(8, 5), 2),
            holdout_patients=np.tile(owners(8, 5), 2),
            labels=labels,
            name=name,
        )

    def test_swapped_labels_show_in_classes_and_nowhere_else(
        self, tiles: dict[str, Floats]
    ) -> None:
        right = {role: classes({"n": 40, "t": 40}) for role in tiles}
        swapped = right | {"synthetic": classes({"t": 40, "n": 40})}
        good, bad = self.figures(tiles, right), self.figures(tiles, swapped)
        for name in (
            "fd_tiny/synthetic_holdout",
            "fd_tiny/synthetic_train",
            "kid_tiny/train_holdout",
        ):
            assert bad[name] == good[name]
        for place in ("class:n", "class:t", "class_mean"):
            assert good[f"fd_tiny/synthetic_holdout/{place}"].statistic.value < 2
            # Three features, each 6 apart: 108.
            assert bad[f"fd_tiny/synthetic_holdout/{place}"].statistic.value == pytest.approx(
                108, rel=0.2
            )
            assert bad[f"fd_tiny/train_holdout/{place}"].statistic.value < 2
        low = bad["fd_tiny/synthetic_holdout/class_mean"].statistic.low
        assert low is not None
        assert low > 80

    def test_a_class_alone_equals_an_audit_of_that_class(self, tiles: dict[str, Floats]) -> None:
        right = {role: classes({"n": 40, "t": 40}) for role in tiles}
        got = self.figures(tiles, right)
        alone = report(
            tiles["train"][:40],
            tiles["holdout"][:40],
            tiles["synthetic"][:40],
            train_patients=owners(8, 5),
            holdout_patients=owners(8, 5),
        )
        for metric in ("fd_tiny", "kid_tiny"):
            for pair in ("synthetic_holdout", "train_holdout"):
                found = got[f"{metric}/{pair}/class:n"].statistic
                expected = alone[f"{metric}/{pair}"].statistic
                assert found.value == pytest.approx(expected.value, rel=1e-9)
                assert found.n == expected.n == 40
        groups = patient_blocks(owners(8, 5), 40, np.random.default_rng(0), most=5)
        interval = frechet_interval(
            tiles["train"][:40], tiles["holdout"][:40], groups_x=groups, groups_y=groups
        )
        floor = got["fd_tiny/train_holdout/class:n"].statistic
        assert (floor.value, floor.low, floor.high) == pytest.approx(interval, rel=1e-9)
        assert "floor" in got["kid_tiny/train_holdout/class:n"].note

    def test_the_mean_over_classes_averages_values_and_ends(self, tiles: dict[str, Floats]) -> None:
        got = self.figures(tiles, {role: classes({"n": 40, "t": 40}) for role in tiles})
        for pair in ("synthetic_holdout", "train_holdout"):
            both = [got[f"fd_tiny/{pair}/class:{label}"].statistic for label in "nt"]
            mean = got[f"fd_tiny/{pair}/class_mean"].statistic
            for part in ("value", "low", "high"):
                expected = (getattr(both[0], part) + getattr(both[1], part)) / 2
                assert getattr(mean, part) == pytest.approx(expected)
            assert mean.n == 80
            assert got[f"fd_tiny/{pair}/class_mean"].details == {"classes": 2}
        assert not [name for name in got if name.startswith("kid") and "mean" in name]

    def test_first_sides_of_a_class_have_equal_numbers_of_tiles(
        self, tiles: dict[str, Floats]
    ) -> None:
        labels = {role: classes({"n": 40, "t": 40}) for role in tiles}
        labels["synthetic"] = classes({"n": 10, "t": 70})
        got = self.figures(tiles, labels)
        assert {
            name: (result.details["first_tiles"], result.details["second_tiles"])
            for name, result in got.items()
            if "class:" in name and name.startswith("kid")
        } == {
            f"kid_tiny/{side}_holdout/class:{label}": (size, 40)
            for side in ("synthetic", "train")
            for label, size in (("n", 10), ("t", 40))
        }

    @pytest.mark.parametrize("role", ["train", "holdout", "synthetic"])
    @pytest.mark.parametrize(("count", "present"), [(0, False), (5, False), (6, True)])
    def test_a_class_needs_6_tiles_in_every_role(
        self, tiles: dict[str, Floats], role: str, count: int, present: bool
    ) -> None:
        labels = {each: classes({"n": 40, "t": 40}) for each in tiles}
        labels[role] = classes({"n": count, "t": 80 - count})
        got = self.figures(tiles, labels)
        named = got["fd_tiny/synthetic_holdout"]
        assert ("kid_tiny/train_holdout/class:n" in got) == present
        assert "kid_tiny/train_holdout/class:t" in got
        assert (": n." in named.note) != present
        assert named.details.get("classes_left_out") == (None if present else 1)
        assert got["fd_tiny/synthetic_train"].note == ""

    def test_classes_that_are_all_too_small_are_named_and_have_no_mean(
        self, tiles: dict[str, Floats]
    ) -> None:
        labels = {role: np.arange(80).astype(np.str_) for role in tiles}
        got = self.figures(tiles, labels)
        assert not [name for name in got if "class" in name]
        assert got["fd_tiny/synthetic_holdout"].details["classes_left_out"] == 80

    def test_one_class_gives_no_rows_of_its_own(self, tiles: dict[str, Floats]) -> None:
        labels = {role: np.full(80, "all") for role in tiles}
        assert self.figures(tiles, labels) == self.figures(tiles, None)

    def test_labels_change_no_figure_over_all_classes(self, tiles: dict[str, Floats]) -> None:
        with_labels = self.figures(tiles, {role: classes({"n": 40, "t": 40}) for role in tiles})
        for name, result in self.figures(tiles, None).items():
            assert with_labels[name] == result

    def test_only_the_fid_network_may_be_called_fid(self, tiles: dict[str, Floats]) -> None:
        labels = {role: classes({"n": 40, "t": 40}) for role in tiles}
        got = self.figures(tiles, labels, name="inception_fid")
        assert "fid/synthetic_holdout/class:n" in got
        assert "fid/synthetic_holdout/class_mean" in got

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda all_: {"train": all_["train"]}, "labels of holdout .* 80: got none"),
            (lambda all_: all_ | {"synthetic": all_["train"][:79]}, r"got shape \(79,\)"),
            (lambda all_: all_ | {"train": np.full((80, 2), "n")}, r"got shape \(80, 2\)"),
            (lambda all_: {}, "labels of train .* got none"),
        ],
    )
    def test_labels_that_do_not_fit_are_named(
        self, tiles: dict[str, Floats], spoil: object, message: str
    ) -> None:
        labels = {role: classes({"n": 40, "t": 40}) for role in tiles}
        with pytest.raises(AuditInputError, match=message):
            self.figures(tiles, spoil(labels))  # type: ignore[operator]
