"""Differentiable augmentation: what both real and synthetic tiles go through before they are judged.

Tissue on a slide has no up, and every laboratory stains a little differently. So the discriminator
sees each tile rotated and flipped (the 8 symmetries of the square), shifted, cut out in one square,
and with its stains scaled and shifted in the haematoxylin-eosin-DAB space (`privgen.data.stain`).
Zhao et al. 2020, "Differentiable augmentation" (arXiv:2006.10738); Tellez et al. 2018 for the stains.

All tiles of a step, real and synthetic, go through the same change. With one change a tile, copies of
one synthetic layout would come out different and look diverse to the discriminator, and the
collapse of a class onto one layout would go unpunished. Draws are a pure function of (seed, step), so a
resumed run repeats them.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from privgen.data.stain import HED_FROM_RGB, RGB_FROM_HED

DRAWS = 12
"""Uniform numbers a step's augmentation needs."""

SHIFT = 0.125
"""Largest shift, as a share of the side."""

CUTOUT = 0.25
"""Side of the square cut out, as a share of the tile's side."""


def augment(tiles: Tensor, draws: NDArray[np.float32], *, strength: float, side: int) -> Tensor:
    """Augment tiles, all alike, and resample them to `side`, in one differentiable step.

    Args:
      tiles: RGB in [-1, 1], shape (n, 3, r, r).
      draws: uniform in [0, 1), shape (DRAWS,).
      strength: 0 only resamples; 1 is the full range of shifts, cut-outs and stains.
      side: pixels a side of the result.

    Returns:
      RGB, shape (n, 3, side, side), float32; stain changes may leave [-1, 1] by a little.
    """
    x = tiles.float()
    if strength:
        x = jitter_stains(x, draws[:6], strength=strength)
    if side < tiles.shape[-1]:
        x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
    if not strength:
        return F.interpolate(x, size=(side, side), mode="bilinear")
    x = _resample(x, draws[6:9], strength=strength, side=side)
    return _cut_out(x, draws[9:12], strength=strength)


def jitter_stains(tiles: Tensor, draws: NDArray[np.float32], *, strength: float) -> Tensor:
    """Scale each stain by up to 10 % and shift it by up to .025, at strength 1.

    Args:
      tiles: RGB in [-1, 1], shape (n, 3, h, w).
      draws: uniform in [0, 1), shape (6,): three scales, three shifts.
      strength: 0 leaves the tiles as they are.
    """
    scale = 1 + 0.1 * strength * (2 * draws[:3] - 1)
    shift = 0.025 * strength * (2 * draws[3:] - 1)
    # hed = od @ A; od' = (hed * scale + shift) @ B: one affine map of the three channels.
    matrix = torch.as_tensor(HED_FROM_RGB @ np.diag(scale) @ RGB_FROM_HED).to(tiles)
    offset = torch.as_tensor(shift @ RGB_FROM_HED).to(tiles)
    density = -torch.log((((tiles + 1) * 127.5).clamp(0, 255) + 1) / 256)
    density = F.conv2d(density, matrix.t()[:, :, None, None], offset)
    return (torch.exp(-density) * 256 - 1) / 127.5 - 1


def _resample(x: Tensor, draws: NDArray[np.float32], *, strength: float, side: int) -> Tensor:
    """One of the 8 symmetries and a shift, sampled at `side` pixels; the border is mirrored."""
    symmetry = min(int(draws[0] * 8), 7)
    if symmetry & 1:
        x = x.flip(2)
    if symmetry & 2:
        x = x.flip(3)
    if symmetry & 4:
        x = x.transpose(2, 3)
    shift = torch.as_tensor(2 * SHIFT * strength * (2 * draws[1:3] - 1))
    theta = torch.cat([torch.eye(2), shift[:, None].float()], dim=1).to(x)
    grid = F.affine_grid(theta[None], [1, 1, side, side], align_corners=False)
    return F.grid_sample(
        x,
        grid.expand(len(x), -1, -1, -1),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )


def _cut_out(x: Tensor, draws: NDArray[np.float32], *, strength: float) -> Tensor:
    """Every second step a square is painted in each tile's mean colour."""
    if draws[2] >= 0.5:
        return x
    side = x.shape[-1]
    length = CUTOUT * strength * side
    top, left = (max(0, round(float(place) * side - length / 2)) for place in draws[:2])
    hole = torch.zeros(1, 1, side, side, dtype=torch.bool, device=x.device)
    hole[:, :, top : top + round(length), left : left + round(length)] = True
    return torch.where(hole, x.mean(dim=(2, 3), keepdim=True), x)
