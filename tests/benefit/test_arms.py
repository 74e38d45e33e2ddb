from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from privgen.benefit.arms import ARMS, BASELINE, Composition, Pool, synthetic_count
from privgen.errors import InputError

POOL = Pool(
    real=np.array([0] * 10 + [1] * 3 + [2] * 7),
    synthetic=np.random.default_rng(0).integers(0, 3, size=60),
    kept=np.random.default_rng(1).random(60) < 0.6,
)
ALL_LABELS = np.concatenate([POOL.real, POOL.synthetic])


def compose(arm: str, ratio: float = 1.0, seed: int = 0, pool: Pool = POOL) -> Composition:
    return ARMS[arm].compose(pool, ratio, np.random.default_rng(seed))


@pytest.mark.parametrize("arm", [name for name in ARMS if name != "synthetic"])
def test_every_arm_but_one_holds_all_real_tiles(arm: str) -> None:
    made = compose(arm, 1.5)
    assert np.array_equal(made.rows[:20], np.arange(20))
    assert np.array_equal(made.labels[:20], POOL.real)


@pytest.mark.parametrize("arm", [name for name in ARMS if name != "shuffled"])
def test_every_arm_but_one_teaches_true_labels(arm: str) -> None:
    made = compose(arm, 1.5)
    assert np.array_equal(made.labels, ALL_LABELS[made.rows])


@pytest.mark.parametrize("arm", [BASELINE, "real+classical"])
def test_the_baseline_is_the_real_tiles(arm: str) -> None:
    made = compose(arm, 0.0)
    assert np.array_equal(made.rows, np.arange(20))
    assert ARMS[arm].augment == (arm == "real+classical")


@pytest.mark.parametrize(("ratio", "added"), [(0.25, 5), (0.5, 10), (1.0, 20), (3.0, 60)])
def test_the_ratio_counts_different_synthetic_tiles_for_each_real_one(
    ratio: float, added: int
) -> None:
    made = compose("real+synthetic", ratio)
    synthetic = made.rows[made.rows >= 20]
    assert len(synthetic) == len(np.unique(synthetic)) == added
    assert len(made) == 20 + added


def test_smaller_ratios_draw_parts_of_larger_ones() -> None:
    drawn = [set(compose("real+synthetic", ratio).rows) for ratio in (0.25, 0.5, 1.0, 2.0, 3.0)]
    assert all(small < large for small, large in pairwise(drawn))


def test_seeds_draw_different_synthetic_tiles() -> None:
    assert set(compose("real+synthetic").rows) != set(compose("real+synthetic", seed=1).rows)


def test_synthetic_alone_is_what_the_mixed_arm_adds() -> None:
    mixed, alone = compose("real+synthetic"), compose("synthetic")
    assert np.array_equal(alone.rows, mixed.rows[20:])
    assert np.array_equal(alone.labels, mixed.labels[20:])


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_oversampled_matches_the_class_counts_and_repeats_evenly(ratio: float) -> None:
    mixed, repeated = compose("real+synthetic", ratio), compose("oversampled", ratio)
    assert repeated.rows.max() < 20
    assert np.array_equal(np.bincount(mixed.labels), np.bincount(repeated.labels))
    times = np.bincount(repeated.rows, minlength=20)
    for label in range(3):
        own = times[POOL.real == label]
        assert own.max() - own.min() <= 1


def test_shuffled_permutes_the_labels_of_the_same_tiles() -> None:
    mixed, shuffled = compose("real+synthetic"), compose("shuffled")
    assert np.array_equal(mixed.rows, shuffled.rows)
    assert np.array_equal(np.bincount(mixed.labels), np.bincount(shuffled.labels))
    moved = mixed.labels[20:] != shuffled.labels[20:]
    assert moved.mean() > 0.3


def test_filtered_draws_kept_tiles_only_and_different_ones() -> None:
    assert POOL.kept is not None
    made = compose("real+filtered", 1.0)
    added = made.rows[20:] - 20
    assert len(added) == len(np.unique(added)) == 20
    assert POOL.kept[added].all()


def test_filtered_takes_all_that_is_kept_where_that_is_less_than_the_ratio() -> None:
    kept = np.zeros(60, dtype=bool)
    kept[[3, 7]] = True
    made = compose("real+filtered", 1.0, pool=replace(POOL, kept=kept))
    assert sorted(made.rows[20:] - 20) == [3, 7]
    nothing = compose("real+filtered", 1.0, pool=replace(POOL, kept=~kept & kept))
    assert np.array_equal(nothing.rows, np.arange(20))


def test_too_few_synthetic_tiles_are_refused_with_the_ratio_they_allow() -> None:
    for arm in ("real+synthetic", "oversampled", "shuffled", "synthetic"):
        with pytest.raises(
            InputError, match=r"needs 80 synthetic tiles: got 60.*ratio of 3 or less"
        ):
            compose(arm, 4.0)


def test_a_tiny_ratio_still_adds_a_tile() -> None:
    assert synthetic_count(20, 0.001) == 1


def test_only_arms_that_add_true_synthetic_tiles_have_a_verdict() -> None:
    tested = [name for name, arm in ARMS.items() if arm.role == "tested"]
    assert tested == ["real+synthetic", "real+filtered"]
    assert [name for name, arm in ARMS.items() if not arm.synthetic] == [
        "real",
        "real+classical",
        "oversampled",
    ]
