"""Changing the side of tiles and maps, and sampling them along an affine map, reproducibly.

On CUDA the gradients of `F.interpolate` (bilinear) and of `F.grid_sample` add up in whatever order
threads arrive; under `torch.use_deterministic_algorithms` PyTorch raises rather than run them. Only
there the same numbers are made of other operations: two matrix products for a change of side, four
gathers for an affine map. `resize` and `sample_affine` decide which; anywhere else the plain calls
are faster, and on a CPU they are deterministic.

By PyTorch's own list (`torch.use_deterministic_algorithms`) the gradient of `torch.gather`, a
`scatter_add_`, is deterministic on CUDA under that flag; matrix products are not among those it
names, and cuBLAS gives the same bits every time where `CUBLAS_WORKSPACE_CONFIG` is set, as
`privgen.compute.devices` sets it. All this was checked on a CPU, against the plain calls, and a
whole step for operations that the list refuses; it has not been run on a GPU yet.

Conventions: pixels are areas (`align_corners=False`); x runs along the last axis; coordinates are
in [-1, 1] over the whole tile.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from privgen.models.layers import wide


def resize(x: Tensor, side: int) -> Tensor:
    """Maps at `side` pixels per side, bilinear, antialiased where they shrink.

    Args:
      x: shape (n, c, h, w).
      side: pixels per side of the result.

    Returns:
      Shape (n, c, side, side), in the type of `x`.
    """
    if _order_matters(x):
        return resize_by_products(x, side)
    shrinks = side < max(x.shape[-2:])
    return F.interpolate(x, size=(side, side), mode="bilinear", antialias=shrinks)


def sample_affine(x: Tensor, theta: Tensor, side: int) -> Tensor:
    """Maps sampled, bilinear, where an affine map sends the pixels of the result.

    Beyond the border maps are mirrored, as often as need be.

    Args:
      x: shape (n, c, h, w).
      theta: from (x, y, 1) of the result to (x, y) of `x`, shape (n, 2, 3).
      side: pixels per side of the result.

    Returns:
      Shape (n, c, side, side).
    """
    if _order_matters(x):
        return sample_affine_by_gathers(x, theta, side)
    grid = F.affine_grid(theta, [len(x), 1, side, side], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _order_matters(x: Tensor) -> bool:
    """Whether the gradients of the plain calls would be refused for `x`."""
    return x.is_cuda and torch.are_deterministic_algorithms_enabled()


def resize_by_products(x: Tensor, side: int) -> Tensor:
    """`resize` as `rows @ x @ columns`, with fixed weights; arguments as there."""
    values = wide(x)
    down, across = (bilinear_weights(length, side).to(values) for length in x.shape[-2:])
    with torch.autocast(x.device.type, enabled=False):
        return (down @ values @ across.t()).to(x.dtype)


def bilinear_weights(length: int, side: int) -> Tensor:
    """What each of `side` pixels takes from each of `length` pixels, shape (side, length), float64.

    A triangle about the pixel's centre, of half-width one pixel of the coarser of the two; rows sum
    to one, so that at the border the outermost pixels stand for what lies beyond.
    """
    scale = length / side
    centre = scale * (torch.arange(side, dtype=torch.float64) + 0.5)
    pixel = torch.arange(length, dtype=torch.float64) + 0.5
    weights = (1 - (pixel - centre[:, None]).abs() / max(scale, 1.0)).clamp_min(0)
    return weights / weights.sum(dim=1, keepdim=True)


def sample_affine_by_gathers(x: Tensor, theta: Tensor, side: int) -> Tensor:
    """`sample_affine` as a weighted sum of four gathers; arguments as there."""
    n, c, h, w = x.shape
    step = (torch.arange(side, dtype=theta.dtype, device=theta.device) + 0.5) * (2 / side) - 1
    rows, columns = theta[:, :, 1, None, None] * step[:, None], theta[:, :, 0, None, None] * step
    place = rows + columns + theta[:, :, 2, None, None]  # (n, 2, side, side): x, then y
    places = [_mirrored(place[:, k], length) for k, length in ((0, w), (1, h))]
    lower = [p.detach().floor() for p in places]
    above = [p - low for p, low in zip(places, lower, strict=True)]
    flat = x.flatten(2)
    out = torch.zeros((), dtype=x.dtype, device=x.device)
    for right in (0, 1):
        for below in (0, 1):
            # Beyond the last pixel the weight is zero; the index must stay inside all the same.
            column = (lower[0].long() + right).clamp_max(w - 1)
            row = (lower[1].long() + below).clamp_max(h - 1)
            index = (row * w + column).reshape(n, 1, -1).expand(-1, c, -1)
            share = (above[0] if right else 1 - above[0]) * (above[1] if below else 1 - above[1])
            out = out + flat.gather(2, index) * share.reshape(n, 1, -1).to(x.dtype)
    return out.reshape(n, c, side, side)


def _mirrored(place: Tensor, length: int) -> Tensor:
    """Coordinates in [-1, 1] and beyond as pixels in [0, length - 1], mirrored at both borders."""
    pixel = (place + 1) * (length / 2)  # from the border, not from the first pixel's centre
    around = pixel.abs().remainder(2 * length)
    return (torch.minimum(around, 2 * length - around) - 0.5).clamp(0, length - 1)
