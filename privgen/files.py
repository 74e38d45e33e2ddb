"""Writing files so that a kill, a full disk or a second run loses nothing.

Conventions: every output is written to a temporary file beside its target and moved into place;
private files (checkpoints, suspects) get mode 0600 before their first byte is written.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from privgen.errors import DiskFullError, OutputError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

PRIVATE = 0o600
SHARED = 0o644
_TEMPORARY = ".partial-"


@contextmanager
def atomic_write(
    path: Path, *, mode: int = SHARED, durable: bool = True, needed: int | None = None
) -> Iterator[BinaryIO]:
    """Open a binary file that replaces `path` only when the block ends without an error.

    Args:
      path: the target; its folder must exist.
      mode: permission bits of the finished file; `PRIVATE` for anything that names a member.
      durable: wait until the disk holds the bytes, so that a power cut cannot leave an empty file
        in place; False for the thousands of small files that can be made again.
      needed: bytes that will be written, where known; a full disk is then told with them.

    Raises:
      DiskFullError: no space is left; the previous `path`, if any, is untouched.
      OutputError: the folder does not exist or cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_TEMPORARY)
    except OSError as error:
        raise _write_error(path, error, needed) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            yield stream
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)  # what is free is told without it
        raise _write_error(path, error, needed) from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_error(path: Path, error: OSError, needed: int | None) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(path.parent).free
        wanted = "" if needed is None else f"{_mebibytes(needed)} needed, "
        return DiskFullError(
            f"no space left to write {path.name}: {wanted}{_mebibytes(free)} free in "
            f"{path.parent}. Free some space or give another output folder; what was there before "
            "is unchanged."
        )
    return OutputError(f"cannot write {path}: {error.strerror or error}")


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file, which is created where it is missing.

    A kill or a full disk in the middle leaves a last line without an end, for readers to drop. The
    disk holds the line when this returns, so that what is written later never outlives it.

    Raises:
      DiskFullError, OutputError: as `atomic_write`.
    """
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise _write_error(path, error, None) from error


def write_all(
    folder: Path, contents: Mapping[str, bytes], *, private: Collection[str] = ()
) -> None:
    """Write several new files that belong together: all of them, or none.

    Args:
      folder: holds none of them yet.
      contents: bytes by file name.
      private: names of those for their owner alone.

    Raises:
      DiskFullError, OutputError: as `atomic_write`; the folder is then as it was.
    """
    written = []
    try:
        for name, content in contents.items():
            mode = PRIVATE if name in private else SHARED
            with atomic_write(folder / name, mode=mode, needed=len(content)) as stream:
                stream.write(content)
            written.append(folder / name)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def json_text(value: Any) -> str:
    """`value` as indented JSON; NaN and infinity are refused."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def write_json(path: Path, value: Any, *, mode: int = SHARED) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused."""
    with atomic_write(path, mode=mode) as stream:
        stream.write(json_text(value).encode())


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def empty_folder(path: Path) -> Path:
    """Create `path`, or accept it when it is an empty folder.

    Raises:
      OutputError: it is a file, or already holds something.
    """
    if path.exists() and not path.is_dir():
        raise OutputError(f"the output must be a folder: {path} is a file. Give another `out`.")
    try:
        path.mkdir(parents=True, exist_ok=True)
        occupied = next(path.iterdir(), None)
    except OSError as error:
        raise OutputError(f"cannot use output folder {path}: {error.strerror or error}") from error
    if occupied is not None:
        raise OutputError(
            f"the output folder must be empty: {path} holds {occupied.name}. "
            "Give a new `out`, or empty it first."
        )
    return path


def private_beside(out: Path) -> Path:
    """Where a command keeps what is not for sharing, if nobody says where: `out` + "-private"."""
    return out.with_name(f"{out.name}-private")


def new_run_folder(root: Path, name: str) -> Path:
    """Create the next numbered run folder, `root/00003-name`; two runs never get the same one.

    Raises:
      OutputError: `root` cannot be created or written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        while True:
            taken = [re.match(r"(\d{5})-", child.name) for child in root.iterdir()]
            number = 1 + max((int(found[1]) for found in taken if found), default=-1)
            try:
                folder = root / f"{number:05d}-{name}"
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise OutputError(f"cannot create a run folder in {root}: {error.strerror}") from error


@contextmanager
def locked(
    folder: Path, *, purpose: str, name: str = ".lock", wait: bool = False
) -> Iterator[None]:
    """Hold `folder` for one process; the lock goes when the process does, however it ends.

    Args:
      folder: must exist; gets a file `name`.
      purpose: for the message: "training".
      name: of the lock, where a folder has several.
      wait: for the other process to end, instead of refusing.

    Raises:
      OutputError: another process holds it.
    """
    with (folder / name).open("w") as handle:
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise OutputError(
                    f"{folder} is in use: another process is {purpose} there. Wait for it, or "
                    "give another folder."
                ) from error
        yield


def require_free_space(folder: Path, needed: int) -> None:
    """Refuse to start when `folder`'s disk has fewer than `needed` bytes free.

    Raises:
      DiskFullError: says how much is there and how much is needed.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFullError(
            f"not enough space in {folder}: {_mebibytes(needed)} needed, {_mebibytes(free)} free. "
            "Free some space or give another `out`."
        )


def sweep_partial_files(folder: Path) -> None:
    """Remove temporaries a killed writer left in `folder`."""
    for leftover in folder.glob(_TEMPORARY + "*"):
        leftover.unlink(missing_ok=True)
