"""Classes of tiles: one a slide, from a table, or by region, from GeoJSON as QuPath exports it.

A tile belongs to the class that covers the largest share of its rectangle, if that is enough.
Shares are exact areas: the polygons of a class are united first, so that what is drawn twice counts
once, and cut into small pieces that an R-tree finds, so that a tile never meets a whole outline.

Conventions: regions are in pixels of the slide's level 0 (QuPath's, with its origin at the top
left), y downwards; x, y, width and height here are floats in the same pixels. GeoJSON: RFC 7946,
save that these coordinates are no degrees.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from privgen.data import class_names
from privgen.data.class_names import FLAT_CLASS
from privgen.errors import ConfigError, SlideError
from privgen.tiling.names import known_as, read_slide_table

_MOST_VERTICES, _LEAST_SIDE = 128, 1.0
"""A piece of an outline has no more vertices, or is no larger (pixels)."""

_DAMAGE = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError),
    shapely.errors.GEOSException,
)
"""What Python and GEOS raise on JSON that is no GeoJSON."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions of a slide by class.

    Attributes:
      labels: the classes, sorted.
      skipped: features left aside, because they have no class or no area.
    """

    labels: tuple[str, ...]
    skipped: int
    _pieces: NDArray[np.object_] = field(repr=False)
    _label_of: NDArray[np.intp] = field(repr=False)
    _tree: shapely.STRtree = field(repr=False)

    @classmethod
    def of(cls, polygons: Mapping[str, Sequence[Any]], skipped: int = 0) -> "Regions":
        """Regions of shapely polygons by class.

        Args:
          polygons: of each class, any number, valid or not, overlapping or not.
          skipped: to say how many features were left aside.
        """
        labels = tuple(sorted(polygons))
        pieces: list[Any] = []
        label_of: list[int] = []
        for number, label in enumerate(labels):
            shapes = [_polygonal(shape) for shape in polygons[label]]
            for part in shapely.get_parts(shapely.union_all(shapes)):
                for piece in _pieces_of(part):
                    pieces.append(piece)
                    label_of.append(number)
        held = np.empty(len(pieces), dtype=object)
        held[:] = pieces
        return cls(
            labels=labels,
            skipped=skipped,
            _pieces=held,
            _label_of=np.array(label_of, dtype=np.intp),
            _tree=shapely.STRtree(held),
        )

    def share(self, x: float, y: float, width: float, height: float) -> dict[str, float]:
        """Share of a rectangle that each class covers, 0 to 1, for those that cover any of it.

        Args:
          x, y, width, height: of the rectangle, level-0 pixels.
        """
        box = shapely.box(x, y, x + width, y + height)
        near = self._tree.query(box)
        areas = shapely.area(shapely.intersection(self._pieces[near], box))
        covered = np.bincount(self._label_of[near], weights=areas, minlength=len(self.labels))
        shares = np.minimum(covered / (width * height), 1.0)
        return {
            label: float(share)
            for label, share in zip(self.labels, shares, strict=True)
            if share > 0
        }

    def label_of(
        self, x: float, y: float, width: float, height: float, *, minimum: float
    ) -> str | None:
        """Class that covers the largest share of a rectangle; of equal ones the first by name.

        Args:
          x, y, width, height: as for `share`.
          minimum: None is returned where no class covers at least this share.
        """
        shares = self.share(x, y, width, height)
        # Equal areas differ in their last digits when they were summed from other pieces.
        rounded = {label: round(share, 9) for label, share in shares.items()}
        best = min(rounded, key=lambda label: (-rounded[label], label), default=None)
        if best is None or rounded[best] < round(minimum, 9):
            return None
        return best

    def require_inside(self, name: str, width: int, height: int) -> None:
        """Refuse regions of which nothing lies on the slide; they belong to another.

        Args:
          name: of the slide, for the console.
          width, height: of its level 0, pixels.

        Raises:
          SlideError: none meets the slide.
        """
        if not self.share(0.0, 0.0, float(width), float(height)):
            raise SlideError(
                name,
                f"every region lies outside the slide's {width}x{height} pixels. Give the GeoJSON "
                "of this slide, in pixels of its level 0.",
            )


@dataclass(frozen=True, eq=False)
class LabelSource:
    """Where the classes come from.

    Attributes:
      table: class by the slide's stem, for classes that hold for whole slides.
      folder: folder of `<stem>.geojson`, for classes by region.
    """

    table: Mapping[str, str] | None = field(repr=False, default=None)
    folder: Path | None = field(repr=False, default=None)

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes there are, sorted, where a table says so; else empty."""
        return tuple(sorted(set(self.table.values()))) if self.table else ()

    def of_slide(self, stem: str) -> tuple[str | None, Path | None]:
        """The class of all tiles of a slide, or its GeoJSON; exactly one of the two is None.

        Raises:
          SlideError: this slide has none.
        """
        if self.table is not None:
            if known_as(stem) not in self.table:
                raise SlideError(
                    stem, "has no row in the table of labels. Add one, or leave the slide out."
                )
            return self.table[known_as(stem)], None
        if self.folder is not None:
            regions = self.folder / f"{stem}.geojson"
            if not regions.is_file():
                raise SlideError(
                    stem, "has no GeoJSON in the folder of labels. Add one, or leave it out."
                )
            return None, regions
        return FLAT_CLASS, None


