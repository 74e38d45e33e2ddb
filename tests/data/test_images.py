"""images.py: what becomes a tile, what is refused and under which rule, and what is written."""

import contextlib
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from privgen.data import colour, images
from privgen.errors import InputError, OutputError, TileError

RNG = np.random.default_rng(7)
TILE = RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8)
SMOOTH = np.linspace(0, 255, 32 * 32 * 3).astype(np.uint8).reshape(32, 32, 3)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rgb() -> Image.Image:
    return Image.fromarray(TILE)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, keep: int | None = None
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows)[:keep])
        + chunk(b"IEND", b"")
    )


def tiff_rgb16(side: int) -> bytes:
    """A little-endian TIFF of 16 bits a channel, which Pillow cannot write itself."""
    pixels = bytes(side * side * 6)
    entries = [
        (256, 3, 1, side),
        (257, 3, 1, side),
        (258, 3, 3, 8),  # BitsPerSample stand at byte 8
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 14),
        (277, 3, 1, 3),
        (278, 3, 1, side),
        (279, 4, 1, len(pixels)),
    ]
    directory = struct.pack("<H", len(entries))
    for entry in entries:
        directory += struct.pack("<HHII", *entry)
    head = b"II*\0" + struct.pack("<I", 14 + len(pixels)) + struct.pack("<HHH", 16, 16, 16)
    return head + pixels + directory + struct.pack("<I", 0)


def zero_height(jpeg: bytes) -> bytes:
    frame = jpeg.index(b"\xff\xc0")
    return jpeg[: frame + 5] + b"\0\0" + jpeg[frame + 7 :]


def broken_checksum(data: bytes) -> bytes:
    return data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "text": (b"once upon a time", "not a PNG, JPEG or TIFF"),
    "gif": (saved(rgb(), "GIF"), "not a PNG, JPEG or TIFF"),
    "bmp": (saved(rgb(), "BMP"), "not a PNG, JPEG or TIFF"),
    "webp": (saved(rgb(), "WEBP"), "not a PNG, JPEG or TIFF"),
    "png palette": (saved(rgb().convert("P"), "PNG"), "palette"),
    "tiff palette": (saved(rgb().convert("P"), "TIFF"), "palette"),
    "png grey": (saved(rgb().convert("L"), "PNG"), "greyscale"),
    "jpeg grey": (saved(rgb().convert("L"), "JPEG"), "greyscale"),
    "tiff grey": (saved(rgb().convert("L"), "TIFF"), "greyscale"),
    "png black and white": (saved(rgb().convert("1"), "PNG"), "greyscale"),
    "png grey alpha": (saved(rgb().convert("LA"), "PNG"), "alpha"),
    "png alpha": (saved(rgb().convert("RGBA"), "PNG"), "alpha"),
    "tiff alpha": (saved(rgb().convert("RGBA"), "TIFF"), "alpha"),
    "png transparent colour": (saved(rgb(), "PNG", transparency=(1, 2, 3)), "transparent colour"),
    "png grey 16 bit": (
        saved(Image.fromarray(TILE[..., 0].astype(np.uint16)), "PNG"),
        "16 bits",
    ),
    "png rgb 16 bit": (png(4, 4, 16, 2, bytes(4 * (1 + 4 * 6))), "16 bits"),
    "tiff rgb 16 bit": (tiff_rgb16(4), "16 bits"),
    "tiff grey 16 bit": (saved(Image.fromarray(TILE[..., 0].astype(np.uint16)), "TIFF"), "16 bits"),
    "tiff float": (saved(Image.fromarray(TILE[..., 0].astype(np.float32)), "TIFF"), "32 bits"),
    "jpeg cmyk": (saved(rgb().convert("CMYK"), "JPEG"), "CMYK"),
    "tiff cmyk": (saved(rgb().convert("CMYK"), "TIFF"), "CMYK"),
    "tiff lab": (saved(rgb().convert("LAB"), "TIFF"), "colour mode LAB"),
    "png animated": (
        saved(rgb(), "PNG", save_all=True, append_images=[Image.fromarray(255 - TILE)]),
        "several pictures",
    ),
    "tiff pages": (saved(rgb(), "TIFF", save_all=True, append_images=[rgb()]), "several pictures"),
    "jpeg pictures": (
        saved(rgb(), "MPO", save_all=True, append_images=[rgb()]),
        "several pictures",
    ),
    "png zero size": (png(0, 4, 8, 2, b""), "zero pixels"),
    "jpeg zero size": (zero_height(saved(rgb(), "JPEG")), "zero pixels"),
    "png bomb": (png(60_000, 60_000, 8, 2, bytes(1000)), "60000x60000"),
    "png one side": (png(images.MAX_SIDE + 1, 1, 8, 2, bytes(3)), "8193x1"),
    "png truncated": (saved(rgb(), "PNG")[:-30], "truncated"),
    "png no end": (saved(rgb(), "PNG")[:-12], "truncated"),
    "png lost data": (png(4, 4, 8, 2, bytes(52), keep=4), "truncated"),
    "tiff turned": (saved(rgb(), "TIFF", tiffinfo={274: 6}), "orientation 6"),
    "png header only": (saved(rgb(), "PNG")[:20], "header"),
    "png flipped bit": (broken_checksum(saved(rgb(), "PNG")), "checksum"),
    "jpeg truncated": (saved(Image.fromarray(SMOOTH), "JPEG")[:-40], "truncated"),
    "jpeg no end": (saved(Image.fromarray(SMOOTH), "JPEG")[:-2], "truncated"),
    "jpeg header only": (saved(rgb(), "JPEG")[:30], "header"),
    "tiff truncated": (saved(rgb(), "TIFF")[:-40], "truncated"),
    "tiff header only": (b"II*\0\x08\0\0\0", "header"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_a_tile_error_with_its_rule_its_name_and_a_way_out(
    name: str, tmp_path: Path
) -> None:
    data, rule = BAD[name]
    path = tmp_path / "tile.png"
    path.write_bytes(data)
    with pytest.raises(TileError) as caught:
        images.read_tile(path)
    assert rule in caught.value.rule
    assert caught.value.path == str(path)
    assert caught.value.exit_code == 2
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert message.endswith(".")
    assert message.count(". ") >= 1, "a rule, then a way out"


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_lossless_file_is_read_exactly_whatever_its_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "tile.jpg"
    path.write_bytes(saved(rgb(), kind))
    read = images.read_tile(path)
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, TILE)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_is_read_exactly(compression: str) -> None:
    data = saved(rgb(), "TIFF", compression=compression)
    np.testing.assert_array_equal(images.decode(data, "t"), TILE)


