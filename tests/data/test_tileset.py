"""TileSet: records, groups, digests, loading and the manifest."""

import csv
import os
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.data import images
from privgen.data.layouts import open_tiles
from privgen.data.tileset import MANIFEST_COLUMNS, TileRecord, TileSet
from privgen.errors import LayoutError, TileError


def tiles_of(count: int, side: int = 8, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def on_disk(folder: Path, tiles: TileSet) -> TileSet:
    """The set written out as a person would have it, and opened again."""
    for record, tile in zip(tiles.records, tiles.load(), strict=True):
        (folder / record.path).parent.mkdir(parents=True, exist_ok=True)
        images.write_png(folder / record.path, tile)
    tiles.write_manifest(folder / "manifest.csv")
    return open_tiles(folder)


@pytest.fixture
def memory() -> TileSet:
    return TileSet.from_arrays(
        tiles_of(6),
        ["b", "a", "b", "a", "b", "a"],
        patients=["P1", "P1", "P1", "P2", "P2", "P2"],
        slides=["s1", "s1", "s2", "s3", "s3", "s3"],
    )


def test_properties_follow_the_records(memory: TileSet) -> None:
    assert len(memory) == 6
    assert memory.classes == ("a", "b")
    assert memory.labels.tolist() == ["b", "a", "b", "a", "b", "a"]
    assert memory.groups.tolist() == ["P1", "P1", "P1", "P2", "P2", "P2"]
    assert memory.slides.tolist() == ["s1", "s1", "s2", "s3", "s3", "s3"]
    assert memory.group_unit == "patient"
    assert memory.records[0].width == memory.records[0].height == 8
    assert len({record.path for record in memory.records}) == 6


def test_groups_fall_back_from_patient_to_slide_to_a_name_per_tile() -> None:
    pixels = tiles_of(3)
    by_slide = TileSet.from_arrays(pixels, list("aab"), slides=["s", "s", "t"])
    assert by_slide.group_unit == "slide"
    assert by_slide.groups.tolist() == ["s", "s", "t"]
    by_tile = TileSet.from_arrays(pixels, list("aab"))
    assert by_tile.group_unit == "tile"
    assert len(set(by_tile.groups)) == 3
    assert by_tile.slides.tolist() == by_tile.groups.tolist()
    by_patient = TileSet.from_arrays(pixels, list("aab"), patients=["p", "p", "q"])
    assert by_patient.slides.tolist() == ["p", "p", "q"]


def test_arrays_name_patients_in_any_type_and_what_was_joined_is_told() -> None:
    tiles = TileSet.from_arrays(
        tiles_of(5), list("ababa"), patients=[1, 1.0, "1.0", "TCGA-AA-0001-01A", b"P\xcc\x8a"]
    )
    assert tiles.groups.tolist() == ["1", "1", "1", "TCGA-AA-0001", "P\u030a"]
    assert [str(remark) for remark in tiles.remarks] == [
        "patients written in several ways, each taken for one: 1 (first: 1 = 1.0)"
    ]
    assert tiles.subset([0]).remarks == tiles.remarks
    slides = TileSet.from_arrays(tiles_of(2), ["a", "b"], slides=["TCGA-AA-0001-01A", "2.0"])
    assert slides.groups.tolist() == ["TCGA-AA-0001-01A", "2"]


@pytest.mark.parametrize("nobody", [None, float("nan"), "nan", "NA", "", "#N/A", "None", "<NA>"])
def test_nobody_is_no_patient(nobody: object) -> None:
    with pytest.raises(LayoutError) as caught:
        TileSet.from_arrays(tiles_of(3), list("aba"), patients=["P1", nobody, "P2"])
    assert "patient must be known for every tile or for none: it is missing for 1 of 3" in str(
        caught.value
    )
    word = "" if nobody in (None, "") else f" (read as missing: '{nobody}' (1))"
    assert f"the first b/000001.png{word}. Fill it in" in str(caught.value)
    alone = TileSet.from_arrays(tiles_of(2), ["a", "b"], patients=[nobody] * 2, slides=["s", "t"])
    assert alone.group_unit == "slide"
    assert len(alone.remarks) == (nobody not in (None, ""))
    bare = TileSet.from_arrays(tiles_of(2), ["a", "b"], patients=[nobody] * 2)
    assert bare.group_unit == "tile"


def test_a_number_with_decimals_names_nobody() -> None:
    with pytest.raises(LayoutError, match=r"whole number: got 1\.5"):
        TileSet.from_arrays(tiles_of(2), ["a", "b"], patients=[1.5, 2.0])


def test_blank_tiles_are_told_in_memory_and_on_disk(tmp_path: Path) -> None:
    pixels = tiles_of(3)
    pixels[1] = 255
    tiles = TileSet.from_arrays(pixels, list("aba"), patients=list("PQR"))
    assert tiles.featureless.tolist() == [False, True, False]
    assert tiles.subset([1]).featureless.tolist() == [True]
    opened = on_disk(tmp_path, tiles)
    assert [record.featureless for record in opened.records] == [False, True, False]
    assert opened.featureless.tolist() == tiles.featureless.tolist()


def test_nothing_about_a_set_can_be_changed(memory: TileSet) -> None:
    with pytest.raises(FrozenInstanceError):
        memory.layout = "x"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        memory.records[0].label = "x"  # type: ignore[misc]
    for array in (memory.labels, memory.groups, memory.slides, memory.digests, memory.pixels):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]


