"""Where the origin of a slide's annotations lies.

Some scanners (Leica, MIRAX and others) store a scanned area inside a larger, empty level 0. QuPath
shows that area alone and exports coordinates from its corner, unless it was told `--no-crop`; other
tools count from the corner of level 0. Both look alike, so the frame is told by where the regions
fit: nobody draws outside of what was scanned.
"""

from dataclasses import dataclass
from typing import Literal

from privgen.data.slides import Slide
from privgen.errors import SlideError
from privgen.tiling.regions import Regions

AnnotationFrame = Literal["auto", "bounds", "level-0"]
"""Asked for: told by where the regions fit, the scanned area's corner, or level 0's."""

FITS = 0.95
"""Share of the regions' area that lies in the scanned area when they fit; strokes go over edges."""


@dataclass(frozen=True)
class Frame:
    """The frame of one slide's annotations.

    Attributes:
      name: "bounds" or "level-0", or "same" where the slide's scanned area starts in its corner.
      x, y: of its origin, level-0 pixels.
      assumed: the regions fit both frames, and QuPath's default was taken.
    """

    name: Literal["bounds", "level-0", "same"]
    x: int = 0
    y: int = 0
    assumed: bool = False


def frame_of(name: str, slide: Slide, regions: Regions, asked: AnnotationFrame) -> Frame:
    """The frame of a slide's regions.

    Args:
      name: of the slide, for the console.
      slide: open.
      regions: as they stand in the file.
      asked: what the caller says of them.

    Raises:
      SlideError: every region lies outside the slide, or they fit neither frame.
    """
    area = slide.bounds
    if area is None or (area.x, area.y) == (0, 0):
        regions.require_inside(name, slide.width, slide.height)
        return Frame("same")
    cropped, whole = Frame("bounds", area.x, area.y), Frame("level-0")
    if asked == "bounds":
        regions.require_inside(name, area.width, area.height)
        return cropped
    if asked == "level-0":
        regions.require_inside(name, slide.width, slide.height)
        return whole
    in_cropped = regions.inside(0, 0, area.width, area.height)
    in_whole = regions.inside(area.x, area.y, area.width, area.height)
    if in_cropped >= FITS and in_whole >= FITS:
        return Frame("bounds", area.x, area.y, assumed=True)
    if in_cropped < FITS and in_whole < FITS:
        raise SlideError(
            name,
            f"the scanned area starts at {area.x}, {area.y} of level 0, and the regions fit it in "
            f"neither frame: {in_cropped:.0%} of their area lies in it counted from its corner "
            f"(QuPath), {in_whole:.0%} counted from level 0's. Give the GeoJSON of this slide, or "
            "`annotation_frame` bounds or level-0.",
        )
    return cropped if in_cropped >= FITS else whole
