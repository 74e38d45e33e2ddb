"""Orbit: invariance under the 8 symmetries, whitening, fingerprints."""

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.data.images import resize
from privgen.encoders.loading import Encoder
from privgen.encoders.orbit import (
    MAX_DIMS,
    SYMMETRIES,
    Whitening,
    embed_orbit,
    fingerprint,
    orbit_mean,
    symmetries,
)
from privgen.errors import InputError

Floats = NDArray[np.float32]


def test_a_tile_has_8_different_versions_beginning_with_itself(crops: NDArray[np.uint8]) -> None:
    versions = list(symmetries(crops[0]))
    assert len({version.tobytes() for version in versions}) == SYMMETRIES
    np.testing.assert_array_equal(versions[0], crops[0])


def test_the_versions_of_a_version_are_the_same_8(crops: NDArray[np.uint8]) -> None:
    orbit = {version.tobytes() for version in symmetries(crops[0])}
    for version in symmetries(crops[0]):
        assert {again.tobytes() for again in symmetries(version)} == orbit


def test_symmetries_of_a_stack_are_those_of_its_tiles(crops: NDArray[np.uint8]) -> None:
    for stack, single in zip(symmetries(crops[:3]), symmetries(crops[1]), strict=True):
        np.testing.assert_array_equal(stack[1], single)


def test_orbit_mean_is_the_same_for_all_symmetries(
    pixels: Encoder, crops: NDArray[np.uint8]
) -> None:
    small = resize(crops[:4], 32)  # the encoder's own side: nothing is rounded on the way
    expected = orbit_mean(pixels, small)
    for version in symmetries(small):
        np.testing.assert_allclose(orbit_mean(pixels, version), expected, rtol=1e-6, atol=1e-7)


def test_orbit_mean_of_the_network_hardly_moves_under_symmetry(
    lite0: Encoder, crops: NDArray[np.uint8]
) -> None:
    tiles = crops[8:16]
    turned = np.rot90(tiles, axes=(1, 2))[:, :, ::-1]
    both = embed_orbit(lite0, np.concatenate([tiles, turned]))
    moved = np.linalg.norm(both.mean[8:] - both.mean[:8], axis=1)
    between = np.linalg.norm(both.mean[:8, None] - both.mean[None, :8], axis=2)
    assert moved.max() < 0.05 * between[~np.eye(8, dtype=bool)].min()
    assert (np.linalg.norm(both.plain[8:] - both.plain[:8], axis=1) > 10 * moved).all()


def test_the_plain_embedding_comes_along_unchanged(
    pixels: Encoder, crops: NDArray[np.uint8]
) -> None:
    both = embed_orbit(pixels, crops[:5])
    np.testing.assert_array_equal(both.plain, pixels.embed(crops[:5]))
    by_hand = np.mean([pixels.embed(v).astype(np.float64) for v in symmetries(crops[:5])], axis=0)
    np.testing.assert_allclose(both.mean, by_hand, rtol=1e-6)


def correlated(rng: np.random.Generator, count: int, width: int) -> Floats:
    spectrum = np.geomspace(10, 0.1, width)
    mixing = np.linalg.qr(rng.normal(size=(width, width)))[0]
    return np.asarray(7 + rng.normal(size=(count, width)) * spectrum @ mixing, dtype=np.float32)


@pytest.mark.parametrize(("count", "width", "dims"), [(300, 20, 20), (300, 20, 7), (40, 90, 12)])
def test_whitened_coordinates_have_identity_covariance(count: int, width: int, dims: int) -> None:
    x = correlated(np.random.default_rng(0), count, width)
    coordinates = Whitening.fit(x, dims).whiten(x)
    assert coordinates.shape == (count, dims)
    np.testing.assert_allclose(coordinates.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.cov(coordinates.T), np.eye(dims), atol=1e-6)


def test_whitening_keeps_the_directions_of_largest_variance() -> None:
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(500, 3)) * (5, 0.1, 2)).astype(np.float32)
    basis = Whitening.fit(x, 2).basis
    np.testing.assert_allclose(np.abs(basis[[0, 2], [0, 1]]) * (5, 2), 1, rtol=0.1)