def test_a_set_in_memory_does_not_follow_later_changes_of_its_array() -> None:
    pixels = tiles_of(2)
    before = pixels.copy()
    tiles = TileSet.from_arrays(pixels, ["a", "b"])
    pixels[:] = 0
    np.testing.assert_array_equal(tiles.load(), before)


def test_load_gives_a_fresh_array_each_time(memory: TileSet) -> None:
    first = memory.load()
    first[:] = 0
    assert memory.load().any()


def test_subset_keeps_order_repeats_nothing_and_shares_pixels(memory: TileSet) -> None:
    chosen = memory.subset([4, 1])
    assert [record.path for record in chosen.records] == [
        memory.records[4].path,
        memory.records[1].path,
    ]
    np.testing.assert_array_equal(chosen.load(), memory.load()[[4, 1]])
    assert chosen.digests.tolist() == memory.digests[[4, 1]].tolist()
    assert chosen.pixels is memory.pixels
    np.testing.assert_array_equal(chosen.subset(np.array([1])).load(), memory.load()[[1]])
    assert chosen.classes == ("a", "b")
    assert chosen.subset([0]).classes == ("b",)


def test_empty_subset_is_a_set() -> None:
    empty = TileSet.from_arrays(tiles_of(2), ["a", "b"], patients=["p", "q"]).subset([])
    assert len(empty) == 0
    assert empty.classes == ()
    assert empty.load(16).shape == (0, 16, 16, 3)
    assert len(empty.groups) == len(empty.digests) == 0


@pytest.mark.parametrize("indices", [[6], [-1], [0.5], [[0, 1]], [True, False]])
def test_subset_refuses_what_is_no_index(memory: TileSet, indices: list[object]) -> None:
    with pytest.raises(IndexError):
        memory.subset(np.array(indices))


