"""labels.py: shares against hand-computed areas and painted pixels; what QuPath writes is read."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image, ImageDraw

from privgen.errors import ConfigError, SlideError
from privgen.tiling.labels import LabelSource, open_labels, read_regions
from privgen.tiling.regions import Regions

SQUARE = [[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]
HOLE = [[25, 25], [75, 25], [75, 75], [25, 75], [25, 25]]


def feature(label: str | None, *rings: list[list[float]], **properties: Any) -> dict[str, Any]:
    if label is not None:
        properties["classification"] = {"name": label, "color": [200, 0, 0]}
    return {
        "type": "Feature",
        "id": "b2f8",
        "geometry": {"type": "Polygon", "coordinates": list(rings)},
        "properties": {"objectType": "annotation", **properties},
    }


def written(folder: Path, document: Any) -> Path:
    path = folder / "slide.geojson"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def rectangle(x: float, y: float, width: float, height: float) -> Any:
    return shapely.box(x, y, x + width, y + height)


def test_rectangle_and_triangle_cover_what_was_computed_by_hand() -> None:
    regions = Regions.of(
        {
            "stroma": [rectangle(0, 0, 50, 100)],
            "tumour": [shapely.Polygon([(0, 0), (8, 0), (0, 8)])],
        }
    )
    assert regions.share(0, 0, 100, 100) == pytest.approx({"stroma": 0.4968, "tumour": 0.0032})
    assert regions.share(40, 10, 20, 20) == pytest.approx({"stroma": 0.5})
    assert regions.share(0, 0, 4, 4)["tumour"] == pytest.approx(1.0)
    assert regions.share(4, 4, 4, 4) == pytest.approx({"stroma": 1.0})
    assert regions.share(0, 4, 8, 8)["tumour"] == pytest.approx(8 / 64)
    assert regions.share(49.5, 0, 1, 1) == pytest.approx({"stroma": 0.5})
    assert regions.share(50, 0, 10, 10) == {}
    assert regions.share(200, 200, 10, 10) == {}


def test_hole_is_not_covered(tmp_path: Path) -> None:
    regions = read_regions(written(tmp_path, [feature("tumour", SQUARE, HOLE)]))
    assert regions.share(0, 0, 100, 100) == pytest.approx({"tumour": 0.75})
    assert regions.share(30, 30, 10, 10) == {}
    assert regions.share(20, 20, 10, 10) == pytest.approx({"tumour": 0.75})


def test_what_is_drawn_twice_in_one_class_counts_once_and_in_two_classes_for_both() -> None:
    left, right = rectangle(0, 0, 60, 100), rectangle(40, 0, 60, 100)
    assert Regions.of({"a": [left, right, left]}).share(0, 0, 100, 100) == pytest.approx({"a": 1.0})
    assert Regions.of({"a": [left], "b": [right]}).share(0, 0, 100, 100) == pytest.approx(
        {"a": 0.6, "b": 0.6}
    )


def test_largest_share_wins_if_it_is_enough_and_a_tie_gives_no_class() -> None:
    regions = Regions.of(
        {
            "b": [rectangle(0, 0, 3, 10)],
            "a": [rectangle(7, 0, 1, 10), rectangle(8, 0, 1, 10), rectangle(9, 0, 1, 10)],
            "c": [rectangle(3, 0, 2, 10)],
        }
    )
    assert regions.choose(0, 0, 10, 10, minimum=0.3) == (None, True)
    assert regions.choose(0, 0, 10, 10, minimum=0.31) == (None, False)
    assert regions.label_of(0, 0, 9.5, 10, minimum=0.3) == "b"
    assert regions.label_of(0, 0, 9, 9, minimum=0.1) == "b"
    assert regions.label_of(0, 0, 10, 10, minimum=0.31) is None
    assert regions.label_of(5, 0, 2, 2, minimum=0.0) is None


@pytest.mark.parametrize("seed", range(4))
def test_shares_agree_with_painted_pixels_for_random_outlines(seed: int) -> None:
    rng = np.random.default_rng(seed)
    side, fine = 64, 16
    polygons: dict[str, list[Any]] = {"a": [], "b": []}
    painted = {}
    for label, shapes in polygons.items():
        canvas = Image.new("1", (side * fine, side * fine))
        draw = ImageDraw.Draw(canvas)
        for _ in range(6):
            corners = int(rng.integers(3, 300))
            angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
            radius = rng.uniform(2, 20) * (1 + 0.4 * rng.uniform(-1, 1, corners))
            middle = rng.uniform(0, side, 2)
            points = middle + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            shapes.append(shapely.Polygon(points))
            draw.polygon([tuple(point) for point in (points * fine - 0.5).tolist()], fill=1)
        painted[label] = np.asarray(canvas)
    regions = {label: Regions.of({label: shapes}) for label, shapes in polygons.items()}
    for _ in range(40):
        x, y, width, height = (int(v) for v in rng.integers(0, side // 2, 4))
        width, height = width + 4, height + 4
        for label, pixels in painted.items():
            inside = pixels[y * fine : (y + height) * fine, x * fine : (x + width) * fine]
            # A pixel is painted or not: the outline's own pixels are the error.
            full = np.zeros((height * fine, width * fine))
            full[: inside.shape[0], : inside.shape[1]] = inside
            assert regions[label].share(x, y, width, height).get(label, 0.0) == pytest.approx(
                full.mean(), abs=0.04
            )


def test_shares_add_up_over_a_grid_to_the_area_of_a_long_outline() -> None:
    angles = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    radius = 900 * (1 + 0.1 * np.sin(40 * angles))
    outline = shapely.Polygon(
        np.stack([1000 + radius * np.cos(angles), 1000 + radius * np.sin(angles)], axis=1)
    )
    regions = Regions.of({"a": [outline]})
    total = sum(
        regions.share(x, y, 100, 100).get("a", 0.0) * 1e4
        for x in range(0, 2000, 100)
        for y in range(0, 2000, 100)
    )
    assert total == pytest.approx(outline.area, rel=1e-9)
    exact = shapely.intersection(outline, rectangle(230, 470, 77.5, 41.25)).area
    assert 0 < exact < 77.5 * 41.25
    assert regions.share(230, 470, 77.5, 41.25)["a"] == pytest.approx(exact / (77.5 * 41.25))


def test_of_thousands_of_polygons_a_tile_is_cut_out_of_those_near_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    cells = [shapely.Point(*rng.uniform(0, 20_000, 2)).buffer(15) for _ in range(4000)]
    regions, together = Regions.of({"cell": cells}), shapely.union_all(cells)
    places = [(x, y) for x in range(0, 20_000, 1000) for y in range(0, 20_000, 1000)]
    exact = [
        shapely.intersection(together, rectangle(x, y, 256, 256)).area / 256**2
        for x, y in places[::10]
    ]
    met: list[int] = []
    intersection = shapely.intersection

    def counted(near: Any, box: Any) -> Any:
        met.append(len(near))
        return intersection(near, box)

    monkeypatch.setattr(shapely, "intersection", counted)
    shares = [regions.share(x, y, 256, 256).get("cell", 0.0) for x, y in places]
    assert shares[::10] == pytest.approx(exact)
    assert len(met) == len(places)
    assert 0 < max(met) < 20


def test_collection_list_and_single_feature_are_read(tmp_path: Path) -> None:
    tumour = feature("tumour", SQUARE)
    for document in (
        {"type": "FeatureCollection", "features": [tumour]},
        [tumour],
        tumour,
        "\ufeff" + json.dumps([tumour]),
    ):
        assert read_regions(written(tmp_path, document)).labels == ("tumour",)


def test_multipolygon_with_holes_and_heights_is_read(tmp_path: Path) -> None:
    far = [[x + 200, y, 7.0] for x, y in SQUARE]
    several = feature("tumour")
    several["geometry"] = {"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE], [far]]}
    regions = read_regions(written(tmp_path, [several]))
    assert regions.share(0, 0, 300, 100) == pytest.approx({"tumour": 1.75 / 3})


@pytest.mark.parametrize(
    ("properties", "label"),
    [
        ({"classification": {"name": "Tumor", "colorRGB": -3670016}}, "Tumor"),
        ({"classification": '{"name": "Tumor", "colorRGB": -3670016}'}, "Tumor"),
        ({"classification": "Tumor"}, "Tumor"),
        ({"classification": {"names": ["Tumor", "Positive"]}}, "Tumor: Positive"),
        ({"classification": "{'name': 'Tumor', 'color': [1, 2, 3]}"}, "Tumor"),
        ({"classification": {"name": "Tumor:  Positive "}}, "Tumor: Positive"),
        ({"classification": {"name": " Tumor "}, "name": "Region 1"}, "Tumor"),
    ],
)
def test_class_is_found_where_versions_of_qupath_put_it(
    tmp_path: Path, properties: dict[str, Any], label: str
) -> None:
    regions = read_regions(written(tmp_path, [feature(None, SQUARE, **properties)]))
    assert regions.labels == (label,)


def test_features_without_class_or_area_are_left_aside_and_counted_by_kind(tmp_path: Path) -> None:
    point = feature("tumour")
    point["geometry"] = {"type": "Point", "coordinates": [3, 4]}
    regions = read_regions(
        written(
            tmp_path,
            [
                feature("tumour", SQUARE),
                feature(None, SQUARE),
                feature(None, SQUARE, classification=None),
                feature("", SQUARE),
                feature("flat", [[0, 0], [5, 0], [9, 0], [0, 0]]),
                {"type": "Feature", "geometry": None, "properties": {"name": "x"}},
                {"type": "Feature", "geometry": None, "properties": None},
                point,
            ],
        )
    )
    assert regions.labels == ("tumour",)
    assert regions.aside == {"unclassified": 5, "no_area": 2}
    assert regions.skipped == 7


def test_outline_that_crosses_itself_is_mended(tmp_path: Path) -> None:
    bow = [[0, 0], [100, 100], [100, 0], [0, 100], [0, 0]]
    regions = read_regions(written(tmp_path, [feature("tumour", bow)]))
    assert regions.share(0, 0, 100, 100) == pytest.approx({"tumour": 0.5})
    spike = [*SQUARE[:2], [300, 0], *SQUARE[1:]]
    regions = read_regions(written(tmp_path, [feature("tumour", spike)]))
    assert regions.share(0, 0, 100, 100) == pytest.approx({"tumour": 1.0})


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        ("", "damaged or none"),
        ("{", "damaged or none"),
        ("[" * 100_000, "damaged or none"),
        ("3", "damaged or none"),
        ({"type": "FeatureCollection"}, "damaged or none"),
        ({"type": "Topology"}, "damaged or none"),
        ([3], "damaged or none"),
        ([{"type": "Feature", "properties": []}], "none of the 1 features"),
        ([feature("a", [[0, 0], [1, 1]])], "damaged or none"),
        ([feature("a", [[0, 0], [1, "x"], [2, 2], [0, 0]])], "damaged or none"),
        ([feature("a", [[0, 0], [1, 0], [math.nan, 2], [0, 0]])], "damaged or none"),
        ([feature("a", [[0, 0], [1, 0], [10**400, 2], [0, 0]])], "damaged or none"),
        ([feature("a", [[0], [1, 0], [2, 2], [0]])], "damaged or none"),
        ([feature(None, SQUARE, classification={"name": 3})], "damaged or none"),
        (
            [{"properties": {"classification": "a"}, "geometry": {"type": "Polygon"}}],
            "damaged or none",
        ),
        ([feature(None, SQUARE, classification="{'name': ")], "damaged or none"),
        ([feature(None, SQUARE, classification="{" * 900)], "damaged or none"),
        ([feature(None, SQUARE, classification="x" * 1001)], "damaged or none"),
        ([], "none of the 0 features"),
        ([feature(None, SQUARE)], "none of the 1 features"),
        ([feature("../up", SQUARE)], "usable as a folder's name"),
    ],
)
def test_geojson_that_is_none_costs_its_slide_and_the_rule_names_nobody(
    tmp_path: Path, document: Any, rule: str
) -> None:
    path = written(tmp_path, document)
    with pytest.raises(SlideError) as caught:
        read_regions(path)
    assert rule in caught.value.rule
    assert str(path) in str(caught.value)
    assert "slide.geojson" not in caught.value.rule
    assert "\n" not in str(caught.value)


def test_geojson_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="cannot be read") as caught:
        read_regions(tmp_path / "Meyer.geojson")
    assert "Meyer" not in caught.value.rule


def test_regions_outside_the_slide_are_refused_and_partly_outside_are_not() -> None:
    regions = Regions.of({"a": [rectangle(90, 90, 50, 50)]})
    regions.require_inside("Meyer", 100, 100)
    with pytest.raises(SlideError, match="Meyer: every region lies outside") as caught:
        regions.require_inside("Meyer", 90, 200)
    assert "Meyer" not in caught.value.rule


def test_without_labels_every_tile_is_of_one_class() -> None:
    assert open_labels(None).of_slide("any") == ("all", None)


def test_table_gives_a_class_a_slide(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("slide,label\none.svs,tumour\ntwo,normal\n")
    source = open_labels(path)
    assert source.of_slide("one") == ("tumour", None)
    assert source.of_slide("two") == ("normal", None)
    assert source.classes == ("normal", "tumour")
    with pytest.raises(SlideError, match="three: has no row") as caught:
        source.of_slide("three")
    assert "three" not in caught.value.rule
    assert "tumour" not in repr(source)


def test_label_that_is_no_folder_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("slide,label\none,a/b\n")
    with pytest.raises(ConfigError, match="folder's name"):
        open_labels(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        open_labels(tmp_path / "gone.csv")


def test_folder_gives_each_slide_its_geojson(tmp_path: Path) -> None:
    (tmp_path / "one.geojson").write_text("[]")
    source = open_labels(tmp_path)
    assert isinstance(source, LabelSource)
    assert source.of_slide("one") == (None, tmp_path / "one.geojson")
    with pytest.raises(SlideError, match="two: has no GeoJSON") as caught:
        source.of_slide("two")
    assert "two" not in caught.value.rule
