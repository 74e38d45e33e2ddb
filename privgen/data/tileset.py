"""A set of tiles and what is known about each: its class, its patient, its place on the slide.

A `TileSet` is immutable and holds records, not pixels: tiles are decoded when `load` is called,
by a few threads. Sets made from arrays hold their pixels and behave the same.

Conventions: a record's `path` is relative to `root`, with `/`; unknown is None, never "" or 0;
ids of patients, slides and source images are read by `audits.patients`, whatever they came in;
`sha256` is the digest of the *pixels* (`images.pixel_digest`), so a PNG and a TIFF of the same
tile have the same one; `x`, `y` are the pixels left of and above the tile, on its slide or source
image: pixels of `xy_mpp` micrometres, or of the tile's own resolution where that is unknown.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audits import AuditInputError
from audits.patients import folded
from privgen.choices import Icc
from privgen.compute.cores import decoders
from privgen.data import class_names, images
from privgen.data.owners import GroupUnit, Remark, group_unit_of, remarks_on, spellings_of
from privgen.data.tables import write_table
from privgen.errors import LayoutError, TileError
from privgen.files import SHARED

Array = TypeVar("Array", bound=NDArray[Any])
MANIFEST_COLUMNS = ("path", "label", "patient", "slide", "x", "y", "mpp", "sha256")
"""Columns of a manifest; `source_image` comes after `slide`, `xy_mpp` after `mpp`, where known."""


@dataclass(frozen=True, kw_only=True)
class TileRecord:
    """What is known about one tile.

    Attributes:
      path: relative to the set's root, with `/`.
      label: its class.
      patient, slide, source_image: whose it is and what it was cut from.
      x, y: pixels left of and above it on its slide (or, without one, its source image).
      mpp: micrometres per pixel.
      xy_mpp: micrometres per pixel of x and y; None where they are its own pixels.
      sha256: digest of its pixels.
      width, height: its size as stored, pixels.
      featureless: whether it is near-constant (`images.is_featureless`), and so anybody's.
      role: where a manifest says it: its side of a split that somebody made.
      profiled: whether its file has a colour profile under which its colours are others.
    """

    path: str
    label: str
    patient: str | None = None
    slide: str | None = None
    source_image: str | None = None
    x: int | None = None
    y: int | None = None
    mpp: float | None = None
    xy_mpp: float | None = None
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    featureless: bool | None = None
    role: str | None = None
    profiled: bool = False


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TileSet:
    """An immutable set of labelled tiles.

    Attributes:
      root: folder the paths are relative to; None for tiles in memory.
      records: one per tile, in order.
      layout: what was recognised, in words for people.
      group_unit: what `groups` are.
      skipped: (path, rule) of every tile left out because it could not be used.
      remarks: what else the reader of any figure has to know about how the set was read.
      source: what to give `open_tiles` to open this set again; None for tiles in memory.
      pixels: uint8 (m, h, w, 3) for tiles in memory, else None; `rows` says which are this set's.
      rows: row of each tile in `pixels`, shape (n,).
      icc: what was done with the colour profiles of its files.
      through: what `load` sends every stored tile through before it is scaled; digests are of the
        tiles as they are.
    """

    root: Path | None
    records: tuple[TileRecord, ...]
    layout: str
    group_unit: GroupUnit
    skipped: tuple[tuple[str, str], ...] = ()
    remarks: tuple[Remark, ...] = ()
    source: Path | None = None
    pixels: NDArray[np.uint8] | None = field(default=None, repr=False)
    rows: NDArray[np.intp] | None = field(default=None, repr=False)
    icc: Icc = "ignore"
    through: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = field(
        default=None, repr=False
    )

    def __repr__(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self._facts().items())
        return f"TileSet({facts})"

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
            for name, value in self._facts().items()
        )
        return f"<table>{cells}</table>"

    def _facts(self) -> dict[str, object]:
        """What a set is, without the name of anybody or of any place."""
        unit = self.group_unit.replace("_", " ")
        return {
            "layout": self.layout,
            "tiles": len(self),
            f"{unit}s": len(set(self.groups.tolist())),
            "classes": ", ".join(self.classes),
            "left out": len(self.skipped),
        }

    @classmethod
    def from_arrays(
        cls,
        tiles: NDArray[np.uint8],
        labels: Sequence[str] | NDArray[np.str_],
        *,
        patients: Sequence[object] | NDArray[np.generic] | None = None,
        slides: Sequence[object] | NDArray[np.generic] | None = None,
        layout: str = "arrays",
    ) -> Self:
        """A set in memory; tile i is called `label/00000i.png`, the name it would have on disk.

        Args:
          tiles: uint8, shape (n, h, w, 3); copied unless it is read-only.
          labels: class of each tile, shape (n,).
          patients, slides: the same, where known, of any type `audits.patients` reads; patients,
            else slides, else tiles are the groups.
          layout: what to call it.

        Raises:
          LayoutError: shapes or types do not fit, a label cannot be a folder's name, or patients
            or slides are known for some tiles only.
        """
        if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[3] != 3:
            raise LayoutError(
                f"tiles in memory must be uint8 of shape (n, h, w, 3): got {tiles.dtype} of shape "
                f"{tiles.shape}. Convert them first."
            )
        count, height, width, _ = tiles.shape
        for name, values in (("labels", labels), ("patients", patients), ("slides", slides)):
            if values is not None and len(values) != count:
                raise LayoutError(
                    f"{name} must be one per tile: got {len(values)} for {count} tiles. Give all."
                )
        labels = [class_names.plain(str(label)) for label in labels]
        if refused := class_names.refusal_of_all(labels):
            raise LayoutError(refused)
        spellings = spellings_of("patient", "slide")
        try:
            owners, places = (
                [None] * count if values is None else [spellings[unit](one) for one in values]
                for unit, values in (("patient", patients), ("slide", slides))
            )
        except AuditInputError as error:
            raise LayoutError(str(error)) from error
        records = tuple(
            TileRecord(
                path=f"{labels[row]}/{row:06d}.png",
                label=labels[row],
                patient=owners[row],
                slide=places[row],
                width=width,
                height=height,
            )
            for row in range(count)
        )
        pixels = tiles if not tiles.flags.writeable else _read_only(tiles.copy())
        return cls(
            root=None,
            records=records,
            layout=layout,
            group_unit=group_unit_of(records, None, spellings),
            remarks=remarks_on(spellings),
            pixels=pixels,
            rows=np.arange(count),
        )

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The labels that occur, sorted."""
        return tuple(sorted({record.label for record in self.records}))

    @cached_property
    def labels(self) -> NDArray[np.str_]:
        """Class of each tile, shape (n,)."""
        return _names([record.label for record in self.records])

    @cached_property
    def groups(self) -> NDArray[np.str_]:
        """The unit of every split and test, shape (n,): `group_unit` of each tile, or its path."""
        if self.group_unit == "tile":
            return _names([record.path for record in self.records])
        return _names([getattr(record, self.group_unit) for record in self.records])

    @cached_property
    def alike(self) -> NDArray[np.str_]:
        """One key for groups whose names are alike (`audits.patients`), shape (n,).

        What may be one person is never parted; single tiles go by their paths.
        """
        return self.groups if self.group_unit == "tile" else _read_only(folded(self.groups))

    @cached_property
    def featureless(self) -> NDArray[np.bool_]:
        """Which tiles are near-constant (`images.is_featureless`), shape (n,).

        Blank glass is equal in everybody: two such tiles tell nothing about whose they are.
        """
        known = [record.featureless for record in self.records]
        if None in known:
            with ThreadPoolExecutor(decoders()) as pool:
                known = list(
                    pool.map(
                        lambda row: (
                            images.is_featureless(self._tile(row))
                            if known[row] is None
                            else known[row]
                        ),
                        range(len(self)),
                    )
                )
        return _read_only(np.array(known, dtype=np.bool_))

    @cached_property
    def slides(self) -> NDArray[np.str_]:
        """Slide of each tile, shape (n,); where it is unknown its source image, else its group."""
        return _names(
            [
                record.slide or record.source_image or str(group)
                for record, group in zip(self.records, self.groups, strict=True)
            ]
        )

    @cached_property
    def digests(self) -> NDArray[np.str_]:
        """Pixel digest of each tile, shape (n,).

        `open_tiles` computes them from the decoded pixels (a manifest's own figure is checked,
        never believed) and `load` checks them again; in memory they are computed here, once.
        """
        known = [record.sha256 for record in self.records]
        if None in known:
            with ThreadPoolExecutor(decoders()) as pool:
                known = list(
                    pool.map(
                        lambda row: known[row] or images.pixel_digest(self._tile(row)),
                        range(len(self)),
                    )
                )
        return _names([digest or "" for digest in known])

    def subset(self, indices: ArrayLike) -> Self:
        """The tiles at `indices`, in that order; pixels in memory are shared, not copied.

        Args:
          indices: integers, shape (k,), each in 0 .. n-1.

        Raises:
          IndexError: an index is out of range or no integer.
        """
        chosen = np.atleast_1d(np.asarray(indices))
        if chosen.size == 0:
            chosen = chosen.astype(np.intp)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise IndexError(f"indices must be integers of shape (k,): got {chosen.dtype}")
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(
                f"indices must be 0 to {len(self) - 1}: got {chosen.min()} to {chosen.max()}"
            )
        return replace(
            self,
            records=tuple(self.records[index] for index in chosen),
            rows=None if self.rows is None else self.rows[chosen],
        )

    def load(self, side: int | None = None) -> NDArray[np.uint8]:
        """Decode every tile.

        Args:
          side: scale to this many pixels per side, antialiased; None keeps the stored size.

        Returns:
          uint8, shape (n, side, side, 3); without `side` (n, h, w, 3).

        Raises:
          TileError: a file vanished, broke or changed since it was opened.
          LayoutError: without `side`, the tiles differ in size; with it, one is not square.
        """
        if not self.records:
            return np.empty((0, side or 0, side or 0, 3), dtype=np.uint8)
        first = self._sized(0, side)
        loaded = np.empty((len(self), *first.shape), dtype=np.uint8)

        def fill(row: int) -> None:
            tile = first if row == 0 else self._sized(row, side)
            if tile.shape != first.shape:
                raise LayoutError(
                    "tiles must have one size to be loaded as stored: got "
                    f"{_size(first)} ({self.records[0].path}) and {_size(tile)} "
                    f"({self.records[row].path}). Give a resolution to scale them to."
                )
            loaded[row] = tile

        with ThreadPoolExecutor(decoders()) as pool:
            for _ in pool.map(fill, range(len(self))):
                pass
        return loaded

    def write_manifest(
        self, path: Path, *, extra: Mapping[str, Sequence[str]] | None = None, mode: int = SHARED
    ) -> None:
        """Write the records, digests included; `open_tiles` reads it back beside the tiles.

        Args:
          path: of the CSV or, by its suffix, of the Parquet file.
          extra: further columns by name, a value per tile; `role` is not written without them.
          mode: permission bits of the file.

        Raises:
          OutputError, DiskFullError: as `privgen.files.atomic_write`.
        """
        columns = list(MANIFEST_COLUMNS)
        if any(record.source_image is not None for record in self.records):
            columns.insert(columns.index("slide") + 1, "source_image")
        if any(record.xy_mpp is not None for record in self.records):
            columns.insert(columns.index("mpp") + 1, "xy_mpp")
        known = [
            replace(record, sha256=str(digest))
            for record, digest in zip(self.records, self.digests, strict=True)
        ]
        write_table(
            path,
            {name: [getattr(record, name) for record in known] for name in columns}
            | dict(extra or {}),
            mode=mode,
        )

    def _tile(self, row: int) -> NDArray[np.uint8]:
        if self.pixels is not None and self.rows is not None:
            tile: NDArray[np.uint8] = self.pixels[self.rows[row]]
            return tile
        record = self.records[row]
        tile = images.read_tile((self.root or Path()) / record.path, icc=self.icc)
        if record.sha256 is not None and images.pixel_digest(tile) != record.sha256:
            raise TileError(
                record.path, "its pixels changed since the set was opened. Open the set again."
            )
        return tile

    def _sized(self, row: int, side: int | None) -> NDArray[np.uint8]:
        tile = self._tile(row)
        if side is not None and tile.shape[0] != tile.shape[1]:
            raise LayoutError(
                f"tiles must be square to be scaled: {self.records[row].path} is {_size(tile)}. "
                "Cut squares; nothing is cropped here."
            )
        if self.through is not None:
            tile = self.through(tile)
        if side is None:
            return tile
        scaled: NDArray[np.uint8] = images.resize(tile[np.newaxis], side)[0]
        return scaled


def _size(tile: NDArray[np.uint8]) -> str:
    return f"{tile.shape[1]}x{tile.shape[0]}"


def _names(values: Sequence[str]) -> NDArray[np.str_]:
    return _read_only(np.array(values, dtype=np.str_))


def _read_only(array: Array) -> Array:
    array.setflags(write=False)
    return array
