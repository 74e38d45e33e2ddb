"""Where the tiles of one slide go: files in class folders, or members of tar shards.

Files are `label/slide/x_y.png`; a shard's members are `slide_x_y`. Bytes are made from arrays
alone, so nothing that stood in the slide's file comes along.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from privgen.errors import OutputError
from privgen.files import atomic_write
from privgen.tiling.parts import SHARDS, clear_tiles
from privgen.tiling.settings import Output
from privgen.tiling.shards import ShardWriter


class TileOutput:
    """The output of one slide; use it as a context manager.

    Several threads may call `place`; `add` is called by one, in order.
    """

    def __init__(self, out: Path, slide: str, labels: set[str], kind: Output) -> None:
        """Args:
          out: folder of the run.
          slide: pseudonym.
          labels: classes its tiles may have.
          kind: "folders" or "tar".

        Raises:
          OutputError: a folder cannot be made.
        """
        self._out, self._slide = out, slide
        self._shards: ShardWriter | None = None
        folders = [out / SHARDS] if kind == "tar" else [out / name / slide for name in labels]
        try:
            clear_tiles(out, slide)  # what a killed run left, perhaps of other classes
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot create a folder in {out}: {error.strerror}") from error
        if kind == "tar":
            self._shards = ShardWriter(out / SHARDS, slide)

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        if self._shards is not None:
            self._stack.enter_context(self._shards)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        if error[0] is not None:  # no manifest will name them
            clear_tiles(self._out, self._slide)

    def place(self, x: int, y: int, label: str, encoded: bytes) -> str | None:
        """Write one tile's own file; None where tiles go into shards.

        Returns:
          Its path in the manifest.

        Raises:
          DiskFullError, OutputError: as `privgen.files.atomic_write`.
        """
        if self._shards is not None:
            return None
        path = f"{label}/{self._slide}/{x}_{y}.png"
        with atomic_write(self._out / path, durable=False) as stream:
            stream.write(encoded)
        return path

    def add(self, x: int, y: int, label: str, encoded: bytes, meta: Mapping[str, object]) -> str:
        """Add one tile to the shards.

        Returns:
          Its path in the manifest.

        Raises:
          DiskFullError, OutputError: as `privgen.files.atomic_write`.
        """
        assert self._shards is not None
        member = self._shards.add(f"{self._slide}_{x}_{y}", label, encoded, meta)
        return f"{SHARDS}/{member}"
