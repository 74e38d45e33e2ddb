"""QuPath's GeoJSON: which of its objects are regions of a class, and which are none.

An annotation whose classification has a name is a region. A name beside it is free text, which may
name a patient, so it is never read. What is left aside is counted by kind (`ASIDE`).

Classes that end in `*` are QuPath's own non-classes (`PathClassTools.isIgnoredClass`): `Region*`
marks where to look and changes nothing; `Ignore*`, `Artefact*` and any other one excludes, so it
takes its area out of what it lies in. GeoJSON: RFC 7946, save that these coordinates are pixels.
"""

import ast
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import shapely

from privgen.errors import SlideError
from privgen.tiling.regions import Regions, polygonal

ASIDE: Mapping[str, str] = {
    "unclassified": "without a class",
    "ignored": "of a class that QuPath ignores (its name ends in *)",
    "detections": "detections, cells or tiles",
    "tma_cores": "TMA cores",
    "no_area": "points, lines or outlines without an area",
    "other_planes": "on another plane or time point",
}
"""What is no region of a class, by kind, and how it is told."""

MAX_BYTES = 2**30
"""Largest GeoJSON, bytes; a million cells take about half of it."""

MAX_ANNOTATIONS = 100_000
"""Most annotations with a class in one file."""

_MAX_TEXT = 1000
"""Longest classification written as text."""

_DEEPEST = 8
"""Geometry collections within one another."""

_OBJECT_TYPES = {
    "detection": "detections",
    "cell": "detections",
    "tile": "detections",
    "tma_core": "tma_cores",
    "root": "unclassified",
}
_IDS = {
    "pathdetectionobject": "detections",
    "pathcellobject": "detections",
    "pathtileobject": "detections",
    "tmacoreobject": "tma_cores",
    "pathrootobject": "unclassified",
}
"""What QuPath calls its objects: a property, and before its version 0.3 the id of the feature."""

_DAMAGE = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError),
    *(SyntaxError, shapely.errors.GEOSException),
)
"""What Python and GEOS raise on JSON that is no GeoJSON."""


class Properties(TypedDict, total=False):
    """Of a feature; what QuPath calls an object has had two names."""

    objectType: object
    object_type: object
    classification: object


class Geometry(TypedDict, total=False):
    """Points are pixels; a collection holds others."""

    type: object
    coordinates: Sequence[Any]
    geometries: "Sequence[Geometry]"
    plane: Mapping[str, object] | None


class Feature(TypedDict, total=False):
    """One object, as far as anything of it is read."""

    id: object
    properties: Properties | None
    geometry: Geometry | None


