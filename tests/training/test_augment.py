"""Differentiable augmentation: symmetries, stains against the numpy reference, gradients, purity."""

import numpy as np
import pytest
import torch

from privgen.data import stain
from privgen.training.augment import DRAWS, augment, jitter_stains


def _tiles(side: int = 16, count: int = 2) -> torch.Tensor:
    rng = np.random.default_rng(0)
    rgb = rng.integers(40, 230, (count, side, side, 3)).astype(np.uint8)
    return torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 127.5 - 1


def _draws(symmetry: int) -> np.ndarray:
    """Draws that change no stain, do not shift, and cut nothing out."""
    draws = np.full(DRAWS, 0.5, dtype=np.float32)
    draws[6] = (symmetry + 0.5) / 8
    return draws


def test_strength_zero_only_resamples() -> None:
    tiles = _tiles()
    draws = np.random.default_rng(1).random(DRAWS, dtype=np.float32)
    torch.testing.assert_close(augment(tiles, draws, strength=0.0, side=16), tiles)
    assert augment(tiles, draws, strength=0.0, side=24).shape == (2, 3, 24, 24)
    assert augment(tiles, draws, strength=0.0, side=8).shape == (2, 3, 8, 8)


def test_neutral_draws_give_the_eight_symmetries_of_the_square() -> None:
    tile = _tiles(count=1)
    seen = [augment(tile, _draws(k), strength=1.0, side=16) for k in range(8)]
    expected = [torch.rot90(t, k, (2, 3)) for t in (tile, tile.flip(3)) for k in range(4)]
    matches = [
        [k for k, e in enumerate(expected) if torch.allclose(s, e, atol=1e-2)] for s in seen
    ]
    assert sorted(k for found in matches for k in found) == list(range(8))


def test_stains_change_as_in_the_numpy_reference() -> None:
    tiles = _tiles()
    u = np.array([0.9, 0.1, 0.6, 0.2, 0.8, 0.5], dtype=np.float32)
    rgb = ((tiles + 1) * 127.5).round().permute(0, 2, 3, 1).numpy().astype(np.uint8)
    hed = stain.optical_density(rgb) @ stain.HED_FROM_RGB
    hed = hed * (1 + 0.1 * (2 * u[:3] - 1)) + 0.025 * (2 * u[3:] - 1)
    expected = np.exp(-(hed @ stain.RGB_FROM_HED)) * 256 - 1
    found = (jitter_stains(tiles, u, strength=1.0) + 1) * 127.5
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected, atol=0.05)


def test_all_tiles_of_a_step_change_alike_so_that_copies_stay_copies() -> None:
    tile = _tiles(count=1).expand(4, -1, -1, -1)
    draws = np.random.default_rng(2).random(DRAWS, dtype=np.float32)
    out = augment(tile, draws, strength=1.0, side=24)
    assert not torch.allclose(out, augment(tile, draws, strength=0.0, side=24), atol=1e-2)
    for row in range(1, 4):
        torch.testing.assert_close(out[row], out[0])


def test_the_same_draws_give_the_same_tiles() -> None:
    draws = np.random.default_rng(3).random(DRAWS, dtype=np.float32)
    first = augment(_tiles(), draws, strength=1.0, side=24)
    assert torch.equal(first, augment(_tiles(), draws, strength=1.0, side=24))


@pytest.mark.parametrize("side", [8, 24])
def test_gradients_reach_every_pixel_that_is_not_cut_out(side: int) -> None:
    tiles = _tiles().requires_grad_()
    augment(tiles, _draws(3), strength=1.0, side=side).sum().backward()
    assert tiles.grad is not None
    assert bool((tiles.grad != 0).all())


def test_every_second_draw_cuts_one_square_out_in_the_tiles_own_colour() -> None:
    tiles = _tiles(side=32)
    draws = _draws(0)
    draws[11] = 0.1
    cut = augment(tiles, draws, strength=1.0, side=32)
    whole = augment(tiles, _draws(0), strength=1.0, side=32)
    changed = (cut != whole).any(dim=1)
    assert changed[0].sum() == 8 * 8  # a quarter of the side
    torch.testing.assert_close(cut[0, :, 16, 16], whole[0].mean(dim=(1, 2)))
