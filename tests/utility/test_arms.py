import numpy as np
import pytest

from privgen.errors import InputError
from privgen.utility.arms import ARMS, BASELINE, Composition, Pool, synthetic_count

POOL = Pool(
    real=np.array([0] * 10 + [1] * 3 + [2] * 7),
    synthetic=np.random.default_rng(0).integers(0, 3, size=60),
)
ALL_LABELS = np.concatenate([POOL.real, POOL.synthetic])


def compose(arm: str, ratio: float, seed: int = 0) -> Composition:
    return ARMS[arm].compose(POOL, ratio, np.random.default_rng(seed))


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_holds_all_real_tiles_once_at_least_and_true_labels(arm: str) -> None:
    made = compose(arm, 1.5)
    assert np.array_equal(np.intersect1d(made.rows, np.arange(20)), np.arange(20))
    assert np.array_equal(made.labels, ALL_LABELS[made.rows])


def test_the_baseline_is_the_real_tiles() -> None:
    made = compose(BASELINE, 0.0)
    assert np.array_equal(made.rows, np.arange(20))


@pytest.mark.parametrize(("ratio", "added"), [(0.25, 5), (0.5, 10), (1.0, 20), (3.0, 60)])
def test_the_ratio_counts_different_synthetic_tiles_for_each_real_one(
    ratio: float, added: int
) -> None:
    made = compose("real+synthetic", ratio)
    synthetic = made.rows[made.rows >= 20]
    assert len(synthetic) == len(np.unique(synthetic)) == added
    assert len(made) == 20 + added


def test_a_smaller_ratio_draws_a_part_of_a_larger_one() -> None:
    small, large = compose("real+synthetic", 0.5), compose("real+synthetic", 2.0)
    assert set(small.rows) < set(large.rows)


def test_seeds_draw_different_synthetic_tiles() -> None:
    assert set(compose("real+synthetic", 1.0, 0).rows) != set(
        compose("real+synthetic", 1.0, 1).rows
    )


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_oversampled_matches_the_class_counts_and_repeats_evenly(ratio: float) -> None:
    mixed, repeated = compose("real+synthetic", ratio), compose("oversampled", ratio)
    assert repeated.rows.max() < 20
    assert np.array_equal(np.bincount(mixed.labels), np.bincount(repeated.labels))
    times = np.bincount(repeated.rows, minlength=20)
    for label in range(3):
        own = times[POOL.real == label]
        assert own.max() - own.min() <= 1


def test_too_few_synthetic_tiles_are_refused_with_the_ratio_they_allow() -> None:
    for arm in ("real+synthetic", "oversampled"):
        with pytest.raises(
            InputError, match=r"needs 80 synthetic tiles: got 60.*ratio of 3 or less"
        ):
            compose(arm, 4.0)


def test_a_tiny_ratio_still_adds_a_tile() -> None:
    assert synthetic_count(20, 0.001) == 1
