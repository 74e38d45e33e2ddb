"""Several files by one name: `shards/s-{000000..000012}.tar`, `train-*.parquet`.

Braces are WebDataset's (a range of numbers of one width), the star is the shell's. A pattern names
files of one folder, and is told from a path by what it holds and by that path not being there.
"""

import fnmatch
import re
from pathlib import Path

from privgen.errors import LayoutError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_FILES = 100_000


def is_pattern(path: Path) -> bool:
    """Whether a path names several files."""
    return bool(_RANGE.search(path.name) or "*" in path.name) and not path.exists()


def files_of(path: Path) -> list[Path]:
    """The files that a pattern names, in order.

    Raises:
      LayoutError: there are none, or one of a range is missing.
    """
    found = _RANGE.search(path.name)
    if found is None:
        inside = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
        files = [file for file in inside if fnmatch.fnmatchcase(file.name, path.name)]
        if not files:
            raise LayoutError(f"no file fits {path}. Check the pattern, and quote it.")
        return files
    first, last = int(found[1]), int(found[2])
    if not first <= last < first + _MOST_FILES:
        raise LayoutError(
            f"a range of files goes up and names at most {_MOST_FILES:,}: got {found[0]}. "
            "Correct it."
        )
    width = len(found[1])
    start, end = path.name[: found.start()], path.name[found.end() :]
    files = [path.parent / f"{start}{number:0{width}d}{end}" for number in range(first, last + 1)]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise LayoutError(
            f"every file of a range must be there: {len(missing)} of {len(files)} are missing, the "
            f"first {missing[0]}. Copy them, or give a shorter range."
        )
    return files
