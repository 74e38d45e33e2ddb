"""Differentiable augmentation: what both real and synthetic tiles go through before they are judged.

Tissue on a slide has no up, and every laboratory stains a little differently. So the discriminator
sees each tile rotated and flipped (the 8 symmetries of the square), shifted, cut out in one square,
and with its stains scaled and shifted in the haematoxylin-eosin-DAB space (`privgen.data.stain`).
Zhao et al. 2020, "Differentiable augmentation" (arXiv:2006.10738); Tellez et al. 2018 for the stains.

Draws are a pure function of (seed, step, role, index), so that a resumed run repeats them.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from privgen.data.stain import HED_FROM_RGB, RGB_FROM_HED

DRAWS = 12
"""Uniform numbers a tile's augmentation needs."""

SHIFT = 0.125
"""Largest shift, as a share of the side."""

CUTOUT = 0.25
"""Side of the square cut out, as a share of the tile's side."""


def augment(tiles: Tensor, draws: NDArray[np.float32], *, strength: float, side: int) -> Tensor:
    """Augment tiles and resample them to `side`, in one differentiable step.

    Args:
      tiles: RGB in [-1, 1], shape (n, 3, r, r).
      draws: uniform in [0, 1), shape (n, DRAWS).
      strength: 0 only resamples; 1 is the full range of shifts, cut-outs and stains.
      side: pixels a side of the result.

    Returns:
      RGB, shape (n, 3, side, side), float32; stain changes may leave [-1, 1] by a little.
    """
    u = torch.from_numpy(draws).to(tiles.device)
    x = jitter_stains(tiles.float(), u[:, :6], strength=strength)
    if side < tiles.shape[-1]:
        x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
    x = _resample(x, u[:, 6:9], strength=strength, side=side)
    return _cut_out(x, u[:, 9:12], strength=strength) if strength else x


def jitter_stains(tiles: Tensor, u: Tensor, *, strength: float) -> Tensor:
    """Scale each stain by up to 10 % and shift it by up to .025, at strength 1.

    Args:
      tiles: RGB in [-1, 1], shape (n, 3, h, w).
      u: uniform in [0, 1), shape (n, 6): three scales, three shifts.
      strength: 0 leaves the tiles as they are.
    """
    if not strength:
        return tiles
    to_hed = torch.as_tensor(HED_FROM_RGB, dtype=torch.float32, device=tiles.device)
    to_rgb = torch.as_tensor(RGB_FROM_HED, dtype=torch.float32, device=tiles.device)
    scale = 1 + 0.1 * strength * (2 * u[:, :3] - 1)
    shift = 0.025 * strength * (2 * u[:, 3:6] - 1)
    # od' = (od @ A * scale + shift) @ B is one affine map a tile: fold it before touching pixels.
    matrix = torch.einsum("ij,nj,jk->nki", to_hed, scale, to_rgb)
    offset = shift @ to_rgb
    rgb = (tiles + 1) * 127.5
    density = -torch.log((rgb.clamp(0, 255) + 1) / 256)
    density = torch.einsum("nki,nihw->nkhw", matrix, density) + offset[:, :, None, None]
    return (torch.exp(-density) * 256 - 1) / 127.5 - 1


def _resample(x: Tensor, u: Tensor, *, strength: float, side: int) -> Tensor:
    """One of the 8 symmetries and a shift, sampled at `side` pixels; the border is mirrored."""
    symmetry = (u[:, 0] * 8).long().clamp(max=7)
    flip_x, flip_y, swap = symmetry % 2 * 2 - 1, symmetry // 2 % 2 * 2 - 1, symmetry // 4 == 1
    zero = torch.zeros_like(u[:, 0])
    fx, fy = flip_x.to(u.dtype), flip_y.to(u.dtype)
    row_x = torch.where(swap[:, None], torch.stack([zero, fx], 1), torch.stack([fx, zero], 1))
    row_y = torch.where(swap[:, None], torch.stack([fy, zero], 1), torch.stack([zero, fy], 1))
    shift = 2 * SHIFT * strength * (2 * u[:, 1:3] - 1)
    theta = torch.cat([torch.stack([row_x, row_y], 1), shift[:, :, None]], dim=2)
    grid = F.affine_grid(theta, [len(x), x.shape[1], side, side], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _cut_out(x: Tensor, u: Tensor, *, strength: float) -> Tensor:
    """Half the tiles lose one square, painted in the tile's mean colour."""
    side = x.shape[-1]
    place = torch.arange(side, device=x.device) / side
    length = CUTOUT * strength * (u[:, 2] < 0.5).to(x.dtype)
    inside = [
        (place[None] >= u[:, k, None] - length[:, None] / 2)
        & (place[None] < u[:, k, None] + length[:, None] / 2)
        for k in (0, 1)
    ]
    hole = (inside[0][:, None, :] & inside[1][:, :, None])[:, None]
    return torch.where(hole, x.mean(dim=(2, 3), keepdim=True), x)
