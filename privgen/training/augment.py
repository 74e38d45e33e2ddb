"""Differentiable augmentation: what real and synthetic tiles go through before they are judged.

Tissue on a slide has no up, and every laboratory stains a little differently. So the discriminator
sees each tile rotated and flipped (the 8 symmetries of the square), shifted, cut out in one square,
and with its stains scaled and shifted in the haematoxylin-eosin-DAB space (`privgen.data.stain`).
Zhao et al. 2020, "Differentiable augmentation" (arXiv:2006.10738); Tellez et al. 2018 for the
stains.

Tiles 2k and 2k + 1 of a batch go through the same change, and all others through others. The
variety keeps the discriminator from memorising; the pairs let it see (and `objectives` measure) how
much two tiles of a class differ by themselves: had each its own change, one synthetic layout
repeated would look diverse. Draws are a pure function of (seed, step, pair), so a resumed run
repeats them.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from privgen.data.stain import HED_FROM_RGB, RGB_FROM_HED
from privgen.models.layers import wide
from privgen.models.resampling import resize, sample_affine

DRAWS = 20
"""Uniform numbers per tile's augmentation needs: 12 that say how, 2 for zoom and turn, 6 gates."""

SHIFT = 0.125
"""Largest shift, as a share of the side."""

CUTOUT = 0.25
"""Side of the square cut out, as a share of the tile's side."""

ZOOM = 0.3
"""Largest zoom of the adaptive pipe, in powers of two."""

_STAIN, _SYMMETRY, _SHIFT, _CUTOUT, _ZOOM, _TURN = range(6)


def augment(
    tiles: Tensor,
    draws: NDArray[np.float32],
    *,
    strength: float,
    side: int,
    probability: float | None = None,
) -> Tensor:
    """Augment tiles and resample them to `side`, in one differentiable step.

    Args:
      tiles: RGB in [-1, 1], shape (n, 3, r, r).
      draws: uniform in [0, 1), shape (n, DRAWS).
      strength: 0 only resamples; 1 is the full range of shifts, cut-outs and stains.
      side: pixels per side of the result.
      probability: None applies symmetries, shifts, cut-outs and stains to every tile; a number
        applies each of these, and zooms and turns by any angle, with that probability, which the
        discriminator can then hold up against the synthetic tiles without their showing it
        (Karras et al. 2020b).

    Returns:
      RGB, shape (n, 3, side, side), float32; stain changes may leave [-1, 1] by a little.
    """
    x = wide(tiles)
    applied: NDArray[np.bool_] = draws[:, 14:20] < (1.0 if probability is None else probability)
    if probability is None:
        applied[:, [_ZOOM, _TURN]] = False
    amount = applied.astype(np.float64) * strength
    if amount[:, _STAIN].any():
        x = jitter_stains(x, draws[:, :6], strength=amount[:, _STAIN])
    if side < tiles.shape[-1]:
        x = resize(x, side)
    if not amount.any():
        return x if side == x.shape[-1] else resize(x, side)
    x = _resample(x, draws[:, 6:9], draws[:, 12:14], amount, side=side)
    return _cut_out(x, draws[:, 9:12], amount[:, _CUTOUT])


def jitter_stains(
    tiles: Tensor, draws: NDArray[np.float32], *, strength: float | NDArray[np.float64]
) -> Tensor:
    """Scale each stain by up to 10 % and shift it by up to .025, at strength 1.

    Args:
      tiles: RGB in [-1, 1], shape (n, 3, h, w).
      draws: uniform in [0, 1), shape (n, 6): three scales, three shifts.
      strength: one, or one per tile, shape (n,); 0 leaves a tile as it is.
    """
    reach = np.broadcast_to(np.asarray(strength, dtype=np.float64), len(tiles))[:, None]
    scale = 1 + 0.1 * reach * (2 * draws[:, :3] - 1)
    shift = 0.025 * reach * (2 * draws[:, 3:] - 1)
    # hed = od @ A; od' = (hed * scale + shift) @ B: one affine map of three channels a tile.
    mixing = np.einsum("ij,nj,jk->nki", HED_FROM_RGB, scale, RGB_FROM_HED)
    matrix = torch.from_numpy(mixing).to(tiles)
    offset = torch.from_numpy(shift @ RGB_FROM_HED).to(tiles)
    density = -torch.log((((tiles + 1) * 127.5).clamp(0, 255) + 1) / 256)
    mixed = torch.baddbmm(offset[:, :, None], matrix, density.flatten(2))
    changed = (torch.exp(-mixed.reshape(tiles.shape)) * 256 - 1) / 127.5 - 1
    # The clamp must not reach a tile only because another one is changed.
    wanted = torch.from_numpy(reach[:, 0] > 0).to(tiles.device)
    return torch.where(wanted[:, None, None, None], changed, tiles)


def _resample(
    x: Tensor,
    draws: NDArray[np.float32],
    extra: NDArray[np.float32],
    amount: NDArray[np.float64],
    *,
    side: int,
) -> Tensor:
    """One symmetry, a shift, a zoom and a turn, sampled at `side` pixels; the border is mirrored.

    `draws` holds symmetry and shifts, `extra` zoom and turn, each uniform in [0, 1).
    """
    symmetry = np.where(amount[:, _SYMMETRY] > 0, (draws[:, 0] * 8).astype(int) % 8, 3)
    flips = np.stack([symmetry % 2, symmetry // 2 % 2], axis=1) * 2.0 - 1.0
    matrix = np.zeros((len(x), 2, 3))
    swapped = symmetry >= 4
    for row in (0, 1):
        matrix[~swapped, row, row] = flips[~swapped, row]
        matrix[swapped, row, 1 - row] = flips[swapped, row]
    zoom = 2.0 ** (-ZOOM * amount[:, _ZOOM] * (2 * extra[:, 0] - 1))
    angle = 2 * np.pi * extra[:, 1] * (amount[:, _TURN] > 0)
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    turn = np.stack([np.stack([cosine, -sine], 1), np.stack([sine, cosine], 1)], axis=1)
    matrix[:, :, :2] = turn @ matrix[:, :, :2]
    matrix[:, :, 2] = 2 * SHIFT * amount[:, _SHIFT, None] * (2 * draws[:, 1:3] - 1)
    return sample_affine(x, torch.from_numpy(matrix).to(x), side)


def _cut_out(x: Tensor, draws: NDArray[np.float32], strength: NDArray[np.float64]) -> Tensor:
    """Half the tiles lose one square, painted in their own mean colour."""
    side = x.shape[-1]
    pixel = (np.arange(side) + 0.5) / side
    reach = np.where(draws[:, 2] < 0.5, CUTOUT * strength / 2, 0.0)[:, None]
    across, down = (np.abs(pixel - draws[:, k, None]) < reach for k in (0, 1))
    hole = torch.from_numpy(down[:, :, None] & across[:, None, :]).to(x.device)
    return torch.where(hole[:, None], x.mean(dim=(2, 3), keepdim=True), x)