def test_big_endian_and_interlaced_files_are_read() -> None:
    data = saved(rgb(), "TIFF", big_tiff=True)
    np.testing.assert_array_equal(images.decode(data, "t"), TILE)


def test_jpeg_is_read_close_to_what_was_saved() -> None:
    read = images.decode(images.encode_jpeg(SMOOTH, 95), "t")
    assert read.shape == SMOOTH.shape
    assert np.abs(read.astype(int) - SMOOTH).mean() < 6


def test_jpeg_quality_changes_the_bytes() -> None:
    assert len(images.encode_jpeg(TILE, 20)) < len(images.encode_jpeg(TILE, 90))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_tile_that_is_stored_turned_is_refused(kind: str) -> None:
    for value, fits in ((1, True), (6, False), (8, False), (9, True), (0, True)):
        exif = Image.Exif()
        exif[274] = value
        data = saved(rgb(), kind, exif=exif)
        if fits:
            assert images.decode(data, "t").shape == TILE.shape
        else:
            with pytest.raises(TileError, match=f"EXIF orientation {value}"):
                images.decode(data, "t")


def swapped_profile() -> bytes:
    """An sRGB profile with the red and blue primaries exchanged: obeying it shows."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(data[128:132], "big")
    tags = {bytes(data[132 + 12 * i : 136 + 12 * i]): 136 + 12 * i for i in range(count)}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    data[red : red + 8], data[blue : blue + 8] = data[blue : blue + 8], data[red : red + 8]
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_a_colour_profile_is_applied_or_ignored_and_told(kind: str) -> None:
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    plain = saved(rgb(), kind, **options)
    other = saved(rgb(), kind, icc_profile=swapped_profile(), **options)
    stored, told = images.decode_profiled(other, "t")
    np.testing.assert_array_equal(stored, images.decode(plain, "t"))
    assert told
    applied, told = images.decode_profiled(other, "t", icc="apply")
    assert told
    assert np.abs(applied.astype(int) - stored).mean() > 10
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same, told = images.decode_profiled(
        saved(rgb(), kind, icc_profile=srgb, **options), "t", icc="apply"
    )
    assert not told
    np.testing.assert_array_equal(same, images.decode(plain, "t"))


def test_a_damaged_or_large_profile_is_one_line_where_it_is_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profile = swapped_profile()
    for broken in (b"x" * 200, profile[:150]):
        data = saved(rgb(), "PNG", icc_profile=broken)
        assert images.decode_profiled(data, "t")[1]
        with pytest.raises(TileError, match="colour profile is damaged"):
            images.decode(data, "t", icc="apply")
    data = saved(rgb(), "PNG", icc_profile=profile)
    for most, fits in ((len(profile) + 1, True), (len(profile), True), (len(profile) - 1, False)):
        monkeypatch.setattr(colour, "ICC_BYTES", most)
        if fits:
            images.decode(data, "t", icc="apply")
        else:
            with pytest.raises(TileError, match="one may have"):
                images.decode(data, "t", icc="apply")


def test_largest_side_is_accepted() -> None:
    row = np.zeros((1, images.MAX_SIDE, 3), dtype=np.uint8)
    assert images.decode(images.encode_png(row), "t").shape == row.shape


def test_missing_file_folder_and_pipe_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, rule in (("gone.png", "No such file"), ("", "folder"), ("pipe", "regular file")):
        with pytest.raises(TileError, match=rule):
            images.read_tile(tmp_path / name)


def test_file_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.write_png(tmp_path / "t.png", TILE)

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(TileError, match="Permission denied"):
        images.read_tile(tmp_path / "t.png")


def test_file_over_the_size_cap_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.write_png(tmp_path / "t.png", TILE)
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 100)
    with pytest.raises(TileError, match="MiB"):
        images.read_tile(tmp_path / "t.png")


def test_no_file_stays_open(tmp_path: Path) -> None:
    images.write_png(tmp_path / "good.png", TILE)
    (tmp_path / "bad.png").write_bytes(BAD["png truncated"][0])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        images.read_tile(tmp_path / "good.png")
        with pytest.raises(TileError):
            images.read_tile(tmp_path / "bad.png")
    assert len(os.listdir("/proc/self/fd")) == before


GOOD = [
    saved(Image.fromarray(SMOOTH), "PNG"),
    saved(Image.fromarray(SMOOTH), "JPEG"),
    saved(Image.fromarray(SMOOTH), "TIFF"),
    saved(Image.fromarray(SMOOTH), "TIFF", compression="tiff_lzw"),
]


@settings(max_examples=400, deadline=None)
@given(
    data=st.sampled_from(GOOD),
    hits=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4
    ),
    keep=st.floats(0.05, 1),
)
def test_damaged_bytes_give_a_tile_or_a_tile_error_and_nothing_else(
    data: bytes, hits: list[tuple[float, int]], keep: float
) -> None:
    damaged = bytearray(data[: int(keep * len(data))])
    for where, value in hits:
        damaged[int(where * len(damaged))] = value
    with contextlib.suppress(TileError):
        tile = images.decode(bytes(damaged), "fuzzed")
        assert tile.dtype == np.uint8
        assert tile.ndim == 3
        assert tile.shape[2] == 3


def test_written_png_holds_pixels_and_no_other_chunk(tmp_path: Path) -> None:
    path = tmp_path / "t.png"
    images.write_png(path, TILE)
    np.testing.assert_array_equal(images.read_tile(path), TILE)
    data, names, position = path.read_bytes(), [], 8
    while position < len(data):
        names.append(data[position + 4 : position + 8])
        position += 12 + int.from_bytes(data[position : position + 4])
    assert set(names) == {b"IHDR", b"IDAT", b"IEND"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.png"]


def test_writing_over_a_tile_replaces_it_and_a_failure_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "t.png"
    images.write_png(path, TILE)
    images.write_png(path, 255 - TILE)
    np.testing.assert_array_equal(images.read_tile(path), 255 - TILE)
    with pytest.raises(InputError, match="uint8"):
        images.write_png(path, TILE.astype(np.float32))  # type: ignore[arg-type]
    np.testing.assert_array_equal(images.read_tile(path), 255 - TILE)
    with pytest.raises(OutputError):
        images.write_png(tmp_path / "no" / "t.png", TILE)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3), (1, 4, 4, 3)])
def test_array_that_is_no_tile_is_not_encoded(shape: tuple[int, ...]) -> None:
    for encode in (images.encode_png, lambda tile: images.encode_jpeg(tile, 90)):
        with pytest.raises(InputError, match="uint8 of shape"):
            encode(np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize("side", [1, 2, 8, 64, 100])
def test_a_tile_is_featureless_as_its_whole_spread_says(side: int) -> None:
    rng = np.random.default_rng(side)
    grey = np.array([0.299, 0.587, 0.114])
    seen = set()
    for level in (0, 128, 255):
        for spread in (0.0, 1.0, 3.0, 4.5, 8.0, 20.0, 60.0):
            tile = np.clip(level + spread * rng.standard_normal((side, side, 1)), 0, 255)
            tile = tile.astype(np.uint8).repeat(3, axis=2)
            plain = float((tile @ grey).std()) < images.FEATURELESS
            assert images.is_featureless(tile) == plain
            seen.add(plain)
    assert seen == ({True} if side == 1 else {True, False})


def test_a_mark_between_the_pixels_looked_at_first_is_a_feature() -> None:
    tile = np.full((64, 64, 3), 255, np.uint8)
    tile[1::4, 1::4] = 0
    assert not images.is_featureless(tile)


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (244, 240, 243)])
def test_glass_through_a_jpeg_is_featureless(colour: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    glass = np.clip(np.array(colour) + rng.normal(0, 2, (64, 64, 3)), 0, 255).astype(np.uint8)
    assert images.is_featureless(images.decode(images.encode_jpeg(glass, 60), "glass"))


def test_resize_keeps_a_constant_and_the_same_side() -> None:
    flat = np.full((2, 40, 40, 3), (200, 90, 160), dtype=np.uint8)
    np.testing.assert_array_equal(
        images.resize(flat, 9), np.broadcast_to(flat[:, :9, :9], (2, 9, 9, 3))
    )
    np.testing.assert_array_equal(images.resize(flat, 40), flat)


def test_resize_is_antialiased() -> None:
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = images.resize(np.repeat(board[np.newaxis, ..., np.newaxis], 3, axis=3), 16)
    inner = small[0, 2:-2, 2:-2].astype(int)
    assert np.abs(inner - 127.5).max() < 3, "a checkerboard shrinks to grey, not to stripes"


def test_resize_treats_tiles_alike_whatever_their_number() -> None:
    tiles = RNG.integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
    together = images.resize(tiles, 8)
    for index in range(3):
        np.testing.assert_array_equal(
            images.resize(tiles[index : index + 1], 8)[0], together[index]
        )
    assert images.resize(tiles[:0], 8).shape == (0, 8, 8, 3)


@pytest.mark.parametrize(
    ("tiles", "side", "rule"),
    [
        (np.zeros((1, 8, 9, 3), np.uint8), 4, "square"),
        (np.zeros((8, 8, 3), np.uint8), 4, "shape"),
        (np.zeros((1, 8, 8, 3), np.float32), 4, "uint8"),
        (np.zeros((1, 8, 8, 3), np.uint8), 0, "1 pixel"),
    ],
)
def test_resize_refuses_what_it_would_have_to_guess(
    tiles: np.ndarray, side: int, rule: str
) -> None:
    with pytest.raises(InputError, match=rule):
        images.resize(tiles, side)


def test_digest_is_of_pixels_and_shape_not_of_the_file() -> None:
    same = [images.pixel_digest(images.decode(saved(rgb(), kind), "t")) for kind in ("PNG", "TIFF")]
    assert same == [images.pixel_digest(TILE)] * 2
    assert len(same[0]) == 64
    reshaped = TILE.reshape(10, 12, 3)
    flipped = TILE[::-1]
    assert len({same[0], images.pixel_digest(reshaped), images.pixel_digest(flipped)}) == 3
    assert images.pixel_digest(flipped) == images.pixel_digest(flipped.copy())


@pytest.mark.parametrize(("count", "columns", "gap"), [(5, 3, 2), (6, 3, 0), (1, 4, 1)])
def test_contact_sheet_puts_each_tile_where_it_belongs(count: int, columns: int, gap: int) -> None:
    tiles = RNG.integers(0, 250, (count, 4, 6, 3), dtype=np.uint8)
    sheet = images.contact_sheet(tiles, columns, gap)
    rows = -(-count // columns)
    assert sheet.shape == (rows * (4 + gap) - gap, columns * (6 + gap) - gap, 3)
    covered = np.zeros(sheet.shape[:2], dtype=bool)
    for index in range(count):
        top, left = index // columns * (4 + gap), index % columns * (6 + gap)
        np.testing.assert_array_equal(sheet[top : top + 4, left : left + 6], tiles[index])
        covered[top : top + 4, left : left + 6] = True
    assert (sheet[~covered] == 255).all()


@pytest.mark.parametrize(("count", "columns", "gap"), [(0, 1, 1), (1, 0, 1), (1, 1, -1)])
def test_contact_sheet_refuses_the_impossible(count: int, columns: int, gap: int) -> None:
    with pytest.raises(InputError, match="contact sheet"):
        images.contact_sheet(np.zeros((count, 4, 4, 3), np.uint8), columns, gap)


def test_every_real_tile_is_read(real_data: Callable[[str], Path]) -> None:
    for path in sorted(real_data("glas").glob("*/*.jpg"))[::50]:
        assert images.read_tile(path).shape == (256, 256, 3)
