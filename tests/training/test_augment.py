"""Differentiable augmentation: symmetries, stains against numpy, gradients, purity."""

import numpy as np
import pytest
import torch

from privgen.data import stain
from privgen.training.augment import DRAWS, augment, jitter_stains


def _tiles(side: int = 16, count: int = 2) -> torch.Tensor:
    rng = np.random.default_rng(0)
    rgb = rng.integers(40, 230, (count, side, side, 3)).astype(np.uint8)
    return torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 127.5 - 1


def _draws(*symmetries: int) -> np.ndarray:
    """Draws that change no stain, do not shift, and cut nothing out; one row a symmetry."""
    draws = np.full((len(symmetries), DRAWS), 0.5, dtype=np.float32)
    draws[:, 6] = (np.array(symmetries) + 0.5) / 8
    return draws


def _random(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((count, DRAWS), dtype=np.float32)


def test_strength_zero_only_resamples() -> None:
    tiles = _tiles()
    draws = _random(2, 1)
    torch.testing.assert_close(augment(tiles, draws, strength=0.0, side=16), tiles)
    assert augment(tiles, draws, strength=0.0, side=24).shape == (2, 3, 24, 24)
    assert augment(tiles, draws, strength=0.0, side=8).shape == (2, 3, 8, 8)


def test_neutral_draws_give_the_eight_symmetries_of_the_square() -> None:
    tile = _tiles(count=1)
    seen = augment(tile.expand(8, -1, -1, -1), _draws(*range(8)), strength=1.0, side=16)
    expected = [torch.rot90(t, k, (2, 3))[0] for t in (tile, tile.flip(3)) for k in range(4)]
    matches = [[k for k, e in enumerate(expected) if torch.allclose(s, e, atol=1e-2)] for s in seen]
    assert sorted(k for found in matches for k in found) == list(range(8))


def test_stains_change_as_in_the_numpy_reference() -> None:
    tiles = _tiles()
    u = np.array([[0.9, 0.1, 0.6, 0.2, 0.8, 0.5], [0.3, 0.7, 0.0, 1.0, 0.4, 0.6]], np.float32)
    rgb = ((tiles + 1) * 127.5).round().permute(0, 2, 3, 1).numpy().astype(np.uint8)
    hed = stain.optical_density(rgb) @ stain.HED_FROM_RGB
    scale, shift = 1 + 0.1 * (2 * u[:, :3] - 1), 0.025 * (2 * u[:, 3:] - 1)
    hed = hed * scale[:, None, None] + shift[:, None, None]
    expected = np.exp(-(hed @ stain.RGB_FROM_HED)) * 256 - 1
    found = (jitter_stains(tiles, u, strength=1.0) + 1) * 127.5
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected, atol=0.05)


def test_tiles_with_the_same_draws_change_alike_and_others_otherwise() -> None:
    tile = _tiles(count=1).expand(4, -1, -1, -1)
    out = augment(tile, np.repeat(_random(2, 2), 2, axis=0), strength=1.0, side=24)
    torch.testing.assert_close(out[0], out[1])
    torch.testing.assert_close(out[2], out[3])
    assert not torch.allclose(out[0], out[2], atol=1e-2)


def test_a_tile_does_not_depend_on_its_batch() -> None:
    draws = _random(2, 3)
    together = augment(_tiles(), draws, strength=1.0, side=24)
    alone = augment(_tiles()[1:], draws[1:], strength=1.0, side=24)
    torch.testing.assert_close(together[1:], alone)


@pytest.mark.parametrize("side", [8, 24])
def test_gradients_reach_every_pixel_that_is_not_cut_out(side: int) -> None:
    tiles = _tiles().requires_grad_()
    augment(tiles, _draws(3, 5), strength=1.0, side=side).sum().backward()
    assert tiles.grad is not None
    assert bool((tiles.grad != 0).all())


def test_every_second_tile_loses_one_square_painted_in_its_own_colour() -> None:
    tiles = _tiles(side=32)
    draws = _draws(0, 0)
    draws[1, 11] = 0.1
    cut = augment(tiles, draws, strength=1.0, side=32)
    whole = augment(tiles, _draws(0, 0), strength=1.0, side=32)
    changed = (cut != whole).any(dim=1)
    assert changed[0].sum() == 0
    assert changed[1].sum() == 8 * 8  # a quarter of the side
    torch.testing.assert_close(cut[1, :, 16, 16], whole[1].mean(dim=(1, 2)))


def _gated(count: int, *kinds: int) -> np.ndarray:
    """Neutral draws whose gates for these kinds are open below probability .9, all others shut."""
    draws = _draws(*[3] * count)
    draws[:, 14:20] = 0.95
    for kind in kinds:
        draws[:, 14 + kind] = 0.0
    return draws


