"""leftovers.py: whatever lies in a folder of tiles and is not among them is found."""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from privgen.data import images
from privgen.data.layouts import open_tiles
from privgen.data.leftovers import Leftovers, left_over
from privgen.data.manifest import write_manifest
from privgen.errors import LayoutError

LISTED = ("a/1.png", "b/2.png")


def tile(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def png(number: int) -> bytes:
    return images.encode_png(tile(number))


def webp() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(tile(7)).save(stream, "WEBP")
    return stream.getvalue()


def put(root: Path, name: str, content: bytes) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)


def npz(path: Path, **arrays: np.ndarray) -> None:
    np.savez(path, **arrays)  # type: ignore[arg-type]


def tar(path: Path, *members: tuple[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def zipped(path: Path, name: str, content: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "tiles"
    for number, name in enumerate(LISTED):
        put(root, name, png(number))
    return root


@pytest.fixture
def listed(folder: Path) -> Path:
    write_manifest(folder / "manifest.csv", {"path": list(LISTED), "label": ["a", "b"]})
    return folder


def linked(root: Path) -> None:
    put(root.parent, "elsewhere/x.png", png(9))
    os.symlink(root.parent / "elsewhere", root / "a" / "more")


LEFT: dict[str, tuple[Callable[[Path], object], str]] = {
    "beside": (lambda root: put(root, "a/3.png", png(3)), "a/3.png"),
    "damaged": (lambda root: put(root, "a/3.png", b"broken"), "a/3.png"),
    "another folder": (lambda root: put(root, "c/d/3.jpg", png(3)), "c/d/3.jpg"),
    "no suffix": (lambda root: put(root, "a/0003", png(3)), "a/0003"),
    "another kind": (lambda root: put(root, "a/3.dat", webp()), "a/3.dat"),
    "hidden": (lambda root: put(root, ".old/3.png", png(3)), ".old/3.png"),
    "hidden file": (lambda root: put(root, "a/.3.png", png(3)), "a/.3.png"),
    "half written": (lambda root: put(root, "a/.partial-x", png(3)), "a/.partial-x"),
    "clutter": (lambda root: put(root, "__MACOSX/a/3.png", png(3)), "__MACOSX/a/3.png"),
    "behind a link": (linked, "a/more/x.png"),
    "archive": (lambda root: npz(root / "a" / "x.npz", images=tile(3)[None]), "a/x.npz"),
    "zip": (lambda root: zipped(root / "x.zip", "3.png", png(3)), "x.zip"),
    "tar": (lambda root: tar(root / "x.tar", ("3.png", png(3)), ("n.txt", b"x")), "x.tar/3.png"),
    "another suffix": (lambda root: tar(root / "x.dat", ("3", png(3))), "x.dat/3"),
}


@pytest.mark.parametrize("how", LEFT)
def test_images_that_a_manifest_does_not_list_are_refused(how: str, listed: Path) -> None:
    put_there, name = LEFT[how]
    put_there(listed)
    with pytest.raises(LayoutError) as caught:
        open_tiles(listed)
    text = str(caught.value)
    assert f"1 images in {listed} (first: {name}) are not listed in manifest.csv" in text
    assert f"give {listed / 'manifest.csv'} itself" in text
    assert "\n" not in text
    assert len(open_tiles(listed, whole=False)) == 2
    assert len(open_tiles(listed / "manifest.csv")) == 2


IN_A_CLASS = {"beside", "damaged", "no suffix", "another kind"}
NESTED = {"another folder", "behind a link"}


@pytest.mark.parametrize("how", sorted(set(LEFT) - IN_A_CLASS))
def test_images_where_no_class_folder_holds_them_are_refused(how: str, folder: Path) -> None:
    LEFT[how][0](folder)
    with pytest.raises(LayoutError) as caught:
        open_tiles(folder)
    told = "are no tiles of its classes" if how not in NESTED else "directly in class folders"
    assert told in str(caught.value)
    assert LEFT[how][1].split("/")[0] in str(caught.value)


def test_forty_copies_of_train_tiles_beside_a_hundred_listed_ones_are_not_passed_over(
    tmp_path: Path,
) -> None:
    names = [f"{'ab'[number % 2]}/{number:03d}.png" for number in range(140)]
    for number, name in enumerate(names):
        put(tmp_path, name, png(number))
    columns = {"path": names[:100], "label": [name[0] for name in names[:100]]}
    write_manifest(tmp_path / "manifest.csv", columns)
    with pytest.raises(LayoutError, match=r"40 images .*first: a/100.png"):
        open_tiles(tmp_path, flat=True)
    chosen = open_tiles(tmp_path / "manifest.csv", flat=True)
    assert len(chosen) == 100
    assert [remark.what for remark in chosen.remarks] == [
        "images beside the tiles that the manifest does not list, left out: 40"
    ]


def test_what_is_no_image_is_no_leftover(listed: Path) -> None:
    for name in ("README.md", "tiling.json", "log.jsonl", "parts/s-1.json", "other.csv", "sub/x"):
        put(listed, name, b"text\n")
    for name in (".DS_Store", "a/Thumbs.db", "a/._1.png"):
        put(listed, name, b"\0\5\x16\7 no picture")
    put(listed, ".lock", b"")
    put(listed, "utf16.csv", "path,label\n".encode("utf-16"))
    columns = {"path": list(LISTED), "label": ["a", "b"]}
    write_manifest(listed / "sharp.parquet", columns)
    assert open_tiles(listed).remarks == ()


def test_what_could_not_be_looked_into_is_counted(listed: Path) -> None:
    put(listed, "a/mask.npy", b"\x93NUMPY\0\0\0")
    put(listed, "coords.h5", b"\x89HDF\r\n\x1a\n\0\0")
    put(listed, ".git/objects/xy", b"\0\0")
    npz(listed / "table.npz", scores=np.zeros(3))
    put(listed, "cut.tar", (listed / "table.npz").read_bytes()[:100])
    (remark,) = open_tiles(listed).remarks
    assert remark.what.endswith("could not be looked into: 5")
    assert remark.first == ".git"


def test_a_link_to_a_tile_is_that_tile(listed: Path) -> None:
    os.symlink(listed / "a", listed / "again")
    os.link(listed / "b" / "2.png", listed / "b" / "same.png")
    os.symlink(listed, listed / "a" / "loop")
    assert open_tiles(listed).remarks == ()


def test_members_of_a_tar_that_are_not_listed_are_refused(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    members = [(f"{number}.png", png(number)) for number in range(3)]
    tar(tmp_path / "shards" / "s.tar", *members)
    names = [f"shards/s.tar/{name}" for name, _ in members]
    write_manifest(tmp_path / "manifest.csv", {"path": names, "label": list("aba")})
    assert open_tiles(tmp_path).remarks == ()
    write_manifest(tmp_path / "manifest.csv", {"path": names[:2], "label": list("ab")})
    with pytest.raises(LayoutError, match=r"1 images .*first: shards/s.tar/2.png"):
        open_tiles(tmp_path)
    (remark,) = open_tiles(tmp_path / "manifest.csv").remarks
    assert remark.what.endswith("left out: 1")


def test_a_member_that_stands_twice_hides_a_picture(tmp_path: Path) -> None:
    tar(tmp_path / "s.tar", ("0.png", png(0)), ("1.png", png(1)), ("0.png", png(2)))
    names = ["s.tar/0.png", "s.tar/1.png"]
    write_manifest(tmp_path / "manifest.csv", {"path": names, "label": list("ab")})
    with pytest.raises(LayoutError, match=r"1 images .*first: s.tar/0.png"):
        open_tiles(tmp_path)


def test_unusable_images_that_are_not_listed_are_skipped_like_unusable_tiles(listed: Path) -> None:
    put(listed, "a/3.png", b"broken")
    put(listed, "a/4.webp", webp())
    tiles = open_tiles(listed, on_bad_tile="skip")
    assert [path for path, _ in tiles.skipped] == ["a/3.png", "a/4.webp"]
    assert all(rule.startswith("is not listed, and ") for _, rule in tiles.skipped)
    put(listed, "a/5.png", png(5))
    with pytest.raises(LayoutError, match=r"1 images .*first: a/5.png"):
        open_tiles(listed, on_bad_tile="skip")


def test_near_looks_only_where_tiles_are(listed: Path) -> None:
    put(listed, "a/3.png", png(3))
    put(listed, "far/4.png", png(4))
    assert left_over(listed, LISTED).pictures == ("a/3.png", "far/4.png")
    assert left_over(listed, LISTED, near=True) == Leftovers(
        pictures=("a/3.png",), archived=(), opaque=()
    )


@pytest.mark.parametrize("name", ["Manifest.csv", "MANIFEST.PARQUET"])
def test_a_manifest_that_would_not_be_read_is_refused(name: str, folder: Path) -> None:
    put(folder, name, b"path,label,patient\n")
    with pytest.raises(LayoutError, match=f"small letters: .*{name} would not be read"):
        open_tiles(folder)


@pytest.mark.parametrize("name", ["manifest.csv", "Manifest.CSV", "manifest.parquet"])
def test_a_manifest_inside_a_class_folder_is_refused(name: str, folder: Path) -> None:
    put(folder, f"b/{name}", b"path,label,patient\n2.png,b,P1\n")
    with pytest.raises(LayoutError, match=f"never inside one: .*b/{name} would not be read"):
        open_tiles(folder)


def test_a_folder_that_may_not_be_read_is_counted(
    listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (listed / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    (remark,) = open_tiles(listed).remarks
    assert remark.first == "closed"
