"""Reading tiles from an `.npz` archive: MedMNIST's, or `images` with optional `labels`.

MedMNIST v2 (Yang et al. 2023) stores `train_images`, `train_labels`, `val_...`, `test_...`: images
uint8 (n, h, w, 3), labels integers (n, 1). PathMNIST is NCT-CRC-HE-100K (train, val) with
CRC-VAL-HE-7K (test), nine classes in the order of `NCT_CLASSES`. No patient is in any of them; an
archive of one's own may hold `patients` and `slides`, one a tile, beside its labels. Pictures under
another name are refused, other arrays named: nothing is read past.

Nothing is unpickled, and sizes are read from the headers before any pixel is.
"""

import math
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from privgen.data.kinds import is_picture_name
from privgen.data.public_sets import NCT_CLASSES
from privgen.data.tileset import TileSet
from privgen.errors import LayoutError

MAX_BYTES = 4 * 2**30
"""Most pixels an archive may hold: they are kept in memory."""

_OWNERS = ("patients", "slides")
_PIXEL_AXES = 3
"""An array with this many axes may hold pictures."""

_MEDMNIST_ROLES = ("train", "val", "test")


def read_archive(path: Path) -> TileSet:
    """Read a whole archive into memory.

    Returns:
      A TileSet with pixels; paths are `role/row` for MedMNIST and `images/row` otherwise, labels
      the class numbers, PathMNIST's names, or "all" where the archive has none.

    Raises:
      LayoutError: no such arrays, another type or shape, damaged, over `MAX_BYTES`, or pictures
        beside them that would not be read.
    """
    try:
        return _read(path)
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        RuntimeError,  # an encrypted archive
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise LayoutError(
            f"{path} cannot be read as an .npz archive of plain arrays: {error}. Write it again "
            "with numpy.savez."
        ) from error


def _read(path: Path) -> TileSet:
    with zipfile.ZipFile(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist()]
        roles = [role for role in _MEDMNIST_ROLES if f"{role}_images" in keys]
        if not roles and "images" not in keys:
            raise LayoutError(
                f"an .npz archive needs train_images (MedMNIST) or images: {path.name} holds "
                f"{', '.join(keys) or 'nothing'}. Rename the array."
            )
        prefixes = [f"{role}_" for role in roles] or [""]
        shapes = [_shape(archive, path, f"{prefix}images") for prefix in prefixes]
        unread = _unread(archive, path, prefixes)
    sizes = {shape[1:] for shape in shapes}
    if len(sizes) > 1:
        raise LayoutError(f"the tiles of {path.name} must have one size: got {sorted(sizes)}.")
    if sum(math.prod(shape) for shape in shapes) > MAX_BYTES:
        raise LayoutError(
            f"{path.name} holds {sum(math.prod(shape) for shape in shapes) / 2**30:.1f} GiB of "
            f"pixels; {MAX_BYTES / 2**30:.0f} fit. Take a smaller edition, or write class folders."
        )
    ends = np.cumsum([0, *(shape[0] for shape in shapes)])
    pixels = np.empty((int(ends[-1]), *shapes[0][1:]), dtype=np.uint8)
    labels: list[str] = []
    names: list[str] = []
    owners: dict[str, list[object]] = {unit: [] for unit in _OWNERS}
    with np.load(path, allow_pickle=False) as arrays:
        for prefix, start, end in zip(prefixes, ends[:-1], ends[1:], strict=True):
            pixels[start:end] = arrays[f"{prefix}images"]
            labels += _labels(path, arrays.get(f"{prefix}labels"), int(end - start), prefix)
            for unit, ids in owners.items():
                ids += _ids(path, arrays.get(prefix + unit), int(end - start), prefix + unit)
            names += [f"{prefix.rstrip('_') or 'images'}/{row:07d}" for row in range(end - start)]
    layout = f"MedMNIST .npz ({', '.join(roles)})" if roles else ".npz archive"
    if roles and set(labels) == {str(number) for number in range(len(NCT_CLASSES))}:
        labels = [NCT_CLASSES[int(label)] for label in labels]
        layout = f"PathMNIST .npz ({', '.join(roles)})"
    if unread:
        layout += f" (arrays not read: {', '.join(unread)})"
    pixels.setflags(write=False)
    tiles = TileSet.from_arrays(pixels, labels, **owners, layout=layout)
    if tiles.group_unit != "patient":
        tiles = replace(tiles, layout=f"{layout}, no patients known")
    records = (
        replace(record, path=name) for record, name in zip(tiles.records, names, strict=True)
    )
    return replace(tiles, records=tuple(records), source=path)


def _shape(archive: zipfile.ZipFile, path: Path, key: str) -> tuple[int, ...]:
    """Shape of one array of tiles, from its header."""
    shape, dtype = header(archive, f"{key}.npy")
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or 0 in shape:
        raise LayoutError(
            f"{key} of {path.name} must be uint8 RGB of shape (n, side, side, 3): got {dtype} of "
            f"shape {shape}. Greyscale and other data sets are no H&E tiles; convert or leave it."
        )
    return tuple(int(size) for size in shape)


def header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type of one array of an archive.

    Raises:
      KeyError: there is no such member, or its format is of another version.
      ValueError: it is no array.
    """
    with archive.open(name) as stream:
        read_header = {
            (1, 0): npy.read_array_header_1_0,
            (2, 0): npy.read_array_header_2_0,
        }[npy.read_magic(stream)]
        shape, _, dtype = read_header(stream)
    return shape, dtype


def holds_pictures(archive: zipfile.ZipFile, name: str) -> bool:
    """Whether a member of an archive is an image or an array that may hold some.

    Raises:
      KeyError, ValueError: as `header`.
    """
    if name.endswith(".npy"):
        return len(header(archive, name)[0]) >= _PIXEL_AXES
    return is_picture_name(name)


def _unread(archive: zipfile.ZipFile, path: Path, prefixes: list[str]) -> tuple[str, ...]:
    """Names of members that are not read; pictures among them are refused."""
    read = {f"{p}{what}.npy" for p in prefixes for what in ("images", "labels", *_OWNERS)}
    others = [name for name in archive.namelist() if name not in read]
    for name in others:
        if holds_pictures(archive, name):
            raise LayoutError(
                f"all pictures of an archive are read or none: {name} of {path.name} may hold "
                f"some beside {prefixes[0]}images, and would be left out. Take it out, or put its "
                "tiles into that array."
            )
    return tuple(name.removesuffix(".npy") for name in others)


def _ids(path: Path, array: NDArray[np.generic] | None, count: int, key: str) -> list[object]:
    """Patients or slides, one a tile; None where there are none."""
    if array is None:
        return [None] * count
    if array.size != count or array.dtype.kind not in "iufUS":
        raise LayoutError(
            f"{key} of {path.name} must be one a tile, text or whole numbers: got {array.dtype} of "
            f"shape {array.shape} for {count} tiles. Write them again."
        )
    return array.reshape(-1).tolist()


def _labels(path: Path, array: NDArray[np.generic] | None, count: int, prefix: str) -> list[str]:
    if array is None and not prefix:
        return ["all"] * count
    if array is None or array.size != count or array.dtype.kind not in "iuU":
        got = "none" if array is None else f"{array.dtype} of shape {array.shape}"
        raise LayoutError(
            f"{prefix}labels of {path.name} must be one class a tile, numbers or text: got {got} "
            f"for {count} tiles. Write them again."
        )
    return [str(label) for label in array.reshape(-1)]
