"""Doors of image files, and of folders of them."""

import io
from collections.abc import Iterable
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from benchmarks.fuzz import shape_pictures, shape_texts
from benchmarks.fuzz.door import Door
from privgen.data import class_names, images
from privgen.data.layouts import open_tiles
from privgen.data.tileset import TileSet


def tile(seed: int, side: int = 16) -> NDArray[np.uint8]:
    """A tile of noise, shape (side, side, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def coded(seed: int, kind: str, side: int = 16, **options: object) -> bytes:
    """A tile as the bytes of a file."""
    made = io.BytesIO()
    Image.fromarray(tile(seed, side)).save(made, kind, **options)
    return made.getvalue()


def profile() -> bytes:
    """A colour profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _exif() -> bytes:
    made = Image.Exif()
    made[0x0112], made[0x010F] = 1, "maker"
    return made.tobytes()


def _png(folder: Path) -> list[bytes]:
    return [
        images.encode_png(tile(0)),
        coded(1, "PNG", exif=_exif()),
        coded(2, "PNG", icc_profile=profile()),
    ]


def _jpeg(folder: Path) -> list[bytes]:
    kinds = (
        {"quality": 90},
        {"quality": 40, "progressive": True},
        {"exif": _exif(), "icc_profile": profile()},
    )
    return [coded(seed, "JPEG", **options) for seed, options in enumerate(kinds)]


def _tiff(folder: Path) -> list[bytes]:
    kinds = (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    made = [coded(seed, "TIFF", compression=kind) for seed, kind in enumerate(kinds)]
    return [*made, coded(9, "TIFF", icc_profile=profile())]


def _read(path: Path) -> None:
    """Read a tile with its colour profile, and how it was coded, as an audit does."""
    images.read_tile(path, icc="apply")
    images.read_coding(images.read_bytes(path), str(path))


def sound(tiles: TileSet) -> None:
    """Whether what was opened is what every later step may rely on."""
    assert class_names.refusal_of_all(tiles.classes) is None
    assert len(tiles) > 0
    assert not any(
        Path(record.path).is_absolute() or ".." in Path(record.path).parts
        for record in tiles.records
    )


def companions(folder: Path) -> None:
    """Tiles beside a table."""
    for name in ("a.png", "b.png", "c.png"):
        (folder / name).write_bytes(images.encode_png(tile(ord(name[0]))))


_LISTED = b"A/1.png\nA/2.png\nB/1.png\nB/2.jpg\n"


def _folders(folder: Path) -> list[bytes]:
    return [_LISTED, b"A/1.png\nA/x.tif\nB/1.tif\n@eaDir/1.png\n", b"1.png\n2.png\n"]


def _listed(draw: Random, data: bytes) -> bytes:
    """Another folder: names of folders and files, where they lie, what they are."""
    lines = data.split(b"\n")
    for _ in range(draw.choice((1, 2, 4))):
        name = (
            draw.choice(shape_texts.names()).encode(errors="surrogatepass").replace(b"\n", b"\xff")
        )
        at = draw.randrange(len(lines))
        parts = lines[at].split(b"/")
        parts[draw.randrange(len(parts))] = name
        lines[at] = b"/".join(parts)
        lines.insert(
            at,
            b"/".join([*parts[:-1], draw.choice((b"1.png", b"manifest.csv", b"x.tar", b"s.npz"))]),
        )
    return b"\n".join(lines)


def _open_folder(path: Path) -> None:
    """Lay out the folder that a list of paths describes, and open it."""
    folder = path.with_suffix("")
    _clear(folder)
    kinds = [images.encode_png(tile(3)), coded(4, "JPEG"), b"no picture", coded(5, "PNG", side=8)]
    for number, line in enumerate(path.read_bytes().split(b"\n")[:60]):
        parts = [
            part[:200] for part in line.split(b"/")[:5] if part.strip(b". ") and b"\0" not in part
        ]
        inside = bytes(folder) + b"/" + b"/".join(parts)
        try:
            place = Path(inside.decode("utf-8", errors="surrogateescape"))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(
                kinds[(number + len(line)) % len(kinds)]
                if len(line) % 7 == 0
                else kinds[number % 2]
            )
        except OSError:
            continue  # a file where a folder should be
    sound(open_tiles(folder, flat=True, on_bad_tile="skip"))


def _clear(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def doors() -> Iterable[Door]:
    """Image files and folders of them."""
    for kind, seeds, shape in (
        ("png", _png, shape_pictures.png),
        ("jpeg", _jpeg, shape_pictures.jpeg),
        ("tiff", _tiff, shape_pictures.tiff),
    ):
        yield Door(name=kind, file=f"tile.{kind}", seeds=seeds, open=_read, shapes=(shape,))
    yield Door(name="folder", file="set.list", seeds=_folders, open=_open_folder, shapes=(_listed,))
