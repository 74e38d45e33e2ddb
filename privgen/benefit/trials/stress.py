"""Stress: test tiles as another laboratory, archive or scanner would have delivered them.

A classifier that reads stain, compression or sharpness instead of tissue is found out by them. Each
stress has one strength, since a figure means nothing without it, and draws nothing at random: every
classifier of a run meets the same tiles.

| stress | what is done |
|---|---|
| `hue` | haematoxylin at .7 of its density, eosin at 1.3: pale nuclei on a strong pink |
| `jpeg` | JPEG of quality 30, chroma halved |
| `blur` | Gaussian of 1/64 of the side: 1 pixel at 64, 3.5 at 224 |

Sources: docs/methods.md#classifier-benefit; Hendrycks & Dietterich 2019, arXiv:1903.12261, whose
blurs of 3 and 4 pixels at 224 are the third and fourth of five severities; Tellez et al. 2018 for
the stains.
"""

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from privgen.data.images import decode, encode_jpeg
from privgen.data.stain import restained

Pixels = NDArray[np.uint8]

STAIN_SCALES = (0.7, 1.3, 1.0)
"""Density of haematoxylin, eosin and DAB over what it was. The balance of eosin to haematoxylin
rises to 1.86 times; over the 16 patients of GlaS, tissue included, it runs from .36 to 1.72 times
their mean. There (tiles split at random, 200 of them tested) it takes a colour histogram from 73 to
41 % balanced accuracy. It lies beyond what `augmentation` shows, so that arm is not tested on its
own training."""

JPEG_QUALITY = 30

BLUR_SHARE = 1 / 64
"""Standard deviation of the blur over the side: a section slightly out of focus."""


def _hue(tiles: Pixels) -> Pixels:
    scale = np.tile(STAIN_SCALES, (len(tiles), 1))
    return restained(tiles, scale, np.zeros_like(scale))


def _jpeg(tiles: Pixels) -> Pixels:
    stressed = np.empty(tiles.shape, dtype=np.uint8)
    for out, tile in zip(stressed, tiles, strict=True):
        out[:] = decode(encode_jpeg(tile, JPEG_QUALITY), "a stressed tile")
    return stressed


def _blur(tiles: Pixels) -> Pixels:
    stressed = np.empty(tiles.shape, dtype=np.uint8)
    sigma = BLUR_SHARE * tiles.shape[1]
    for out, tile in zip(stressed, tiles, strict=True):
        out[:] = cv2.GaussianBlur(tile, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return stressed


STRESSES: Mapping[str, Callable[[Pixels], Pixels]] = {"hue": _hue, "jpeg": _jpeg, "blur": _blur}
"""Each stress by name: uint8 tiles, shape (n, side, side, 3), to tiles of the same shape, freshly
allocated; tile i depends on tile i alone."""
