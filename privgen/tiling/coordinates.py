"""Places of tiles that TRIDENT or CLAM chose: their `.h5` files of coordinates.

Both write a dataset `coords` of (x, y), the upper left corner of each tile in pixels of level 0 as
OpenSlide counts them, with attributes that say how large a tile is: TRIDENT `patch_size` (pixels of
the tile) and `patch_size_level0`; CLAM `patch_size` and `patch_level`, of whose pixels it is. What
else the attributes hold, names and paths among it, is not read. Whatever links to another file is
refused, and the dataset's declared size is judged before it is read.

Source: Zhang et al. 2025, arXiv:2502.06750 (TRIDENT); Lu et al. 2021, Nat Biomed Eng 5:555 (CLAM).
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privgen.data.slides import Slide
from privgen.errors import ConfigError, SlideError
from privgen.tiling.plan import MAX_CANDIDATES
from privgen.tiling.settings import MAX_SIDE

MAX_BYTES = 2**28
"""Largest file; a million tiles take 16 MB."""

MAX_CHUNK_BYTES = 2**26
"""Largest piece of the dataset that is decompressed at once."""

_DAMAGED = "its .h5 of coordinates is damaged or none. Write it again with TRIDENT or CLAM."
_DAMAGE = (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError, OverflowError)
"""What h5py raises on a file that is no HDF5, or a damaged one."""


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Where tiles lie.

    Attributes:
      x, y: left and upper edge, level-0 pixels, shape (n,), as listed.
      side: of a tile, level-0 pixels.
      size: of a tile, its own pixels.
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    side: float
    size: int


def opened(folder: Path) -> Path:
    """The folder of coordinates, once it is known that they can be read.

    Raises:
      ConfigError: it is no folder, or the library that reads them is missing.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"`coordinates` is a folder of STEM_patches.h5 or STEM.h5: {folder} is none. Give it."
        )
    try:
        import h5py  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "`coordinates` needs h5py, which is not installed. Run pip install 'privgen[h5]'."
        ) from error
    return folder


def coordinates_of(folder: Path, *stems: str) -> Path:
    """The file of one slide in a folder: TRIDENT's `STEM_patches.h5` or CLAM's `STEM.h5`.

    Args:
      folder: of `--coordinates`.
      stems: what the slide may be called.

    Raises:
      SlideError: there is none, or several.
    """
    names = dict.fromkeys(
        f"{known}{ending}"
        for stem in stems
        for known in (stem, stem.removesuffix(".ome"))
        for ending in ("_patches.h5", ".h5")
    )
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise SlideError(
            stems[0], "has no .h5 in the folder of coordinates. Add one, or leave the slide out."
        )
    if len(found) > 1:
        raise SlideError(stems[0], "has several .h5 in the folder of coordinates. Keep one.")
    return found[0]


def read_coordinates(path: Path, slide: Slide) -> Coordinates:
    """Read the places of one slide's tiles.

    Args:
      path: the `.h5` file.
      slide: open.

    Raises:
      SlideError: it is no such file, it is of another slide, or it declares too much.
    """
    import h5py

    try:
        if path.stat().st_size > MAX_BYTES:
            raise SlideError(
                str(path),
                f"its .h5 of coordinates has {path.stat().st_size:,} bytes; the most is "
                f"{MAX_BYTES:,}. Give coordinates alone, without features or pictures.",
            )
        with h5py.File(path, "r", locking=False) as file:
            if not isinstance(file.get("coords", getlink=True), h5py.HardLink):
                raise ValueError("coords is missing, or a link")
            data = file["coords"]
            if not isinstance(data, h5py.Dataset):
                raise ValueError("coords is no dataset")
            _require_modest(path, data)
            numbers = {name: _number(data, name) for name in _READ}
            places = np.asarray(data[...])
    except _DAMAGE as error:
        raise SlideError(str(path), _DAMAGED) from error
    whole = np.rint(places).astype(np.int64)
    if not np.array_equal(whole, places) or np.abs(whole).max() > 2**31:
        raise SlideError(str(path), _DAMAGED)
    _require_same_slide(path, slide, numbers)
    size, side = _sides(path, slide, numbers)
    return Coordinates(whole[:, 0], whole[:, 1], side, size)


_READ = ("patch_size", "patch_size_level0", "patch_level", "level0_width", "level0_height")


def _require_modest(path: Path, data: Any) -> None:
    """Judge what a dataset declares, before any of it is read."""
    if data.ndim != 2 or data.shape[1] != 2 or data.dtype.kind not in "iuf":
        raise ValueError("coords is no list of pairs of numbers")
    if data.external or data.is_virtual:
        raise ValueError("coords lies in another file")
    if data.shape[0] < 1:
        raise SlideError(str(path), "its .h5 of coordinates lists no tile. Leave the slide out.")
    if data.shape[0] > MAX_CANDIDATES:
        raise SlideError(
            str(path),
            f"its .h5 of coordinates lists {data.shape[0]:,} tiles; the most is "
            f"{MAX_CANDIDATES:,}. Give fewer.",
        )
    chunk = math.prod(data.chunks or (1,)) * data.dtype.itemsize
    if chunk > MAX_CHUNK_BYTES:
        raise SlideError(
            str(path),
            f"its .h5 of coordinates is stored in pieces of {chunk:,} bytes; the most is "
            f"{MAX_CHUNK_BYTES:,}. Write it again with TRIDENT or CLAM.",
        )


def _number(data: Any, name: str) -> float | None:
    """One attribute; None where it is missing or no single number."""
    if name not in data.attrs:
        return None
    stored = data.attrs.get_id(name)
    if math.prod(stored.shape or (1,)) != 1 or stored.dtype.kind not in "iuf":
        return None
    value = float(np.asarray(data.attrs[name]).reshape(-1)[0])
    return value if math.isfinite(value) else None


def _require_same_slide(path: Path, slide: Slide, numbers: dict[str, float | None]) -> None:
    stated = numbers["level0_width"], numbers["level0_height"]
    if None not in stated and stated != (slide.width, slide.height):
        raise SlideError(
            str(path),
            f"its .h5 of coordinates is of a slide of {stated[0]:.0f}x{stated[1]:.0f} pixels; this "
            f"one has {slide.width}x{slide.height}. Give the file of this slide.",
        )


def _sides(path: Path, slide: Slide, numbers: dict[str, float | None]) -> tuple[int, float]:
    """Side of a tile in its own pixels and in those of level 0."""
    size, side, level = (numbers[n] for n in ("patch_size", "patch_size_level0", "patch_level"))
    if side is None and size is not None and level is not None:
        if not 0 <= level < len(slide.levels) or level != int(level):
            raise SlideError(
                str(path),
                f"its .h5 of coordinates is of level {level:g}; the slide has levels 0 to "
                f"{len(slide.levels) - 1}. Give the file of this slide.",
            )
        side = size * slide.levels[int(level)].downsample
    if size is None or side is None or size != int(size):
        raise SlideError(
            str(path),
            "its .h5 of coordinates does not say how large a tile is (patch_size, and "
            "patch_size_level0 or patch_level). Write it again with TRIDENT or CLAM.",
        )
    if not 16 <= size <= MAX_SIDE or not 1 <= side <= 2**20:
        raise SlideError(
            str(path),
            f"its .h5 of coordinates has tiles of {size:g} px, {side:g} of level 0; a side is 16 "
            f"to {MAX_SIDE}. Write it again.",
        )
    return int(size), side
