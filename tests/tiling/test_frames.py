"""frames.py: slides whose scan has an offset, annotated from both corners, told by their pixels."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from privgen.data import images
from privgen.data.slides import Area, Slide
from privgen.errors import ConfigError, SlideError
from privgen.tiling.frames import Frame, frame_of
from privgen.tiling.regions import Regions
from privgen.tiling.requests import TilingRequest
from privgen.tiling.run import Tiled
from privgen.tiling.session import tile_slides
from tests.helpers.qupath import box, feature
from tests.helpers.slide_files import Pixels, write_scn, write_slide

AREA, OFFSET, WHOLE = 2048, (1536, 1024), (4096, 4096)
Painting = Callable[[int, int, int], Pixels]


def halves(paint: Painting) -> Pixels:
    """The left half pink, the right half bluish, all of it tissue."""
    pixels = paint(AREA, AREA, 0)
    pixels[:, AREA // 2 :] = pixels[:, AREA // 2 :, ::-1] // 2 + np.array(
        [0, 0, 90], dtype=np.uint8
    )
    return pixels


def drawn(x: float, y: float) -> dict[str, Any]:
    """Stroma on the left half, tumour on the right half, counted from a corner at (-x, -y)."""
    middle = x + AREA // 2
    return {
        "type": "FeatureCollection",
        "features": [
            feature(box(x, y, middle, y + AREA), "Stroma"),
            feature(box(middle, y, x + AREA, y + AREA), "Tumor"),
        ],
    }


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory, paint: Painting) -> Path:
    """`cropped.scn` and `whole.scn`, the same scan, and `labels/` exported from either corner."""
    folder = tmp_path_factory.mktemp("scn")
    write_scn(folder / "cropped.scn", halves(paint), offset=OFFSET, size=WHOLE)
    (folder / "whole.scn").write_bytes((folder / "cropped.scn").read_bytes())
    (folder / "labels").mkdir()
    (folder / "labels/cropped.geojson").write_text(json.dumps(drawn(0, 0)))
    (folder / "labels/whole.geojson").write_text(json.dumps(drawn(*OFFSET)))
    return folder


def cut(slides: Path, stems: list[str], out: Path, **asked: Any) -> Tiled:
    paths = [slides / f"{stem}.scn" for stem in stems]
    return tile_slides(paths, out, labels=slides / "labels", size=128, mpp=0.5, **asked)


def seen(out: Path) -> Counter[tuple[str, str]]:
    """Class and colour of every tile, by its folder and its pixels alone."""
    counts = Counter[tuple[str, str]]()
    for path in out.rglob("*.png"):
        red, _, blue = images.read_tile(path).mean(axis=(0, 1))
        counts[path.relative_to(out).parts[0], "bluish" if blue > red else "pink"] += 1
    return counts


def test_the_slide_states_its_scanned_area(slides: Path, tmp_path: Path, paint: Painting) -> None:
    with Slide(slides / "cropped.scn") as slide:
        assert (slide.width, slide.height) == WHOLE
        assert slide.bounds == Area(*OFFSET, AREA, AREA)
    write_slide(tmp_path / "a.tif", paint(300, 300, 0), mpp=0.5)
    with Slide(tmp_path / "a.tif") as slide:
        assert slide.bounds is None


def test_two_slides_with_an_offset_annotated_from_both_corners_get_the_classes_drawn(
    slides: Path, tmp_path: Path
) -> None:
    tiled = cut(slides, ["cropped", "whole"], tmp_path / "out")
    assert tiled.exit_code == 0
    assert seen(tmp_path / "out") == {("Stroma", "pink"): 256, ("Tumor", "bluish"): 256}
    by_slide = Counter(path.parent for path in (tmp_path / "out").rglob("*.png"))
    assert sorted(by_slide.values()) == [128, 128, 128, 128]
    about = tiled.document["annotations"]
    assert about["frames"] == {"bounds": 1, "level-0": 1}
    assert (about["frames_assumed"], about["tiles_outside"], about["tiles_tied"]) == (0, 0, 0)
    said = [warning for warning in tiled.warnings if "offset" in warning]
    assert len(said) == 1
    assert "of 1 from the corner of the scanned area" in said[0]
    assert "of 1 from the corner of level 0" in said[0]


def test_the_frame_can_be_set_and_a_changed_one_cuts_anew(slides: Path, tmp_path: Path) -> None:
    tiled = cut(slides, ["whole"], tmp_path / "a", annotation_frame="level-0")
    assert seen(tmp_path / "a") == {("Stroma", "pink"): 128, ("Tumor", "bluish"): 128}
    assert tiled.document["settings"]["annotation_frame"] == "level-0"
    cut(slides, ["cropped"], tmp_path / "b", annotation_frame="level-0")  # wrong, but asked for
    assert seen(tmp_path / "b").keys() == {("Tumor", "pink")}
    with pytest.raises(ConfigError, match="annotation_frame level-0"):
        cut(slides, ["whole"], tmp_path / "a", annotation_frame="bounds")
    with pytest.raises(ConfigError, match="`annotation_frame` must be"):
        TilingRequest(annotation_frame="corner")  # type: ignore[arg-type]


class Scan:
    """A slide of 400 x 400 with 200 x 200 scanned from (150, 100)."""

    width, height, bounds = 400, 400, Area(150, 100, 200, 200)


def frame(shape: Any, asked: Any = "auto") -> Frame:
    return frame_of("x", Scan(), Regions.of({"a": [shape]}), asked)  # type: ignore[arg-type]


def test_regions_that_fit_both_frames_are_taken_for_qupaths_and_that_is_said() -> None:
    both = shapely.box(150, 100, 200, 200)
    assert frame(both) == Frame("bounds", 150, 100, assumed=True)
    assert frame(both, "level-0") == Frame("level-0")
    assert frame(both, "bounds") == Frame("bounds", 150, 100)


def test_strokes_over_the_edge_fit_and_regions_that_fit_neither_frame_are_refused() -> None:
    assert frame(shapely.box(-2, -2, 200, 202)).name == "bounds"
    assert frame(shapely.box(148, 98, 352, 302)).name == "level-0"
    for shape in (shapely.box(0, 0, 400, 400), shapely.box(500, 500, 600, 600)):
        with pytest.raises(SlideError, match="`annotation_frame`") as caught:
            frame(shape)
        assert "neither frame" in caught.value.rule
    with pytest.raises(SlideError, match="every region lies outside"):
        frame(shapely.box(300, 300, 390, 390), "bounds")
