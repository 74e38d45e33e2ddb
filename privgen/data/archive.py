"""Reading tiles from an `.npz` archive: MedMNIST's, or `images` with optional `labels`.

MedMNIST v2 (Yang et al. 2023) stores `train_images`, `train_labels`, `val_...`, `test_...`: images
uint8 (n, h, w, 3), labels integers (n, 1). PathMNIST is NCT-CRC-HE-100K (train, val) with
CRC-VAL-HE-7K (test), nine classes in the order of `NCT_CLASSES`; it is known by its numbers of
tiles or by its name, because nine classes of one's own are none of these. No patient is in any of
them; an archive of one's own may hold `patients` and `slides`, one per tile, beside its labels.
Pictures under another name are refused, other arrays counted: nothing is read past.

What an archive may hold, and how it is read, is in `privgen.data.npz`.
"""

from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from privgen import limits
from privgen.data.class_names import FLAT_CLASS
from privgen.data.kinds import is_picture_name
from privgen.data.npz import Arrays, naming_damage, opened
from privgen.data.public_sets import NCT_CLASSES
from privgen.data.tileset import TileSet
from privgen.errors import LayoutError

_OWNERS = ("patients", "slides")
_PIXEL_AXES = 3
"""An array with this many axes may hold pictures."""

_MEDMNIST_ROLES = ("train", "val", "test")

_PATHMNIST = {"train": 89_996, "val": 10_004, "test": 7_180}
"""Tiles of each role of PathMNIST, in every size it is published in."""


def read_archive(path: Path) -> TileSet:
    """Read a whole archive into memory.

    Returns:
      A TileSet with pixels; paths are `role/row` for MedMNIST and `images/row` otherwise, labels
      the class numbers, PathMNIST's names, or "all" where the archive has none.

    Raises:
      OSError: the file cannot be read.
      LayoutError: no such arrays, another type or shape, damaged, over a limit, or pictures beside
        them that would not be read.
    """
    with naming_damage(path), opened(path) as arrays:
        return _read(path, arrays)


def _read(path: Path, arrays: Arrays) -> TileSet:
    roles = [role for role in _MEDMNIST_ROLES if f"{role}_images" in arrays]
    if not roles and "images" not in arrays:
        raise LayoutError(
            f"an .npz archive needs train_images (MedMNIST) or images: {path.name} holds "
            f"{limits.told(', '.join(arrays.names)) if arrays.names else 'nothing'}. Rename the "
            "array."
        )
    prefixes = [f"{role}_" for role in roles] or [""]
    shapes = [_shape(arrays, path, f"{prefix}images") for prefix in prefixes]
    unread = _unread(arrays, path, prefixes)
    sizes = {shape[1:] for shape in shapes}
    if len(sizes) > 1:
        raise LayoutError(f"the tiles of {path.name} must have one size: got {sorted(sizes)}.")
    if sum(map(prod, shapes)) > limits.PIXELS_BYTES:
        raise LayoutError(
            f"{path.name} holds {limits.size(sum(map(prod, shapes)))} of pixels; "
            f"{limits.size(limits.PIXELS_BYTES)} fit. Take a smaller edition, or write class "
            "folders."
        )
    ends = np.cumsum([0, *(shape[0] for shape in shapes)])
    labels: list[str] = []
    names: list[str] = []
    owners: dict[str, list[object]] = {unit: [] for unit in _OWNERS}
    for prefix, (count, *_) in zip(prefixes, shapes, strict=True):
        labels += _labels(arrays, path, f"{prefix}labels", count)
        for unit, ids in owners.items():
            ids += _owners(arrays, path, prefix + unit, count)
        names += [f"{prefix.rstrip('_') or 'images'}/{row:07d}" for row in range(count)]
    pixels = np.empty((int(ends[-1]), *shapes[0][1:]), dtype=np.uint8)
    for prefix, start, end in zip(prefixes, ends[:-1], ends[1:], strict=True):
        pixels[start:end] = arrays.read(f"{prefix}images", limits.PIXELS_BYTES)
    layout = f"MedMNIST .npz ({', '.join(roles)})" if roles else ".npz archive"
    counts = {role: shape[0] for role, shape in zip(roles, shapes, strict=False)}
    if _is_pathmnist(path, counts, set(labels)):
        labels = [NCT_CLASSES[int(label)] for label in labels]
        layout = f"PathMNIST .npz ({', '.join(roles)})"
    if unread:
        layout += f" ({len(unread)} arrays not read)"
    pixels.setflags(write=False)
    tiles = TileSet.from_arrays(pixels, labels, **owners, layout=layout)
    if tiles.group_unit != "patient":
        tiles = replace(tiles, layout=f"{layout}, no patients known")
    records = (
        replace(record, path=name) for record, name in zip(tiles.records, names, strict=True)
    )
    return replace(tiles, records=tuple(records), source=path)


