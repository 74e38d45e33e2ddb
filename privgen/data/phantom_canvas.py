"""The drawing board of the phantom: noise, fibres, scattered points, stamped ellipses.

A canvas covers a fixed field of the section, so the side of a tile sets its resolution and never
what is in it: every random draw is made on a lattice or a list of points in micrometres, before
pixels come in. Colour is two stain concentrations; `privgen.data.phantom` turns them to RGB.

Conventions: maps are float32, shape (n, n), row = y; lengths and positions are micrometres;
concentrations are optical densities along a unit stain vector (0 clear, about 1.5 a dark nucleus).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

Map = NDArray[np.float32]
Points = NDArray[np.float64]

FIELD = 112.0
"""Width of the drawn field: that of a 224 px tile of NCT-CRC-HE at 0.5 micrometres per pixel."""

MARGIN = 14.0
"""How far outside the field objects are placed, so that the border cuts through them."""

_LATTICE = 48
_SPLINE_STD = (
    151 / 315
)  # std of a cubic B-spline surface over unit normals: mean of sum w^2, per axis


class Canvas:
    """Two stain maps over one field, and the tools to paint them.

    Attributes:
      n: pixels per side.
      pixel: micrometres per pixel.
      x, y: pixel centres, shape (n, n).
      haematoxylin, eosin: the stain concentrations painted so far.
    """

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self.n = n
        self.rng = rng
        self.pixel = FIELD / n
        centres = (np.arange(n, dtype=np.float32) + np.float32(0.5)) * np.float32(self.pixel)
        self.x: Map = np.broadcast_to(centres, (n, n))
        self.y: Map = np.broadcast_to(centres[:, None], (n, n))
        self.haematoxylin: Map = np.zeros((n, n), np.float32)
        self.eosin: Map = np.zeros((n, n), np.float32)

    def noise(self, size: float) -> Map:
        """Smooth isotropic noise of zero mean and unit variance with grains of about `size`."""
        first, weights = _spline_weights(self.n, size)
        knots = int(FIELD / size) + 4  # as many for every n, so that n changes no later draw
        lattice = self.rng.standard_normal((knots, knots)).astype(np.float32)
        # Four taps per pixel, not a matrix product: BLAS threads would cost more than they bring.
        rows = sum(w[:, None] * lattice[first + tap] for tap, w in enumerate(weights))
        drawn = sum(w * rows[:, first + tap] for tap, w in enumerate(weights))
        return np.asarray(drawn, dtype=np.float32)

    def fibres(self, angle: float, length: float, width: float, bend: Map | float = 0.0) -> Map:
        """Unit-variance noise drawn out along `angle`; `bend` shifts it sideways."""
        along = self.x * np.float32(np.cos(angle)) + self.y * np.float32(np.sin(angle))
        across = self.y * np.float32(np.cos(angle)) - self.x * np.float32(np.sin(angle)) + bend
        lattice = self.rng.standard_normal((_LATTICE, _LATTICE)).astype(np.float32)
        offset = self.rng.uniform(0, _LATTICE, 2)
        places = np.stack([along / length + offset[0], across / width + offset[1]])
        drawn = map_coordinates(lattice, places, order=3, mode="grid-wrap", prefilter=False)
        return np.asarray(drawn / _SPLINE_STD, dtype=np.float32)

    def scatter(self, spacing: float, *, disorder: float = 0.22) -> tuple[Points, Points]:
        """Points that keep their distance: a hexagonal lattice, turned, shifted and shaken.

        Args:
          spacing: mean distance of neighbours.
          disorder: standard deviation of the shake as a share of `spacing`.

        Returns:
          x and y, shape (k,), over the field and `MARGIN` around it.
        """
        reach = int(FIELD / spacing) + 4
        column, row = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
        u = spacing * (column + 0.5 * (row % 2)).ravel()
        v = spacing * 0.866 * row.ravel()
        angle, shift_x, shift_y = self.rng.uniform(0, [2 * np.pi, spacing, spacing])
        shake_x, shake_y = self.rng.normal(0, disorder * spacing, (2, u.size))
        x = FIELD / 2 + u * np.cos(angle) - v * np.sin(angle) + shift_x + shake_x
        y = FIELD / 2 + u * np.sin(angle) + v * np.cos(angle) + shift_y + shake_y
        near = (np.abs(x - FIELD / 2) < FIELD / 2 + MARGIN) & (
            np.abs(y - FIELD / 2) < FIELD / 2 + MARGIN
        )
        return x[near], y[near]

    def at(self, values: Map, x: Points, y: Points) -> Points:
        """`values` at points, bilinear; points outside the field take the nearest border value."""
        places = np.stack([y, x]) / self.pixel - 0.5
        found = map_coordinates(values, places, order=1, mode="nearest")
        return np.asarray(found, dtype=np.float64)

    def stamp(
        self,
        x: Points,
        y: Points,
        long: Points | float,
        short: Points | float,
        angle: Points,
        ragged: Map | float,
        *,
        where: NDArray[np.bool_] | None = None,
    ) -> tuple[Map, NDArray[np.intp]]:
        """Draw many ellipses at once; where they overlap the deeper one wins.

        Args:
          x, y: centres, shape (k,).
          long, short: semi-axes, one number or shape (k,).
          angle: direction of the long axis in radians, shape (k,).
          ragged: a map added to the relative radius, which makes outlines uneven.
          where: which of the k to draw, shape (k,); all when not given.

        Returns:
          Depth below the nearest outline (negative outside), shape (n, n), and the number of the
          ellipse each pixel belongs to; -1 where none is near.
        """
        if x.size == 0:
            return np.full((self.n, self.n), -FIELD, np.float32), np.full((self.n,) * 2, -1)
        long, short = np.broadcast_to(long, x.shape), np.broadcast_to(short, x.shape)
        reach = int(np.ceil(1.25 * float(np.max(long, initial=0)) / self.pixel)) + 1
        column = np.floor(x / self.pixel).astype(np.intp)
        row = np.floor(y / self.pixel).astype(np.intp)
        touching = (np.minimum(column, row) >= -reach) & (np.maximum(column, row) < self.n + reach)
        which = np.flatnonzero(touching if where is None else touching & where)
        if which.size == 0:
            return np.full_like(self.eosin, -FIELD), np.full(self.eosin.shape, -1, np.intp)
        window = np.arange(-reach, reach + 1)
        columns, rows = column[which, None] + window, row[which, None] + window
        dx = ((columns + 0.5) * self.pixel - x[which, None]).astype(np.float32)
        dy = ((rows + 0.5) * self.pixel - y[which, None]).astype(np.float32)
        cosine, sine = (f(angle[which, None]).astype(np.float32) for f in (np.cos, np.sin))
        per_long, per_short = (1 / s[which, None].astype(np.float32) for s in (long, short))
        along = (dx * cosine * per_long)[:, None, :] + (dy * sine * per_long)[:, :, None]
        across = (dy * cosine * per_short)[:, :, None] - (dx * sine * per_short)[:, None, :]
        radius = np.sqrt(along * along + across * across)

        pad = 2 * reach + 1
        wide = self.n + 2 * pad
        uneven = np.zeros((wide, wide), np.float32)
        uneven[pad:-pad, pad:-pad] = ragged
        flat = ((rows + pad) * wide)[:, :, None] + (columns + pad)[:, None, :]
        depth = (1 - radius - uneven.ravel()[flat]) * short[which].astype(np.float32)[:, None, None]
        deepest = np.full(wide * wide, -FIELD, np.float32)
        np.maximum.at(deepest, flat.ravel(), depth.ravel())
        won = depth == deepest[flat]
        owner = np.full(wide * wide, -1, np.intp)
        owner[flat[won]] = np.broadcast_to(which[:, None, None], depth.shape)[won]
        crop = (slice(pad, -pad), slice(pad, -pad))
        return deepest.reshape(wide, wide)[crop], owner.reshape(wide, wide)[crop]

    def cover(self, depth: Map, softness: float = 0.7) -> Map:
        """Coverage in [0, 1] from a depth map, with an edge no sharper than a pixel."""
        edge = np.float32(max(softness, self.pixel))
        return np.asarray(np.clip(depth / edge + np.float32(0.5), 0, 1), dtype=np.float32)

    def blend(self, share: Map, haematoxylin: Map | float, eosin: Map | float) -> None:
        """Replace `share` of what is there by the given concentrations."""
        self.haematoxylin += share * (haematoxylin - self.haematoxylin)
        self.eosin += share * (eosin - self.eosin)

    def voronoi(self, x: Points, y: Points, warp: float) -> tuple[Map, Map]:
        """Distance to the border with the nearest cell, and how far the third cell is.

        Args:
          x, y: cell centres, shape (k,), k >= 3.
          warp: how much the borders bend, in micrometres.

        Returns:
          Half the gap between first and second nearest centre, and half the gap between first
          and third: both 0 at a corner where three cells meet.
        """
        px: Map = self.x + np.float32(warp) * self.noise(14.0)
        py: Map = self.y + np.float32(warp) * self.noise(14.0)
        first: Map = np.full((self.n, self.n), 4 * FIELD, np.float32)
        second, third = first, first
        for cx, cy in zip(x.astype(np.float32), y.astype(np.float32), strict=True):
            distance: Map = np.hypot(px - cx, py - cy)
            distance, first = np.maximum(distance, first), np.minimum(distance, first)
            distance, second = np.maximum(distance, second), np.minimum(distance, second)
            third = np.minimum(distance, third)
        half = np.float32(0.5)
        border, corner = half * (second - first), half * (third - first)
        return np.asarray(border, np.float32), np.asarray(corner, np.float32)


@lru_cache(maxsize=64)
def _spline_weights(n: int, size: float) -> tuple[NDArray[np.intp], Map]:
    """Cubic B-splines over a lattice of step `size`, at `n` pixels, scaled to unit norm.

    Returns:
      First of the four knots under each pixel, shape (n,), and their weights, shape (4, n).
    """
    places = (np.arange(n) + 0.5) * FIELD / n / size
    first = np.floor(places).astype(np.intp)
    t = places - first
    weights = np.stack(
        [(1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3]
    )
    return first, (weights / np.linalg.norm(weights, axis=0)).astype(np.float32)


def smoothstep(values: Map, low: float, high: float) -> Map:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)
