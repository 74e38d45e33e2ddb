"""Objects as QuPath exports them, for tests."""

from typing import Any

TEXT = "ask Dr Example, patient 4711"


def box(x0: float, y0: float, x1: float, y1: float) -> dict[str, Any]:
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return {"type": "Polygon", "coordinates": [ring]}


def feature(
    geometry: dict[str, Any] | None, label: str | None = None, kind: str = "annotation", **more: Any
) -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": kind, **more}
    if label is not None:
        properties["classification"] = {"name": label, "color": [200, 0, 0]}
    return {"type": "Feature", "id": "x", "geometry": geometry, "properties": properties}
