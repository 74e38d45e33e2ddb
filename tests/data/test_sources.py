"""Tiles from whatever a Python user has."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from privgen.data.images import write_png
from privgen.data.sources import open_source
from privgen.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
CHANNELS_FIRST = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)


class Labelled(Dataset[Any]):
    classes = ("benign", "malignant")

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, row: int) -> Any:
        if row >= len(self):
            raise IndexError(row)
        return Image.fromarray(PIXELS[row]), row % 2


@pytest.mark.parametrize(
    "source",
    [
        PIXELS,
        PIXELS / 255,
        torch.from_numpy(PIXELS),
        CHANNELS_FIRST,
        CHANNELS_FIRST.float() / 255,
        list(PIXELS),
        [Image.fromarray(tile) for tile in PIXELS],
        list(CHANNELS_FIRST),
        TensorDataset(CHANNELS_FIRST, torch.zeros(6, dtype=torch.int64)),
        DataLoader(TensorDataset(CHANNELS_FIRST), batch_size=4),
        Labelled(),
    ],
    ids=[
        "array",
        "floats",
        "tensor",
        "first",
        "float-tensor",
        "arrays",
        "pictures",
        "tensors",
        "set",
        "loader",
        "labelled",
    ],
)
def test_each_gives_the_same_tiles(source: Any) -> None:
    np.testing.assert_array_equal(open_source(source, "synthetic").load(), PIXELS)


def test_labels_of_a_data_set_are_its_classes() -> None:
    tiles = open_source(Labelled(), "train")
    assert tiles.labels.tolist() == ["benign", "malignant"] * 3
    batches = DataLoader(TensorDataset(CHANNELS_FIRST, torch.arange(6) % 3), batch_size=4)
    assert open_source(batches, "train").labels.tolist() == ["0", "1", "2"] * 2


def test_a_folder_is_opened(tmp_path: Any) -> None:
    (tmp_path / "a").mkdir()
    for row, tile in enumerate(PIXELS):
        write_png(tmp_path / "a" / f"{row}.png", tile)
    np.testing.assert_array_equal(open_source(str(tmp_path), "train").load(), PIXELS)


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        (7, "`synthetic` must be a folder, a TileSet, an array"),
        (PIXELS.astype(np.int64), "must be uint8, or numbers from 0 to 1: got int64"),
        (PIXELS.astype(np.float32), "must be uint8, or numbers from 0 to 1: got 0 to 255"),
        (CHANNELS_FIRST.float() / 127.5 - 1, "got -1 to 1. Scale them first"),
        ([PIXELS[0], PIXELS[1, :8, :8]], "must have one size"),
        (["a"], "must hold pictures, arrays or tensors: got str"),
        ([], "must hold tiles: got none"),
    ],
)
def test_anything_else_is_one_line(source: Any, rule: str) -> None:
    with pytest.raises(InputError, match=rule) as raised:
        open_source(source, "synthetic")
    assert "\n" not in str(raised.value)
