"""Photometric agreement: does the tissue between the key points agree, too?

The correlation of optical densities where two tiles overlap, each brought to local mean 0 and local
contrast 1. That takes the stain out, and slow shades with it; it is near 1 for a copy and near 0
for chance.

Source: METHODS.md 1.8.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from privgen.evidence.descriptors import PATCH_SIDE

Floats = NDArray[np.float64]

FULL_OVERLAP = 0.5
"""Overlap, as a share of the query, from which an agreement counts in full."""

_SMOOTH = 1 / 64
_LOCAL = 1 / 12
_FLAT = 0.02


def agreement(
    query: NDArray[np.uint8],
    candidate: NDArray[np.uint8],
    transform: Floats,
    query_side: int,
    candidate_side: int,
) -> float:
    """Correlation of the local structure of two density patches where they overlap."""
    inside_query, inside_candidate = query_side / PATCH_SIDE, candidate_side / PATCH_SIDE
    linear = transform[:, :2] * inside_query / inside_candidate
    # Pixel centres of the patch: x_tile = (x_patch + .5) * unit - .5, on both sides.
    centre = transform[:, :2] @ np.full(2, 0.5 * inside_query - 0.5) + transform[:, 2]
    shift = (centre + 0.5) / inside_candidate - 0.5
    matrix = np.column_stack([linear, shift])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (PATCH_SIDE, PATCH_SIDE)
    both = np.stack([candidate.astype(np.float32), np.ones(size, dtype=np.float32)], axis=2)
    warped, inside = np.moveaxis(cv2.warpAffine(both, matrix, size, flags=flags), 2, 0)
    mask = np.asarray(inside > 0.999, dtype=np.float32)
    share = float(mask.mean())
    if share == 0:
        return 0.0
    ours = local_structure(query.astype(np.float32), mask)
    theirs = local_structure(np.asarray(warped, dtype=np.float32), mask)
    norm = float(np.sqrt((ours**2).sum() * (theirs**2).sum()))
    if norm == 0:
        return 0.0
    # A few pixels agree by chance, and the fewer the better.
    return float((ours * theirs).sum() / norm * np.sqrt(min(1.0, share / FULL_OVERLAP)))


def local_structure(density: NDArray[np.float32], mask: NDArray[np.float32]) -> Floats:
    """Smoothed density with local mean 0 and local contrast 1 inside the mask, 0 outside."""

    def blurred(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
        width = sigma * PATCH_SIDE
        share = cv2.GaussianBlur(mask, (0, 0), width)
        soft = cv2.GaussianBlur(image * mask, (0, 0), width)
        return np.asarray(soft / np.maximum(share, 1e-3), dtype=np.float32)

    smooth = blurred(density, _SMOOTH)
    detail = smooth - blurred(smooth, _LOCAL)
    contrast = np.sqrt(blurred(detail**2, _LOCAL)) + _FLAT * 80
    structure = np.where(mask > 0, detail / contrast, 0.0)
    structure -= np.where(mask > 0, structure.sum() / mask.sum(), 0.0)
    return structure.astype(np.float64)