def _smooth(side: int = 32) -> torch.Tensor:
    """One tile of slow waves, so that interpolation errs little, and no symmetry."""
    down, across = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    down, across = (down + 0.5) / side, (across + 0.5) / side
    waves = [torch.sin(2 * down + across), torch.cos(3 * across * down), torch.sin(down - across)]
    return 0.5 * torch.stack(waves)[None]


STAIN, SYMMETRY, SHIFT, CUTOUT, ZOOM, TURN = range(6)


def test_probability_zero_only_resamples() -> None:
    tiles, draws = _tiles(), _random(2, 1)
    out = augment(tiles, draws, strength=1.0, side=16, probability=0.0)
    torch.testing.assert_close(out, tiles)
    assert augment(tiles, draws, strength=1.0, side=24, probability=0.0).shape == (2, 3, 24, 24)


@pytest.mark.parametrize(("angle", "turns"), [(0.25, 1), (0.5, 2), (0.75, 3)])
def test_a_turn_by_right_angles_is_that_of_rot90(angle: float, turns: int) -> None:
    draws = _draws(3)
    draws[:, 13], draws[:, 14:20] = angle, 0.0
    draws[:, 14 + CUTOUT] = 1.0
    turned = augment(_smooth(), draws, strength=1.0, side=32, probability=1.0)
    expected = torch.rot90(_smooth(), turns, (2, 3))
    torch.testing.assert_close(turned, expected, atol=2e-3, rtol=0)
    assert float((expected - _smooth()).abs().max()) > 0.1


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_a_zoom_keeps_the_centre_and_scales_what_is_around_it(end: float) -> None:
    draws = _gated(1, ZOOM)
    draws[:, 12] = end
    zoomed = augment(_smooth(), draws, strength=1.0, side=32, probability=0.9)
    middle = (slice(None), slice(None), slice(15, 17), slice(15, 17))
    torch.testing.assert_close(
        zoomed[middle].mean((2, 3)), _smooth()[middle].mean((2, 3)), atol=2e-3, rtol=0
    )
    # Up to .3 powers of two: the slope across the middle grows or shrinks by as much.
    slope = [x[0, 2, 12:20, 16].diff().mean() for x in (zoomed, _smooth())]
    assert float(slope[0] / slope[1]) == pytest.approx(2 ** (0.3 * (1 - 2 * end)), rel=0.02)


@pytest.mark.parametrize("kind", [STAIN, SYMMETRY, SHIFT, CUTOUT, ZOOM, TURN])
def test_each_kind_has_a_gate_of_its_own(kind: int) -> None:
    draws = _gated(2, kind)
    draws[:, :14] = _random(1, 4)[:, :14]
    draws[:, 6], draws[:, 11] = 0.2, 0.1  # a symmetry that is not the identity; a cut-out
    shut = draws.copy()
    shut[0, 14 + kind] = 0.95
    opened = augment(_tiles(), draws, strength=1.0, side=16, probability=0.9)
    half = augment(_tiles(), shut, strength=1.0, side=16, probability=0.9)
    assert not torch.allclose(opened[0], _tiles()[0], atol=1e-3)
    torch.testing.assert_close(half[0], _tiles()[0], atol=1e-4, rtol=0)  # this tile's gate is shut
    torch.testing.assert_close(half[1], opened[1])


def test_without_a_probability_gates_are_open_and_nothing_zooms_or_turns() -> None:
    draws = _draws(3, 3)
    draws[:, 12:14], draws[:, 14:20] = 0.9, 0.99
    torch.testing.assert_close(
        augment(_smooth().expand(2, -1, -1, -1), draws, strength=1.0, side=32),
        _smooth().expand(2, -1, -1, -1),
        atol=1e-4,
        rtol=0,
    )


def test_strength_of_stains_is_that_of_each_tile() -> None:
    tiles, draws = _tiles(count=3), _random(3, 5)[:, :6]
    mixed = jitter_stains(tiles, draws, strength=np.array([0.0, 0.4, 1.0]))
    torch.testing.assert_close(mixed[0], tiles[0], atol=1e-4, rtol=0)
    for row, strength in ((1, 0.4), (2, 1.0)):
        alone = jitter_stains(tiles[row : row + 1], draws[row : row + 1], strength=strength)
        torch.testing.assert_close(mixed[row : row + 1], alone)
    changes = (mixed - tiles).abs().mean(dim=(1, 2, 3))
    assert 0 < changes[1] < changes[2]


def test_colours_out_of_range_are_kept_where_only_another_tile_changes_its_stains() -> None:
    tiles = 1.5 * _tiles()
    draws = _gated(2, STAIN)
    draws[0, 14 + STAIN] = 0.95
    assert float(tiles[0].abs().max()) > 1
    out = augment(tiles, draws, strength=1.0, side=16, probability=0.9)
    torch.testing.assert_close(out[0], tiles[0], atol=1e-4, rtol=0)
    assert float(out[1].max()) < 1.3
