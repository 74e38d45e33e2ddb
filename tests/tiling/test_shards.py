"""Shards: what any tar reader finds in them, and what is left after a failure."""

import errno
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from privgen.errors import DiskFullError, InputError
from privgen.files import sweep_partial_files
from privgen.tiling.shards import ShardWriter

Tile = tuple[str, str, bytes, dict[str, object]]


def tiles(count: int, size: int = 3000) -> list[Tile]:
    """Tiles in an order that is not the alphabet's."""
    return [
        (f"s{(7 * i) % count:03d}-x", f"Tumör {i % 2}", bytes([i]) * size, {"y": i, "x": None})
        for i in range(count)
    ]


def write(folder: Path, given: list[Tile], limit: int = 2**20) -> list[str]:
    with ShardWriter(folder, "slide-ab", limit_bytes=limit) as shards:
        return [shards.add(*tile) for tile in given]


def members(path: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(path) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            assert stream is not None
            yield member, stream.read()


def test_a_tar_reader_finds_each_tile_as_three_members_in_order(tmp_path: Path) -> None:
    given = tiles(5)
    paths = write(tmp_path, given)
    assert paths == [f"slide-ab-000000.tar/{key}.png" for key, *_ in given]
    found = [(m.name, data) for m, data in members(tmp_path / "slide-ab-000000.tar")]
    expected = []
    for key, label, encoded, _ in given:
        expected += [(f"{key}.png", encoded), (f"{key}.txt", label.encode())]
    assert [pair for pair in found if not pair[0].endswith(".json")] == expected
    assert [name.rpartition(".")[2] for name, _ in found] == ["png", "txt", "json"] * 5
    assert [json.loads(d) for n, d in found if n.endswith(".json")] == [m for *_, m in given]


def test_headers_name_no_owner_and_no_time(tmp_path: Path) -> None:
    write(tmp_path, tiles(2))
    for member, _ in members(tmp_path / "slide-ab-000000.tar"):
        assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (
            0, 0, 0, "", "",
        )  # fmt: skip
        assert (member.mode, member.type, member.pax_headers) == (0o644, tarfile.REGTYPE, {})


def test_the_same_tiles_give_the_same_bytes(tmp_path: Path) -> None:
    given = tiles(12)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, given, limit=20_480)
    one, two = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [p.name for p in one] == [p.name for p in two]
    assert len(one) > 1
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]


def test_no_shard_passes_the_limit_and_none_ends_early(tmp_path: Path) -> None:
    # A tile takes 512 + 3072 (3000 rounded up) + 2 * (512 + 512) = 5632 bytes; three take 16896,
    # with the end blocks 17920, in tar's 10240-byte records 20480. A fourth would need 30720.
    paths = write(tmp_path, tiles(8), limit=20_480)
    assert [p.split("/")[0][-5] for p in paths] == list("00011122")
    sizes = [p.stat().st_size for p in sorted(tmp_path.iterdir())]
    assert sizes == [20_480, 20_480, 20_480]


def test_a_tile_over_the_limit_stands_alone(tmp_path: Path) -> None:
    paths = write(tmp_path, tiles(3), limit=1)
    assert [p.split("/")[0] for p in paths] == [f"slide-ab-00000{i}.tar" for i in range(3)]


def test_no_tile_no_file(tmp_path: Path) -> None:
    assert write(tmp_path, []) == []
    assert list(tmp_path.iterdir()) == []


def test_an_exception_leaves_nothing_not_even_the_full_shards(tmp_path: Path) -> None:
    (tmp_path / "other-000000.tar").write_bytes(b"of another slide")

    def failing() -> None:
        with ShardWriter(tmp_path, "slide-ab", limit_bytes=1) as shards:
            for tile in tiles(3):
                shards.add(*tile)
            assert (tmp_path / "slide-ab-000001.tar").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failing()
    assert [p.name for p in tmp_path.iterdir()] == ["other-000000.tar"]


def test_a_kill_leaves_no_tar_that_is_not_whole_and_a_sweep_finds_the_rest(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path\n"
        "from privgen.tiling.shards import ShardWriter\n"
        "with ShardWriter(Path(sys.argv[1]), 'slide-ab') as shards:\n"
        "    for i in range(50):\n"
        "        shards.add(f'k{i}', 'a', bytes(9000), {})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert ran.returncode == -signal.SIGKILL
    assert list(tmp_path.glob("*.tar")) == []
    assert len(list(tmp_path.iterdir())) == 1
    sweep_partial_files(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: object, mode: str) -> object:
        return open("/dev/full", "r+b", buffering=0)

    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr(os, "fdopen", full)
    monkeypatch.setattr(os, "fchmod", lambda descriptor, mode: None)
    with pytest.raises(DiskFullError, match=r"no space left to write slide-ab-000000\.tar"):
        write(tmp_path, tiles(2))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_at_the_second_shard_leaves_not_even_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DiskFullError):
        write(tmp_path, tiles(3), limit=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "ä", "k" * 91])
def test_a_key_that_a_reader_would_split_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match="key must be"):
        write(tmp_path, [(key, "a", b"", {})])
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="comes twice"):
        write(tmp_path, [("k", "a", b"", {}), ("k", "a", b"", {})])


@pytest.mark.parametrize(("stem", "limit"), [("", 9), ("a/b", 9), (".a", 9), ("a", 0)])
def test_a_stem_or_limit_that_cannot_be_used_is_refused(
    tmp_path: Path, stem: str, limit: int
) -> None:
    with pytest.raises(InputError, match="must be"):
        ShardWriter(tmp_path, stem, limit_bytes=limit)
