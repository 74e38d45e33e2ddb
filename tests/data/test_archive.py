"""archive.py: MedMNIST and plain .npz archives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privgen import limits
from privgen.data.layouts import open_tiles
from privgen.data.npz import Arrays
from privgen.data.public_sets import NCT_CLASSES
from privgen.errors import LayoutError

RNG = np.random.default_rng(3)


def pixels(count: int, side: int = 4) -> Any:
    return RNG.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def medmnist(folder: Path, classes: int, name: str = "m") -> tuple[Path, dict[str, Any]]:
    arrays: dict[str, Any] = {}
    for role, count in (("train", 18), ("val", 9), ("test", 9)):
        arrays[f"{role}_images"] = pixels(count)
        arrays[f"{role}_labels"] = (np.arange(count) % classes).reshape(-1, 1)
    np.savez_compressed(folder / f"{name}.npz", **arrays)
    return folder / f"{name}.npz", arrays


def test_pathmnist_gets_its_nine_names_and_keeps_its_order(tmp_path: Path) -> None:
    path, arrays = medmnist(tmp_path, 9, "PathMNIST_64")
    tiles = open_tiles(path)
    assert tiles.layout == "PathMNIST .npz (train, val, test), no patients known"
    assert tiles.group_unit == "tile"
    assert len(tiles) == 36
    np.testing.assert_array_equal(
        tiles.load(), np.concatenate([arrays[f"{r}_images"] for r in ("train", "val", "test")])
    )
    assert tiles.labels[:9].tolist() == list(NCT_CLASSES)
    assert NCT_CLASSES[0] == "ADI"
    assert NCT_CLASSES[8] == "TUM"
    assert tiles.records[18].path == "val/0000000"
    assert tiles.source == path
    assert len(set(tiles.groups)) == 36


def test_other_medmnist_sets_keep_their_class_numbers(tmp_path: Path) -> None:
    path, _ = medmnist(tmp_path, 8)
    tiles = open_tiles(path)
    assert tiles.layout.startswith("MedMNIST .npz")
    assert tiles.classes == tuple("01234567")


def test_archive_of_images_alone_is_one_class_and_needs_flat(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", images=pixels(5))
    tiles = open_tiles(tmp_path / "s.npz", flat=True)
    assert tiles.classes == ("all",)
    with pytest.raises(LayoutError, match="at least 2 classes"):
        open_tiles(tmp_path / "s.npz")


@pytest.mark.parametrize("labels", [["a", "b", "a"], [1, 0, 1]])
def test_archive_of_images_and_labels_is_read(labels: list[object], tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", images=pixels(3), labels=np.array(labels))
    assert open_tiles(tmp_path / "s.npz").labels.tolist() == [str(label) for label in labels]


@pytest.mark.parametrize(
    ("arrays", "rule"),
    [
        ({"x": np.zeros(3)}, "needs train_images"),
        ({"images": np.zeros((2, 4, 4), np.uint8)}, "uint8 RGB of shape"),
        ({"images": np.zeros((2, 4, 4, 3), np.float32)}, "float32"),
        ({"images": np.zeros((2, 4, 5, 3), np.uint8)}, "uint8 RGB of shape"),
        ({"images": np.zeros((0, 4, 4, 3), np.uint8)}, "uint8 RGB of shape"),
        ({"images": pixels(2), "labels": np.arange(3)}, "for 2 tiles"),
        ({"images": pixels(2), "labels": np.array([0.5, 1])}, "float64"),
        ({"images": pixels(2), "labels": np.array(["a", {}], dtype=object)}, "got object"),
        ({"images": np.array(["a", {}], dtype=object)}, "uint8 RGB of shape"),
        ({"train_images": pixels(2)}, "one class per tile"),
        (
            {
                "train_images": pixels(2),
                "train_labels": [0, 1],
                "test_images": pixels(2, 8),
                "test_labels": [0, 1],
            },
            "one size",
        ),
    ],
)
def test_archive_that_is_no_tile_set_is_refused(
    arrays: dict[str, Any], rule: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(LayoutError, match=rule):
        open_tiles(tmp_path / "s.npz")


def test_damaged_archive_is_refused(tmp_path: Path) -> None:
    path, _ = medmnist(tmp_path, 9)
    data = path.read_bytes()
    for broken in (b"", b"not a zip", data[: len(data) // 2], data[:100] + b"xxxx" + data[104:]):
        path.write_bytes(broken)
        with pytest.raises(LayoutError, match="cannot be read as an"):
            open_tiles(path)


def test_archive_over_the_memory_cap_is_refused_before_its_pixels_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = medmnist(tmp_path, 9)
    for most, fits in ((36 * 48 - 1, False), (36 * 48, True), (36 * 48 + 1, True)):
        monkeypatch.setattr(limits, "PIXELS_BYTES", most)
        if fits:
            assert len(open_tiles(path)) == 36
        else:
            monkeypatch.setattr(Arrays, "read", None)
            with pytest.raises(LayoutError, match="of pixels"):
                open_tiles(path)
            monkeypatch.undo()


def test_patients_and_slides_of_an_archive_are_read(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    np.savez(
        path,
        images=pixels(3),
        labels=np.array(["a", "b", "a"]),
        patients=np.array([1.0, 2.0, 1.0]),
        slides=np.array(["s", "t", "s"]),
        scores=np.zeros(3),
    )
    tiles = open_tiles(path)
    assert tiles.groups.tolist() == ["1", "2", "1"]
    assert tiles.slides.tolist() == ["s", "t", "s"]
    assert tiles.layout == ".npz archive (1 arrays not read)"
    assert open_tiles(path, group_by="slide").groups.tolist() == ["s", "t", "s"]


@pytest.mark.parametrize(
    ("arrays", "rule"),
    [
        ({"patients": np.array([1.0, np.nan])}, "missing for 1 of 2"),
        ({"patients": np.array(["a"])}, r"patients of s.npz must be one id.* a tile.*for 2 tiles"),
        ({"patients": np.array([1.5, 2.0])}, "whole number: got 1.5"),
        ({"more": pixels(2)}, r"'more' of s.npz may hold some beside images"),
        ({"train_images": pixels(2)}, "labels of s.npz|may hold some beside train_images"),
    ],
)
def test_nothing_of_an_archive_is_read_past(
    arrays: dict[str, Any], rule: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "s.npz", images=pixels(2), labels=np.array(["a", "b"]), **arrays)
    with pytest.raises(LayoutError, match=rule):
        open_tiles(tmp_path / "s.npz")