def _is_pathmnist(path: Path, counts: dict[str, int], labels: set[str]) -> bool:
    """Whether class numbers are PathMNIST's, and may be called by its names."""
    known = counts == _PATHMNIST or path.name.lower().startswith("pathmnist")
    return known and bool(counts) and labels == {str(n) for n in range(len(NCT_CLASSES))}


def _shape(arrays: Arrays, path: Path, key: str) -> tuple[int, ...]:
    """Shape of one array of tiles, from its header."""
    shape, _, dtype = arrays.header(key)
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or 0 in shape:
        raise LayoutError(
            f"{key} of {path.name} must be uint8 RGB of shape (n, side, side, 3): got "
            f"{limits.told(str(dtype))} of shape {limits.shown(shape)}. Greyscale and other data "
            "sets are no H&E tiles; convert or leave it."
        )
    return shape


def holds_pictures(path: Path) -> bool:
    """Whether a zip or npz archive holds images, or arrays that may be.

    Raises:
      OSError: it cannot be read.
      LayoutError: it is damaged.
    """
    with naming_damage(path), opened(path) as arrays:
        return any(map(is_picture_name, arrays.files)) or any(
            len(arrays.header(name)[0]) >= _PIXEL_AXES for name in arrays.names if name in arrays
        )


def _unread(arrays: Arrays, path: Path, prefixes: list[str]) -> tuple[str, ...]:
    """Names of members that are not read; pictures among them are refused."""
    read = {f"{p}{what}" for p in prefixes for what in ("images", "labels", *_OWNERS)}
    others = [name for name in arrays.names if name not in read or name not in arrays]
    for name in others:
        pictures = (
            len(arrays.header(name)[0]) >= _PIXEL_AXES if name in arrays else is_picture_name(name)
        )
        if pictures:
            raise LayoutError(
                f"all pictures of an archive are read or none: {limits.shown(name)} of {path.name} "
                f"may hold some beside {prefixes[0]}images, and would be left out. Take it out, or "
                "put its tiles into that array."
            )
    return tuple(others)


def _owners(arrays: Arrays, path: Path, name: str, count: int) -> list[object]:
    """Patients or slides, one per tile; None where there are none."""
    known = _values(arrays, path, name, count, kinds="iufUS", what="id, text or a whole number,")
    return [None] * count if known is None else known


def _labels(arrays: Arrays, path: Path, name: str, count: int) -> list[str]:
    known = _values(arrays, path, name, count, kinds="iuU", what="class, a number or text,")
    if known is not None:
        return [str(label) for label in known]
    if name != "labels":
        raise LayoutError(
            f"{name} of {path.name} must be one class per tile, a number or text: got none for "
            f"{count} tiles. Write them again."
        )
    return [FLAT_CLASS] * count


def _values(
    arrays: Arrays, path: Path, name: str, count: int, *, kinds: str, what: str
) -> list[object] | None:
    """One value per tile; what does not fit is refused by its header, before it is read."""
    if name not in arrays:
        return None
    shape, _, dtype = arrays.header(name)
    if prod(shape) != count or dtype.kind not in kinds or dtype.itemsize > limits.ID_BYTES:
        raise LayoutError(
            f"{name} of {path.name} must be one {what} a tile: got {limits.told(str(dtype))} of "
            f"shape {limits.shown(shape)} for {count} tiles. Write them again."
        )
    values: list[object] = arrays.read(name, limits.IDS_BYTES).reshape(-1).tolist()
    return values