def test_few_and_many_tiles_take_two_ways_to_one_result() -> None:
    x = correlated(np.random.default_rng(2), 30, 30)
    narrow = Whitening.fit(x, 5)
    wide = Whitening.fit(np.hstack([x, np.zeros((30, 10), dtype=np.float32)]), 5)
    np.testing.assert_allclose(np.abs(wide.basis[:30]), np.abs(narrow.basis), atol=1e-6)


def test_the_order_of_the_roles_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    train, holdout = correlated(rng, 80, 12), correlated(rng, 50, 12)
    first = Whitening.fit(np.concatenate([train, holdout])).apply(train)
    second = Whitening.fit(np.concatenate([holdout, train])).apply(train)
    distances = [np.linalg.norm(x[:, None] - x[None], axis=2) for x in (first, second)]
    np.testing.assert_allclose(distances[0], distances[1], atol=1e-5)


def test_dimensions_default_to_a_quarter_of_the_tiles() -> None:
    x = correlated(np.random.default_rng(4), 60, 40)
    assert Whitening.fit(x).apply(x).shape == (60, 15)
    assert Whitening.fit(x[:3]).apply(x).shape == (60, 1)
    many = np.random.default_rng(4).normal(size=(4 * MAX_DIMS + 40, MAX_DIMS + 9))
    assert Whitening.fit(many.astype(np.float32)).basis.shape[1] == MAX_DIMS


def test_repeated_tiles_span_no_dimension_of_their_own() -> None:
    x = np.repeat(correlated(np.random.default_rng(5), 4, 30), 20, axis=0)
    whitening = Whitening.fit(x)
    assert whitening.basis.shape[1] == 3
    assert np.isfinite(whitening.apply(x)).all()


def test_whitened_tiles_lie_on_the_unit_sphere() -> None:
    x = correlated(np.random.default_rng(6), 60, 40)
    lengths = np.linalg.norm(Whitening.fit(x).apply(x), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)


@pytest.mark.parametrize("x", [np.ones((1, 4)), np.ones((5, 4))])
def test_whitening_refuses_what_has_no_spread(x: NDArray[np.float64]) -> None:
    with pytest.raises(InputError, match="whitening needs"):
        Whitening.fit(x.astype(np.float32))


def closer(first: Floats, second: Floats, base: Floats) -> float:
    """Chance that a tile of `first` is nearer to its nearest of `base` than one of `second`."""
    near = [np.linalg.norm(x[:, None] - base[None], axis=2).min(axis=1) for x in (first, second)]
    return float((near[0][:, None] < near[1][None]).mean())


def test_pooled_whitening_leaves_innocent_tiles_as_far_from_train_as_the_holdout() -> None:
    rng = np.random.default_rng(7)
    x = correlated(rng, 360, 200)
    train, holdout, synthetic = x[:120], x[120:240], x[240:]
    pooled = Whitening.fit(x).apply
    partial = Whitening.fit(x[:240]).apply
    fair = closer(pooled(synthetic), pooled(holdout), pooled(train))
    biased = closer(partial(synthetic), partial(holdout), partial(train))
    assert abs(fair - 0.5) < 0.1
    assert biased > 0.65  # what leaving the synthetic tiles out of the fit would do


def test_a_fingerprint_is_the_same_for_all_symmetries(crops: NDArray[np.uint8]) -> None:
    for tile in crops[:6]:
        assert len({fingerprint(version) for version in symmetries(tile)}) == 1
        assert len(fingerprint(tile)) == 64


def test_different_tiles_have_different_fingerprints(crops: NDArray[np.uint8]) -> None:
    assert len({fingerprint(tile) for tile in crops}) == len(crops)
    changed = crops[0].copy()
    changed[10, 20, 1] ^= 1
    assert fingerprint(changed) != fingerprint(crops[0])


def test_a_tile_without_features_has_no_fingerprint() -> None:
    blank = np.random.default_rng(8).normal(240, 2, (64, 64, 1)).repeat(3, axis=2)
    textured = np.random.default_rng(8).normal(200, 6, (64, 64, 1)).repeat(3, axis=2)
    assert fingerprint(np.full((64, 64, 3), 255, dtype=np.uint8)) == ""
    assert fingerprint(blank.astype(np.uint8)) == ""
    assert fingerprint(textured.clip(0, 255).astype(np.uint8)) != ""
