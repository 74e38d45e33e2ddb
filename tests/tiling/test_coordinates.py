"""coordinates.py and listed.py: tiles are cut where TRIDENT's and CLAM's files say."""

import csv
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.data import images
from privgen.data.slides import Slide
from privgen.errors import ConfigError, SlideError
from privgen.tiling import coordinates as module
from privgen.tiling.coordinates import coordinates_of, read_coordinates
from privgen.tiling.cut import read_again
from privgen.tiling.run import Tiled
from privgen.tiling.session import tile_slides
from tests.helpers.qupath import box, feature
from tests.helpers.slide_files import Pixels, write_slide

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

Painting = Callable[[int, int, int], Pixels]
NAME = "MUSTERMANN^ERIKA"
TRIDENT = {"patch_size": 64, "patch_size_level0": 64, "overlap": 0, "name": NAME, "savetodir": NAME}
CLAM = {"patch_size": 64, "patch_level": 1, "downsample": (2.0, 2.0), "name": NAME}
SIDE = 1024


@pytest.fixture(scope="module")
def pixels(paint: Painting) -> Pixels:
    return paint(SIDE, SIDE, 0)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory, pixels: Pixels) -> Path:
    """1024 x 1024 px at .25 um, three levels, every pixel kept."""
    path = tmp_path_factory.mktemp("listed") / "case.tif"
    write_slide(path, pixels, levels=3, mpp=0.25)
    return path


def listed(
    path: Path, places: Any, attributes: dict[str, Any], *, gzip: bool = False, **more: Any
) -> Path:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        how: dict[str, Any] = {"compression": "gzip", "chunks": (1, 2)} if gzip else {}
        data = file.create_dataset("coords", data=np.asarray(places, dtype=np.int64), **how)
        for name, value in {**attributes, **more}.items():
            data.attrs[name] = value
        file["features"] = np.zeros((4, 4))
    return path


def cut(slide: Path, out: Path, **asked: Any) -> Tiled:
    asked = {"size": 64, "coordinates": out.parent / "h5", **asked}
    return tile_slides([slide], out, **asked)


def rows(tiled: Tiled) -> list[dict[str, str]]:
    assert tiled.manifest is not None, tiled.failures
    with tiled.manifest.open(newline="") as stream:
        return list(csv.DictReader(stream))


def tiles(out: Path, tiled: Tiled) -> dict[tuple[int, int], NDArray[np.uint8]]:
    return {
        (int(row["x"]), int(row["y"])): images.read_tile(out / row["path"]) for row in rows(tiled)
    }


@pytest.mark.parametrize("gzip", [False, True])
def test_tiles_of_trident_are_the_slide_at_their_places(
    slide: Path, pixels: Pixels, tmp_path: Path, gzip: bool
) -> None:
    places = [(0, 0), (701, 13), (96, 960), (960, 960)]
    stated = {"level0_width": SIDE, "level0_height": SIDE}
    listed(tmp_path / "h5/case_patches.h5", places, TRIDENT, gzip=gzip, **stated)
    tiled = cut(slide, tmp_path / "out")
    assert tiled.exit_code == 0
    found = tiles(tmp_path / "out", tiled)
    assert sorted(found) == sorted(places)
    for (x, y), tile in found.items():
        np.testing.assert_array_equal(tile, pixels[y : y + 64, x : x + 64])
    assert {row["mpp"] for row in rows(tiled)} == {"0.25"}
    assert not [warning for warning in tiled.warnings if "listed" in warning]
    assert tiled.document["candidates"] == 4
    for file in tmp_path.rglob("*"):
        assert file.suffix == ".h5" or not file.is_file() or NAME.encode() not in file.read_bytes()


def test_tiles_of_clam_are_read_from_their_level(slide: Path, tmp_path: Path) -> None:
    listed(tmp_path / "h5/case.h5", [(0, 0), (200, 128), (512, 640)], CLAM)
    tiled = cut(slide, tmp_path / "out")
    with Slide(slide) as opened:
        for (x, y), tile in tiles(tmp_path / "out", tiled).items():
            np.testing.assert_array_equal(tile, opened.read(1, 2 * x, 2 * y, 64, 64))
    assert {(row["level"], row["mpp"]) for row in rows(tiled)} == {("1", "0.5")}
    assert {(int(row["x"]), int(row["y"])) for row in rows(tiled)} == {
        (0, 0),
        (100, 64),
        (256, 320),
    }


