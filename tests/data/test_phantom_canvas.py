"""The phantom's drawing tools against brute force and closed forms."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from privgen.data.phantom_canvas import FIELD, MARGIN, Canvas, smoothstep


def make_canvas(n: int = 96, seed: int = 0) -> Canvas:
    return Canvas(n, np.random.default_rng(seed))


@pytest.mark.parametrize("size", [1.6, 5.0, 26.0])
def test_noise_has_zero_mean_and_unit_variance(size: float) -> None:
    drawn = np.stack([make_canvas(48, seed).noise(size) for seed in range(300)])
    grains = max(1.0, (FIELD / size) ** 2)
    assert abs(drawn.mean()) < 5 / np.sqrt(300 * grains) + 0.01
    assert drawn.var() == pytest.approx(1.0, abs=0.12)


def test_noise_is_smooth_below_its_size_and_independent_beyond_it() -> None:
    drawn = np.stack([make_canvas(112, seed).noise(8.0) for seed in range(120)])  # 1 px = 1 um
    near = np.mean(drawn[:, 50, 40] * drawn[:, 50, 42])
    far = np.mean(drawn[:, 50, 20] * drawn[:, 50, 90])
    assert near > 0.75
    assert abs(far) < 0.3


def test_the_same_draws_give_the_same_noise_at_any_resolution() -> None:
    coarse = make_canvas(64).noise(20.0)
    fine = make_canvas(256).noise(20.0).reshape(64, 4, 64, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(coarse, fine, atol=0.05)


def test_fibres_run_along_their_angle() -> None:
    for angle in (0.0, 0.6, 1.3, 2.4):
        drawn = make_canvas(112, 3).fibres(angle, 60.0, 4.0)
        down, right = np.gradient(drawn)
        across = 0.5 * np.arctan2(2 * (down * right).mean(), (right**2 - down**2).mean())
        turn = (across + np.pi / 2 - angle + np.pi / 2) % np.pi - np.pi / 2
        assert abs(turn) < 0.1


def test_fibres_have_unit_variance() -> None:
    drawn = np.stack([make_canvas(32, s).fibres(0.4, 20.0, 3.0) for s in range(200)])
    assert drawn.mean() == pytest.approx(0.0, abs=0.05)
    assert drawn.var() == pytest.approx(1.0, abs=0.1)


def test_scattered_points_keep_their_distance_and_their_density() -> None:
    spacing = 8.0
    x, y = make_canvas().scatter(spacing, disorder=0.1)
    distance = cKDTree(np.stack([x, y], axis=1)).query(np.stack([x, y], axis=1), k=2)[0][:, 1]
    assert distance.min() > 0.3 * spacing
    cell = spacing**2 * np.sqrt(3) / 2
    assert x.size == pytest.approx((FIELD + 2 * MARGIN) ** 2 / cell, rel=0.1)
    assert min(x.min(), y.min()) > -MARGIN
    assert max(x.max(), y.max()) < FIELD + MARGIN


def test_stamped_ellipses_equal_a_pixel_by_pixel_oracle() -> None:
    canvas = make_canvas(70)
    rng = np.random.default_rng(9)
    count = 40
    x, y = rng.uniform(-8, FIELD + 8, (2, count))
    long, short = rng.uniform(4, 9, count), rng.uniform(1.5, 4, count)
    angle = rng.uniform(0, np.pi, count)
    depth, owner = canvas.stamp(x, y, long, short, angle, 0.0)
    best = np.full((70, 70), -np.inf)
    whose = np.full((70, 70), -1)
    for k in range(count):
        dx, dy = canvas.x - x[k], canvas.y - y[k]
        along = (dx * np.cos(angle[k]) + dy * np.sin(angle[k])) / long[k]
        across = (dy * np.cos(angle[k]) - dx * np.sin(angle[k])) / short[k]
        here = (1 - np.hypot(along, across)) * short[k]
        whose[here > best] = k
        best = np.maximum(best, here)
    inside = best > 0.01
    assert inside.any()
    np.testing.assert_allclose(depth[inside], best[inside], atol=1e-4)
    assert (owner[inside] == whose[inside]).mean() > 0.999
    assert (depth[best < -0.01] < 0).all()


def test_a_stamp_draws_only_the_chosen_and_nothing_when_none_is_near() -> None:
    canvas = make_canvas(64)
    x, y, turn = np.array([30.0, 80.0]), np.array([30.0, 80.0]), np.zeros(2)
    chosen = np.array([False, True])
    depth, owner = canvas.stamp(x, y, 5.0, 4.0, turn, 0.0, where=chosen)
    assert set(np.unique(owner)) == {-1, 1}
    assert canvas.x[depth > 0].min() > 70
    depth, owner = canvas.stamp(x - 900, y, 5.0, 4.0, turn, 0.0)
    assert (owner == -1).all()
    assert (depth < 0).all()
    depth, owner = canvas.stamp(x[:0], y[:0], 5.0, 4.0, turn[:0], 0.0)
    assert (owner == -1).all()


def test_voronoi_borders_equal_sorted_distances() -> None:
    canvas = make_canvas(40)
    x, y = np.random.default_rng(2).uniform(0, FIELD, (2, 12))
    border, corner = canvas.voronoi(x, y, warp=0.0)
    distance = np.sort(np.hypot(canvas.x[..., None] - x, canvas.y[..., None] - y), axis=-1)
    np.testing.assert_allclose(border, (distance[..., 1] - distance[..., 0]) / 2, atol=1e-3)
    np.testing.assert_allclose(corner, (distance[..., 2] - distance[..., 0]) / 2, atol=1e-3)


def test_a_blend_of_everything_replaces_and_of_nothing_keeps() -> None:
    canvas = make_canvas(8)
    canvas.blend(np.ones((8, 8), np.float32), 0.4, 0.9)
    canvas.blend(np.zeros((8, 8), np.float32), 7.0, 7.0)
    canvas.blend(np.full((8, 8), 0.5, np.float32), 0.0, 0.1)
    np.testing.assert_allclose(canvas.haematoxylin, 0.2, rtol=1e-6)
    np.testing.assert_allclose(canvas.eosin, 0.5, rtol=1e-6)


def test_a_map_is_read_at_pixel_centres() -> None:
    canvas = make_canvas(56)
    x, y = np.random.default_rng(1).uniform(5, 100, (2, 50))
    np.testing.assert_allclose(canvas.at(np.ascontiguousarray(canvas.x), x, y), x, atol=1e-3)
    np.testing.assert_allclose(canvas.at(np.ascontiguousarray(canvas.y), x, y), y, atol=1e-3)


def test_smoothstep_is_zero_half_and_one_where_it_should() -> None:
    values = np.array([-5.0, 1.0, 2.0, 3.0, 9.0], dtype=np.float32)
    np.testing.assert_allclose(smoothstep(values, 1.0, 3.0), [0, 0, 0.5, 1, 1])
