"""Planted copies: train tiles altered in known ways, to learn which leaks an audit would find.

Each kind is a pure function of tiles and a generator of random numbers: row i depends on tile i and
on what is drawn for it, and in a blend on the tile it is blended with. A copy keeps shape and type.
A kind's strength is fixed here, since a power curve means nothing without it.

| kind | what is done |
|---|---|
| `exact` | nothing |
| `symmetry` | one of the 7 other symmetries of the square |
| `odd_rotation` | turned about the centre, 10 to 80 degrees, corners filled by reflection |
| `stain` | haematoxylin, eosin and DAB scaled and shifted at random, strength .3 |
| `odd_rotation_stain` | turned, then restained |
| `crop_60`, `crop_35`, `crop_25` | a square of that share of the side, anywhere, enlarged |
| `jpeg_40` | JPEG of quality 40, chroma halved |
| `blur` | Gaussian of 1.5 pixels |
| `blend_90`, `blend_70`, `blend_50` | .9, .7 or .5 of the tile, the rest another tile |
| `elastic` | a smooth warp, the farthest pixel moved by .04 of the side |
| `mirror_stain` | mirrored, turned by a multiple of 90 degrees, then restained |
| `img_to_img` | an image-to-image look: blurred by 2 pixels, restained, noise of sd 18 |
| `down_up` | shrunk to a quarter of the side and enlarged again |
| `perspective` | each corner moved by up to .15 of the side |
| `histogram` | the histogram of each channel is that of a tile of another patient |
| `jigsaw` | cut in 4 x 4 pieces, shuffled |
| `mosaic` | one piece of it, a quarter of the side, beside pieces of 15 other train tiles |
| `inset` | shrunk to half its side, on a tile of another patient |
| `piece_25` | a piece of a quarter of the side, at its own size, on a tile of another patient |
| `half_paste` | its left half beside the right half of a tile of another patient |

Source: docs/methods.md#power.
"""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from privgen.data import stain
from privgen.data.images import decode, encode_jpeg, resize
from privgen.encoders.orbit import SYMMETRIES, symmetries
from privgen.errors import ConfigError
from privgen.evidence import copy_pieces

Pixels = NDArray[np.uint8]
Alteration = Callable[[Pixels, np.random.Generator], Pixels]

ODD_DEGREES = (10.0, 80.0)
"""Range of odd rotations: at least 10 degrees away from every symmetry of the square."""

STAIN_STRENGTH = 0.3
"""Strength of the stain jitter: plainly another laboratory, still plainly H&E."""

CROPS = {"crop_60": 0.60, "crop_35": 0.35, "crop_25": 0.25}
"""Side of the crop over the side of the tile: .60 of the side is .36 of the area. Of the two
readings of "60 %" it is the harder one, and the side is what sets the scale of the copy."""

JPEG_QUALITY = 40

BLUR_SIGMA = 1.5
"""Standard deviation of the blur in pixels of the tile, whatever its side."""

BLENDS = {"blend_90": 0.9, "blend_70": 0.7, "blend_50": 0.5, "blend_20": 0.2}
"""Weight of the copied tile; the rest is the other tile's."""

ELASTIC_AMPLITUDE = 0.04
"""Longest displacement of the warp over the side: 2.6 pixels at 64, 10 at 256. With knots a quarter
of the side apart the tissue is bent and nowhere folded."""

LOOK_BLUR, LOOK_NOISE = 2.0, 18.0
"""Blur and noise of `img_to_img`, pixels and grey levels."""

DOWN_UP = 4

PERSPECTIVE = 0.15
"""Farthest a corner moves, as a share of the side."""

INSETS, PIECE = {"inset_50": 0.5, "inset_25": 0.25}, 0.25
"""Side of what is pasted in, over the side of the tile."""

_ELASTIC_KNOTS = 5
_MIRRORED = SYMMETRIES // 2


def plant(
    kind: str, tiles: Pixels, rng: np.random.Generator, *, partners: Pixels | None = None
) -> Pixels:
    """Copies of `tiles`, altered.

    Args:
      kind: one of `KINDS`.
      tiles: uint8, shape (n, h, h, 3).
      rng: draws what the alteration leaves open, for each tile.
      partners: tiles that blends, histograms and pieces draw on, shape (m, h, h, 3); None draws on
        `tiles`. A tile is never put together with one of equal pixels. The other kinds do not look
        at them.

    Returns:
      uint8, the shape of `tiles`, freshly allocated; row i is the copy of tile i.

    Raises:
      ConfigError: there is no such kind.
      InputError: a tile has no other tile to be put together with, or those have another size.
    """
    if kind not in KINDS:
        raise ConfigError(f"no planted copy is called {kind!r}; there are {', '.join(KINDS)}.")
    if len(tiles) == 0:
        return tiles.copy()
    if kind in COMPOSED:
        return COMPOSED[kind](tiles, rng, tiles if partners is None else partners)
    return ALTERATIONS[kind](tiles, rng)