def test_a_scale_between_levels_is_resampled_and_tiles_can_be_read_again(
    slide: Path, tmp_path: Path
) -> None:
    listed(tmp_path / "h5/case_patches.h5", [(0, 0), (301, 77)], TRIDENT, patch_size_level0=96)
    tiled = cut(slide, tmp_path / "out")
    assert any("1 were moved by half a pixel or less" in warning for warning in tiled.warnings)
    with Slide(slide) as opened:
        for row in rows(tiled):
            place: dict[str, Any] = {name: int(row[name]) for name in ("x", "y", "level")}
            again = read_again(opened, **place, mpp=float(row["mpp"]), size=64)
            np.testing.assert_array_equal(images.read_tile(tmp_path / "out" / row["path"]), again)
            assert float(row["mpp"]) == 0.375


def test_what_reaches_beyond_or_is_listed_twice_is_counted(slide: Path, tmp_path: Path) -> None:
    places = [(0, 0), (0, 0), (961, 0), (-1, 5), (0, 5000), (960, 0)]
    listed(tmp_path / "h5/case.h5", places, TRIDENT)
    tiled = cut(slide, tmp_path / "out")
    assert [row["x"] for row in rows(tiled)] == ["0", "960"]
    (said,) = [warning for warning in tiled.warnings if "listed" in warning]
    assert "3 reach beyond the slide and were left out" in said
    assert "1 lie where another does and were cut once" in said


def test_going_on_keeps_the_tiles_and_another_list_cuts_anew(slide: Path, tmp_path: Path) -> None:
    listed(tmp_path / "h5/case.h5", [(0, 0)], TRIDENT)
    cut(slide, tmp_path / "out")
    assert len(rows(cut(slide, tmp_path / "out"))) == 1
    listed(tmp_path / "h5/case.h5", [(0, 0), (64, 0)], TRIDENT)
    assert len(rows(cut(slide, tmp_path / "out"))) == 2
    with pytest.raises(ConfigError, match="coordinates True"):
        tile_slides([slide], tmp_path / "out", size=64, mpp=0.25)


def test_classes_by_region_hold_for_listed_places(slide: Path, tmp_path: Path) -> None:
    listed(tmp_path / "h5/case.h5", [(0, 0), (512, 0)], TRIDENT)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/case.geojson").write_text(
        json.dumps(feature(box(500, 0, 600, 99), "Tumor"))
    )
    tiled = cut(slide, tmp_path / "out", labels=tmp_path / "labels")
    assert [(row["x"], row["label"]) for row in rows(tiled)] == [("512", "Tumor")]


@pytest.mark.parametrize(
    ("attributes", "rule"),
    [
        ({"patch_size": 128}, "Give `size` 128"),
        ({"patch_size": None}, "does not say how large"),
        ({"patch_size_level0": None}, "does not say how large"),
        ({"patch_size_level0": None, "patch_level": 7}, "of level 7; the slide has levels 0 to 2"),
        ({"patch_size_level0": 0.5}, "a side is 16 to 4096"),
        ({"patch_size": 8}, "a side is 16 to 4096"),
        ({"patch_size": [64, 64]}, "does not say how large"),
        ({"patch_size": "64"}, "does not say how large"),
        ({"patch_size": np.nan}, "does not say how large"),
        ({"level0_width": 9, "level0_height": 9}, "of a slide of 9x9 pixels"),
        ({"patch_size_level0": 5000}, "none of its 1 listed tiles lies on the slide"),
    ],
)
def test_files_that_do_not_fit_cost_their_slide(
    slide: Path, tmp_path: Path, attributes: dict[str, Any], rule: str
) -> None:
    stated = {name: value for name, value in (TRIDENT | attributes).items() if value is not None}
    listed(tmp_path / "h5/case.h5", [(0, 0)], stated)
    tiled = cut(slide, tmp_path / "out")
    assert tiled.exit_code == 2
    assert rule in tiled.failures[0][1]
    assert NAME not in tiled.failures[0][1]


