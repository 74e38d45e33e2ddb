"""Disguises of leaked tiles, and innocent sets that only look like leaks, for `red-team`.

Strengths were written down before any was judged, and differ from those of `evidence.copy_kinds`
and from what the thresholds were chosen on. Each disguise is a function of train tiles, tiles of
other patients and a generator of random numbers, and returns one leaked tile per train tile.
"""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from scipy import ndimage

from privgen.data import stain
from privgen.data.images import decode, encode_jpeg, resize
from privgen.encoders.orbit import symmetries
from privgen.evidence import copy_pieces

Tiles = np.ndarray
Disguise = Callable[[Tiles, Tiles, np.random.Generator], Tiles]


def _symmetry(tiles: Tiles, others: Tiles, rng: np.random.Generator) -> Tiles:
    versions = list(symmetries(tiles))
    return np.stack([versions[rng.integers(1, 8)][row] for row in range(len(tiles))])


def _turned(tiles: Tiles, others: Tiles, rng: np.random.Generator) -> Tiles:
    """About the centre by 20 to 70 degrees, corners reflected, cubic."""
    side = tiles.shape[1]
    centre = ((side - 1) / 2, (side - 1) / 2)
    return np.stack(
        [
            cv2.warpAffine(
                tile,
                cv2.getRotationMatrix2D(centre, float(rng.uniform(20, 70)), 1.0),
                (side, side),
                flags=cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REFLECT,
            )
            for tile in tiles
        ]
    )


def _stained(
    tiles: Tiles, others: Tiles, rng: np.random.Generator, strength: float = 0.35
) -> Tiles:
    return stain.jitter(tiles, rng, strength=strength)


def _turned_stained(tiles: Tiles, others: Tiles, rng: np.random.Generator) -> Tiles:
    return _stained(_turned(tiles, others, rng), others, rng)


def _cropped(tiles: Tiles, others: Tiles, rng: np.random.Generator, share: float) -> Tiles:
    side = tiles.shape[1]
    kept = round(share * side)
    corners = rng.integers(0, side - kept + 1, size=(len(tiles), 2))
    cut = [t[y : y + kept, x : x + kept] for t, (y, x) in zip(tiles, corners, strict=True)]
    return resize(np.stack(cut), side)


def _jpeg(tiles: Tiles, others: Tiles, rng: np.random.Generator, quality: int) -> Tiles:
    return np.stack([decode(encode_jpeg(tile, quality), "a disguise") for tile in tiles])


def _blurred(tiles: Tiles, others: Tiles, rng: np.random.Generator, sigma: float) -> Tiles:
    width = sigma * tiles.shape[1] / 64
    soft = ndimage.gaussian_filter(tiles.astype(np.float32), (0, width, width, 0), mode="reflect")
    return np.rint(soft).astype(np.uint8)


def _blended(tiles: Tiles, others: Tiles, rng: np.random.Generator, weight: float) -> Tiles:
    beside = others[rng.integers(len(others), size=len(tiles))].astype(float)
    return np.rint(weight * tiles + (1 - weight) * beside).astype(np.uint8)


def _elastic(tiles: Tiles, others: Tiles, rng: np.random.Generator, reach: float) -> Tiles:
    """Knots a quarter of the side apart move, the farthest by `reach` of the side."""
    side = tiles.shape[1]
    y, x = np.mgrid[:side, :side].astype(np.float32)
    copies = np.empty_like(tiles)
    for row, tile in enumerate(tiles):
        field = cv2.resize(
            rng.normal(size=(5, 5, 2)).astype(np.float32),
            (side, side),
            interpolation=cv2.INTER_CUBIC,
        )
        field *= reach * side / np.linalg.norm(field, axis=2).max()
        copies[row] = cv2.remap(
            tile,
            x + field[..., 0],
            y + field[..., 1],
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT,
        )
    return copies


def _look(tiles: Tiles, others: Tiles, rng: np.random.Generator) -> Tiles:
    """What an image-to-image network leaves: blur 2 (at 64 px), stain, noise 16."""
    soft = _stained(_blurred(tiles, others, rng, 2.0), others, rng)
    return np.clip(np.rint(soft + rng.normal(0, 16, soft.shape)), 0, 255).astype(np.uint8)