def _exact(tiles: Pixels, rng: np.random.Generator) -> Pixels:
    return tiles.copy()


def _symmetry(tiles: Pixels, rng: np.random.Generator) -> Pixels:
    """One of the 7 symmetries other than leaving the tile as it is."""
    return _versions(tiles, rng.integers(1, SYMMETRIES, size=len(tiles)))


def _versions(tiles: Pixels, chosen: NDArray[np.int64]) -> Pixels:
    """The symmetric version of each tile that has this number in `symmetries`."""
    copies = np.empty_like(tiles)
    for index, version in enumerate(symmetries(tiles)):
        copies[chosen == index] = version[chosen == index]
    return copies


def _odd_rotation(tiles: Pixels, rng: np.random.Generator) -> Pixels:
    """Turn each tile about its centre.

    Reflection keeps the scale and invents no colour; the largest square free of it would be a crop.
    """
    angle = np.radians(rng.uniform(*ODD_DEGREES, size=len(tiles)))
    cos, sin, nil = np.cos(angle), np.sin(angle), np.zeros(len(tiles))
    matrix = np.stack([cos, -sin, nil, sin, cos, nil], axis=1).reshape(-1, 2, 3)
    count, height, width, _ = tiles.shape
    return _resampled(
        tiles,
        F.affine_grid(
            torch.from_numpy(matrix.astype(np.float32)),
            [count, 3, height, width],
            align_corners=False,
        ),
    )


def _resampled(tiles: Pixels, grid: Tensor) -> Pixels:
    """The tiles seen through `grid` (as `grid_sample` has it): bicubic, reflected at the border."""
    source = torch.from_numpy(tiles.astype(np.float32)).permute(0, 3, 1, 2)
    seen = F.grid_sample(
        source, grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )
    rounded = seen.clamp(0, 255).round().to(torch.uint8)
    return np.ascontiguousarray(rounded.permute(0, 2, 3, 1).numpy())


def _stain(tiles: Pixels, rng: np.random.Generator) -> Pixels:
    return stain.jitter(tiles, rng, strength=STAIN_STRENGTH)


def _odd_rotation_stain(tiles: Pixels, rng: np.random.Generator) -> Pixels:
    return _stain(_odd_rotation(tiles, rng), rng)


def _mirror_stain(tiles: Pixels, rng: np.random.Generator) -> Pixels:
    return _stain(_versions(tiles, rng.integers(_MIRRORED, SYMMETRIES, size=len(tiles))), rng)


def _crop(tiles: Pixels, rng: np.random.Generator, *, share: float) -> Pixels:
    """Cut a square of `share` of the side out of each tile, anywhere, and enlarge it again."""
    side = tiles.shape[1]
    kept = max(round(share * side), 1)
    corners = rng.integers(0, side - kept + 1, size=(len(tiles), 2))
    cut = [
        tile[top : top + kept, left : left + kept]
        for tile, (top, left) in zip(tiles, corners, strict=True)
    ]
    return resize(np.stack(cut), side)


def _jpeg(tiles: Pixels, rng: np.random.Generator) -> Pixels:
    return np.stack([decode(encode_jpeg(tile, JPEG_QUALITY), "a planted copy") for tile in tiles])


def _blur(tiles: Pixels, rng: np.random.Generator, *, sigma: float = BLUR_SIGMA) -> Pixels:
    blurred = ndimage.gaussian_filter(
        tiles.astype(np.float32), (0, sigma, sigma, 0), mode="reflect"
    )
    return np.asarray(np.rint(blurred), dtype=np.uint8)


def _img_to_img(tiles: Pixels, rng: np.random.Generator) -> Pixels:
    soft = _stain(_blur(tiles, rng, sigma=LOOK_BLUR), rng)
    noisy = soft + rng.normal(0, LOOK_NOISE, size=soft.shape)
    return np.asarray(np.clip(np.rint(noisy), 0, 255), dtype=np.uint8)


