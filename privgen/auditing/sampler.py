"""Tiles from any pipeline, run as a process: `--sampler "CMD {n} {seed} {out}"`.

The command is split into words as a shell would, and no shell runs it: a word is handed over as it
is, with {n}, {seed} and {out} filled in. Its code never enters this process. It is asked for n
tiles of one seed and writes them into {out}, a new empty folder, in any layout that `open_tiles`
reads. What it prints goes to stderr. The folder is private and is removed afterwards.

A command is a program of the user's own, with the user's rights: nothing here confines it.
"""

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from privgen.choices import Icc, OnBadTile
from privgen.data.layouts import open_tiles
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError, InputError, RuntimeFailure
from privgen.limits import shown

_NEEDED = ("{n}", "{out}")


def words_of(command: str) -> list[str]:
    """The words of a sampler's command, its places still open.

    Raises:
      ConfigError: it cannot be split, names no program that is there, or lacks {n} or {out}.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"a sampler is a command: {shown(command)} is none ({error}).") from error
    missing = [place for place in _NEEDED if not any(place in word for word in words)]
    if missing:
        raise ConfigError(
            f"a sampler's command says where the number of tiles and the folder go: "
            f"{shown(command)} lacks {' and '.join(missing)}. Give, say, "
            "'python mine.py {n} {seed} {out}'."
        )
    if shutil.which(words[0]) is None:
        raise ConfigError(f"no program {shown(words[0])} is there to sample with. Check the path.")
    return words


@contextmanager
def drawn(
    command: str,
    *,
    count: int,
    seed: int,
    on_bad_tile: OnBadTile = "error",
    icc: Icc = "ignore",
) -> Iterator[TileSet]:
    """Tiles that a command has just made; their folder goes when the block ends.

    Args:
      command: as the module says.
      count: tiles to ask for.
      seed: to hand over; without {seed} in it the command is asked for tiles of any.
      on_bad_tile, icc: as `open_tiles`.

    Raises:
      ConfigError: as `words_of`.
      RuntimeFailure: the command cannot be started, fails, or is killed.
      InputError: it wrote no tiles that can be used, or another number of them.
    """
    words = words_of(command)
    with tempfile.TemporaryDirectory(prefix="privgen-sampler-") as place:
        folder = Path(place) / "tiles"
        folder.mkdir()
        filled = {"{n}": str(count), "{seed}": str(seed), "{out}": str(folder)}
        ready = []
        for word in words:
            for name, value in filled.items():
                word = word.replace(name, value)
            ready.append(word)
        try:
            ended = subprocess.run(ready, stdin=subprocess.DEVNULL, stdout=_stderr(), check=False)
        except OSError as error:
            raise RuntimeFailure(
                f"the sampler cannot be started: {error.strerror or error}. Check the command."
            ) from error
        if ended.returncode:
            raise RuntimeFailure(
                f"the sampler ended with code {ended.returncode}; what it said stands above. Run "
                "it by itself to see why."
            )
        if not any(folder.iterdir()):
            raise InputError(
                "the sampler wrote no tile into its folder {out}. Let it write class folders, "
                "images or shards there."
            )
        tiles = open_tiles(folder, on_bad_tile=on_bad_tile, flat=True, icc=icc)
        made = len(tiles) + len(tiles.skipped)
        if made != count:
            raise InputError(
                f"a sampler must make as many tiles as it is asked for: asked for {count:,}, got "
                f"{made:,}. Correct it, or give `count`."
            )
        yield tiles


def _stderr() -> int:
    """Where the command's own words go: stdout is for results."""
    try:
        return sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):  # captured, closed
        return subprocess.DEVNULL
