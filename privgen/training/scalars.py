"""Scalars for TensorBoard, where it is wanted; a run needs none of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from privgen.errors import RuntimeFailure


class Scalars:
    """Writes numbers under `folder`, or nothing.

    Args:
      folder: gets TensorBoard's files.
      wanted: whether to write at all.
      after: last step that stays; later ones of an earlier attempt are shown no more.

    Raises:
      RuntimeFailure: wanted, and TensorBoard is not installed.
    """

    def __init__(self, folder: Path, *, wanted: bool, after: int = 0) -> None:
        self._writer: Any = None
        if not wanted:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise RuntimeFailure(
                "`tensorboard` needs TensorBoard: pip install 'privgen[tensorboard]'"
            ) from error
        self._writer = SummaryWriter(str(folder), purge_step=after + 1)

    def add(self, step: int, values: Mapping[str, object]) -> None:
        """Add every number among `values`, nested ones as `outer/inner`."""
        if self._writer is None:
            return
        for name, value in values.items():
            if isinstance(value, Mapping):
                self.add(step, {f"{name}/{inner}": item for inner, item in value.items()})
            elif isinstance(value, int | float):
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is still held."""
        if self._writer is not None:
            self._writer.close()
