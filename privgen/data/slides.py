"""The only door that opens a slide.

OpenSlide opens it (Goode et al. 2013, "OpenSlide: a vendor-neutral software foundation for digital
pathology", J Pathol Inform 4:27) and only arrays leave: uint8 RGB, shape (h, w, 3), row 0 at the
top, as stored (no colour profile is applied), what the scanner left out in white. Label and macro
images are never read, of the properties only those are looked at that hold micrometres per pixel
and the scanned area, and no `rule` of an error holds a path, a stored text or OpenSlide's own
words.

Conventions: x and y are pixels of level 0, widths and heights pixels of the level read; `mpp` is
micrometres per pixel of level 0. `openslide.OpenSlide` opens, never `open_slide`, which hands plain
pictures to Pillow. A plain TIFF must be tiled; its `mpp` comes from its resolution tags where
their unit is the centimetre or the inch, or, where there are none, from the numbers that OME-XML
states. Of an OME-TIFF OpenSlide shows the levels in the file's chain of images: all of a pyramid
that stands there, the first alone where the others stand in SubIFDs (`Slide.unseen`).

What a file declares is held against limits before OpenSlide asks for memory (`tiff_header`).

Blocks equal single reads on a level whose downsample is a whole number d (`Slide.exact`), at
multiples of d, however it is cut. At any other downsample a level-0 corner falls between level
pixels and OpenSlide interpolates: the same place, read alone and in a block, differed by up to 50
grey levels on a real slide (downsample 2.0005).

OpenSlide's errors latch: a handle that failed once fails for ever. A failed read therefore opens
the slide once more and reads once again there; a second failure is a `SlideReadError`, and the
slide is given up. Damage inside a JPEG tile may decode to wrong pixels without any error.
"""

import math
import operator
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import openslide
from numpy.typing import NDArray

from privgen.data.slide_files import foreign, unreadable
from privgen.data.tiff_header import MAX_SIDE, Directory, read_directories, refusal
from privgen.errors import InputError, SlideError, SlideReadError

MPP_RANGE = (0.05, 20.0)
"""Micrometres a pixel that a scan can have; 72 dots an inch, what pictures say, would be 353."""

SQUARE = 0.02
"""How far, as a share, the micrometres per pixel may differ between x and y."""

MAX_PIXELS = 2**38
"""Most pixels of level 0: ten times the largest scans."""

MAX_LEVELS = 64

BLOCK = 2048
"""Longest side of what `overview` reads at once, in level pixels (16 MiB as RGBA)."""

_NOT_A_SLIDE = (
    "is not a slide that OpenSlide can read: damaged, or of another format (a TIFF must be tiled). "
    "Export or copy it again."
)
_GIVE_MPP = "Give its micrometres per pixel with `mpp_override`."
_BROKE = "broke in the middle of reading, and again once reopened. Copy or export it again."

_Place = tuple[tuple[int, int], int, tuple[int, int]]  # what `read_region` takes


@dataclass(frozen=True)
class Level:
    """One resolution of a slide; `downsample` is level-0 pixels per pixel of this level."""

    width: int
    height: int
    downsample: float


