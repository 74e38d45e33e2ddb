"""Classical augmentation: what a classifier is shown instead of a tile, drawn anew at each update.

Tissue on a slide has no up, so a tile is as good mirrored and turned by quarters (the 8 symmetries
of the square), and every laboratory stains a little differently, so its stains are scaled and
shifted in optical density. Nothing else: no crop or blur, which would change the scale and the
sharpness that a class may be told by. This is the comparison synthetic tiles have to stand up to.

Source: docs/methods.md#classifier-benefit; Tellez et al. 2018, "H&E stain augmentation".
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from privgen.data.stain import jitter

STAIN_STRENGTH = 0.2
"""Each stain is scaled by 0.8 to 1.2 and shifted by up to 0.05: visible, and within what one
laboratory does from week to week. `stress` goes beyond it."""


def augment(tiles: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn, mirror and restain each tile by itself.

    Args:
      tiles: uint8 RGB, shape (b, side, side, 3).
      rng: draws one of the 8 symmetries, then three scales and three shifts, for each tile; the
        result depends on nothing else.

    Returns:
      uint8, the shape of `tiles`, freshly allocated.
    """
    turned = np.empty(tiles.shape, dtype=np.uint8)
    symmetry = rng.integers(8, size=len(tiles))
    for out, tile, drawn in zip(turned, tiles, symmetry.tolist(), strict=True):
        version = np.ascontiguousarray(tile)
        # Two mirrors and a transposition, each done or not, are the 8 symmetries, once each.
        if drawn & 1:
            version = cv2.flip(version, 0)
        if drawn & 2:
            version = cv2.flip(version, 1)
        if drawn & 4:
            version = cv2.transpose(version)
        out[:] = version
    return jitter(turned, rng, strength=STAIN_STRENGTH)
