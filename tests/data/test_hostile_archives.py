"""npz archives and tars that say one thing and are another: one line each, nothing asked for."""

import io
import resource
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privgen import limits
from privgen.data import tar_members
from privgen.data.layouts import open_tiles
from privgen.errors import InputError, LayoutError, TileError


def header(shape: object, descr: str) -> bytes:
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (64 - (len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text


IMAGES = header((4, 8, 8, 3), "|u1") + np.random.default_rng(0).bytes(768)


def archive(path: Path, *members: tuple[str, bytes], packed: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packed) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


HOSTILE: dict[str, list[tuple[str, bytes]]] = {
    "labels are no array": [("images.npy", IMAGES), ("labels.npy", b"hello")],
    "nested header": [
        ("images.npy", b"\x93NUMPY\x01\0" + (9000).to_bytes(2, "little") + b"(" * 8999 + b"\n")
    ],
    "short nested header": [
        ("images.npy", b"\x93NUMPY\x01\0" + (3000).to_bytes(2, "little") + b"(" * 2999 + b"\n")
    ],
    "labels of 373 GiB": [("images.npy", IMAGES), ("labels.npy", header((10**11,), "<U1"))],
    "long labels": [("images.npy", IMAGES), ("labels.npy", header((4,), "<U100000000"))],
    "images beside images.npy": [
        ("images", header((10**9, 8, 8, 3), "|u1")),
        ("images.npy", IMAGES),
    ],
    "images twice": [("images.npy", header((10**9, 8, 8, 3), "|u1")), ("images.npy", IMAGES)],
    "no letters": [
        ("images.npy", IMAGES),
        ("labels.npy", header((4,), "<U1") + b"\xff" * 16),
    ],
    "negative shape": [("images.npy", header((-4, -8, -8, 3), "|u1") + bytes(768))],
    "shape of words": [("images.npy", header(("a", 8, 8, 3), "|u1") + bytes(768))],
    "shape that is none": [("images.npy", header(7, "|u1") + bytes(768))],
    "ends early": [("images.npy", header((5, 8, 8, 3), "|u1") + bytes(768))],
    "holds more": [("images.npy", header((3, 8, 8, 3), "|u1") + bytes(768))],
    "objects": [("images.npy", IMAGES), ("labels.npy", header((4,), "|O") + bytes(32))],
    "empty text": [("images.npy", IMAGES), ("labels.npy", header((4,), "<U0"))],
    "structured": [("images.npy", header((4,), "V9") + bytes(36))],
    "more pixels than fit": [("images.npy", header((10**9, 8, 8, 3), "|u1"))],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_one_line_and_costs_nothing(name: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", *HOSTILE[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LayoutError) as caught:
        open_tiles(path, flat=True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 600


def test_fortran_order_is_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=np.asfortranarray(pixels))
    np.testing.assert_array_equal(open_tiles(tmp_path / "a.npz", flat=True).load(), pixels)


def test_a_tightly_packed_member_is_refused_past_its_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((64, 32, 32, 3), np.uint8))
    with zipfile.ZipFile(tmp_path / "a.npz") as file:
        info = file.getinfo("images.npy")
    own = 64 * 32 * 32 * 3 / info.compress_size
    assert len(open_tiles(tmp_path / "a.npz", flat=True)) == 64
    monkeypatch.setattr(limits, "RATIO_FREE", 0)
    for most in (own * 1.01, own):
        monkeypatch.setattr(limits, "RATIO", most)
        assert len(open_tiles(tmp_path / "a.npz", flat=True)) == 64
    monkeypatch.setattr(limits, "RATIO", own * 0.99)
    with pytest.raises(LayoutError, match="a member may unpack to"):
        open_tiles(tmp_path / "a.npz", flat=True)


@pytest.mark.parametrize(
    ("limit", "own", "rule"),
    [("ARCHIVE_MEMBERS", 2, "members"), ("IDS_BYTES", 16, "labels"), ("ID_BYTES", 4, "labels")],
)
def test_an_archive_is_read_up_to_its_limit(
    limit: str, own: int, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.array(list("abab")))
    for most in (own + 1, own):
        monkeypatch.setattr(limits, limit, most)
        assert len(open_tiles(tmp_path / "a.npz")) == 4
    monkeypatch.setattr(limits, limit, own - 1)
    with pytest.raises(LayoutError, match=rule):
        open_tiles(tmp_path / "a.npz")


def test_the_header_of_an_array_is_read_up_to_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "a.npz", ("images.npy", IMAGES))
    own = int.from_bytes(IMAGES[8:10], "little")
    for most, fits in ((own + 1, True), (own, True), (own - 1, False)):
        monkeypatch.setattr(limits, "ARRAY_HEADER_BYTES", most)
        if fits:
            assert len(open_tiles(path, flat=True)) == 4
        else:
            with pytest.raises(LayoutError, match="a header may have"):
                open_tiles(path, flat=True)


def test_a_directory_of_very_many_members_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "a.npz", *((f"{row}.npy", b"") for row in range(900)))
    monkeypatch.setattr(limits, "DIRECTORY_BYTES", 2**13)
    with pytest.raises(LayoutError, match="the directory of an archive may have"):
        open_tiles(path)


@pytest.mark.parametrize("packed", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packers_that_numpy_never_uses_are_refused(packed: int, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", ("images.npy", IMAGES), packed=packed)
    with pytest.raises(LayoutError, match="packed in another way"):
        open_tiles(path, flat=True)


def test_damage_anywhere_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    pixels = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    np.savez_compressed(path, images=pixels, labels=np.array(list("abab")))
    data = path.read_bytes()
    random = np.random.default_rng(0)
    for at in random.choice(len(data), 200, replace=False):
        mutant = bytearray(data)
        mutant[at] ^= int(random.integers(1, 256))
        path.write_bytes(bytes(mutant))
        with suppress(InputError):
            open_tiles(path)


def listed(folder: Path, tar: bytes) -> Path:
    (folder / "s").mkdir(exist_ok=True)
    (folder / "s" / "x.tar").write_bytes(tar)
    (folder / "manifest.csv").write_text("path,label\ns/x.tar/0.png,A\ns/x.tar/1.png,B\n")
    return folder


def special(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(size: int, fields: bytes) -> bytes:
    return special(b"x", len(fields)) + fields.ljust(512, b"\0") + special(b"0", size)


TARS: dict[str, bytes] = {
    "5,000 nested long names": (special(b"L", 1) + b"a" + bytes(511)) * 5000 + bytes(1024),
    "header of 8 GiB": special(b"x", 2**33) + bytes(4096),
    "long name of 8 GiB": special(b"L", 2**33) + bytes(4096),
    "goes backwards": pax(0, b"17 size=-1000000\n") + bytes(1024),
    "size that is no number": pax(0, b"12 size=abc\n") + bytes(1024),
    "negative sparse": pax(0, b"27 GNU.sparse.map=-1,-1,-1\n") + bytes(1024),
    "text": b"no tar at all" * 100,
}


@pytest.mark.parametrize("name", TARS)
def test_a_hostile_tar_is_one_line_and_costs_nothing(name: str, tmp_path: Path) -> None:
    listed(tmp_path, TARS[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as caught:
        open_tiles(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024
    assert "\n" not in str(caught.value)


def test_headers_and_members_at_their_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shard(names: list[str]) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.tar"
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as file:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = 1
                file.addfile(info, io.BytesIO(b"x"))
        return path

    def whole(path: Path) -> bool:
        return tar_members.members(path, head=1).whole

    for most, fits in ((3, False), (4, True), (5, True)):
        monkeypatch.setattr(tar_members, "TAR_MEMBERS", most)
        assert whole(shard(list("abcd"))) is fits
    for most, fits in ((1023, False), (1024, True), (1025, True)):
        monkeypatch.setattr(tar_members, "TAR_HEADER_BYTES", most)
        assert whole(shard(["n" * 900])) is fits
    monkeypatch.setattr(tar_members, "TAR_HEADER_BYTES", 1023)
    path = shard(["n" * 900])
    with pytest.raises(TileError, match="a header of a tar may have 1023 bytes"):
        tar_members.read_member(path / "z", path, "z", 10)


def test_compressed_members_are_no_reason_to_forget(tmp_path: Path) -> None:
    kinds: dict[str, Any] = {"stored": np.savez, "packed": np.savez_compressed}
    pixels = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    for name, write in kinds.items():
        write(tmp_path / f"{name}.npz", images=pixels)
        np.testing.assert_array_equal(
            open_tiles(tmp_path / f"{name}.npz", flat=True).load(), pixels
        )