def read_regions(path: Path) -> Regions:
    """Read the regions of one slide.

    Args:
      path: GeoJSON: a FeatureCollection, a list of features or one feature. A feature's class is
        `properties.classification.name` (or `names`), or the same as text. Polygons and
        multipolygons count, holes and all, in geometry collections too.

    Raises:
      SlideError: it is no such file, it is too large, or no feature is a region of a class.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise SlideError(
                str(path),
                f"its GeoJSON has {size:,} bytes; the most is {MAX_BYTES:,}. Export the "
                "annotations alone, without cells.",
            )
        regions = _regions(path, json.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise SlideError(
            str(path), f"its GeoJSON cannot be read ({error.strerror}). Check its permissions."
        ) from error
    except _DAMAGE as error:
        raise SlideError(
            str(path), "its GeoJSON is damaged or none. Export it from QuPath again, as GeoJSON."
        ) from error
    if not regions.labels:
        told = ", ".join(f"{count} {ASIDE[kind]}" for kind, count in regions.aside.items())
        raise SlideError(
            str(path),
            f"none of the {regions.skipped} features of its GeoJSON is an annotation with a class "
            f"and an area{told and f' ({told})'}. Set classes in QuPath and export again.",
        )
    return regions


def _regions(path: Path, document: Any) -> Regions:
    polygons: dict[str, list[Any]] = defaultdict(list)
    ignored: list[Any] = []
    aside: Counter[str] = Counter()
    for feature in _features(document):
        kind, label, shape = _read(feature)
        if kind is not None:
            aside[kind] += 1
        if shape is not None:
            (ignored if label is None else polygons[label]).append(shape)
        if sum(map(len, polygons.values())) + len(ignored) > MAX_ANNOTATIONS:
            raise SlideError(
                str(path),
                f"its GeoJSON has more than {MAX_ANNOTATIONS:,} annotations with a class. Export "
                "cells as detections, or merge annotations in QuPath.",
            )
    ordered = {kind: aside[kind] for kind in ASIDE if aside[kind]}
    return Regions.of(polygons, ignored=ignored, aside=ordered)


def _features(document: Any) -> list[Any]:
    if isinstance(document, dict):
        if document.get("type") == "FeatureCollection":
            document = document["features"]
        elif document.get("type") == "Feature":
            document = [document]
    if not isinstance(document, list):
        raise ValueError("neither a collection nor a list of features")
    return document


def _read(feature: Feature) -> tuple[str | None, str | None, Any]:
    """Why a feature is left aside, its class, and its area where that counts; None for none."""
    properties: Properties = feature.get("properties") or {}
    kind = _kind(feature, properties)
    if kind is not None:
        return kind, None, None
    names = _class_of(properties)
    if not names:
        return "unclassified", None, None
    geometry: Geometry = feature.get("geometry") or {}
    if _elsewhere(geometry):
        return "other_planes", None, None
    shapes = [polygonal(shape) for shape in _polygons(geometry)]
    shape = shapely.union_all(shapes) if len(shapes) != 1 else shapes[0]
    if not shape.area > 0:
        return "no_area", None, None
    if any(name.endswith("*") for name in names):
        return "ignored", None, None if names[0].casefold() == "region*" else shape
    return None, ": ".join(names), shape


def _kind(feature: Feature, properties: Properties) -> str | None:
    """Which kind of object it is, where it is no annotation."""
    said, known = properties.get("objectType", properties.get("object_type")), _OBJECT_TYPES
    if not isinstance(said, str):
        said, known = feature.get("id"), _IDS
    return known.get(said.casefold()) if isinstance(said, str) else None


def _class_of(properties: Properties) -> list[str]:
    """The names of a class, from the base to the most derived; none where there is no class."""
    named = properties.get("classification")
    if isinstance(named, str):
        named = _of_text(named)
    if isinstance(named, dict):
        names = named.get("names")
        named = named.get("name") or (": ".join(names) if names else None)
    if named is not None and not isinstance(named, str):
        raise ValueError("a class that is no text")
    return [part.strip() for part in (named or "").split(": ") if part.strip()]


def _of_text(text: str) -> Any:
    """A classification written as text: JSON, a Python dict as geopandas writes it, or a name."""
    if len(text) > _MAX_TEXT:
        raise ValueError("a class of so much text")
    if not text.lstrip().startswith(("{", "[", '"')):
        return None if text.strip() in ("null", "None", "nan") else text
    try:
        return json.loads(text)
    except ValueError:
        return ast.literal_eval(text.strip())


def _elsewhere(geometry: Geometry) -> bool:
    plane = geometry.get("plane") or {}
    return any(plane.get(axis, 0) not in (0, -1, None) for axis in ("z", "t"))


def _polygons(geometry: Geometry, depth: int = 0) -> Iterator[Any]:
    """Polygons of a geometry; of points, lines and whatever else has no area, none."""
    kind = geometry.get("type")
    if kind == "GeometryCollection":
        if depth >= _DEEPEST:
            raise ValueError("collections within collections")
        for one in geometry["geometries"]:
            yield from _polygons(one, depth + 1)
    elif kind in ("Polygon", "MultiPolygon"):
        several = [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]
        for rings in several:
            yield shapely.Polygon(_ring(rings[0]), [_ring(ring) for ring in rings[1:]])


def _ring(points: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    ring = [(float(point[0]), float(point[1])) for point in points]
    if not all(math.isfinite(value) for point in ring for value in point):
        raise ValueError("a coordinate that is no number")
    return ring