def _down_up(tiles: Tiles, others: Tiles, rng: np.random.Generator) -> Tiles:
    return resize(resize(tiles, tiles.shape[1] // 4), tiles.shape[1])


def _jigsaw(tiles: Tiles, others: Tiles, rng: np.random.Generator) -> Tiles:
    """Pieces shuffled and each turned by a multiple of 90 degrees."""
    copies = copy_pieces.jigsaw(tiles, rng)
    piece = tiles.shape[1] // copy_pieces.PARTS
    for copy in copies:
        for top in range(0, piece * copy_pieces.PARTS, piece):
            for left in range(0, piece * copy_pieces.PARTS, piece):
                cell = copy[top : top + piece, left : left + piece]
                copy[top : top + piece, left : left + piece] = np.rot90(cell, rng.integers(4))
    return copies


def _thumbnails(tiles: Tiles, others: Tiles, rng: np.random.Generator) -> Tiles:
    """16 train tiles, each shrunk to a quarter of the side."""
    side = tiles.shape[1]
    size = side // 4
    small, copies = resize(tiles, size), tiles.copy()
    for copy in copies:
        for place, source in enumerate(rng.integers(len(tiles), size=16)):
            top, left = place // 4 * size, place % 4 * size
            copy[top : top + size, left : left + size] = small[source]
    return copies


def _perspective(tiles: Tiles, others: Tiles, rng: np.random.Generator) -> Tiles:
    side = tiles.shape[1]
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]], dtype=np.float32)
    copies = np.empty_like(tiles)
    for row, tile in enumerate(tiles):
        moved = (corners + rng.uniform(-0.18, 0.18, size=(4, 2)) * side).astype(np.float32)
        matrix = cv2.getPerspectiveTransform(corners, moved)
        copies[row] = cv2.warpPerspective(
            tile, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
    return copies


def _histogram(tiles: Tiles, others: Tiles, rng: np.random.Generator) -> Tiles:
    copies = np.empty_like(tiles)
    for row, other in enumerate(rng.integers(len(others), size=len(tiles))):
        for channel in range(3):
            order = np.argsort(tiles[row, ..., channel], axis=None, kind="stable")
            copies[row, ..., channel].flat[order] = np.sort(others[other, ..., channel], axis=None)
    return copies


def _lower_half(tiles: Tiles, others: Tiles, rng: np.random.Generator) -> Tiles:
    copies = others[rng.integers(len(others), size=len(tiles))].copy()
    half = tiles.shape[1] // 2
    copies[:, half:] = tiles[:, half:]
    return copies


def _contrast(tiles: Tiles, others: Tiles, rng: np.random.Generator) -> Tiles:
    return np.rint(200 + (tiles.astype(float) - 200) * 0.08).astype(np.uint8)


def _inverted(tiles: Tiles, others: Tiles, rng: np.random.Generator) -> Tiles:
    return 255 - tiles


def _stretched(tiles: Tiles, others: Tiles, rng: np.random.Generator) -> Tiles:
    """The middle two thirds of the rows, stretched to the whole height."""
    side = tiles.shape[1]
    cut = side // 6
    return np.stack(
        [
            cv2.resize(tile[cut : side - cut], (side, side), interpolation=cv2.INTER_CUBIC)
            for tile in tiles
        ]
    )


def _wrapped(tiles: Tiles, others: Tiles, rng: np.random.Generator) -> Tiles:
    return np.roll(tiles, tiles.shape[1] // 2, axis=(1, 2))


def _gamma(tiles: Tiles, others: Tiles, rng: np.random.Generator) -> Tiles:
    return np.rint(255 * (tiles / 255.0) ** 1.8).astype(np.uint8)


DISGUISES: dict[str, tuple[Disguise, str]] = {
    "exact": (lambda tiles, others, rng: tiles.copy(), "exact"),
    "symmetry": (_symmetry, "symmetry"),
    "turned": (_turned, "odd_rotation"),
    "re-stained .35": (_stained, "stain"),
    "turned, re-stained": (_turned_stained, "odd_rotation_stain"),
    "crop .5": (partial(_cropped, share=0.5), "crop_60"),
    "crop 4 x": (partial(_cropped, share=0.25), "crop_25"),
    "JPEG 20": (partial(_jpeg, quality=20), "jpeg_40"),
    "blur 2": (partial(_blurred, sigma=2.0), "blur"),
    "blur 3": (partial(_blurred, sigma=3.0), "blur"),
    "blend .5": (partial(_blended, weight=0.5), "blend_50"),
    "blend .35": (partial(_blended, weight=0.35), "blend_20"),
    "blend .20": (partial(_blended, weight=0.2), "blend_20"),
    "elastic .06": (partial(_elastic, reach=0.06), "elastic"),
    "elastic .20": (partial(_elastic, reach=0.2), "elastic"),
    "img2img look": (_look, "img_to_img"),
    "down-up 4 x": (_down_up, "down_up"),
    "jigsaw, turned": (_jigsaw, "jigsaw"),
    "mosaic of pieces": (
        lambda tiles, others, rng: copy_pieces.mosaic(tiles, rng),
        "mosaic",
    ),
    "mosaic of thumbnails": (_thumbnails, "mosaic"),
    "inset, half size": (
        lambda tiles, others, rng: copy_pieces.inset(tiles, rng, others, share=0.45),
        "inset_50",
    ),
    "inset, quarter size": (
        lambda tiles, others, rng: copy_pieces.inset(tiles, rng, others, share=0.25),
        "inset_25",
    ),
    "inset, 1/16 native": (
        lambda tiles, others, rng: copy_pieces.piece(tiles, rng, others, share=0.25),
        "piece_25",
    ),
    "perspective .18": (_perspective, "perspective"),
    "histogram": (_histogram, "histogram"),
    "half paste": (_lower_half, "half_paste"),
    "stretched 1.5": (_stretched, "crop_60"),
    "wrapped": (_wrapped, "half_paste"),
    "gamma 1.8": (_gamma, "stain"),
    "contrast x .08": (_contrast, "stain"),
    "inverted": (_inverted, "invert"),
}
"""Each disguise, and the planted kind that covers it: nearest to it and, where there is one, no
easier to find."""

MAY_BE_MISSED = ("blend .20", "blur 3", "contrast x .08", "inverted")
"""Disguises that need not be found."""


def marked(tiles: Tiles, variant: int) -> Tiles:
    """The tiles with one of three marks: frame and caption, round field and pen, field and bar."""
    copies = tiles.copy()
    side = tiles.shape[1]
    unit = side / 64
    inside = np.zeros((side, side), dtype=np.uint8)
    cv2.circle(inside, (side // 2, side // 2), int(0.48 * side), 1, -1)
    for copy in copies:
        if variant % 3 == 0:
            cv2.rectangle(copy, (0, 0), (side - 1, side - 1), (25, 25, 25), max(2, int(2 * unit)))
            where, size = (int(5 * unit), int(13 * unit)), 0.35 * unit
            cv2.putText(copy, "B7", where, cv2.FONT_HERSHEY_SIMPLEX, size, (10, 10, 10), 1)
            continue
        copy[inside == 0] = 0
        if variant % 3 == 1:
            stroke = (np.array([[12, 48], [24, 38], [36, 50], [52, 28]]) * unit).astype(np.int32)
            cv2.polylines(copy, [stroke], False, (20, 40, 160), max(2, int(3 * unit)))
        else:
            start, end = (int(30 * unit), int(50 * unit)), (int(50 * unit), int(53 * unit))
            cv2.rectangle(copy, start, end, (0, 0, 0), -1)
    return copies


def blank(tiles: Tiles, rng: np.random.Generator) -> Tiles:
    """A fifth of the tiles replaced by white, black, faint noise or a soft shade."""
    copies = tiles.copy()
    side = tiles.shape[1]
    for row in np.flatnonzero(rng.random(len(tiles)) < 0.2):
        kind = rng.integers(4)
        if kind == 0:
            copies[row] = 255
        elif kind == 1:
            copies[row] = 0
        elif kind == 2:
            copies[row] = np.clip(244 + rng.normal(0, 3, (side, side, 3)), 0, 255)
        else:
            copies[row] = (225 + 20 * np.linspace(0, 1, side))[None, :, None]
    return copies


def innocent(tiles: Tiles, rng: np.random.Generator) -> dict[str, Tiles]:
    """Sets that leak nothing, from tiles of patients the generator never met."""
    return {
        "other patients": tiles,
        "stain shift": stain.jitter(tiles, rng, strength=0.4),
        "JPEG": _jpeg(tiles, tiles, rng, 50),
        "resized": resize(resize(tiles, tiles.shape[1] // 2), tiles.shape[1]),
        "blanks": blank(tiles, rng),
    }
