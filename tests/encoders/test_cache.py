"""The cache of embeddings: the right vector or none, private, bounded, and safe against a kill."""

import fcntl
import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.data.images import pixel_digest
from privgen.encoders import cache as module
from privgen.encoders.cache import EmbeddingCache, embed_cached
from privgen.encoders.loading import BatchEncoder, Encoder
from privgen.encoders.orbit import embed_orbit
from privgen.errors import ConfigError, InputError, OutputError

Tiles = NDArray[np.uint8]


class Counting:
    """An encoder that counts the tiles it is given."""

    def __init__(self, inner: Encoder) -> None:
        self.inner = inner
        self.name, self.digest, self.width = inner.name, inner.digest, inner.width
        self.seen = 0

    def embed(self, tiles: Tiles) -> NDArray[np.float32]:
        self.seen += len(tiles)
        return self.inner.embed(tiles)


@pytest.fixture
def counting(pixels: Encoder) -> Counting:
    return Counting(pixels)


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "embeddings")


def shards(cache: EmbeddingCache) -> list[Path]:
    return sorted(cache.folder.glob("*.shard"))


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def vectors(count: int, seed: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def digests(count: int, start: int = 0) -> list[str]:
    return [hashlib.sha256(str(start + i).encode()).hexdigest() for i in range(count)]


def test_without_a_cache_nothing_is_written(
    pixels: Encoder, crops: Tiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    found = embed_cached(pixels, crops, orbit=False, cache=None)
    np.testing.assert_array_equal(found, pixels.embed(crops))
    both = embed_cached(pixels, crops[:2], orbit=True, cache=None)
    np.testing.assert_array_equal(both.mean, embed_orbit(pixels, crops[:2]).mean)
    assert list(tmp_path.iterdir()) == []


def test_what_was_embedded_once_comes_back_bit_for_bit(
    counting: Counting, cache: EmbeddingCache, crops: Tiles
) -> None:
    first = embed_cached(counting, crops, orbit=False, cache=cache)
    assert counting.seen == len(crops)
    np.testing.assert_array_equal(first, counting.inner.embed(crops))
    for again in (cache, EmbeddingCache(cache.folder)):
        found = embed_cached(counting, crops[::-1], orbit=False, cache=again)
        np.testing.assert_array_equal(found, first[::-1])
        assert found.dtype == np.float32
    assert counting.seen == len(crops)


def test_both_embeddings_of_an_orbit_are_kept(
    counting: Counting, cache: EmbeddingCache, crops: Tiles
) -> None:
    expected = embed_orbit(counting.inner, crops[:6])
    for _ in range(2):
        found = embed_cached(counting, crops[:6], orbit=True, cache=cache)
        np.testing.assert_array_equal(found.plain, expected.plain)
        np.testing.assert_array_equal(found.mean, expected.mean)
    plain = embed_cached(counting, crops[:6], orbit=False, cache=cache)
    np.testing.assert_array_equal(plain, expected.plain)
    assert counting.seen == 8 * 6


def test_only_what_is_new_is_embedded(
    counting: Counting, cache: EmbeddingCache, crops: Tiles
) -> None:
    embed_cached(counting, crops[:5], orbit=False, cache=cache)
    embed_cached(counting, crops[3:9], orbit=False, cache=cache)
    assert counting.seen == 9
    found = embed_cached(counting, crops[4:12], orbit=True, cache=cache)
    assert counting.seen == 9 + 8 * 8  # the orbit of a tile known plain is new
    np.testing.assert_array_equal(found.plain, counting.inner.embed(crops[4:12]))
    assert len(shards(cache)) == 4  # 5 and 4 plain, then 3 plain and 8 of the orbit


def test_equal_tiles_are_embedded_once(
    counting: Counting, cache: EmbeddingCache, crops: Tiles
) -> None:
    batch = crops[[2, 0, 2, 2, 1, 0]]
    found = embed_cached(counting, batch, orbit=False, cache=cache)
    assert counting.seen == 3
    np.testing.assert_array_equal(found, counting.inner.embed(batch))


def test_no_tiles_need_no_shard(counting: Counting, cache: EmbeddingCache) -> None:
    nothing = np.empty((0, 64, 64, 3), dtype=np.uint8)
    assert embed_cached(counting, nothing, orbit=False, cache=cache).shape == (0, counting.width)
    assert embed_cached(counting, nothing, orbit=True, cache=cache).mean.shape[0] == 0
    assert shards(cache) == []


def test_what_cannot_be_embedded_is_refused_and_not_kept(
    counting: Counting, cache: EmbeddingCache
) -> None:
    with pytest.raises(InputError, match="square"):
        embed_cached(counting, np.zeros((1, 8, 9, 3), np.uint8), orbit=False, cache=cache)
    assert shards(cache) == []


def test_one_pixel_another_encoder_or_another_side_is_a_miss(
    pixels: Encoder, cache: EmbeddingCache, crops: Tiles
) -> None:
    assert isinstance(pixels, BatchEncoder)
    tile = crops[:1]
    embed_cached(pixels, tile, orbit=False, cache=cache)
    changed = tile.copy()
    changed[0, 3, 4, 1] ^= 1
    other = replace(pixels, digest="0" * 64)
    for encoder, tiles in ((pixels, changed), (other, tile), (pixels, tile[:, ::2, ::2])):
        counting = Counting(encoder)
        embed_cached(counting, tiles, orbit=False, cache=cache)
        assert counting.seen == 1


def test_folder_shards_and_lock_are_closed_to_others(
    pixels: Encoder, tmp_path: Path, crops: Tiles
) -> None:
    folder = tmp_path / "embeddings"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    before = os.umask(0)
    try:
        cache = EmbeddingCache(folder)
        embed_cached(pixels, crops[:2], orbit=True, cache=cache)
    finally:
        os.umask(before)
    assert mode(folder) == 0o700
    inside = list(folder.iterdir())
    assert len(inside) == 3
    assert {mode(path) for path in inside} == {0o600}


def test_a_new_folder_is_closed_from_the_start(tmp_path: Path) -> None:
    EmbeddingCache(tmp_path / "a" / "embeddings")
    assert mode(tmp_path / "a" / "embeddings") == 0o700


def test_names_in_the_folder_tell_no_tile_and_no_encoder(
    pixels: Encoder, cache: EmbeddingCache, crops: Tiles
) -> None:
    embed_cached(pixels, crops[:1], orbit=False, cache=cache)
    (shard,) = shards(cache)
    assert pixels.digest[:16] not in shard.name
    assert pixel_digest(crops[0])[:16] not in shard.name


def test_a_link_or_a_file_is_no_cache_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("")
    for name, rule in (("link", "not a link"), ("file", "cannot be used: File exists")):
        with pytest.raises(OutputError, match=rule) as caught:
            EmbeddingCache(tmp_path / name)
        assert "Give another folder" in str(caught.value)
        assert str(tmp_path) not in str(caught.value)
    assert mode(tmp_path / "real") != 0o700


def test_a_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(OutputError, match="a folder of one's own"):
        EmbeddingCache(tmp_path / "theirs")


@pytest.mark.parametrize("place", ["header", "key", "vector", "seal"])
def test_one_flipped_bit_is_a_miss_and_the_shard_is_swept(
    place: str, counting: Counting, cache: EmbeddingCache, crops: Tiles
) -> None:
    expected = embed_cached(counting, crops[:4], orbit=False, cache=cache)
    (shard,) = shards(cache)
    content = bytearray(shard.read_bytes())
    start = content.index(b"\n") + 1
    position = {"header": 5, "key": start + 7, "vector": start + 4 * 32 + 9, "seal": -1}[place]
    content[position] ^= 1
    shard.write_bytes(content)
    for each in (EmbeddingCache(cache.folder), cache):
        found = embed_cached(counting, crops[:4], orbit=False, cache=each)
        np.testing.assert_array_equal(found, expected)
    assert counting.seen == 8
    assert shard not in shards(cache)
    assert len(shards(cache)) == 1


@pytest.mark.parametrize("left", [0, 10, 150, 500, -33, -1])
def test_a_torn_shard_is_ignored_and_swept(
    left: int, counting: Counting, cache: EmbeddingCache, crops: Tiles
) -> None:
    expected = embed_cached(counting, crops[:2], orbit=False, cache=cache)
    (shard,) = shards(cache)
    shard.write_bytes(shard.read_bytes()[:left])
    fresh = EmbeddingCache(cache.folder)
    assert fresh.get(counting, "plain", [pixel_digest(crops[0])]) == {}
    assert not shard.exists()
    np.testing.assert_array_equal(
        embed_cached(counting, crops[:2], orbit=False, cache=fresh), expected
    )


@pytest.mark.parametrize(
    "header", [b'{"rows": Infinity}', b'{"rows": -3}', b"[1]", b"null", b"[" * 2000, b"\xff\n"]
)
def test_a_foreign_file_under_a_shards_name_is_swept(
    header: bytes, counting: Counting, cache: EmbeddingCache, crops: Tiles
) -> None:
    embed_cached(counting, crops[:1], orbit=False, cache=cache)
    (shard,) = shards(cache)
    shard.write_bytes(header + b"\n" + b"x" * 500)
    assert EmbeddingCache(cache.folder).get(counting, "plain", [pixel_digest(crops[0])]) == {}
    assert not shard.exists()


def test_a_shard_under_another_series_name_gives_nothing(
    pixels: Encoder, cache: EmbeddingCache, crops: Tiles
) -> None:
    embed_cached(pixels, crops[:2], orbit=True, cache=cache)
    first, second = shards(cache)
    swapped = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(swapped)
    wanted = [pixel_digest(crops[0])]
    fresh = EmbeddingCache(cache.folder)
    assert fresh.get(pixels, "plain", wanted) == fresh.get(pixels, "orbit", wanted) == {}


def test_a_shard_dropped_by_another_process_is_a_miss(
    counting: Counting, cache: EmbeddingCache, crops: Tiles
) -> None:
    embed_cached(counting, crops[:2], orbit=False, cache=cache)
    shards(cache)[0].unlink()
    embed_cached(counting, crops[:2], orbit=False, cache=cache)
    assert counting.seen == 4


def filled(cache: EmbeddingCache, encoder: Encoder, count: int) -> int:
    """Put that many shards of 10 vectors, used one after the other; size of one."""
    for number in range(count):
        cache.put(encoder, "plain", digests(10, 10 * number), vectors(10, number, encoder.width))
        newest = max(shards(cache), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (1000 + number, 1000 + number))
    return shards(cache)[0].stat().st_size


def test_the_shards_used_longest_ago_go_first(pixels: Encoder, cache: EmbeddingCache) -> None:
    size = filled(cache, pixels, 4)
    assert len(shards(cache)) == 4
    assert len(cache.get(pixels, "plain", digests(1, 0))) == 1  # the oldest is used again
    small = EmbeddingCache(cache.folder, limit=3 * size)
    small.put(pixels, "plain", digests(10, 900), vectors(10, 9, pixels.width))
    left = [bool(small.get(pixels, "plain", digests(1, start))) for start in (0, 10, 20, 30, 900)]
    assert left == [True, False, False, True, True]
    assert sum(path.stat().st_size for path in shards(cache)) == 3 * size


def test_the_limit_is_kept_to_the_byte(pixels: Encoder, cache: EmbeddingCache) -> None:
    size = filled(cache, pixels, 3)
    for limit, left in ((4 * size, 4), (5 * size - 1, 4), (size - 1, 1)):
        small = EmbeddingCache(cache.folder, limit=limit)
        small.put(pixels, "plain", digests(10, 7000 + limit), vectors(10, 1, pixels.width))
        assert len(shards(cache)) == left
    assert len(small.get(pixels, "plain", digests(10, 7000 + limit))) == 10


@pytest.mark.parametrize("limit", [0, -1])
def test_a_cache_without_room_is_a_mistake(limit: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 byte or more"):
        EmbeddingCache(tmp_path / "c", limit=limit)
    assert EmbeddingCache(tmp_path / "c", limit=1).limit == 1


def test_many_vectors_are_split_into_shards(
    pixels: Encoder, cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS", 4)
    names, values = digests(9), vectors(9, 0, pixels.width)
    cache.put(pixels, "plain", names, values)
    assert len(shards(cache)) == 3
    found = cache.get(pixels, "plain", names)
    np.testing.assert_array_equal(np.stack([found[name] for name in names]), values)


def test_two_writers_of_the_same_tiles_do_no_harm(pixels: Encoder, cache: EmbeddingCache) -> None:
    names, values = digests(3), vectors(3, 0, pixels.width)
    other = EmbeddingCache(cache.folder)
    for each in (cache, other, cache):
        each.put(pixels, "plain", names, values)
    found = other.get(pixels, "plain", [*names, *digests(1, 50)])
    assert sorted(found) == sorted(names)


WRITER = """
import os, sys, time
from pathlib import Path
import numpy as np
from privgen.encoders.cache import EmbeddingCache
from privgen.encoders.loading import load_encoder
import hashlib
folder, kind = sys.argv[1:]
cache, encoder = EmbeddingCache(Path(folder)), load_encoder("pixels")
def put(number):
    names = [hashlib.sha256(f"{number} {i}".encode()).hexdigest() for i in range(20)]
    rows = np.full((20, encoder.width), number, dtype=np.float32)
    cache.put(encoder, "plain", names, rows)
put(0)
sync, replace = os.fsync, os.replace
def stuck(*arguments):
    print("stuck", flush=True)
    time.sleep(60)
if kind == "before fsync":
    os.fsync = stuck
if kind == "before rename":
    os.replace = stuck
if kind == "anywhere":
    print("going", flush=True)
for number in range(1, 100000):
    put(number)
"""


@pytest.mark.parametrize("kind", ["before fsync", "anywhere"])
def test_a_killed_writer_leaves_whole_shards_and_no_lock(
    kind: str, pixels: Encoder, cache: EmbeddingCache
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(cache.folder), kind], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline().strip() in ("stuck", "going")
        time.sleep(0.2 if kind == "anywhere" else 0)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    partial = list(cache.folder.glob(".partial-*"))
    if kind != "anywhere":
        assert len(partial) == 1
        assert len(shards(cache)) == 1
        assert mode(partial[0]) == 0o600
    whole = len(shards(cache))
    found = 0
    for number in range(whole + 2):
        names = [hashlib.sha256(f"{number} {i}".encode()).hexdigest() for i in range(20)]
        kept = cache.get(pixels, "plain", names)
        assert len(kept) in (0, 20)
        assert all((vector == number).all() for vector in kept.values())
        found += bool(kept)
    assert found == whole >= 1
    with (cache.folder / "lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the dead writer's is gone
    cache.put(pixels, "plain", digests(2), vectors(2, 0, pixels.width))
    assert list(cache.folder.glob(".partial-*")) == []
    assert len(shards(cache)) == whole + 1


def test_writers_take_turns(pixels: Encoder, cache: EmbeddingCache) -> None:
    """What a living writer is writing is not swept by another."""
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(cache.folder), "before rename"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    waiting = threading.Thread(
        target=cache.put, args=(pixels, "plain", digests(2), vectors(2, 0, pixels.width))
    )
    try:
        assert child.stdout.readline().strip() == "stuck"
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        with (cache.folder / "lock").open("rb+") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (partial,) = cache.folder.glob(".partial-*")
        assert len(cache.get(pixels, "plain", digests(2))) == 0  # a reader need not wait
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    waiting.join(10)
    assert len(cache.get(pixels, "plain", digests(2))) == 2
    assert not partial.exists()  # its writer was killed, and the next one swept it


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir(mode=0o755)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="a folder to itself: got work"):
        EmbeddingCache(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert [file.name for file in folder.iterdir()] == ["thesis.txt"]
