"""Nearest neighbours against brute force in float64."""

import numpy as np
import pytest
from numpy.typing import NDArray

from audits import AuditInputError, neighbors
from audits.neighbors import group_distances, nearest, nearest_others


def brute_force(
    queries: NDArray[np.float32], base: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Neighbours by direct differences; equally near rows in the order of the base."""
    distances = np.empty((len(queries), k))
    indices = np.empty((len(queries), k), dtype=np.intp)
    for row, query in enumerate(queries.astype(np.float64)):
        every = np.linalg.norm(query - base.astype(np.float64), axis=1)
        indices[row] = np.argsort(every, kind="stable")[:k]
        distances[row] = every[indices[row]]
    return distances, indices


@pytest.mark.parametrize(("rows", "width", "k"), [(200, 3, 1), (200, 64, 5), (7, 4, 7), (30, 1, 2)])
def test_equals_brute_force(rng: np.random.Generator, rows: int, width: int, k: int) -> None:
    base = rng.normal(size=(rows, width)).astype(np.float32)
    queries = rng.normal(size=(60, width)).astype(np.float32)
    found = nearest(queries, base, k=k)
    distances, indices = brute_force(queries, base, k)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)
    np.testing.assert_array_equal(found.indices, indices)
    assert found.distances.dtype == np.float64


def test_an_offset_of_100_changes_nothing_and_leaves_self_distances_exactly_zero(
    rng: np.random.Generator,
) -> None:
    base = rng.normal(size=(500, 64)).astype(np.float32)
    base = (np.round(base * 1024) / 1024).astype(
        np.float32
    )  # exactly representable with and without the offset
    plain, shifted = nearest(base, base, k=4), nearest(base + 100, base + 100, k=4)
    np.testing.assert_array_equal(plain.indices, shifted.indices)
    np.testing.assert_array_equal(shifted.distances[:, 0], 0.0)
    np.testing.assert_allclose(plain.distances, shifted.distances, rtol=1e-12)


def test_duplicates_all_appear_at_distance_zero_first_row_first(rng: np.random.Generator) -> None:
    once = rng.normal(size=(20, 16)).astype(np.float32)
    found = nearest(once, np.tile(once, (5, 1)), k=5)
    np.testing.assert_array_equal(found.distances, 0.0)
    np.testing.assert_array_equal(found.indices, np.arange(20)[:, None] + 20 * np.arange(5))


def test_more_duplicates_than_candidates_do_not_hide_the_nearest_row(
    rng: np.random.Generator,
) -> None:
    crowd = np.ones((300, 256), dtype=np.float32) * 100
    crowd += rng.normal(size=crowd.shape).astype(np.float32) * 1e-4
    base = np.concatenate([rng.normal(size=(300, 256)).astype(np.float32), crowd])
    queries = base[rng.permutation(600)[:100]]
    found = nearest(queries, base, k=1)
    np.testing.assert_array_equal(found.distances, 0.0)


def test_tight_clusters_far_apart_are_resolved_although_float32_cannot(
    rng: np.random.Generator,
) -> None:
    centres = rng.normal(size=(3, 256)) * 600
    base = (centres[rng.integers(3, size=1500)] + 0.1 * rng.normal(size=(1500, 256))).astype("f4")
    queries = (centres[rng.integers(3, size=40)] + 0.1 * rng.normal(size=(40, 256))).astype("f4")
    queries[:10] = base[:10]
    found = nearest(queries, base, k=3)
    distances, indices = brute_force(queries, base, 3)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)
    np.testing.assert_array_equal(found.distances[:10, 0], 0.0)


@pytest.mark.parametrize("scale", [1e-35, 1e-20, 1e18, 1e25, 1e37])
def test_extreme_scales_neither_overflow_nor_underflow(
    rng: np.random.Generator, scale: float
) -> None:
    base = (rng.normal(size=(80, 8)) * scale).astype(np.float32)
    queries = (rng.normal(size=(30, 8)) * scale).astype(np.float32)
    found = nearest(queries, base, k=3)
    distances, indices = brute_force(queries, base, 3)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)


def test_a_query_far_outside_the_base_is_still_measured(rng: np.random.Generator) -> None:
    base = rng.normal(size=(60, 4)).astype(np.float32)
    queries = np.array([[3e37, 0, 0, 0], [0, 0, 0, 0]], dtype=np.float32)
    found = nearest(queries, base, k=2)
    np.testing.assert_allclose(found.distances, brute_force(queries, base, 2)[0], rtol=1e-12)


def test_block_size_changes_nothing(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = rng.normal(size=(300, 32)).astype(np.float32)
    base[150:] = base[:150]
    queries = rng.normal(size=(101, 32)).astype(np.float32)
    whole = nearest(queries, base, k=6)
    for size in (1, 7, 100):
        monkeypatch.setattr(neighbors, "_BLOCK", size)
        monkeypatch.setattr(neighbors, "_BLOCK_AGAIN", size)
        blocked = nearest(queries, base, k=6)
        np.testing.assert_array_equal(blocked.indices, whole.indices)
        np.testing.assert_array_equal(blocked.distances, whole.distances)


def crowded(rows: int = 2000, width: int = 20) -> NDArray[np.float32]:
    """Equal rows far apart, and at the end tight clusters that float32 cannot resolve.

    A search that meets the clusters measures its neighbours in another way than one that does not.
    """
    rng = np.random.default_rng(0)
    base = rng.normal(size=(rows, width))
    base[rows // 2 : 3 * rows // 4] = base[: rows // 4]
    tight = base[3 * rows // 4 :]
    tight *= 0.1
    tight += 600 * rng.normal(size=(3, width))[rng.integers(3, size=len(tight))]
    return base.astype(np.float32)


@pytest.mark.parametrize(("rows", "width"), [(2000, 20), (200, 9000)])
def test_a_distance_does_not_depend_on_the_rows_searched_with_it(rows: int, width: int) -> None:
    base = crowded(rows, width)
    whole = nearest(base, base, k=6)
    for row in range(0, rows, 7):
        chosen = np.sort(whole.indices[row])
        alone = nearest(base[row : row + 1], base[chosen], k=6)
        np.testing.assert_array_equal(chosen[alone.indices[0]], whole.indices[row])
        assert alone.distances[0].tobytes() == whole.distances[row].tobytes()


def test_queries_are_answered_in_their_own_order(rng: np.random.Generator) -> None:
    base = rng.normal(size=(100, 8)).astype(np.float32)
    queries = rng.normal(size=(50, 8)).astype(np.float32)
    order = rng.permutation(50)
    np.testing.assert_array_equal(
        nearest(queries[order], base, k=2).indices, nearest(queries, base, k=2).indices[order]
    )


def test_more_neighbours_than_rows_is_an_error_naming_both() -> None:
    with pytest.raises(AuditInputError, match=r"4 neighbours asked for among 3 tiles"):
        nearest(np.zeros((1, 2), dtype=np.float32), np.eye(3, 2, dtype=np.float32), k=4)


def test_nearest_others_equals_brute_force_without_the_row_itself(
    rng: np.random.Generator,
) -> None:
    tiles = rng.normal(size=(60, 5)).astype(np.float32)
    tiles[10:14] = tiles[10]
    found = nearest_others(tiles, k=4)
    for row in range(60):
        others = np.delete(np.arange(60), row)
        distances, indices = brute_force(tiles[row : row + 1], tiles[others], 4)
        np.testing.assert_allclose(found.distances[row], distances[0], rtol=1e-12)
        assert row not in found.indices[row]
        np.testing.assert_array_equal(found.indices[row], others[indices[0]])


def test_nearest_others_among_more_equal_rows_than_neighbours(rng: np.random.Generator) -> None:
    tiles = np.concatenate([np.ones((9, 3)), rng.normal(size=(5, 3))]).astype(np.float32)
    found = nearest_others(tiles, k=3)
    assert found.distances.shape == (14, 3)
    assert (found.distances[:9] == 0).all()
    with pytest.raises(AuditInputError, match="15 neighbours asked for among 14"):
        nearest_others(tiles, k=14)


@pytest.mark.parametrize("rows", [5, 2500])
def test_group_distances_equal_brute_force(rng: np.random.Generator, rows: int) -> None:
    queries = (rng.normal(size=(rows, 6)) + 100).astype(np.float32)
    base = (rng.normal(size=(90, 6)) + 100).astype(np.float32)
    groups = rng.permutation(np.arange(90) % 7)
    found = group_distances(queries, base, groups)
    assert found.shape == (rows, 7)
    for group in range(7):
        expected = nearest(queries, base[groups == group], k=1).distances[:, 0]
        np.testing.assert_allclose(found[:, group], expected, rtol=1e-4)