def test_nothing_outside_the_file_is_followed(slide: Path, tmp_path: Path) -> None:
    target = listed(tmp_path / "target.h5", [(0, 0)], TRIDENT)
    path = tmp_path / "case.h5"

    def refused(write: Callable[[Any], None], rule: str = "damaged or none") -> None:
        with h5py.File(path, "w") as file:
            write(file)
        with Slide(slide) as opened, pytest.raises(SlideError, match=rule):
            read_coordinates(path, opened)

    def external(file: Any) -> None:
        file["coords"] = h5py.ExternalLink(str(target), "coords")

    def soft(file: Any) -> None:
        file["coords"] = h5py.SoftLink("/other")

    def virtual(file: Any) -> None:
        layout = h5py.VirtualLayout(shape=(1, 2), dtype=np.int64)
        layout[:] = h5py.VirtualSource(str(target), "coords", shape=(1, 2))
        file.create_virtual_dataset("coords", layout)

    def stored_elsewhere(file: Any) -> None:
        file.create_dataset("coords", (1, 2), np.int64, external=[("/etc/passwd", 0, 16)])

    def group(file: Any) -> None:
        file.create_group("coords")

    for write in (external, soft, virtual, stored_elsewhere, group, lambda file: None):
        refused(write)


def test_declared_sizes_are_judged_before_anything_is_read(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "case.h5"

    def written(shape: tuple[int, ...], kind: Any = np.int64, **more: Any) -> None:
        with h5py.File(path, "w") as file:
            data = file.create_dataset("coords", shape, kind, **more)
            data.attrs.update({"patch_size": 64, "patch_size_level0": 64})

    def judged(rule: str | None) -> None:
        with Slide(slide) as opened:
            if rule is None:
                assert read_coordinates(path, opened).size == 64
                return
            with pytest.raises(SlideError, match=rule):
                read_coordinates(path, opened)

    written((10**12, 2), chunks=(1024, 2))  # 16 TB
    assert path.stat().st_size < 10_000
    judged("lists 1,000,000,000,000 tiles; the most is 4,000,000")
    monkeypatch.setattr(module, "MAX_CANDIDATES", 5)
    for count, rule in ((4, None), (5, None), (6, "lists 6 tiles")):
        written((count, 2))
        judged(rule)
    monkeypatch.setattr(module, "MAX_CHUNK_BYTES", 160)
    for rows_, rule in ((9, None), (10, None), (11, "pieces of 176 bytes")):
        written((2, 2), chunks=(rows_, 2), maxshape=(None, 2))
        judged(rule)
    for size, rule in ((1, None), (0, None), (-1, "bytes; the most is")):
        written((2, 2))
        monkeypatch.setattr(module, "MAX_BYTES", path.stat().st_size + size)
        judged(rule)
    monkeypatch.setattr(module, "MAX_BYTES", 2**28)
    written((0, 2))
    judged("lists no tile")
    for shape, kind in (
        ((3,), np.int64),
        ((3, 4), np.int64),
        ((3, 2), "S8"),
        ((3, 2), np.complex64),
    ):
        written(shape, kind)
        judged("damaged or none")
    with h5py.File(path, "w") as file:
        file["coords"] = np.array([[0.5, 1.0]])
    judged("damaged or none")


def test_damaged_files_raise_nothing_else(slide: Path, tmp_path: Path) -> None:
    path = listed(tmp_path / "h5/case.h5", [(0, 0)] * 50, TRIDENT, gzip=True)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for number in range(60):
        mutant = bytearray(data[: rng.integers(1, len(data) + 1)] if number % 3 == 0 else data)
        for at in rng.integers(0, len(mutant), 6):
            mutant[at] = rng.integers(0, 256)
        path.write_bytes(mutant)
        with Slide(slide) as opened, suppress(SlideError):  # and nothing else
            read_coordinates(path, opened)


def test_the_file_of_a_slide_is_found_by_either_name(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"a: has no \.h5"):
        coordinates_of(tmp_path, "a")
    (tmp_path / "a_patches.h5").touch()
    assert coordinates_of(tmp_path, "a.ome") == tmp_path / "a_patches.h5"
    (tmp_path / "a.h5").touch()
    with pytest.raises(SlideError, match=r"several \.h5"):
        coordinates_of(tmp_path, "a")


def test_what_contradicts_coordinates_is_refused(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "h5").mkdir()
    for asked in ({"mpp": 0.5}, {"stride": 32}, {"preset": "deepfakes-2020"}):
        with pytest.raises(ConfigError, match=f"got `{next(iter(asked))}` beside it"):
            cut(slide, tmp_path / "out", **asked)
    with pytest.raises(ConfigError, match="is none"):
        cut(slide, tmp_path / "out", coordinates=tmp_path / "gone")
    assert not (tmp_path / "out").exists()
