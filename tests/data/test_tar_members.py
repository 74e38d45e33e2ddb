"""tar_members.py: members read in place, nothing else, and each damage in one line."""

import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from privgen.data import images, tar_members
from privgen.data.layouts import open_tiles
from privgen.data.tar_members import is_there, member_of
from privgen.errors import LayoutError, TileError

TILES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
NAMES = [f"{number:06d}.png" for number in range(len(TILES))]


def shard(path: Path, names: list[str] = NAMES, *, mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, tile in zip(names, TILES, strict=False):
            for suffix, data in ((name, images.encode_png(tile)), (f"{name}.cls", b"x")):
                info = tarfile.TarInfo(suffix)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def listed(folder: Path, paths: list[str]) -> Path:
    rows = [f"{path},{'ab'[row % 2]}\n" for row, path in enumerate(paths)]
    (folder / "manifest.csv").write_text("path,label\n" + "".join(rows))
    return folder


def test_tiles_in_a_shard_open_as_loose_files_do(tmp_path: Path) -> None:
    shard(tmp_path / "tar" / "shards" / "s-0011-000000.tar")
    packed = open_tiles(
        listed(tmp_path / "tar", [f"shards/s-0011-000000.tar/{name}" for name in NAMES])
    )
    (tmp_path / "loose").mkdir()
    for name, tile in zip(NAMES, TILES, strict=True):
        images.write_png(tmp_path / "loose" / name, tile)
    loose = open_tiles(listed(tmp_path / "loose", NAMES))
    assert packed.digests.tolist() == loose.digests.tolist()
    np.testing.assert_array_equal(packed.load(), TILES)
    np.testing.assert_array_equal(packed.subset([4]).load(4), loose.subset([4]).load(4))
    assert "not listed" not in packed.layout


def test_gnu_and_posix_headers_long_names_and_dots_are_read(tmp_path: Path) -> None:
    long = "folder/" * 20 + "x" * 120 + ".png"
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f"{kind}.tar"
        with tarfile.open(path, "w", format=kind) as archive:
            for name in ("./a.png", long):
                info = tarfile.TarInfo(name)
                info.size = 3
                archive.addfile(info, io.BytesIO(b"abc"))
        assert images.read_bytes(path / "a.png") == b"abc"
        assert images.read_bytes(path / long) == b"abc"


def test_missing_member_is_refused_in_one_line(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar")
    with pytest.raises(TileError, match="is not in its tar") as caught:
        images.read_tile(path / "gone.png")
    assert "\n" not in str(caught.value)
    folder = listed(tmp_path, [f"a.tar/{name}" for name in (*NAMES, "gone.png")])
    with pytest.raises(LayoutError, match=r"1 of 7 .* are missing, the first a.tar/gone.png"):
        open_tiles(folder)
    with pytest.raises(LayoutError, match=r"are missing, the first none.tar/1.png"):
        open_tiles(listed(tmp_path, ["none.tar/1.png", "a.tar/000001.png"]))


@pytest.mark.parametrize("at", ["header", "data", "boundary", "end"])
def test_truncated_tar_is_told_and_what_precedes_the_cut_can_be_read(
    tmp_path: Path, at: str
) -> None:
    path = shard(tmp_path / "a.tar")
    with tarfile.open(path) as archive:
        last = archive.getmember(NAMES[5])
        end = archive.offset
    cut = {"header": last.offset + 100, "data": last.offset_data + 20, "boundary": last.offset}
    os.truncate(path, cut.get(at, end))
    np.testing.assert_array_equal(images.read_tile(path / NAMES[4]), TILES[4])
    folder = listed(tmp_path, [f"a.tar/{name}" for name in NAMES])
    if at == "end":  # the closing blocks alone are gone: nothing is lost
        assert len(open_tiles(folder)) == 6
        return
    with pytest.raises(TileError, match="its tar is truncated or damaged") as caught:
        open_tiles(folder)
    assert "\n" not in str(caught.value)
    tiles = open_tiles(folder, on_bad_tile="skip")
    assert len(tiles) == 5
    assert tiles.skipped[0][0] == f"a.tar/{NAMES[5]}"


@pytest.mark.parametrize("content", [b"", b"no tar at all", b"\0" * 100, b"\xff" * 2048])
def test_file_that_is_no_tar_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(TileError, match="its tar is truncated or damaged"):
        images.read_bytes(path / "x.png")


def test_compressed_tar_is_refused(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", mode="w:gz")
    with pytest.raises(TileError, match="is packed by gzip"):
        images.read_bytes(path / NAMES[0])


def test_only_regular_members_are_read(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in (("sym.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(tmp_path / "secret.png")
            archive.addfile(info)
        folder = tarfile.TarInfo("folder.png")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    for name in ("sym.png", "hard.png", "folder.png"):
        assert not is_there(path / name)
        with pytest.raises(TileError, match="is not in its tar"):
            images.read_bytes(path / name)


def test_name_that_leads_out_is_just_a_name_and_nothing_is_extracted(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    path = shard(inner / "a.tar", ["../x.png", "/etc/y.png"])
    (tmp_path / "x.png").write_bytes(b"another file")
    before = sorted(tmp_path.rglob("*"))
    np.testing.assert_array_equal(images.read_tile(Path(f"{path}/../x.png")), TILES[0])
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(LayoutError, match="must stay inside"):
        open_tiles(listed(inner, ["a.tar/../x.png", "a.tar/b.png"]))


def test_member_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shard(tmp_path / "a.tar")
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 20)
    with pytest.raises(TileError, match="a tile may have"):
        images.read_bytes(path / NAMES[0])


def test_tar_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar")
    assert is_there(path / NAMES[5])
    shard(path, ["other.png"])
    assert not is_there(path / NAMES[5])
    np.testing.assert_array_equal(images.read_tile(path / "other.png"), TILES[0])


def test_folder_named_like_a_tar_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "old.tar").mkdir()
    images.write_png(tmp_path / "old.tar" / "a.png", TILES[0])
    assert member_of(tmp_path / "old.tar" / "a.png") is None
    np.testing.assert_array_equal(images.read_tile(tmp_path / "old.tar" / "a.png"), TILES[0])


def test_threads_read_many_tars_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_members, "_MOST_INDEXED", 2)
    paths = [shard(tmp_path / f"{number}.tar") for number in range(5)]
    wanted = [(path / name, row) for row, name in enumerate(NAMES) for path in paths] * 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda each: images.read_tile(each[0]), wanted))
    for tile, (_, row) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(tile, TILES[row])
