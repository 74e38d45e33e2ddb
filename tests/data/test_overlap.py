"""overlap.py: pairs and shares against painted pixels and brute force, and in little memory."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privgen.data import images
from privgen.data.layouts import open_tiles
from privgen.data.overlap import find_overlap
from privgen.data.tileset import TileRecord, TileSet
from privgen.datacheck.description import describe_set
from privgen.errors import LayoutError


def grid(columns: int, rows: int, stride: int, size: int) -> list[TileRecord]:
    return [
        TileRecord(
            path=f"{x}-{y}", label="x", slide="s", x=x * stride, y=y * stride,
            width=size, height=size, mpp=0.5,
        )
        for y in range(rows)
        for x in range(columns)
    ]  # fmt: skip


def test_grid_of_the_2020_study_shares_a_hundred_columns_with_each_neighbour() -> None:
    found = find_overlap(grid(11, 11, 156, 256))
    side, corner = 2 * 11 * 10, 2 * 10 * 10
    assert len(found.pairs) == side + corner
    shares = found.shares[:, 0]
    np.testing.assert_array_equal(shares, found.shares[:, 1])
    assert np.isclose(shares, 100 / 256).sum() == side
    assert np.isclose(shares, (100 / 256) ** 2).sum() == corner
    assert found.largest == 100 / 256
    assert found.covered() == pytest.approx(1 - (56 / 256) ** 2)  # "95 % of every tile"
    assert found.unknown == 0


def test_tiles_that_only_touch_share_nothing() -> None:
    found = find_overlap(grid(5, 5, 256, 256))
    assert found.pairs.shape == found.shares.shape == (0, 2)
    assert found.largest == found.covered() == 0.0


@settings(max_examples=80, deadline=None)
@given(
    boxes=st.lists(
        st.tuples(
            st.sampled_from("st"),
            *(st.integers(0, 40), st.integers(0, 40), st.integers(1, 20), st.integers(1, 20)),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_pairs_and_shares_are_those_of_painted_rectangles(
    boxes: list[tuple[str, int, int, int, int]],
) -> None:
    records = [
        TileRecord(path=str(i), label="x", slide=slide, x=x, y=y, width=w, height=h)
        for i, (slide, x, y, w, h) in enumerate(boxes)
    ]
    painted = np.zeros((len(boxes), 2, 60, 60), dtype=bool)
    for i, (slide, x, y, w, h) in enumerate(boxes):
        painted[i, "st".index(slide), y : y + h, x : x + w] = True
    expected = {
        (i, j): (common / painted[i].sum(), common / painted[j].sum())
        for i in range(len(boxes))
        for j in range(i + 1, len(boxes))
        if (common := (painted[i] & painted[j]).sum())
    }
    found = find_overlap(records)
    pairs = [tuple(pair) for pair in found.pairs.tolist()]
    assert pairs == sorted(expected)
    for pair, shares in zip(pairs, found.shares, strict=True):
        assert tuple(shares) == pytest.approx(expected[pair])
    covered = [
        (painted[i] & np.delete(painted, i, axis=0).any(axis=0)).sum() / painted[i].sum()
        for i in range(len(boxes))
    ]
    assert found.covered() == pytest.approx(np.median([c for c in covered if c] or [0.0]))


def test_tiles_without_a_place_are_counted() -> None:
    known = TileRecord(path="a", label="x", slide="s", x=0, y=0, width=9, height=9)
    records = [
        known,
        TileRecord(path="b", label="x", slide="s", width=9, height=9),
        TileRecord(path="c", label="x", x=0, y=0, width=9, height=9),
        TileRecord(path="d", label="x", slide="s", x=0, y=0),
    ]
    found = find_overlap(records)
    assert found.unknown == 3
    assert len(found.pairs) == 0


def test_every_pair_of_a_hundred_thousand_overlapping_tiles_is_found_in_little_memory() -> None:
    records = grid(317, 317, 156, 256)
    tracemalloc.start()
    found = find_overlap(records)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.pairs) == 2 * 317 * 316 + 2 * 316 * 316
    assert peak < 200 * 2**20


def test_one_large_tile_among_many_small_ones_costs_no_square() -> None:
    records = [
        *grid(150, 150, 64, 64),
        TileRecord(path="large", label="x", slide="s", x=0, y=0, width=9600, height=9600, mpp=0.5),
    ]
    tracemalloc.start()
    found = find_overlap(records)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.pairs) == 150 * 150
    np.testing.assert_allclose(found.shares, [[1.0, (64 / 9600) ** 2]] * 150 * 150)
    assert peak < 100 * 2**20


def level_0(folder: Path, extra: str) -> TileSet:
    """Tiles of 256 px at 0.5 um from a scan at 0.25, every 256 pixels of its level 0."""
    folder.mkdir()
    rows = [f"path,label,patient,slide,x,y,mpp{',xy_mpp' if extra else ''}"]
    for row, tile in enumerate(np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)):
        images.write_png(folder / f"{row}.png", tile)
        rows.append(f"{row}.png,{'AB'[row % 2]},P0,S0,{row * 16},0,0.5{extra}")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return open_tiles(folder)


def test_overlap_of_level_0_coordinates_is_seen_where_their_frame_is_stated(
    tmp_path: Path,
) -> None:
    stated = level_0(tmp_path / "stated", ",0.25")
    overlap = describe_set(stated)["overlap"]
    assert sum(overlap["pairs"][side] for side in ("within_group", "across_groups")) == 7
    assert overlap["largest"] == pytest.approx(0.5)
    assert stated.remarks == ()
    same = level_0(tmp_path / "same", ",0.5")
    assert describe_set(same)["overlap"]["largest"] == 0
    guessed = level_0(tmp_path / "guessed", "")
    assert describe_set(guessed)["overlap"]["largest"] == 0
    assert "no xy_mpp" in guessed.remarks[0].what
    assert guessed.remarks[0].what.endswith(": 8")
    stated.write_manifest(tmp_path / "stated" / "again.csv")
    again = open_tiles(tmp_path / "stated" / "again.csv")
    assert describe_set(again)["overlap"] == overlap


def test_a_frame_needs_the_tiles_own_scale(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,label,slide,x,y,xy_mpp\na.png,A,S,0,0,0.25\n")
    with pytest.raises(LayoutError, match="has xy_mpp and no mpp"):
        open_tiles(tmp_path)
