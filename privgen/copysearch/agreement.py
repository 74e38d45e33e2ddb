"""Photometric agreement: does the tissue show the same structure, point by point?

Two tiles are compared as pictures of optical density, one warped onto the other, each brought to
local mean 0 and local contrast 1. That takes the stain out, and slow shades with it. Their
correlation is near 1 for a copy and near 0 for chance. How near to 0 depends on how many
independent details the overlap holds, so the correlation is also given in standard deviations of
what chance shows: its `strength`. A blurred tile or a small piece has few details, and needs a
higher correlation for the same strength.

The spread of chance correlations is that of the two pictures against each other over all shifts,
read off their power spectra.

Sources: docs/methods.md#proof-by-alignment; Bartlett 1946 (variance of a correlation of two
autocorrelated series).
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from privgen.copysearch.descriptors import PATCH_SIDE

Floats = NDArray[np.float64]
Picture = NDArray[np.float32]

FULL_OVERLAP = 0.5
"""Overlap, as a share of the query, from which an agreement counts in full."""

REACH = 5
"""Radius around each agreeing key point that counts as its surroundings, patch pixels (of 96)."""

CHOSEN = 0.6
"""What a strength around agreeing key points counts. They were chosen because their surroundings
agree: between tiles of different GlaS patients the strength there is 1.6 times that of whole
tiles."""

_SMOOTH = 1 / 64
_LOCAL = 1 / 12
_FLAT = 0.02 * 80
_CERTAIN = 0.999
_SIZE = (PATCH_SIDE, PATCH_SIDE)
# Of a real transform all columns but the first and last stand for two frequencies.
_TWICE = np.full(PATCH_SIDE // 2 + 1, 2.0)
_TWICE[[0, -1]] = 1.0


@dataclass(frozen=True)
class Agreement:
    """How well two tiles agree under a transform.

    Attributes:
      correlation: of the local structure, -1 to 1.
      strength: the same in standard deviations of chance.
      share: of the query patch that was compared.
    """

    correlation: float
    strength: float
    share: float

    @property
    def discounted(self) -> float:
        """The correlation, times sqrt(2 share) where less than half of the query was compared.

        A few pixels agree by chance, and the fewer the better.
        """
        return self.correlation * float(np.sqrt(min(1.0, self.share / FULL_OVERLAP)))


NOTHING = Agreement(0.0, 0.0, 0.0)


class Overlay:
    """A candidate warped onto a query tile, ready to be compared as a whole and in parts.

    Args:
      query, candidate: `Descriptors.patches` of the two tiles, shape (96, 96).
      transform: query to candidate, tile pixels, shape (2, 3).
      query_side, candidate_side: sides of the tiles, pixels.
      ignored: part of the candidate's patch that shall not count, shape (96, 96); None ignores
        nothing.
    """

    def __init__(
        self,
        query: NDArray[np.uint8],
        candidate: NDArray[np.uint8],
        transform: Floats,
        *,
        query_side: int,
        candidate_side: int,
        ignored: NDArray[np.bool_] | None = None,
    ) -> None:
        matrix = patch_transform(transform, query_side, candidate_side)
        seen = np.ones(_SIZE, np.float32) if ignored is None else (~ignored).astype(np.float32)
        both = np.stack([candidate.astype(np.float32), seen], axis=2)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped, inside = np.moveaxis(cv2.warpAffine(both, matrix, _SIZE, flags=flags), 2, 0)
        self._unit = query_side / PATCH_SIDE
        self._inside: Picture = np.asarray(inside > 0.999, dtype=np.float32)
        self._query: Picture = query.astype(np.float32)
        self._candidate: Picture = np.ascontiguousarray(warped)

    def whole(self) -> Agreement:
        """Over all of the overlap."""
        return self._within(self._inside)

    def around(self, points: Floats) -> Agreement:
        """Within reach of some places in the query; the strength counts `CHOSEN` of itself.

        Args:
          points: x, y of agreeing key points in query pixels, shape (k, 2).
        """
        near = np.zeros(_SIZE, dtype=np.float32)
        for x, y in np.rint((points + 0.5) / self._unit - 0.5).astype(int).tolist():
            cv2.circle(near, (x, y), REACH, 1.0, -1)
        found = self._within(self._inside * near)
        return replace(found, strength=CHOSEN * found.strength)

    def _within(self, mask: Picture) -> Agreement:
        # What lies outside takes no part, not even in the local mean and contrast: a piece set into
        # other tissue is compared as the piece it is.
        return _compared(structure_of(self._query, mask), structure_of(self._candidate, mask), mask)


def agreement(
    query: NDArray[np.uint8],
    candidate: NDArray[np.uint8],
    transform: Floats,
    query_side: int,
    candidate_side: int,
) -> float:
    """Discounted correlation of two density patches where they overlap; arguments as `Overlay`."""
    overlay = Overlay(
        query, candidate, transform, query_side=query_side, candidate_side=candidate_side
    )
    return overlay.whole().discounted


def patch_transform(transform: Floats, query_side: int, candidate_side: int) -> Floats:
    """The transform between the patches of two tiles, shape (2, 3).

    Args:
      transform: between the tiles, in their pixels, shape (2, 3).
      query_side, candidate_side: sides of the tiles, pixels.
    """
    inside_query, inside_candidate = query_side / PATCH_SIDE, candidate_side / PATCH_SIDE
    linear = transform[:, :2] * inside_query / inside_candidate
    # Pixel centres of the patch: x_tile = (x_patch + .5) * unit - .5, on both sides.
    centre = transform[:, :2] @ np.full(2, 0.5 * inside_query - 0.5) + transform[:, 2]
    return np.column_stack([linear, (centre + 0.5) / inside_candidate - 0.5])


def structure_of(density: Picture, mask: Picture) -> Picture:
    """Smoothed density with local mean 0 and local contrast 1 inside the mask, 0 outside.

    Args:
      density: patch, shape (96, 96).
      mask: 1 inside, 0 outside, shape (96, 96).
    """
    # Outside the mask nothing is known: what lies inside is averaged over what is seen of it.
    fine: Picture = np.maximum(_blurred(mask, _SMOOTH), np.float32(1e-3))
    coarse: Picture = np.maximum(_blurred(mask, _LOCAL), np.float32(1e-3))
    smooth: Picture = np.asarray(_blurred(density * mask, _SMOOTH) / fine, dtype=np.float32)
    mean = _blurred(np.asarray(smooth * mask, dtype=np.float32), _LOCAL) / coarse
    detail: Picture = np.asarray(smooth - mean, dtype=np.float32)
    power = _blurred(np.asarray(detail**2 * mask, dtype=np.float32), _LOCAL) / coarse
    contrast = np.sqrt(power) + np.float32(_FLAT)
    return np.asarray(detail / contrast * mask, dtype=np.float32)


def _blurred(image: Picture, width: float) -> Picture:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), width * PATCH_SIDE), dtype=np.float32)


def _compared(ours: Picture, theirs: Picture, mask: Picture) -> Agreement:
    """Correlation inside the mask, and its strength."""
    pixels = float(mask.sum())
    if pixels == 0:
        return NOTHING
    a, b = (each * mask for each in (ours, theirs))
    a -= mask * (a.sum() / pixels)
    b -= mask * (b.sum() / pixels)
    norm = float(np.sqrt((a**2).sum(dtype=np.float64) * (b**2).sum(dtype=np.float64)))
    if norm == 0:
        return NOTHING
    correlation = float((a * b).sum(dtype=np.float64)) / norm
    share = pixels / mask.size
    details = share * _independent(a, b)
    strength = np.arctanh(np.clip(correlation, -_CERTAIN, _CERTAIN)) * np.sqrt(max(details, 1.0))
    return Agreement(correlation, float(strength), share)


def _independent(ours: Picture, theirs: Picture) -> float:
    """1 over the mean squared correlation of two pictures over all shifts."""
    p, q = (np.abs(fft.rfft2(each)) ** 2 for each in (ours, theirs))
    together = float((p * q * _TWICE).sum())
    return float((p * _TWICE).sum()) * float((q * _TWICE).sum()) / max(together, 1e-30)
