"""The filter: what it keeps of fresh, mislabelled and foreign tiles, and what it decides by."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from privgen.benefit.trials.filtering import Kept, choose_synthetic
from privgen.encoders.loading import load_encoder
from privgen.errors import InputError


class Law(NamedTuple):
    """Tiles of a law: each class has its place, each patient stands a little beside it."""

    embeddings: NDArray[np.float64]
    labels: NDArray[np.intp]
    groups: NDArray[np.str_]

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "Law":
        return Law(self.embeddings[chosen], self.labels[chosen], self.groups[chosen])


def law(seed: int, count: int, *, patients: int = 12, classes: int = 3, dims: int = 24) -> Law:
    rng = np.random.default_rng(seed)
    places = np.random.default_rng(99).normal(0, 1.2, (classes, dims))
    labels, owners = np.arange(count) % classes, np.arange(count) // classes % patients
    beside = rng.normal(0, 0.3, (patients, dims))
    return Law(
        places[labels] + beside[owners] + rng.normal(0, 1, (count, dims)),
        labels,
        np.array([f"{seed}-{owner}" for owner in owners]),
    )


def chosen(real: Law, made: Law) -> Kept:
    return choose_synthetic(
        train_embeddings=real.embeddings,
        train_labels=real.labels,
        train_groups=real.groups,
        synthetic_embeddings=made.embeddings,
        synthetic_labels=made.labels,
    )


def test_of_fresh_tiles_of_the_same_law_about_85_in_100_are_kept() -> None:
    results = [chosen(law(seed, 360), law(100 + seed, 600)) for seed in range(6)]
    assert np.mean([r.kept.mean() for r in results]) == pytest.approx(0.855, abs=0.03)
    assert np.mean([r.dropped_confidence for r in results]) == pytest.approx(60, abs=18)
    assert all(r.classes_lost == () and r.judged_by_tile == () for r in results)


def test_tiles_made_as_another_class_are_doubted() -> None:
    made = law(1, 300)
    result = chosen(law(0, 360), made._replace(labels=(made.labels + 1) % 3))
    assert result.kept.mean() < 0.05
    assert result.dropped_confidence > 280


def test_tiles_far_from_everything_are_dropped_for_distance_although_the_class_is_plain() -> None:
    real, made = law(0, 360), law(1, 300)
    # Away from the centre of all, through the place of its own class: never surer.
    far = made._replace(embeddings=real.embeddings.mean(axis=0) + 4 * made.embeddings)
    result = chosen(real, far)
    assert not result.kept.any()
    assert result.dropped_distance > 200
    assert result.classes_lost == (0, 1, 2)


def test_the_nearest_tile_has_to_be_of_the_class_asked_for() -> None:
    # A few tiles of class 0 stand far out beyond class 1: a straight border gives that place to 1.
    rng = np.random.default_rng(0)
    place = np.concatenate([np.full(94, -5.0), np.full(6, 20.0), np.full(100, 5.0)])
    real = Law(
        place[:, np.newaxis] * np.eye(4)[0] + rng.normal(0, 0.5, (200, 4)),
        np.repeat([0, 1], 100),
        (np.arange(200) % 6).astype(str),
    )
    result = chosen(real, real.rows(np.arange(94, 100))._replace(labels=np.ones(6, dtype=np.intp)))
    assert (result.dropped_confidence, result.dropped_distance) == (0, 6)


def test_a_class_that_is_hard_to_tell_has_its_own_limit() -> None:
    # Classes 1 and 2 overlap, class 0 stands apart: one limit for all would fall on them alone.
    def overlapping(seed: int, count: int) -> Law:
        tiles = law(seed, count)
        place = np.where(tiles.labels == 0, 9.0, np.where(tiles.labels == 1, 0.7, -0.7))
        noise = np.random.default_rng(seed).normal(0, 1, tiles.embeddings.shape)
        return tiles._replace(embeddings=noise + np.outer(place, np.eye(24)[0]))

    made = overlapping(1, 1500)
    kept = chosen(overlapping(0, 600), made).kept
    shares = [kept[made.labels == number].mean() for number in range(3)]
    np.testing.assert_allclose(shares, 0.855, atol=0.06)


def test_noise_off_the_directions_real_tiles_vary_in_is_dropped_too() -> None:
    real, made = law(0, 360), law(1, 300)
    flat = real._replace(embeddings=np.pad(real.embeddings, ((0, 0), (0, 100))))
    noise = np.random.default_rng(2).normal(0, 2, (300, 100))
    result = chosen(flat, made._replace(embeddings=np.hstack([made.embeddings, noise])))
    assert not result.kept.any()


def test_every_tile_is_counted_once() -> None:
    made = law(1, 500)
    spoilt = made._replace(labels=np.random.default_rng(0).integers(0, 3, 500))
    result = chosen(law(0, 120), spoilt)
    assert result.kept.shape == (500,)
    assert result.kept.sum() + result.dropped_confidence + result.dropped_distance == 500
    with pytest.raises(AssertionError, match="counted once"):
        replace(result, dropped_distance=result.dropped_distance + 1)


def test_a_tile_is_decided_on_whatever_the_other_synthetic_tiles_are() -> None:
    real, made = law(0, 240), law(1, 300)
    first = chosen(real, made).kept
    others = made._replace(embeddings=made.embeddings.copy())
    others.embeddings[100:] = np.random.default_rng(4).normal(5, 3, (200, 24))
    assert np.array_equal(chosen(real, others).kept[:100], first[:100])
    assert np.array_equal(chosen(real, made.rows(np.arange(40))).kept, first[:40])
    assert 0 < first[:40].sum() < 40


def test_it_decides_alike_every_time_and_in_any_units_and_place_of_the_embedding() -> None:
    real, made = law(0, 240), law(1, 200)
    want = chosen(real, made).kept
    assert np.array_equal(chosen(real, made).kept, want)
    moved = [x._replace(embeddings=1000 * x.embeddings + 7e3) for x in (real, made)]
    assert (chosen(*moved).kept == want).mean() > 0.99
    single = [x._replace(embeddings=x.embeddings.astype(np.float32)) for x in (real, made)]
    assert (chosen(*single).kept == want).mean() > 0.99


def test_limits_come_from_other_patients_where_there_are_any() -> None:
    # Patients far apart: a tile beside another patient's tiles is as near as real ones get, and a
    # limit from tiles of one's own patient would turn it away.
    real, made = law(0, 240, patients=8), law(1, 240, patients=8)
    apart = np.random.default_rng(5).normal(0, 1.5, (16, 24))
    for number, tiles in enumerate((real, made)):
        _, owner = np.unique(tiles.groups, return_inverse=True)
        tiles.embeddings[:] += apart[8 * number + owner]
    by_patient = chosen(real, made)
    by_tile = chosen(real._replace(groups=np.arange(240).astype(str)), made)
    assert by_patient.kept.mean() > by_tile.kept.mean() + 0.2


def test_a_class_of_one_patient_is_judged_by_its_tiles_and_named() -> None:
    real, made = law(0, 360), law(1, 300)
    lone = np.where(real.labels == 1, "only", real.groups)
    result = chosen(real._replace(groups=lone), made)
    assert result.judged_by_tile == (1,)
    assert result.kept[made.labels == 1].mean() > 0.6
    alone = chosen(real._replace(groups=np.full(360, "one")), made)
    assert alone.judged_by_tile == (0, 1, 2)
    assert alone.kept.mean() > 0.6


def test_a_patient_of_every_class_is_held_out_with_all_tiles() -> None:
    # Patients carry a mark of their own for each class, so that only a classifier that has seen
    # the patient is sure. Held out with all tiles, real ones are unsure, and unsure tiles pass.
    rng = np.random.default_rng(0)
    real, made = law(0, 240, patients=8), law(1, 200, patients=8)
    _, owner = np.unique(real.groups, return_inverse=True)
    marks = 20 * np.eye(24)[3 * owner % 24 + real.labels]
    noise = rng.normal(0, 0.5, (240, 24))
    marked = real._replace(embeddings=np.hstack([noise, marks]))
    unmarked = made._replace(
        embeddings=np.hstack([rng.normal(0, 0.5, (200, 24)), np.zeros((200, 24))])
    )
    by_patient = chosen(marked, unmarked).dropped_confidence
    by_tile = chosen(marked._replace(groups=np.arange(240).astype(str)), unmarked)
    assert by_patient < 100 < by_tile.dropped_confidence


@pytest.mark.parametrize("patients", [2, 3, 5, 40])
def test_few_and_many_patients_and_classes_shared_unevenly(patients: int) -> None:
    rng = np.random.default_rng(patients)
    real = law(0, 150, classes=5)
    groups = rng.integers(patients, size=150).astype(str)
    groups[real.labels == 2] = np.where(np.arange(30) < 28, "0", "1")
    result = chosen(real._replace(groups=groups), law(1, 200, classes=5))
    assert result.judged_by_tile == ()
    assert 0.4 < result.kept.mean() < 1


def test_a_class_of_which_nothing_is_kept_or_made_is_lost() -> None:
    real, made = law(0, 240), law(1, 300)
    wrong = made._replace(embeddings=made.embeddings.copy())
    wrong.embeddings[made.labels == 2] = 50.0
    assert chosen(real, wrong).classes_lost == (2,)
    assert chosen(real, made.rows(made.labels != 0)).classes_lost == (0,)


def test_two_tiles_of_a_class_are_enough() -> None:
    real = law(0, 120)
    few = real.rows(np.concatenate([np.flatnonzero(real.labels != 1), [1, 4]]))
    result = chosen(few, law(1, 90))
    assert len(result.kept) == 90


def test_fresh_pictures_pass_and_noise_and_wrong_labels_do_not() -> None:
    """Through an encoder: bright and dark stripes of two widths, as tiles."""
    rng = np.random.default_rng(0)

    def pictures(count: int) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
        labels = np.arange(count) % 2
        column = np.arange(32)
        rows = [(column // (4 if label else 8) % 2) * 90 + 80 for label in labels]
        tiles = np.repeat(np.stack(rows)[:, np.newaxis], 32, axis=1)[..., np.newaxis]
        return (tiles + rng.normal(0, 20, (count, 32, 32, 3))).clip(0, 255).astype(np.uint8), labels

    encoder = load_encoder("pixels")
    (train, labels), (made, asked) = pictures(80), pictures(120)
    made[60:90] = rng.integers(0, 256, (30, 32, 32, 3))
    asked = np.where(np.arange(120) >= 90, 1 - asked, asked)
    result = choose_synthetic(
        train_embeddings=encoder.embed(train),
        train_labels=labels,
        train_groups=(np.arange(80) // 10).astype(str),
        synthetic_embeddings=encoder.embed(made),
        synthetic_labels=asked,
    )
    assert result.kept[:60].mean() > 0.6
    assert not result.kept[60:].any()


def test_five_classifiers_of_64_components_judge_any_number_of_tiles_of_any_width(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fitted: list[tuple[int, int]] = []
    fit = LogisticRegression.fit

    def counted(self: LogisticRegression, rows: NDArray[np.float64], *rest: object) -> object:
        fitted.append(rows.shape)
        return fit(self, rows, *rest)

    monkeypatch.setattr(LogisticRegression, "fit", counted)
    real, made = law(0, 600, dims=1280), law(1, 2000, dims=1280)
    assert len(chosen(real, made).kept) == 2000
    assert [columns for _, columns in fitted] == [64] * 5
    assert sum(rows for rows, _ in fitted) == 4 * 600


class TestRefused:
    def test_a_single_class(self) -> None:
        with pytest.raises(InputError, match=r"needs 2 classes or more: got 1"):
            chosen(law(0, 30, classes=1), law(1, 30, classes=1))

    def test_a_class_of_one_real_tile(self) -> None:
        real = law(0, 60)
        few = real.rows(np.concatenate([np.flatnonzero(real.labels != 1), [1]]))
        with pytest.raises(InputError, match=r"needs 2 real training tiles .* class 1 has 1\."):
            chosen(few, law(1, 30))

    def test_a_synthetic_class_the_real_tiles_lack(self) -> None:
        with pytest.raises(InputError, match=r"0 to 1: got 0 to 2\."):
            chosen(law(0, 60, classes=2), law(1, 60))

    def test_no_synthetic_tile(self) -> None:
        with pytest.raises(InputError, match=r"synthetic tiles: got none"):
            chosen(law(0, 60), law(1, 3).rows(np.zeros(3, dtype=np.bool_)))

    def test_real_tiles_that_are_all_equal(self) -> None:
        real = law(0, 60)
        with pytest.raises(InputError, match=r"all embeddings are equal"):
            chosen(real._replace(embeddings=np.ones((60, 24))), law(1, 30))
