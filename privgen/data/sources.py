"""Tiles from whatever a Python user has: a folder, an array, a tensor, pictures, a torch data set.

No library is loaded to recognise what was given: a tensor, a picture and a data set are told by
what they can do.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from privgen.choices import Icc, OnBadTile
from privgen.data.layouts import open_tiles
from privgen.data.tileset import TileSet
from privgen.errors import InputError

Pixels: TypeAlias = NDArray[np.uint8]

Source: TypeAlias = Any
"""A folder or file (`open_tiles`), a `TileSet`, an array (n, h, w, 3), a tensor (n, 3, h, w) or
(n, h, w, 3), a list of PIL images or arrays, or a torch `Dataset` or `DataLoader`."""

ONE_CLASS = "all"
"""Class of tiles that come without labels."""


def open_source(
    source: Source,
    name: str,
    *,
    group_by: str | None = None,
    on_bad_tile: OnBadTile = "error",
    icc: Icc = "ignore",
    flat: bool = False,
    min_classes: int = 1,
) -> TileSet:
    """A tile set from any `Source`.

    Tiles in memory have no patients: every tile counts as one of its own, which a report says. Name
    them with `TileSet.from_arrays(tiles, labels, patients=...)`.

    Args:
      source: the tiles.
      name: of the parameter, for messages.
      group_by, on_bad_tile, icc, flat, min_classes: of folders and files, as `open_tiles`.

    Raises:
      InputError: it is none of these, or its tiles cannot be used.
    """
    if isinstance(source, TileSet):
        return source
    if isinstance(source, str | Path):
        return open_tiles(
            Path(source),
            group_by=group_by,
            on_bad_tile=on_bad_tile,
            icc=icc,
            flat=flat,
            min_classes=min_classes,
        )
    if _is_array(source):
        return _in_memory(_pixels(source, name))
    if (hasattr(source, "__getitem__") and hasattr(source, "__len__")) or _is_loader(source):
        return _collected(source, name)
    raise InputError(
        f"`{name}` must be a folder, a TileSet, an array, a tensor, a list of pictures or a torch "
        f"Dataset: got {type(source).__name__}. Convert it to one of these."
    )


def _is_array(value: Any) -> bool:
    return hasattr(value, "ndim") and hasattr(value, "shape")


def _is_loader(value: Any) -> bool:
    return hasattr(value, "dataset") and hasattr(value, "__iter__")


def _in_memory(tiles: Pixels, labels: list[str] | None = None) -> TileSet:
    return TileSet.from_arrays(tiles, labels or [ONE_CLASS] * len(tiles))


def _pixels(value: Any, name: str) -> Pixels:
    """Tiles of an array or tensor as uint8, shape (n, h, w, 3) or, for one tile, (h, w, 3).

    Numbers from 0 to 1 are brought to 0 to 255; any other numbers than uint8 are refused, because
    nobody can know their range.
    """
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.shape[-1:] != (3,) and array.ndim >= 3 and array.shape[-3] == 3:
        array = np.moveaxis(array, -3, -1)  # channels first, as torch has them
    if array.dtype == np.uint8:
        return cast(Pixels, array)
    if np.issubdtype(array.dtype, np.floating) and array.size:
        low, high = float(array.min()), float(array.max())
        if low >= 0 and high <= 1:
            return np.asarray(np.rint(array * 255), dtype=np.uint8)
        raise InputError(
            f"tiles of `{name}` must be uint8, or numbers from 0 to 1: got {low:.3g} to "
            f"{high:.3g}. Scale them first."
        )
    raise InputError(
        f"tiles of `{name}` must be uint8, or numbers from 0 to 1: got {array.dtype}. Convert them."
    )


def _collected(source: Any, name: str) -> TileSet:
    """Tiles of a list, a data set or a loader: pictures, or pairs of picture and label."""
    tiles: list[Pixels] = []
    labels: list[str] = []
    names = getattr(getattr(source, "dataset", source), "classes", None)
    loader = _is_loader(source)
    items: Iterable[Any] = source if loader else (source[row] for row in range(len(source)))
    for item in items:
        picture, *rest = item if isinstance(item, tuple | list) else [item]
        label = rest[0] if rest else None
        block = _picture(picture, name)
        several = block if block.ndim == 4 else block[np.newaxis]
        tiles.extend(several)
        if label is not None:
            each = np.atleast_1d(np.asarray(label)).tolist()
            labels += [_named(names, one) for one in each]
    if not tiles:
        raise InputError(f"`{name}` must hold tiles: got none.")
    if len({tile.shape for tile in tiles}) > 1:
        raise InputError(
            f"tiles of `{name}` in memory must have one size: got several. Scale them first, or "
            "give a folder."
        )
    if labels and len(labels) != len(tiles):
        raise InputError(
            f"labels of `{name}` must be one per tile: got {len(labels)} for {len(tiles)} tiles."
        )
    return _in_memory(np.stack(tiles), labels)


def _named(names: Any, label: Any) -> str:
    known = names is not None and isinstance(label, int) and 0 <= label < len(names)
    return str(names[label] if known else label)


def _picture(value: Any, name: str) -> Pixels:
    if hasattr(value, "convert") and hasattr(value, "getbands"):  # a PIL image
        return np.asarray(value.convert("RGB"), dtype=np.uint8)
    if _is_array(value):
        return _pixels(value, name)
    raise InputError(
        f"`{name}` must hold pictures, arrays or tensors: got {type(value).__name__}. Convert them."
    )
