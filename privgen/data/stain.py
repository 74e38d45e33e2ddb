"""Optical density and the haematoxylin-eosin-DAB colour space.

Light that crosses a stained section is absorbed exponentially (Beer-Lambert), so stains add up in
optical density, `od = -ln(rgb / white)`, not in RGB. Ruifrok & Johnston 2001 give one unit vector a
stain; their inverse separates the stains. Every stain perturbation of the project is made here, in
this space, so that it looks like another laboratory and not like a photo filter.

Conventions: tiles are uint8 RGB, shape (..., 3); densities are float32, natural logarithm.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

_RUIFROK = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], dtype=np.float64)
"""Rows: haematoxylin, eosin, DAB absorbance in R, G, B (Ruifrok & Johnston 2001, table 1)."""

RGB_FROM_HED: NDArray[np.float64] = _RUIFROK / np.linalg.norm(_RUIFROK, axis=1, keepdims=True)
"""Unit stain vectors, shape (3, 3): `od = hed @ RGB_FROM_HED`."""

HED_FROM_RGB: NDArray[np.float64] = np.asarray(np.linalg.inv(RGB_FROM_HED), dtype=np.float64)
"""Its inverse: `hed = od @ HED_FROM_RGB`."""


_DENSITY_OF_LEVEL = (-np.log((np.arange(256) + 1.0) / 256.0)).astype(np.float32)


def optical_density(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`-ln((rgb + 1) / 256)`: 0 for white, about 5.5 for black. Shape is kept."""
    return np.asarray(_DENSITY_OF_LEVEL[tiles])


def rgb_from_density(density: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Inverse of `optical_density`, rounded and clipped to uint8."""
    rgb = np.exp(-density) * 256.0 - 1.0
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def turned_stains(
    vectors: NDArray[np.float64], rng: np.random.Generator, *, degrees: float
) -> NDArray[np.float64]:
    """Stain vectors, each turned by a random angle, as dyes and scanners differ in hue.

    Args:
      vectors: absorbance in R, G, B, one stain per row, shape (k, 3); any length.
      rng: draws, for each vector, a turn of `N(0, degrees)` about each axis across it.
      degrees: standard deviation of the turn; 0 only normalises.

    Returns:
      Unit vectors without negative components, shape (k, 3).
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    shift = rng.normal(0, np.tan(np.radians(degrees)), size=unit.shape)
    shift -= unit * np.sum(shift * unit, axis=1, keepdims=True)
    turned = np.clip(unit + shift, 0.0, None)
    return np.asarray(turned / np.linalg.norm(turned, axis=1, keepdims=True))


def restained(
    tiles: NDArray[np.uint8], scale: NDArray[np.float64], shift: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Scale and shift the density of each stain: `hed * scale + shift`, back in RGB.

    Args:
      tiles: uint8 RGB, shape (n, h, w, 3).
      scale, shift: of haematoxylin, eosin and DAB, shape (n, 3); shifts in units of density.

    Returns:
      uint8, the shape of `tiles`, freshly allocated.
    """
    # Both changes of basis and the change itself are one affine map of a pixel's densities. Its
    # sign and the offset of log(256) leave `exp` alone between it and RGB.
    mixing = np.einsum("ij,nj,jk->nki", HED_FROM_RGB, scale, RGB_FROM_HED)
    offset = shift @ RGB_FROM_HED - np.log(256.0)
    maps = -np.concatenate([mixing, offset[:, :, np.newaxis]], axis=2)
    changed = np.empty(tiles.shape, dtype=np.uint8)
    for out, tile, affine in zip(changed, tiles, maps, strict=True):
        density = cv2.LUT(np.ascontiguousarray(tile), _DENSITY_OF_LEVEL)
        light = np.minimum(cv2.exp(cv2.transform(density, affine)), 256.0)
        # light - 1, rounded and clipped to uint8 (by way of int32: hence the bound).
        out[:] = cv2.addWeighted(light, 1.0, light, 0.0, -1.0, dtype=cv2.CV_8U)
    return changed


def jitter(
    tiles: NDArray[np.uint8], rng: np.random.Generator, *, strength: float = 0.1
) -> NDArray[np.uint8]:
    """Scale and shift each stain of each tile at random, as another laboratory would.

    Args:
      tiles: uint8 RGB, shape (n, h, w, 3).
      rng: draws one scale `1 + U(-strength, strength)` and one shift
        `U(-strength, strength) / 4` for each tile and stain.
      strength: 0 leaves the tiles as they are up to rounding; 0.1 is a mild laboratory shift.

    Source: Tellez et al. 2018, "H&E stain augmentation".
    """
    size = (len(tiles), 3)
    scale = 1 + rng.uniform(-strength, strength, size=size)
    return restained(tiles, scale, rng.uniform(-strength, strength, size=size) / 4)


TYPICAL_DENSITY = np.array([0.45, 0.75, 0.40], dtype=np.float32)
TYPICAL_SPREAD = np.array([0.25, 0.35, 0.22], dtype=np.float32)
"""Mean and spread of optical density in R, G, B to which `normalised` brings every tile."""


def density_moments(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean and standard deviation of optical density in R, G, B, shape (n, 6): colour alone."""
    density = optical_density(tiles).reshape(len(tiles), -1, 3).astype(np.float64)
    moments = np.concatenate([density.mean(axis=1), density.std(axis=1)], axis=1)
    return np.asarray(moments, dtype=np.float32)


def normalised(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tiles brought to one mean and spread of optical density in each channel, as tiles came.

    What `density_moments` says of a tile is then the same for all; tissue is what is left. A target
    that is fixed lets no tile decide what becomes of another.

    Source: after Reinhard et al. 2001, in optical density instead of colour space.
    """
    moments = density_moments(tiles)[:, None, None, :]
    mean, spread = moments[..., :3], np.maximum(moments[..., 3:], 1e-3)
    density = (optical_density(tiles) - mean) / spread * TYPICAL_SPREAD + TYPICAL_DENSITY
    return rgb_from_density(np.asarray(density, dtype=np.float32))
