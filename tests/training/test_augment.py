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
