"""Measuring by which way the tiles of a role became pixels.

Of every file: its kind, and a JPEG's coding. Of a sample of tiles, chosen by content: the codings
that pixels remember, the spectrum, and what `traces.measures` gives. Of a manifest: micrometres a
pixel. Nothing here looks at an embedding, a distance or a score.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from privgen.compute.cores import decoders
from privgen.data.coding import Coding
from privgen.data.images import FEATURELESS, read_bytes, read_coding
from privgen.data.tileset import TileRecord, TileSet
from privgen.pipelines.harmonise import Step
from privgen.pipelines.traces import BANDS, MEASURES, Floats, Trace, measures, spectrum, trace

Result = TypeVar("Result")
Kept = tuple[int, Coding] | None
"""Side of a tile as stored and the coding it went through, or that there was none."""
Shares = Mapping[Kept, float]

SAMPLE = 64
"""Most tiles of a role whose pixels are measured."""

_TOLERANCE = 0.05
_LOWEST = slice(1, 4)


class Headers(NamedTuple):
    """What the files of one role tell.

    Attributes:
      kinds: "png", "jpeg", "tiff" or "array", of each tile.
      codings: of each JPEG; None for the others.
    """

    kinds: tuple[str, ...]
    codings: tuple[Coding | None, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How the tiles of one role were kept.

    Attributes:
      kinds: "png", "jpeg", "tiff" or "array" of each tile, shape (n,).
      codings: of each tile, from its file's header; None where that tells none.
      sides: shorter side of each tile, pixels, shape (n,).
      scales: micrometres per pixel of each tile as stored, shape (n,); NaN where unknown.
      rows: the tiles whose pixels were measured, shape (k,).
      traces: what their pixels remember, one of each of them.
    """

    kinds: NDArray[np.str_]
    codings: tuple[Coding | None, ...]
    sides: NDArray[np.int64]
    scales: Floats
    rows: NDArray[np.intp]
    traces: tuple[Trace, ...]

    def __len__(self) -> int:
        return len(self.sides)

    @property
    def off_grid(self) -> bool:
        """Whether codings were found whose grid does not begin in the tile's corner."""
        found = [each for each in self.traces if each.coding is not None]
        return sum(bool(each.top or each.left) for each in found) > _TOLERANCE * len(found)

    @property
    def uncertainty(self) -> float:
        """How far apart the `shares` of two equal roles may come by chance, roughly."""
        certain = all(
            told is not None and self._coding_of(at) == told
            for at, told in enumerate(self.codings[row] for row in self.rows)
        )
        if certain and None not in self.codings:
            return _TOLERANCE
        measurable = sum(each.measurable for each in self.traces)
        return _TOLERANCE + 1 / math.sqrt(max(measurable, 1))

    def shares(self) -> Shares:
        """Share of the tiles that went through each coding at each side; None for no coding.

        Headers tell it of all tiles; what a measured tile's pixels tell beyond its header holds for
        the others of that header too. Tiles too white or too dark to measure are left out there.
        """
        known: dict[Kept, list[Kept]] = {}
        for at, row in enumerate(map(int, self.rows)):
            if self.traces[at].measurable:
                told = self._kept(row, self.codings[row])
                known.setdefault(told, []).append(self._kept(row, self._coding_of(at)))
        every = Counter(self._kept(row, told) for row, told in enumerate(self.codings))
        shares: dict[Kept, float] = {}
        for told, count in every.items():
            found = known.get(told, [told])
            for each in found:
                shares[each] = shares.get(each, 0) + count / len(self) / len(found)
        return shares

    def _kept(self, row: int, coding: Coding | None) -> Kept:
        return None if coding is None else (int(self.sides[row]), coding)

    def _coding_of(self, at: int) -> Coding | None:
        """The coarser of what the header and the pixels of measured tile `at` tell."""
        told, seen = self.codings[int(self.rows[at])], self.traces[at].coding
        if told is None or seen is None:
            return seen or told
        return max(told, seen, key=lambda coding: coding.coarseness)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the pixels of the measured tiles of one role show after a step, blank ones left out.

    Attributes:
      spectra: `traces.spectrum` of each, shape (k, BANDS).
      measures: `traces.measures` of each, shape (k, len(MEASURES)).
      scales: micrometres per pixel of each after the step, shape (k,); NaN where unknown.
      patients: group of each, shape (k,).
    """

    spectra: Floats
    measures: Floats
    scales: Floats
    patients: NDArray[np.str_]

    def by_patient(self) -> Floats:
        """Spectra relative to their lowest bands, mean of each patient, shape (p, BANDS)."""
        shapes = self.spectra - self.spectra[:, _LOWEST].mean(axis=1, keepdims=True)
        return np.array(
            [shapes[self.patients == name].mean(axis=0) for name in np.unique(self.patients)]
        )


def headers(tiles: TileSet) -> Headers:
    """Kind and coding of every tile, from its file's header alone.

    Raises:
      TileError: a file cannot be read.
    """
    if tiles.pixels is not None:
        return Headers(("array",) * len(tiles), (None,) * len(tiles))

    def told(record: TileRecord) -> tuple[str, Coding | None]:
        path = (tiles.root or Path()) / record.path
        return read_coding(read_bytes(path), str(path))

    with ThreadPoolExecutor(decoders()) as pool:
        found = list(pool.map(told, tiles.records))
    return Headers(tuple(kind for kind, _ in found), tuple(coding for _, coding in found))


def sample(tiles: TileSet) -> NDArray[np.intp]:
    """Up to `SAMPLE` tiles, one patient after another, chosen by the digests of their pixels.

    Neither the order of the tiles nor any name has a part in it.
    """
    digests, seen = tiles.digests, dict[str, int]()
    turns = []
    for row in np.argsort(digests, kind="stable"):
        group = str(tiles.groups[row])
        seen[group] = seen.get(group, -1) + 1
        turns.append((seen[group], str(digests[row]), int(row)))
    return np.array(sorted(row for _, _, row in sorted(turns)[:SAMPLE]), dtype=np.intp)


def measure(
    tiles: TileSet, rows: NDArray[np.intp], told: Headers, known: Sequence[Coding] = ()
) -> Measured:
    """How the tiles of one role were kept.

    Args:
      tiles: of the role.
      rows: those whose pixels are measured.
      told: their `headers`.
      known: codings with tables of their own; pixels are asked for them too.
    """
    records = tiles.records
    sizes = [(record.width or 0, record.height or 0) for record in records]
    return Measured(
        kinds=np.array(told.kinds),
        codings=told.codings,
        sides=np.array(
            [min(size) or min(_stored(tiles, row).shape[:2]) for row, size in enumerate(sizes)]
        ),
        scales=np.array([record.mpp or np.nan for record in records], dtype=np.float64),
        rows=rows,
        traces=tuple(_each(tiles, rows, lambda tile: trace(tile, tuple(known)))),
    )


def look(tiles: TileSet, rows: NDArray[np.intp], step: Step) -> Look:
    """What some tiles show after a step."""

    def seen(tile: NDArray[np.uint8]) -> tuple[Floats, Floats, float] | None:
        changed = step(tile)
        if changed.mean(axis=2).std() < FEATURELESS:
            return None
        return spectrum(changed), measures(changed), len(tile) / step.side

    found = dict(zip(map(int, rows), _each(tiles, rows, seen), strict=True))
    shown = {row: each for row, each in found.items() if each is not None}
    scales = [(tiles.records[row].mpp or np.nan) * each[2] for row, each in shown.items()]
    return Look(
        spectra=np.array([each[0] for each in shown.values()]).reshape(-1, BANDS),
        measures=np.array([each[1] for each in shown.values()]).reshape(-1, len(MEASURES)),
        scales=np.array(scales, dtype=np.float64),
        patients=tiles.groups[np.array(list(shown), dtype=np.intp)],
    )


def _stored(tiles: TileSet, row: int) -> NDArray[np.uint8]:
    tile: NDArray[np.uint8] = tiles.subset([row]).load()[0]
    return tile


def _each(
    tiles: TileSet, rows: NDArray[np.intp], use: Callable[[NDArray[np.uint8]], Result]
) -> list[Result]:
    """`use` of some tiles as they are stored, in the order of `rows`."""
    with ThreadPoolExecutor(decoders()) as pool:
        return list(pool.map(lambda row: use(_stored(tiles, int(row))), rows))