@dataclass(frozen=True)
class Area:
    """A rectangle of level 0, pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class Overview:
    """A whole slide at low resolution, white beyond; `scale` is level-0 pixels per pixel of it."""

    pixels: NDArray[np.uint8]
    scale: float


class Slide:
    """An open slide; use it in a `with` block. Any number of threads may read at once.

    Args:
      path: the file, told by content; its name's ending counts for formats that are refused.
      mpp: micrometres per pixel of level 0, which overrides what is stored.

    Attributes:
      width, height: pixels of level 0.
      mpp: micrometres per pixel of level 0, the mean of x and y.
      levels: from the finest to the coarsest; the first is level 0.
      bounds: what was scanned of level 0, where the file says so and it lies on it.
      unseen: levels that the file holds and OpenSlide does not show.

    Raises:
      SlideError: the file is missing, unreadable or no slide; its micrometres per pixel are
        missing, differ between x and y by over `SQUARE`, or lie outside `MPP_RANGE`.
    """

    def __init__(self, path: Path, *, mpp: float | None = None) -> None:
        self._path = path
        self._refuse_if(unreadable(path) or foreign(path))
        images = read_directories(path)
        self._refuse_if(refusal(images))
        opened, self.levels = _opened(path)
        if opened is None:
            raise SlideError(str(path), _NOT_A_SLIDE)
        self.width, self.height = self.levels[0].width, self.levels[0].height
        self.unseen = images[0].sub_directories if images and len(self.levels) == 1 else 0
        rule = _beyond(self.levels) or _several(opened, images)
        if not rule:
            self.mpp, rule = _micrometres(opened, mpp, images[0].mpp if images else None)
        if rule:
            opened.close()
        self._refuse_if(rule)
        self.bounds = _bounds(opened, self.levels[0])
        self._handle: openslide.OpenSlide | None = opened
        self._broken = False
        self._lock = threading.Lock()

    def _refuse_if(self, rule: str | None) -> None:
        if rule:
            raise SlideError(str(self._path), rule)

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the slide as soon as no thread reads it any more; twice is fine."""
        with self._lock:  # let go, as `_opened` says
            self._handle = None

    def exact(self, level: int) -> bool:
        """True when blocks of `level` equal single reads: its downsample is a whole number.

        Raises:
          InputError: the slide has no such level.
        """
        downsample = self._level(level).downsample
        return abs(downsample - round(downsample)) < 1e-6

    def level_for(self, mpp: float, *, tolerance: float = 0.02) -> int:
        """The coarsest level with `mpp` micrometres per pixel or less, give or take `tolerance`.

        Raises:
          SlideError: level 0 is coarser already.
        """
        most = mpp * (1 + tolerance)
        fine = [n for n, one in enumerate(self.levels) if self.mpp * one.downsample <= most]
        if not fine:
            self._refuse_if(
                f"the scan has {self.mpp:.4g} um per pixel, coarser than the {mpp:.4g} asked for; "
                f"ask for {self.mpp:.4g} or more."
            )
        return max(fine, key=lambda n: self.levels[n].downsample)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """The pixels of one place, whatever is transparent or outside the slide on white.

        Args:
          level: number of the level, 0 the finest.
          x, y: left and upper edge in pixels of level 0; may be negative.
          width, height: pixels of `level`, 1 or more; may reach beyond the slide.

        Returns:
          uint8 RGB, shape (height, width, 3), own memory.

        Raises:
          InputError: no such level, no pixel asked for, or the slide is closed.
          SlideReadError: reading failed on two handles in turn, or had failed so before.
        """
        downsample = self._level(level).downsample
        x, y, width, height = map(operator.index, (x, y, width, height))
        if width < 1 or height < 1:
            raise InputError(f"a read needs a pixel: got {width}x{height}. Ask for 1x1 or more.")
        beyond = x >= self.width or y >= self.height
        if beyond or x + width * downsample <= 0 or y + height * downsample <= 0:
            return np.full((height, width, 3), 255, dtype=np.uint8)
        place = ((x, y), level, (width, height))
        handle = self._current()
        rgba = _attempt(handle, place)
        if rgba is None:
            rgba = _attempt(self._renewed(handle), place)
        if rgba is None:
            self._broken = True
            raise SlideReadError(str(self._path), _BROKE)
        return _on_white(rgba)

    def _renewed(self, failed: openslide.OpenSlide) -> openslide.OpenSlide:
        """A handle younger than `failed`; the first reader to come here opens it."""
        with self._lock:
            if self._handle is failed:
                self._handle, levels = _opened(self._path)
                self._broken = levels != self.levels
        return self._current()

    def _current(self) -> openslide.OpenSlide:
        handle = self._handle
        if self._broken:
            raise SlideReadError(str(self._path), _BROKE)
        if handle is None:
            raise InputError("the slide is closed: nothing can be read. Read inside its `with`.")
        return handle

    def _level(self, level: int) -> Level:
        if not 0 <= level < len(self.levels):
            raise InputError(
                f"the slide has levels 0 to {len(self.levels) - 1}: got {level}. Ask for another."
            )
        return self.levels[level]


