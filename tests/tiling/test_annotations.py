"""annotations.py and regions.py: which objects of QuPath are regions, and who wins where."""

import json
from pathlib import Path
from typing import Any

import pytest
import shapely

from privgen.errors import SlideError
from privgen.tiling import annotations
from privgen.tiling.annotations import read_regions
from privgen.tiling.regions import Regions
from tests.helpers.qupath import TEXT, box, feature


def regions_of(folder: Path, *features: dict[str, Any]) -> Regions:
    path = folder / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return read_regions(path)


OUTER, INNER = box(0, 0, 1000, 1000), box(50, 50, 400, 400)


@pytest.mark.parametrize(
    ("features", "label"),
    [
        ([feature(OUTER, "Stroma"), feature(INNER, "Tumor")], "Tumor"),
        ([feature(INNER, "Tumor"), feature(OUTER, "Stroma")], "Tumor"),
        ([feature(OUTER, "Tumor"), feature(INNER, "Necrosis")], "Necrosis"),
        ([feature(OUTER, "Tissue"), feature(INNER, "Tumor")], "Tumor"),
        ([feature(OUTER, "Region*"), feature(INNER, "Tumor")], "Tumor"),
        ([feature(INNER, "Region*"), feature(OUTER, "Tumor")], "Tumor"),
        ([feature(OUTER, None, name=TEXT), feature(INNER, "Tumor")], "Tumor"),
        ([feature(INNER, None, name=TEXT), feature(OUTER, "Tumor")], "Tumor"),
        ([feature(OUTER, None, "tma_core", name="A-1"), feature(INNER, "Tumor")], "Tumor"),
        ([feature(INNER, "Immune cells", "cell"), feature(OUTER, "Tumor")], "Tumor"),
        ([feature(INNER, "Other", "detection"), feature(OUTER, "Tumor")], "Tumor"),
        ([feature(INNER, "Ignore*"), feature(OUTER, "Tumor")], None),
        ([feature(INNER, "Artefact*"), feature(OUTER, "Tumor")], None),
        ([feature(OUTER, "Ignore*"), feature(INNER, "Tumor")], "Tumor"),
    ],
)
def test_the_innermost_class_wins_and_what_is_no_class_does_not(
    tmp_path: Path, features: list[dict[str, Any]], label: str | None
) -> None:
    found = regions_of(tmp_path, *features)
    assert found.choose(100, 100, 50, 50, minimum=0.75) == (label, False)


def test_matrix_in_tumour_in_matrix_is_read_from_the_inside() -> None:
    around, tumour, core = shapely.box(0, 0, 90, 90), shapely.box(20, 20, 70, 70), None
    core = shapely.box(40, 40, 50, 50)
    regions = Regions.of({"matrix": [around, core], "tumour": [tumour]})
    assert regions.label_of(0, 0, 10, 10, minimum=1) == "matrix"
    assert regions.label_of(20, 20, 10, 10, minimum=1) == "tumour"
    assert regions.label_of(40, 40, 10, 10, minimum=1) == "matrix"
    assert regions.share(0, 0, 90, 90) == pytest.approx(
        {"matrix": 5700 / 8100, "tumour": 2400 / 8100}
    )


def test_an_inner_outline_that_reaches_a_little_out_is_an_inner_one() -> None:
    regions = Regions.of(
        {"tissue": [shapely.box(0, 0, 100, 100)], "t": [shapely.box(60, 0, 110, 50)]}
    )
    assert regions.share(60, 0, 40, 50) == pytest.approx({"t": 1.0})
    assert regions.share(0, 0, 100, 100) == pytest.approx({"tissue": 0.8, "t": 0.2})


def test_an_inner_outline_over_two_outer_ones_takes_from_both() -> None:
    halves = [shapely.box(0, 0, 50, 100), shapely.box(50, 0, 100, 100)]
    regions = Regions.of({"stroma": halves, "tumour": [shapely.box(30, 20, 70, 60)]})
    assert regions.label_of(35, 25, 30, 30, minimum=1) == "tumour"