@pytest.mark.parametrize(
    ("pixels", "labels", "rule"),
    [
        (tiles_of(2).astype(np.float32), ["a", "b"], "uint8"),
        (tiles_of(2)[..., 0], ["a", "b"], "shape"),
        (tiles_of(2), ["a"], "1 for 2 tiles"),
        (tiles_of(2), ["a", "../b"], "folder's name"),
        (tiles_of(2), ["a", ""], "folder's name"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    pixels: NDArray[np.uint8], labels: list[str], rule: str
) -> None:
    with pytest.raises(LayoutError, match=rule):
        TileSet.from_arrays(pixels, labels)


def test_set_on_disk_equals_the_set_in_memory(memory: TileSet, tmp_path: Path) -> None:
    opened = on_disk(tmp_path, memory)
    assert opened.root == tmp_path
    np.testing.assert_array_equal(opened.load(), memory.load())
    np.testing.assert_array_equal(opened.load(5), memory.load(5))
    for name in ("labels", "groups", "slides", "digests"):
        assert getattr(opened, name).tolist() == getattr(memory, name).tolist()
    np.testing.assert_array_equal(opened.subset([3, 0]).load(), memory.load()[[3, 0]])


def test_load_scales_with_the_one_resize(memory: TileSet) -> None:
    np.testing.assert_array_equal(memory.load(4), images.resize(memory.load(), 4))
    np.testing.assert_array_equal(memory.load(8), memory.load())


def test_manifest_has_the_columns_and_blanks_for_what_is_unknown(
    memory: TileSet, tmp_path: Path
) -> None:
    memory.write_manifest(tmp_path / "m.csv")
    with (tmp_path / "m.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert tuple(rows[0]) == MANIFEST_COLUMNS
    assert rows[1] == [
        "b/000000.png", "b", "P1", "s1", "", "", "", images.pixel_digest(memory.load()[0]),
    ]  # fmt: skip
    assert len(rows) == 7


def test_manifest_brings_back_every_record(memory: TileSet, tmp_path: Path) -> None:
    known = tuple(
        replace(record, source_image=f"i{row}", x=8 * row, y=3, mpp=0.1 + 0.2)
        for row, record in enumerate(memory.records)
    )
    opened = on_disk(tmp_path, replace(memory, records=known))
    for record, expected, digest in zip(opened.records, known, memory.digests, strict=True):
        assert record == replace(expected, sha256=digest, featureless=False)


def test_manifest_takes_further_columns_and_a_mode(memory: TileSet, tmp_path: Path) -> None:
    target = tmp_path / "manifest.csv"
    roles = [f"role {row}" for row in range(len(memory))]
    memory.write_manifest(target, extra={"role": roles}, mode=0o600)
    with target.open(newline="") as stream:
        assert [row["role"] for row in csv.DictReader(stream)] == roles
    assert target.stat().st_mode & 0o777 == 0o600


def test_tiles_of_two_sizes_load_scaled_but_not_as_stored(tmp_path: Path) -> None:
    for label, side in (("a", 8), ("b", 12)):
        (tmp_path / label).mkdir()
        images.write_png(tmp_path / label / "t.png", tiles_of(1, side)[0])
    tiles = open_tiles(tmp_path)
    with pytest.raises(LayoutError, match=r"8x8 \(a/t.png\) and 12x12 \(b/t.png\)"):
        tiles.load()
    assert tiles.load(6).shape == (2, 6, 6, 3)


def test_tile_that_is_not_square_is_not_scaled() -> None:
    tiles = TileSet.from_arrays(np.zeros((1, 4, 6, 3), np.uint8), ["a"])
    assert tiles.load().shape == (1, 4, 6, 3)
    with pytest.raises(LayoutError, match=r"square.*6x4"):
        tiles.load(4)


def test_tile_that_changed_or_vanished_since_opening_is_named(
    memory: TileSet, tmp_path: Path
) -> None:
    opened = on_disk(tmp_path, memory)
    changed = tmp_path / opened.records[2].path
    images.write_png(changed, 255 - memory.load()[2])
    with pytest.raises(TileError, match=r"000002.png.*changed"):
        opened.load(4)
    changed.unlink()
    with pytest.raises(TileError, match=r"000002.png.*No such file"):
        opened.load()


def test_digests_are_computed_where_no_record_holds_one(tmp_path: Path) -> None:
    pixels = tiles_of(2)
    (tmp_path / "a").mkdir()
    images.write_png(tmp_path / "a" / "t.png", pixels[0])
    bare = TileSet(
        root=tmp_path,
        records=(TileRecord(path="a/t.png", label="a"),),
        layout="by hand",
        group_unit="tile",
    )
    assert bare.digests.tolist() == [images.pixel_digest(pixels[0])]


def test_real_tiles_load(real_data: Callable[[str], Path]) -> None:
    tiles = open_tiles(real_data("glas")).subset(np.arange(0, 934, 60))
    loaded = tiles.load(64)
    assert loaded.shape == (16, 64, 64, 3)
    first = images.read_tile(real_data("glas") / tiles.records[0].path)
    np.testing.assert_array_equal(loaded[0], images.resize(first[np.newaxis], 64)[0])
    assert 100 < loaded.mean() < 230


def test_a_manifest_keeps_names_that_are_no_utf_8(tmp_path: Path) -> None:
    """Names come from file systems, which do not care for encodings."""
    name = os.fsdecode(b"a/caf\xe9.png")
    tiles = TileSet.from_arrays(np.zeros((1, 8, 8, 3), dtype=np.uint8), ["a"])
    tiles = replace(tiles, records=(replace(tiles.records[0], path=name),))
    tiles.write_manifest(tmp_path / "manifest.csv")
    assert os.fsencode(name) in (tmp_path / "manifest.csv").read_bytes()


def test_manifest_is_parquet_where_its_suffix_says_so(memory: TileSet, tmp_path: Path) -> None:
    opened = on_disk(tmp_path, memory)
    (tmp_path / "manifest.csv").unlink()
    roles = ["train", "holdout"] * 3
    memory.write_manifest(tmp_path / "manifest.parquet", extra={"role": roles})
    again = open_tiles(tmp_path)
    assert [record.role for record in again.records] == roles
    assert [replace(record, role=None) for record in again.records] == list(opened.records)