def open_labels(path: Path | None) -> LabelSource:
    """Open what --labels names.

    Args:
      path: a CSV with the columns slide and label, a folder of `<stem>.geojson`, or None: then
        every tile is of the class `FLAT_CLASS`.

    Raises:
      ConfigError: it is neither, or a label cannot be a folder's name.
    """
    if path is None:
        return LabelSource()
    if path.is_dir():
        return LabelSource(folder=path)
    table = read_slide_table(path, "label")
    for label in table.values():
        if refused := class_names.refusal(label):
            raise ConfigError(f"{path.name}: {refused}")
    return LabelSource(table=table)


def _usable(label: str) -> bool:
    """Whether a class can be a folder among the output's own files."""
    return class_names.fault_of(label) is None


def read_regions(path: Path) -> Regions:
    """Read the regions of one slide.

    Args:
      path: GeoJSON: a FeatureCollection, a list of features or one feature. A feature's class is
        `properties.classification.name` (or `names`), the same as JSON in a string, or, without
        `classification`, `properties.name`. Polygons and multipolygons count, holes and all.

    Raises:
      SlideError: it is no such file, no feature has both class and area, or a class cannot be a
        folder's name.
    """
    try:
        features = _features(json.loads(path.read_text(encoding="utf-8-sig")))
        polygons: dict[str, list[Any]] = defaultdict(list)
        skipped = 0
        for feature in features:
            label = _class_of(feature.get("properties") or {})
            shapes = [] if label is None else _shapes(feature.get("geometry") or {})
            shapes = [shape for shape in shapes if _polygonal(shape).area > 0]
            if label is None or not shapes:
                skipped += 1
                continue
            polygons[label] += shapes
        regions = Regions.of(polygons, skipped)
    except OSError as error:
        raise SlideError(
            str(path), f"its GeoJSON cannot be read ({error.strerror}). Check its permissions."
        ) from error
    except _DAMAGE as error:
        raise SlideError(
            str(path), "its GeoJSON is damaged or none. Export it from QuPath again, as GeoJSON."
        ) from error
    if not regions.labels:
        raise SlideError(
            str(path),
            f"none of the {skipped} features of its GeoJSON has both a class and an area. Set "
            "classes in QuPath and export again.",
        )
    if not all(map(_usable, regions.labels)):
        raise SlideError(
            str(path),
            "the class of a region must be usable as a folder's name. Use letters, digits, - and "
            "_.",
        )
    return regions


def _features(document: Any) -> list[Any]:
    if isinstance(document, dict):
        if document.get("type") == "FeatureCollection":
            document = document["features"]
        elif document.get("type") == "Feature":
            document = [document]
    if not isinstance(document, list):
        raise ValueError("neither a collection nor a list of features")
    return document


def _class_of(properties: Mapping[str, Any]) -> str | None:
    named = properties.get("classification", {"name": properties.get("name")})
    if isinstance(named, str):
        try:
            named = json.loads(named)
        except ValueError:
            named = {"name": named}
    if isinstance(named, dict):
        names = named.get("names")
        named = named.get("name") or (": ".join(names) if names else None)
    if named is not None and not isinstance(named, str):
        raise ValueError("a class that is no text")
    return (named or "").strip() or None


def _shapes(geometry: Mapping[str, Any]) -> list[Any]:
    """Polygons of a geometry; of points, lines and whatever else has no area, none."""
    kind = geometry.get("type")
    if kind not in ("Polygon", "MultiPolygon"):
        return []
    several = [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]
    return [
        shapely.Polygon(_ring(rings[0]), [_ring(ring) for ring in rings[1:]]) for rings in several
    ]


def _ring(points: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    ring = [(float(point[0]), float(point[1])) for point in points]
    if not all(math.isfinite(value) for point in ring for value in point):
        raise ValueError("a coordinate that is no number")
    return ring


def _polygonal(shape: Any) -> Any:
    """A valid shape's area: outlines that cross themselves are mended, loose lines dropped."""
    if shape.is_valid:
        return shape
    parts = shapely.get_parts(shapely.make_valid(shape))
    return shapely.union_all([part for part in parts if shapely.get_dimensions(part) == 2])


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