def _down_up(tiles: Pixels, rng: np.random.Generator) -> Pixels:
    side = tiles.shape[1]
    return resize(resize(tiles, max(1, side // DOWN_UP)), side)


def _perspective(tiles: Pixels, rng: np.random.Generator) -> Pixels:
    """Seen from the side: a projective map that no affine transform follows."""
    side = tiles.shape[1]
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]], dtype=np.float32)
    copies = np.empty_like(tiles)
    for row, tile in enumerate(tiles):
        moved = corners + rng.uniform(-PERSPECTIVE, PERSPECTIVE, size=(4, 2)) * side
        matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
        copies[row] = cv2.warpPerspective(
            tile, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
    return copies


def _histogram(tiles: Pixels, rng: np.random.Generator, partners: Pixels) -> Pixels:
    """The ranks of each channel stay, the values are another tile's."""
    copies = np.empty_like(tiles)
    for row, other in enumerate(copy_pieces.others(tiles, rng, partners)):
        for channel in range(tiles.shape[3]):
            ranks = np.argsort(tiles[row, ..., channel], axis=None, kind="stable")
            copies[row, ..., channel].flat[ranks] = np.sort(other[..., channel], axis=None)
    return copies


def _invert(tiles: Pixels, rng: np.random.Generator) -> Pixels:
    """A negative: nothing looks less like tissue, and nothing is easier to undo."""
    return np.uint8(255) - tiles


def _blend(tiles: Pixels, rng: np.random.Generator, partners: Pixels, *, weight: float) -> Pixels:
    """`weight` of each tile and the rest of another tile, in RGB."""
    copies = np.empty_like(tiles)
    for row, other in enumerate(copy_pieces.others(tiles, rng, partners)):
        copies[row] = np.rint(weight * tiles[row].astype(np.float64) + (1 - weight) * other)
    return copies


def _elastic(tiles: Pixels, rng: np.random.Generator) -> Pixels:
    """Bend each tile: random vectors at 5 x 5 knots, bicubic between them, the longest set."""
    knots = rng.normal(size=(len(tiles), 2, _ELASTIC_KNOTS, _ELASTIC_KNOTS))
    side = tiles.shape[1]
    field = F.interpolate(
        torch.from_numpy(knots), (side, side), mode="bicubic", align_corners=True
    ).permute(0, 2, 3, 1)
    longest = torch.linalg.vector_norm(field, dim=3).amax(dim=(1, 2)).reshape(-1, 1, 1, 1)
    still = torch.eye(2, 3, dtype=torch.float64).expand(len(tiles), 2, 3)
    grid = F.affine_grid(still, [len(tiles), 3, side, side], align_corners=False)
    # The grid runs from -1 to 1: the side has length 2.
    return _resampled(tiles, (grid + field / longest * 2 * ELASTIC_AMPLITUDE).float())


ALTERATIONS: dict[str, Alteration] = {
    "exact": _exact,
    "symmetry": _symmetry,
    "odd_rotation": _odd_rotation,
    "stain": _stain,
    "odd_rotation_stain": _odd_rotation_stain,
    **{kind: partial(_crop, share=share) for kind, share in CROPS.items()},
    "jpeg_40": _jpeg,
    "blur": _blur,
    "elastic": _elastic,
    "mirror_stain": _mirror_stain,
    "img_to_img": _img_to_img,
    "down_up": _down_up,
    "perspective": _perspective,
    "jigsaw": copy_pieces.jigsaw,
    "mosaic": copy_pieces.mosaic,
    "invert": _invert,
}
"""Kind and the function that makes it, for at least one tile."""

COMPOSED: dict[str, Callable[[Pixels, np.random.Generator, Pixels], Pixels]] = {
    **{kind: partial(_blend, weight=weight) for kind, weight in BLENDS.items()},
    "histogram": _histogram,
    **{kind: partial(copy_pieces.inset, share=share) for kind, share in INSETS.items()},
    "piece_25": partial(copy_pieces.piece, share=PIECE),
    "half_paste": copy_pieces.half_paste,
}
"""The same for kinds that need other tiles, at least one."""

KINDS = (*ALTERATIONS, *COMPOSED)
"""Every kind of planted copy."""

AUDITED_KINDS = ("exact", "symmetry", "odd_rotation", "stain")
"""Kinds each audit plants unless told otherwise: each costs 8 embeddings per copy."""
