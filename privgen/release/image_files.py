"""The files of a sample: each a pure function of its place in it, each there whole or not at all.

Two formats, and `open_tiles` reads both:

- "png": `TUM/000123.png` is image 123, in class folders. A class folder holds all tiles of its
  class, because class folders are not read deeper.
- "npz": `synthetic-00000.npz`, `synthetic-00001.npz`, ...: `images`, uint8 (n, r, r, 3), and
  `labels`, class names (n,). Each file is a tile set by itself. For many hundreds of thousands.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from privgen.choices import Balance
from privgen.compute.cores import decoders
from privgen.data import class_names
from privgen.data.constant import Constants
from privgen.data.images import write_png
from privgen.errors import ConfigError, OutputError
from privgen.files import atomic_write, require_free_space
from privgen.sampling import CHUNK, LoadedGenerator, label_numbers

MOST_TILES = 312 * CHUNK
"""Most tiles of an npz file unless asked otherwise: 9,984."""

MOST_BYTES = 256 * 2**20
"""Most bytes of pixels of an npz file unless asked otherwise."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """All that decides the tiles; see `privgen.sampling.sample`.

    Attributes:
      constants: of the tiles that were made so far.
    """

    generator: LoadedGenerator
    count: int
    seed: int
    balance: Balance
    truncation: float
    constants: Constants = field(default_factory=Constants)

    def tiles(self, start: int, stop: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Images `start` .. `stop - 1`, a chunk of the network at a time, each with its first."""
        for first in range(start, stop, CHUNK):
            indices = np.arange(first, min(first + CHUNK, stop))
            labels = label_numbers(self.generator, indices, balance=self.balance)
            made = self.generator.generate(self.seed, indices, labels, truncation=self.truncation)
            self.constants.add(made, np.array(self.generator.classes)[labels])
            yield first, made

    def names(self, start: int, stop: int) -> list[str]:
        """Class names of images `start` .. `stop - 1`."""
        labels = label_numbers(self.generator, np.arange(start, stop), balance=self.balance)
        return [self.generator.classes[label] for label in labels]

    def classes(self, start: int, stop: int) -> dict[str, int]:
        """How many of each class there are among images `start` .. `stop - 1`."""
        counts = np.zeros(len(self.generator.classes), dtype=np.int64)
        for first in range(start, stop, 2**16):
            indices = np.arange(first, min(first + 2**16, stop))
            labels = label_numbers(self.generator, indices, balance=self.balance)
            counts += np.bincount(labels, minlength=len(counts))
        return dict(zip(self.generator.classes, counts.tolist(), strict=True))


class SampleFiles(Protocol):
    """One format of a sample's files.

    Attributes:
      unit: images that are written together; work starts and stops at its multiples.
    """

    @property
    def unit(self) -> int: ...

    def owns(self, name: str) -> bool:
        """Whether an entry of the folder can be this sample's."""
        ...

    def folders(self) -> list[Path]:
        """Every folder files are written into."""
        ...

    def prepare(self, start: int, stop: int) -> None:
        """Refuse before the work what cannot end well.

        Raises:
          DiskFullError: the files that are missing will not fit.
        """
        ...

    def write(self, start: int, stop: int) -> int:
        """Write what is missing of images `start` .. `stop - 1`, one unit; returns how many.

        Raises:
          OutputError, DiskFullError: as `privgen.files.atomic_write`.
        """
        ...


class PngFiles:
    """Class folders of PNG files.

    Raises:
      ConfigError: a class name cannot be a folder's.
    """

    unit = CHUNK

    def __init__(self, sample: Sample, folder: Path) -> None:
        if refused := class_names.refusal_of_all(sample.generator.classes):
            raise ConfigError(refused)
        self._sample = sample
        self._folder = folder
        self._digits = max(6, len(str(sample.count - 1)))

    def owns(self, name: str) -> bool:
        return name in self._sample.generator.classes

    def folders(self) -> list[Path]:
        return [self._folder, *(self._folder / name for name in self._sample.generator.classes)]

    def prepare(self, start: int, stop: int) -> None:
        """Nothing: what a PNG takes is not known before."""

    def write(self, start: int, stop: int) -> int:
        names = self._sample.names(start, stop)
        paths = [
            self._folder / name / f"{start + row:0{self._digits}d}.png"
            for row, name in enumerate(names)
        ]
        missing = [row for row, path in enumerate(paths) if not _is_whole(path)]
        if not missing:
            return 0
        try:
            for name in {names[row] for row in missing}:
                (self._folder / name).mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write {error.filename}: {error.strerror}") from error
        _, tiles = next(self._sample.tiles(start, stop))
        with ThreadPoolExecutor(decoders()) as pool:
            for _ in pool.map(lambda row: write_png(paths[row], tiles[row]), missing):
                pass
        return len(missing)


class NpzFiles:
    """Numbered archives.

    Args:
      sample, folder: what, and where to.
      tiles_per_file: a multiple of `CHUNK`; None takes as many as `MOST_TILES` and `MOST_BYTES`
        allow.

    Raises:
      ConfigError: `tiles_per_file` is no such number.
    """

    def __init__(self, sample: Sample, folder: Path, *, tiles_per_file: int | None) -> None:
        if tiles_per_file is None:
            fitting = MOST_BYTES // (3 * sample.generator.resolution**2) // CHUNK * CHUNK
            tiles_per_file = min(MOST_TILES, max(CHUNK, fitting))
        if tiles_per_file < CHUNK or tiles_per_file % CHUNK:
            raise ConfigError(
                f"tiles per file must be a multiple of {CHUNK}: got {tiles_per_file}. "
                f"Give, say, {MOST_TILES}."
            )
        self._sample = sample
        self._folder = folder
        self.unit = tiles_per_file

    def owns(self, name: str) -> bool:
        found = re.fullmatch(r"synthetic-([0-9]{5,9})\.npz", name)
        start = self.unit * int(found[1]) if found else self._sample.count
        return start < self._sample.count and name == self._file(start).name

    def folders(self) -> list[Path]:
        return [self._folder]

    def prepare(self, start: int, stop: int) -> None:
        missing = sum(
            min(self.unit, stop - first)
            for first in range(start, stop, self.unit)
            if not _is_whole(self._file(first))
        )
        require_free_space(self._folder, missing * 3 * self._sample.generator.resolution**2)

    def write(self, start: int, stop: int) -> int:
        if _is_whole(self._file(start)):
            return 0
        side = self._sample.generator.resolution
        pixels = np.empty((stop - start, side, side, 3), dtype=np.uint8)
        for first, tiles in self._sample.tiles(start, stop):
            pixels[first - start : first - start + len(tiles)] = tiles
        labels = np.array(self._sample.names(start, stop))
        with atomic_write(self._file(start)) as stream:
            np.savez(stream, images=pixels, labels=labels)
        return stop - start

    def _file(self, start: int) -> Path:
        return self._folder / f"synthetic-{start // self.unit:05d}.npz"


def _is_whole(path: Path) -> bool:
    """True when a file is there and not empty, as a power cut can leave a PNG."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
