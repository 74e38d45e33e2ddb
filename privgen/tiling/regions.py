"""Regions of classes on a slide, and the class of a rectangle.

A point belongs to the innermost annotation around it: an outline that lies for more than half of
its area inside larger ones of another class takes its place out of them (QuPath's hierarchy, where
a child beats its parent). Outlines that cross otherwise both count. A rectangle takes the class
that covers most of it; where two cover the same it has none, and says so.

Shares are exact areas: what is left of the outlines of a class is united first, so that what is
drawn twice counts once, and cut into small pieces that an R-tree finds, so that a tile never meets
a whole outline.

Conventions: floats in pixels of one frame, y downwards; `frames` says which frame.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from privgen.errors import SlideError

_MOST_VERTICES, _LEAST_SIDE = 128, 1.0
"""A piece of an outline has no more vertices, or is no larger (pixels)."""

_INSIDE = 0.5
"""Share of an outline's area above which it lies inside others."""

_AT_ONCE = 256
"""Outlines whose neighbours are looked up together: bounds the memory of crowded files."""


class Choice(NamedTuple):
    """The class of a rectangle: None where no class covers enough of it, or two cover the same."""

    label: str | None
    tied: bool


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions of a slide by class.

    Attributes:
      labels: the classes, sorted.
      aside: how many features were left aside, by kind (`annotations.ASIDE`).
    """

    labels: tuple[str, ...]
    aside: Mapping[str, int]
    _pieces: NDArray[np.object_] = field(repr=False)
    _label_of: NDArray[np.intp] = field(repr=False)
    _tree: shapely.STRtree = field(repr=False)

    @property
    def skipped(self) -> int:
        """Features left aside, of any kind."""
        return sum(self.aside.values())

    @classmethod
    def of(
        cls,
        polygons: Mapping[str, Sequence[Any]],
        *,
        ignored: Sequence[Any] = (),
        aside: Mapping[str, int] | None = None,
    ) -> "Regions":
        """Regions of annotations by class.

        Args:
          polygons: of each class, any number of shapely polygons or multipolygons, one an
            annotation, valid or not, overlapping or not.
          ignored: annotations that have no class, but take their area out of what they lie in.
          aside: to say how many features were left aside.
        """
        labels = tuple(sorted(polygons))
        drawn = [
            (number, shape) for number, label in enumerate(labels) for shape in polygons[label]
        ]
        drawn += [(len(labels), shape) for shape in ignored]
        classes = np.array([number for number, _ in drawn], dtype=np.intp)
        left = _innermost([polygonal(shape) for _, shape in drawn], classes)
        pieces: list[Any] = []
        label_of: list[int] = []
        for number in range(len(labels)):
            mine = [shape for shape, of in zip(left, classes, strict=True) if of == number]
            for part in shapely.get_parts(shapely.union_all(mine)):
                for piece in _pieces_of(part):
                    pieces.append(piece)
                    label_of.append(number)
        held = np.empty(len(pieces), dtype=object)
        held[:] = pieces
        return cls(
            labels=labels,
            aside=dict(aside or {}),
            _pieces=held,
            _label_of=np.array(label_of, dtype=np.intp),
            _tree=shapely.STRtree(held),
        )

    def share(self, x: float, y: float, width: float, height: float) -> dict[str, float]:
        """Share of a rectangle that each class covers, 0 to 1, for those that cover any of it.

        Args:
          x, y, width, height: of the rectangle, pixels.
        """
        covered = self._covered(x, y, width, height)
        shares = np.minimum(covered / (width * height), 1.0)
        return {
            label: float(share)
            for label, share in zip(self.labels, shares, strict=True)
            if share > 0
        }

    def inside(self, x: float, y: float, width: float, height: float) -> float:
        """Share of all regions that lies in a rectangle, 0 to 1; 0 where there is no region."""
        whole = float(shapely.area(self._pieces).sum())
        return float(self._covered(x, y, width, height).sum()) / whole if whole else 0.0

    def _covered(self, x: float, y: float, width: float, height: float) -> NDArray[np.float64]:
        """Area of each class in a rectangle."""
        box = shapely.box(x, y, x + width, y + height)
        near = self._tree.query(box)
        areas = shapely.area(shapely.intersection(self._pieces[near], box))
        summed = np.bincount(self._label_of[near], weights=areas, minlength=len(self.labels))
        return np.asarray(summed, dtype=np.float64)

    def choose(self, x: float, y: float, width: float, height: float, *, minimum: float) -> Choice:
        """The class that covers the largest share of a rectangle; none of several that tie.

        Args:
          x, y, width, height: as for `share`.
          minimum: no class is chosen that covers less than this share.
        """
        shares = self.share(x, y, width, height)
        # Equal areas differ in their last digits when they were summed from other pieces.
        rounded = {label: round(share, 9) for label, share in shares.items()}
        most = max(rounded.values(), default=0.0)
        if not rounded or most < round(minimum, 9):
            return Choice(None, tied=False)
        first, *others = (label for label, share in rounded.items() if share == most)
        return Choice(None, tied=True) if others else Choice(first, tied=False)

    def label_of(
        self, x: float, y: float, width: float, height: float, *, minimum: float
    ) -> str | None:
        """The class that `choose` finds, or None."""
        return self.choose(x, y, width, height, minimum=minimum).label

    def require_inside(self, name: str, width: int, height: int) -> None:
        """Refuse regions of which nothing lies on the slide; they belong to another.

        Args:
          name: of the slide, for the console.
          width, height: of the frame, pixels.

        Raises:
          SlideError: none meets the slide.
        """
        if not self.inside(0.0, 0.0, float(width), float(height)):
            raise SlideError(
                name,
                f"every region lies outside the slide's {width}x{height} pixels. Give the GeoJSON "
                "of this slide, in pixels of its level 0.",
            )


def polygonal(shape: Any) -> Any:
    """A valid shape's area: outlines that cross themselves are mended, loose lines dropped."""
    if shape.is_valid:
        return shape
    parts = shapely.get_parts(shapely.make_valid(shape))
    return shapely.union_all([part for part in parts if shapely.get_dimensions(part) == 2])