def overview(
    slide: Slide, *, longest: int = 2048, beat: Callable[[], None] = lambda: None
) -> Overview:
    """The whole slide at low resolution, each pixel the mean of the level pixels it covers.

    Read in blocks of `BLOCK` a side or less, from the coarsest level that still has `longest`
    pixels, or from level 0. A slide of one level is decoded whole, but memory stays under 150 MiB
    (a block and its copies, OpenSlide's cache of 32 MiB, the overview), whatever its size.

    Args:
      slide: an open slide.
      longest: pixels of the overview's longer side at most, 1 or more.
      beat: called after each block; may raise to stop.

    Raises:
      InputError: `longest` is not positive.
      SlideReadError: the slide broke.
    """
    if longest < 1:
        raise InputError(f"an overview needs a pixel: got longest {longest}. Ask for 1 or more.")
    levels = slide.levels
    enough = [n for n, one in enumerate(levels) if max(one.width, one.height) >= longest]
    number = max(enough or [0], key=lambda n: levels[n].downsample)
    downsample = levels[number].downsample
    sides = [math.ceil(side / downsample) for side in (slide.width, slide.height)]
    shrink = -(-max(sides) // longest)
    scale = shrink * downsample
    width, height = (-(-side // shrink) for side in sides)
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    step = max(1, BLOCK // shrink)
    for top in range(0, height, step):
        for left in range(0, width, step):
            rows, columns = min(step, height - top), min(step, width - left)
            x, y = round(left * scale), round(top * scale)
            block = slide.read(number, x, y, columns * shrink, rows * shrink)
            mean = cv2.resize(block, (columns, rows), interpolation=cv2.INTER_AREA)
            pixels[top : top + rows, left : left + columns] = mean
            beat()
    return Overview(pixels, scale)


def _beyond(levels: tuple[Level, ...]) -> str | None:
    """Why a slide of such levels is not read, as a rule."""
    width, height = levels[0].width, levels[0].height
    if len(levels) > MAX_LEVELS:
        return f"has {len(levels)} levels; the most is {MAX_LEVELS}. Export it again."
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        return (
            f"declares {width}x{height} pixels; the longest side is {MAX_SIDE:,}, the most pixels "
            f"{MAX_PIXELS:,}. Export it again, or in parts."
        )
    return None


def _several(slide: openslide.OpenSlide, images: tuple[Directory, ...]) -> str | None:
    """Why a plain TIFF of several whole images is not read: the first may be the label."""
    if slide.properties.get(openslide.PROPERTY_NAME_VENDOR) != "generic-tiff":
        return None
    whole = [one.width * one.height for one in images if one.tiled and not one.reduced]
    if whole and max(whole) > whole[0]:
        return (
            "holds several images, and the first is not the largest: it may show the label. Export "
            "the scan alone."
        )
    return None


def _opened(path: Path) -> tuple[openslide.OpenSlide | None, tuple[Level, ...]]:
    """A new handle and its levels; none where OpenSlide refuses, whose words are dropped.

    A handle closes when its last reader lets go of it, so that no thread can read a closed one.
    """
    try:
        slide = openslide.OpenSlide(path)
        shapes = zip(slide.level_dimensions, slide.level_downsamples, strict=True)
        return slide, tuple(Level(*size, downsample) for size, downsample in shapes)
    except openslide.OpenSlideError:
        return None, ()


def _attempt(handle: openslide.OpenSlide, place: _Place) -> NDArray[np.uint8] | None:
    """RGBA, not premultiplied; None where OpenSlide fails."""
    try:
        return np.asarray(handle.read_region(*place))
    except openslide.OpenSlideError:
        return None


def _micrometres(
    slide: openslide.OpenSlide, given: float | None, ome: tuple[float, float] | None
) -> tuple[float, str | None]:
    """Micrometres a pixel, as given or as stored, and the rule they break, which quotes no text."""
    names = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
    try:
        stored = (slide.properties.get(name) or "nan" for name in names)
        x, y = map(float, stored if given is None else (given, given))
        if math.isnan(x + y) and ome is not None:
            x, y = ome
    except ValueError:
        x = y = math.nan
    low, high = MPP_RANGE
    rule = None
    if math.isnan(x + y):
        rule = f"has no micrometres per pixel. {_GIVE_MPP}"
    elif not (low <= min(x, y) and max(x, y) <= high):
        rule = f"has micrometres per pixel outside {low:g} to {high:g}. {_GIVE_MPP}"
        if given is not None:
            rule = f"was given micrometres per pixel outside {low:g} to {high:g}. Correct them."
    elif max(x, y) > min(x, y) * (1 + SQUARE):
        rule = f"has pixels that are not square, by over {SQUARE:.0%}. {_GIVE_MPP}"
    return (x + y) / 2, rule


def _bounds(slide: openslide.OpenSlide, whole: Level) -> Area | None:
    """The scanned area, where the file stores four whole numbers that lie on level 0."""
    names = (
        openslide.PROPERTY_NAME_BOUNDS_X,
        openslide.PROPERTY_NAME_BOUNDS_Y,
        openslide.PROPERTY_NAME_BOUNDS_WIDTH,
        openslide.PROPERTY_NAME_BOUNDS_HEIGHT,
    )
    try:
        area = Area(*(int(slide.properties.get(name) or "") for name in names))
    except ValueError:
        return None
    on_it = min(area.x, area.y) >= 0 and area.width > 0 and area.height > 0
    on_it = on_it and area.x + area.width <= whole.width and area.y + area.height <= whole.height
    return area if on_it else None


def _on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGBA, not premultiplied, over white as RGB."""
    rgb = np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), dtype=np.uint8)
    alpha = cv2.extractChannel(rgba, 3)
    if cv2.minMaxLoc(alpha)[0] == 255:
        return rgb
    through = alpha < 255
    weight = alpha[through, np.newaxis].astype(np.uint16)
    rgb[through] = (rgb[through] * weight + 255 * (255 - weight) + 127) // 255
    return rgb