def test_outlines_that_cross_tie_where_both_cover_a_tile() -> None:
    regions = Regions.of({"a": [shapely.box(0, 0, 60, 100)], "b": [shapely.box(45, 0, 100, 100)]})
    assert regions.choose(46, 0, 10, 10, minimum=0.75) == (None, True)
    assert regions.choose(30, 0, 10, 10, minimum=0.75) == ("a", False)
    twice = Regions.of({"a": [shapely.box(0, 0, 60, 100)], "b": [shapely.box(0, 0, 60, 100)]})
    assert twice.choose(5, 5, 10, 10, minimum=0.75) == (None, True)


def test_what_is_left_aside_is_counted_by_kind(tmp_path: Path) -> None:
    point = {"type": "Point", "coordinates": [3, 4]}
    line = {"type": "LineString", "coordinates": [[3, 4], [8, 9]]}
    old = feature(INNER, "Immune cells")
    del old["properties"]["objectType"]
    regions = regions_of(
        tmp_path,
        feature(OUTER, "Tumor"),
        feature(INNER, None, name=TEXT),
        feature(INNER, "Region*"),
        feature(INNER, "Ignore*: Positive"),
        *[feature(INNER, "Immune cells", kind) for kind in ("cell", "detection", "tile")],
        old | {"id": "PathCellObject"},
        feature(INNER, None, "tma_core", name="A-1", isMissing=False),
        feature(point, "Tumor"),
        feature(line, "Tumor"),
        feature({**INNER, "plane": {"c": -1, "z": 3, "t": 0}}, "Tumor"),
        feature({**INNER, "plane": {"c": -1, "z": 0, "t": 0}}, "Tumor"),
    )
    assert regions.labels == ("Tumor",)
    assert regions.aside == {
        "unclassified": 1,
        "ignored": 2,
        "detections": 4,
        "tma_cores": 1,
        "no_area": 2,
        "other_planes": 1,
    }
    assert set(regions.aside) == set(annotations.ASIDE)


def test_cells_alone_are_no_regions_and_free_text_is_in_no_error(tmp_path: Path) -> None:
    cells = [feature(box(x, 0, x + 11, 11), "Immune cells", "cell") for x in range(0, 120, 12)]
    with pytest.raises(SlideError, match="10 detections, cells or tiles") as caught:
        regions_of(tmp_path, feature(OUTER, None, name=TEXT), *cells)
    assert "1 without a class" in caught.value.rule
    assert "4711" not in str(caught.value)


def test_polygons_of_a_geometry_collection_count(tmp_path: Path) -> None:
    several = {
        "type": "GeometryCollection",
        "geometries": [INNER, {"type": "Point", "coordinates": [0, 0]}],
    }
    assert regions_of(tmp_path, feature(several, "Tumor")).share(50, 50, 350, 350) == {"Tumor": 1.0}
    deep: dict[str, Any] = INNER
    for _ in range(9):
        deep = {"type": "GeometryCollection", "geometries": [deep]}
    with pytest.raises(SlideError, match="damaged"):
        regions_of(tmp_path, feature(deep, "Tumor"))


def test_a_file_of_too_many_annotations_or_bytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotations, "MAX_ANNOTATIONS", 3)
    for count in (2, 3):
        assert regions_of(tmp_path, *[feature(INNER, "Tumor")] * count).labels == ("Tumor",)
    with pytest.raises(SlideError, match="more than 3 annotations"):
        regions_of(tmp_path, *[feature(INNER, "Tumor")] * 4)
    regions_of(tmp_path, feature(INNER, "Tumor"))
    size = (tmp_path / "a.geojson").stat().st_size
    for limit in (size + 1, size):
        monkeypatch.setattr(annotations, "MAX_BYTES", limit)
        read_regions(tmp_path / "a.geojson")
    monkeypatch.setattr(annotations, "MAX_BYTES", size - 1)
    with pytest.raises(SlideError, match="the most is"):
        read_regions(tmp_path / "a.geojson")


def test_ten_thousand_annotations_side_by_side_share_a_square() -> None:
    squares = [
        shapely.box(x, y, x + 20, y + 20) for x in range(0, 2000, 20) for y in range(0, 2000, 20)
    ]
    regions = Regions.of(
        {"a": squares[::2], "b": squares[1::2], "c": [shapely.box(-1, -1, 2001, 2001)]}
    )
    assert regions.share(0, 0, 2000, 2000) == pytest.approx({"a": 0.5, "b": 0.5})
