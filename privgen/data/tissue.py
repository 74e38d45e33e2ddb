"""Where a slide holds tissue, and what is wrong with a tile.

`tissue_mask` says which places of an overview are worth cutting; `quality` scores one tile. No tile
is dropped here: scores are stored, thresholds are chosen afterwards.

Both look at hue, saturation and value (HSV): glass is white or grey whatever the lamp, so stain is
what has colour. The threshold on saturation is Otsu's (Otsu 1979, "A threshold selection method
from gray-level histograms", IEEE Trans SMC 9:62-66), the one that parts the histogram into the two
classes whose means differ most for their sizes. That scores of blur, ink and folds should travel
with every tile follows HistoQC (Janowczyk et al. 2019, JCO Clin Cancer Inform 3:1-7).

Conventions: uint8 RGB, shape (h, w, 3). Hue is in steps of 2 degrees (0 to 179, 0 red, 60 green,
120 blue), saturation and value 0 to 255, as OpenCV has them. Haematoxylin stands at hues 125 and
above on the slides and phantoms looked at, eosin and blood at 140 to 175; the ink rules keep off
them, so an ink of those colours is not seen.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from privgen.errors import InputError

FLOOR = 18
"""Saturation below which nothing is tissue (7 %): the tint of glass, lamp and JPEG."""

CEILING = 51
"""Saturation from which everything is tissue (20 %), where Otsu would part tissue from tissue."""

ALONE = 36
"""Saturation from which a slide that shows one material alone shows tissue (14 %)."""

GAP = 20
"""How far the mean saturations of Otsu's two classes must differ (8 %) to be two at all."""

BLACK = 40
"""Value below which nothing is tissue (16 %): scanner borders, dirt, black ink."""

NEAR_WHITE = 220
"""A pixel is near white when red, green and blue reach this (86 %)."""

INKS = {
    "green": ((35, 60, 30), (99, 255, 255)),
    "blue": ((100, 110, 30), (117, 255, 255)),
    "red": ((0, 190, 90), (4, 255, 255)),
    "crimson": ((177, 190, 90), (179, 255, 255)),
}
"""Lower and upper hue, saturation and value of marker colours; red lies on both sides of hue 0."""

INK_BLACK = (50, 20)
"""Black ink: highest value, and highest difference between the red, green and blue of a pixel."""

FOLD = (115, 110)
"""A fold: lowest saturation (45 %) and highest mean of red, green and blue (43 %)."""

_STROKE = np.ones((3, 3), dtype=np.uint8)  # sharp nuclei have thin blue-black fringes in a scanner
_FOLD_CELL = 8  # pixels per side over which a fold is looked at, so that single nuclei are none


@dataclass(frozen=True)
class Quality:
    """Scores of one tile; all but `sharpness` are shares of its pixels, 0 to 1.

    Attributes:
      tissue: coloured (saturation `FLOOR` or more), neither black nor ink.
      white: near white (`NEAR_WHITE`): glass, lumen, fat.
      sharpness: variance of the Laplacian of the luminance, in squared grey levels; low is blurred
        or empty, so compare it among tiles of like `tissue`.
      pen: marker ink, blue, green, red or black.
      fold: dark and saturated over `_FOLD_CELL` pixels per side, as tissue is that lies double;
        crowded dark nuclei can look so too.
    """

    tissue: float
    white: float
    sharpness: float
    pen: float
    fold: float


def tissue_mask(overview: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels of an overview show tissue.

    After a median over 5 x 5 pixels, tissue is what is at least as saturated as Otsu's threshold,
    neither black nor ink. The threshold is kept within `FLOOR` to `CEILING`: the floor keeps glass
    out, the ceiling keeps pale tissue in where an overview shows little else than tissue. Where the
    two classes are less than `GAP` apart there is one material only, glass or tissue, and `ALONE`
    says which; an empty slide therefore has an empty mask. Glass that is tinted beyond `CEILING`,
    or beyond `ALONE` on an empty slide, counts as tissue.

    Args:
      overview: uint8 RGB, shape (h, w, 3), as `privgen.data.slides.overview` makes it.

    Returns:
      bool, shape (h, w).

    Raises:
      InputError: not uint8 of that shape, or no pixel.
    """
    _check(overview)
    hsv = _hsv(cv2.medianBlur(overview, 5))
    stainable = _bright(hsv) & ~_ink(hsv)
    saturation = hsv[..., 1]
    return np.asarray((saturation >= _least_saturation(saturation[stainable])) & stainable)


def quality(tile: NDArray[np.uint8]) -> Quality:
    """The scores of one tile.

    Source: variance of the Laplacian as a measure of focus: Pech-Pacheco et al. 2000, "Diatom
      autofocusing in brightfield microscopy: a comparative study", ICPR 3:314-317; folds as what
      is saturated and dark: Kothari et al. 2013, "Eliminating tissue-fold artifacts in
      histopathological whole-slide images", J Pathol Inform 4:22 (idea; the rule here is fixed).

    Args:
      tile: uint8 RGB, shape (h, w, 3).

    Raises:
      InputError: not uint8 of that shape, or no pixel.
    """
    _check(tile)
    hsv = _hsv(tile)
    ink = _ink(hsv)
    coloured = hsv[..., 1] >= FLOOR
    white = cv2.inRange(tile, (NEAR_WHITE,) * 3, (255,) * 3)
    edges = cv2.Laplacian(cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY), cv2.CV_32F)
    return Quality(
        tissue=_share(coloured & _bright(hsv) & ~ink),
        white=_share(white > 0),
        sharpness=float(cv2.meanStdDev(edges)[1][0, 0] ** 2),
        pen=_share(ink),
        fold=_share(_folded(tile)),
    )


def _least_saturation(values: NDArray[np.uint8]) -> int:
    """The saturation from which `values` are tissue; `tissue_mask` says how."""
    if not values.size:
        return ALONE
    split, _ = cv2.threshold(values.reshape(-1, 1), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    above = values > split
    if above.all() or not above.any() or values[above].mean() - values[~above].mean() < GAP:
        return ALONE
    return int(np.clip(split + 1, FLOOR, CEILING))


def _hsv(rgb: cv2.typing.MatLike) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV), dtype=np.uint8)


def _bright(hsv: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray(hsv[..., 2] >= BLACK)


def _ink(hsv: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where marker ink is, from hue, saturation and value, wherever it is `_STROKE` thick."""
    value, chroma = hsv[..., 2], cv2.multiply(hsv[..., 1], hsv[..., 2], scale=1 / 255)
    ink = ((value <= INK_BLACK[0]) & (chroma <= INK_BLACK[1])).astype(np.uint8)
    for lowest, highest in INKS.values():
        ink |= cv2.inRange(hsv, lowest, highest) > 0
    return np.asarray(cv2.morphologyEx(ink, cv2.MORPH_OPEN, _STROKE) > 0)


def _folded(tile: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which cells of `_FOLD_CELL` pixels per side are dark and saturated."""
    size = tuple(max(1, side // _FOLD_CELL) for side in tile.shape[1::-1])
    cells = cv2.resize(tile, size, interpolation=cv2.INTER_AREA)
    return np.asarray((_hsv(cells)[..., 1] >= FOLD[0]) & (cells.mean(axis=2) <= FOLD[1]))


def _share(mask: NDArray[np.bool_]) -> float:
    return float(np.count_nonzero(mask) / mask.size)


def _check(picture: NDArray[np.uint8]) -> None:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise InputError(
            f"a picture must be uint8 of shape (h, w, 3): got {picture.dtype} of shape "
            f"{picture.shape}. Convert it first."
        )