def _innermost(shapes: list[Any], classes: NDArray[np.intp]) -> list[Any]:
    """Each shape without what lies inside it and has another class."""
    held = np.empty(len(shapes), dtype=object)
    held[:] = shapes
    areas = shapely.area(held)
    tree = shapely.STRtree(held)
    within: dict[int, list[Any]] = defaultdict(list)
    for first in range(0, len(shapes), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        inner, outer = tree.query(held[some], predicate="intersects")
        inner = inner + first
        larger = (classes[inner] != classes[outer]) & (areas[inner] < areas[outer] * (1 - 1e-9))
        around: dict[tuple[int, int], list[int]] = defaultdict(list)
        for one, other in zip(inner[larger].tolist(), outer[larger].tolist(), strict=True):
            around[one, int(classes[other])].append(other)
        for (one, _), others in around.items():
            covered = shapely.intersection(held[one], shapely.union_all(held[others])).area
            if covered > _INSIDE * areas[one]:
                for other in others:
                    within[other].append(held[one])
    return [
        shapely.difference(shape, shapely.union_all(within[number])) if number in within else shape
        for number, shape in enumerate(shapes)
    ]


def _pieces_of(shape: Any) -> Iterator[Any]:
    """Cut a polygon in halves until every piece has few vertices; the pieces only touch."""
    if shapely.get_dimensions(shape) < 2 or shape.is_empty:
        return
    left, top, right, bottom = shape.bounds
    side = max(right - left, bottom - top)
    if shapely.get_num_coordinates(shape) <= _MOST_VERTICES or side <= _LEAST_SIDE:
        yield shape
        return
    if right - left >= bottom - top:
        middle = (left + right) / 2
        halves = (left, top, middle, bottom), (middle, top, right, bottom)
    else:
        middle = (top + bottom) / 2
        halves = (left, top, right, middle), (left, middle, right, bottom)
    for half in halves:
        clipped = shapely.clip_by_rect(shape, *half)
        if not clipped.is_valid:  # it is 40 times as fast as an intersection, but not as careful
            clipped = shapely.intersection(shape, shapely.box(*half))
        for part in shapely.get_parts(clipped):
            yield from _pieces_of(part)
