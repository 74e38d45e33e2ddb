"""Slides for tests, written with tifffile: tiled, pyramidal, of any size in bounded memory.

`write_slide` takes an array, or a function that makes the pixels of one place of one level, so that
a slide of 20,000 x 20,000 pixels never stands in memory. `deflate` keeps every pixel, which makes
the array the oracle of what is read; `jpeg` is what scanners write.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

Painter = Callable[[int, int, int, int, int], Pixels]
"""`painter(level, x, y, width, height)`: pixels of a place in level pixels, (height, width, 3)."""


def write_slide(
    path: Path,
    pixels: Pixels | Painter,
    *,
    size: tuple[int, int] | None = None,
    levels: int = 1,
    tile: int = 256,
    compression: Literal["jpeg", "deflate"] | None = "deflate",
    photometric: Literal["rgb", "ycbcr", "minisblack"] = "rgb",
    mpp: float | tuple[float, float] | None = None,
    layout: Literal["pages", "ome", "strips"] = "pages",
    texts: dict[str, str] | None = None,
) -> None:
    """Write a pyramidal TIFF in which each level halves the one before, rounded down.

    Args:
      path: the file; replaced.
      pixels: level 0 as uint8 (h, w, 3), from which the others are averaged, or a painter.
      size: (width, height) of level 0; needed with a painter alone.
      levels: 1 or more.
      tile: pixels per side of the stored tiles, a multiple of 16.
      compression: None stores pixels as they are; "jpeg" loses some, at quality 90.
      photometric: "rgb" as it is; "ycbcr" turned, with half the colour resolution, as most
        scanners write "jpeg"; "minisblack" the first channel alone. `pixels` are always RGB.
      mpp: micrometres per pixel (x and y, or both alike) written as the resolution in dots a
        centimetre; None writes no unit.
      layout: "pages" one page per level, as OpenSlide reads them; "ome" an OME-TIFF with the levels
        below the first in SubIFDs; "strips" not tiled.
      texts: value by name of further text: "description" (but not of "ome"), "software", "artist",
        "host" or "datetime" ("YYYY:MM:DD HH:MM:SS").
    """
    if callable(pixels):
        if size is None:
            raise ValueError("a painter needs a size")
        paint = pixels
    else:
        size = (pixels.shape[1], pixels.shape[0])
        paint = _painter_of(pixels, levels)
    jpeg = compression == "jpeg"
    if photometric == "ycbcr" and not jpeg:
        raise ValueError("ycbcr is for jpeg")
    given = texts or {}
    tags = [(number, "s", 0, given[name], True) for name, number in _TAGS.items() if name in given]
    with tifffile.TiffWriter(path, ome=layout == "ome", bigtiff=False) as writer:
        for level in range(levels):
            width, height = size[0] >> level, size[1] >> level
            channels = 1 if photometric == "minisblack" else 3
            strips = layout == "strips"
            per_cm = None if mpp is None else np.broadcast_to(1e4 / np.asarray(mpp), 2) / 2**level
            writer.write(
                paint(level, 0, 0, width, height)
                if strips
                else _tiles(paint, level, width, height, tile, channels),
                shape=(height, width) if channels == 1 else (height, width, channels),
                dtype=np.uint8,
                tile=None if strips else (tile, tile),
                photometric="minisblack" if channels == 1 else "rgb",
                compression=compression,
                compressionargs=_JPEG | {"outcolorspace": photometric} if jpeg else None,
                subsampling=((2, 2) if photometric == "ycbcr" else (1, 1)) if jpeg else None,
                resolution=(1, 1) if per_cm is None else tuple(map(float, per_cm)),
                resolutionunit="NONE" if per_cm is None else "CENTIMETER",
                subfiletype=1 if level else 0,
                subifds=levels - 1 if layout == "ome" and level == 0 else None,
                metadata={} if layout == "ome" else None,
                description=given.get("description") if level == 0 and layout != "ome" else None,
                software=given.get("software", False),
                extratags=tags,
                maxworkers=1,
            )


def write_scn(
    path: Path, pixels: Pixels, *, offset: tuple[int, int], size: tuple[int, int], mpp: float = 0.5
) -> None:
    """Write a Leica slide of one scanned area, `pixels`, at an offset in an empty collection.

    Args:
      path: the file; replaced.
      pixels: of the scanned area, uint8 (h, w, 3).
      offset: (x, y) of its corner in the collection, pixels.
      size: (width, height) of the collection, pixels.
      mpp: micrometres per pixel.
    """
    height, width = pixels.shape[:2]
    nm = round(1000 * mpp)
    view = f'sizeX="{width * nm}" sizeY="{height * nm}"'
    view += f' offsetX="{offset[0] * nm}" offsetY="{offset[1] * nm}"'
    said = f"""<?xml version="1.0"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">
<collection name="c" sizeX="{size[0] * nm}" sizeY="{size[1] * nm}"><barcode>MTIz</barcode>
<image name="i"><creationDate>2020-01-01T00:00:00</creationDate>
<device model="Leica SCN400" version="1"/><pixels sizeX="{width}" sizeY="{height}">
<dimension sizeX="{width}" sizeY="{height}" r="0" ifd="0"/></pixels><view {view}/>
<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>
<illuminationSettings><numericalAperture>0.4</numericalAperture>
<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings>
</image></collection></scn>"""
    tifffile.imwrite(
        path,
        pixels,
        bigtiff=True,
        tile=(256, 256),
        compression="jpeg",
        compressionargs={"level": 95},
        photometric="rgb",
        description=said,
        metadata=None,
        resolution=(1e4 / mpp, 1e4 / mpp),
        resolutionunit="CENTIMETER",
    )


def noise(width: int, height: int, seed: int = 0) -> Pixels:
    """Pixels without any order, shape (height, width, 3)."""
    shape = (height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def break_the_end(path: Path) -> None:
    """Damage the last stored tile of level 0, so that reading fails after it began well."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        offset, length = page.dataoffsets[-1], page.databytecounts[-1]
    data = bytearray(path.read_bytes())
    data[offset : offset + length] = bytes(length)
    path.write_bytes(data)


_JPEG = {"level": 90}
_TAGS = {"artist": 315, "host": 316, "datetime": 306}


def _tiles(
    paint: Painter, level: int, width: int, height: int, side: int, channels: int
) -> Iterator[Pixels]:
    """Row by row, padded with their last pixels to whole tiles, as JPEG encoders do."""
    for y in range(0, height, side):
        for x in range(0, width, side):
            made = paint(level, x, y, min(side, width - x), min(side, height - y))
            pad = ((0, side - made.shape[0]), (0, side - made.shape[1]), (0, 0))
            whole = np.pad(made, pad, mode="edge")
            yield np.ascontiguousarray(whole[..., 0] if channels == 1 else whole)


def _painter_of(pixels: Pixels, levels: int) -> Painter:
    pyramid = [pixels]
    for _ in range(levels - 1):
        last = pyramid[-1]
        half = (last.shape[1] // 2, last.shape[0] // 2)
        pyramid.append(cv2.resize(last, half, interpolation=cv2.INTER_AREA))

    def paint(level: int, x: int, y: int, width: int, height: int) -> Pixels:
        return pyramid[level][y : y + height, x : x + width]

    return paint
