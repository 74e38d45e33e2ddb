"""Arrays of an `.npz` archive, each judged by its header before memory is asked for.

An archive is a zip of `.npy` files. NumPy's own reader takes whatever the header says and finds
`images` before `images.npy`; here a name is read in one way, two members that would be one array
are refused, and what a member becomes in memory is held against `privgen.limits` first.
Nothing is unpickled.
"""

import io
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from privgen import limits
from privgen.errors import LayoutError, PrivgenError

_ENDING = ".npy"
_BLOCK = 2**20
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Header = tuple[tuple[int, ...], bool, np.dtype[np.generic]]
"""Shape, whether in Fortran order, and type."""


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turn whatever zip, NumPy and Python's parser raise on malformed bytes into a LayoutError."""
    try:
        yield
    except PrivgenError:
        raise
    except Exception as error:  # a dozen types, MemoryError of the parser's stack among them
        raise LayoutError(
            f"{path} cannot be read as an .npz archive of plain arrays: {limits.told(error)}. "
            "Write it again with numpy.savez."
        ) from error


class Arrays:
    """The arrays of an open archive.

    Attributes:
      names: of all members, without `.npy`, in their order.
      files: names of members that are no arrays.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive = path, archive
        members = archive.namelist()
        if len(members) > limits.ARCHIVE_MEMBERS:
            raise LayoutError(
                f"an archive may have {limits.ARCHIVE_MEMBERS} members: {path.name} has "
                f"{len(members)}. Write its tiles into one array."
            )
        self.names = tuple(name.removesuffix(_ENDING) for name in members)
        self.files = tuple(name for name in members if not name.endswith(_ENDING))
        twice = next((name for name in self.names if self.names.count(name) > 1), None)
        if twice is not None:
            raise LayoutError(
                f"an array may stand in an archive once: {path.name} has "
                f"{limits.shown(twice)} twice, with or without {_ENDING}. Write it again."
            )

    def __contains__(self, name: str) -> bool:
        return name in self.names and name not in self.files

    def header(self, name: str) -> Header:
        """What an array says of itself.

        Raises:
          ValueError, KeyError: it is no array.
        """
        with self._archive.open(name + _ENDING) as stream:
            return _header(stream)

    def read(self, name: str, most: int) -> NDArray[np.generic]:
        """An array of plain numbers or text.

        Args:
          name: of the array.
          most: bytes it may have.

        Raises:
          LayoutError: it is larger, or packed more tightly than any real one.
          ValueError: it is none, or ends early.
        """
        shape, fortran, dtype = self.header(name)
        count = math.prod(shape) * dtype.itemsize
        if count > most:
            raise LayoutError(
                f"{limits.shown(name)} of {self._path.name} may have {limits.size(most)}: its "
                f"header says {limits.size(count)}. Take a smaller edition, or split it."
            )
        if dtype.hasobject or dtype.kind not in "biufSU" or not dtype.itemsize:
            raise ValueError(f"{name} holds no plain numbers or text")
        info = self._archive.getinfo(name + _ENDING)
        if count > limits.RATIO_FREE and count > limits.RATIO * info.compress_size:
            raise LayoutError(
                f"a member may unpack to {limits.RATIO} times its size: {limits.shown(name)} of "
                f"{self._path.name} says {limits.size(count)} in "
                f"{limits.size(info.compress_size)}. Write it again with numpy.savez."
            )
        if not 0 <= info.file_size - count <= limits.ARRAY_HEADER_BYTES + 16:
            raise ValueError(f"{name} ends early, or holds more than its header says")
        flat = np.empty(math.prod(shape), dtype=dtype)
        view = flat.view(np.uint8)
        with self._archive.open(name + _ENDING) as stream:
            _header(stream)
            at = 0
            while at < count:
                block = stream.read(min(_BLOCK, count - at))
                if not block:
                    raise ValueError(f"{name} ends early")
                view[at : at + len(block)] = np.frombuffer(block, dtype=np.uint8)
                at += len(block)
            if stream.read(1):  # its checksum is looked at here
                raise ValueError(f"{name} holds more than its header says")
        return flat.reshape(shape, order="F" if fortran else "C")


@contextmanager
def opened(path: Path) -> Iterator[Arrays]:
    """Open an archive.

    Raises:
      LayoutError: it is none, or has more members than the limit.
      OSError: it cannot be read.
    """
    with path.open("rb") as raw:
        length = os.fstat(raw.fileno()).st_size
        bounded = limits.Bounded(raw, limits.DIRECTORY_BYTES, "the directory of an archive")
        with zipfile.ZipFile(cast(IO[bytes], bounded)) as archive:
            if sum(info.compress_size for info in archive.infolist()) > length:
                raise ValueError("its members say that they are larger than the file")
            if any(info.compress_type not in _PACKED for info in archive.infolist()):
                raise ValueError("a member is packed in another way than NumPy packs")
            yield Arrays(path, archive)


def _header(stream: IO[bytes]) -> Header:
    version = npy.read_magic(stream)
    width = {(1, 0): 2, (2, 0): 4}.get(version)
    if width is None:
        raise ValueError(f"an array of format {version}")
    length = stream.read(width)
    said = int.from_bytes(length, "little")
    if said > limits.ARRAY_HEADER_BYTES:
        raise ValueError(f"a header may have {limits.ARRAY_HEADER_BYTES} bytes, it says {said}")
    read = npy.read_array_header_1_0 if width == 2 else npy.read_array_header_2_0
    shape, fortran, dtype = read(io.BytesIO(length + stream.read(said)))
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"a shape of {limits.shown(shape)}")
    return tuple(shape), bool(fortran), dtype
