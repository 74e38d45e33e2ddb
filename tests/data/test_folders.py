"""folders.py: system folders are no classes; links that lead out are used and said."""

import os
from pathlib import Path

import numpy as np
import pytest

from privgen.data import images
from privgen.data.layouts import open_tiles
from privgen.data.remarks import cautions

TILES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)


def class_folders(root: Path) -> Path:
    for row, tile in enumerate(TILES):
        folder = root / ("STR", "TUM")[row % 2]
        folder.mkdir(parents=True, exist_ok=True)
        images.write_png(folder / f"{row}.png", tile)
    return root


SYSTEM = ["@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information", "#recycle"]


@pytest.mark.parametrize("name", SYSTEM)
@pytest.mark.parametrize("where", ["", "STR"])
def test_system_folders_are_no_classes_and_what_they_hold_is_said(
    name: str, where: str, tmp_path: Path
) -> None:
    root = class_folders(tmp_path / "set")
    (root / where / name).mkdir()
    tiles = open_tiles(root)
    assert (tiles.classes, len(tiles), tiles.remarks) == (("STR", "TUM"), 8, ())
    images.write_png(root / where / name / "thumb.png", TILES[0])
    tiles = open_tiles(root)
    assert (tiles.classes, len(tiles)) == (("STR", "TUM"), 8)
    assert [remark.what for remark in tiles.remarks] == [
        "folders of an operating system or a network drive beside the tiles, not looked into: 1"
    ]


def test_links_out_of_the_folder_are_counted_and_said(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "set")
    store = tmp_path / "store"
    store.mkdir()
    (root / "TUM").rename(store / "TUM")
    os.symlink(store / "TUM", root / "TUM")
    images.write_png(store / "one.png", TILES[0][::-1])
    os.symlink(store / "one.png", root / "STR" / "one.png")
    os.symlink(root / "STR" / "0.png", root / "STR" / "within.png")
    tiles = open_tiles(root)
    said = [remark for remark in cautions(tiles) if "links" in remark.what]
    assert [remark.what for remark in said] == [
        "tiles behind links that lead out of their folder: 5"
    ]
    assert said[0].first == "STR/one.png"


def test_a_set_that_is_a_link_itself_leads_nowhere(tmp_path: Path) -> None:
    os.symlink(class_folders(tmp_path / "set"), tmp_path / "link")
    assert open_tiles(tmp_path / "link").remarks == ()
