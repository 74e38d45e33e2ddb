"""Several processes that train one generator together, started by `torchrun`.

Each process computes its share of every step; gradients are averaged before the update, and means
that stand inside a loss are taken over all tiles, so that two processes do what one with the same
batch does. Lightning Fabric starts and joins the processes; one process needs neither.

```
torchrun --nproc-per-node 2 -m privgen train tiles/ --minutes 60
```
"""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from privgen.config import TOGETHER
from privgen.errors import ConfigError, RuntimeFailure


class Processes:
    """One process alone: every exchange is with itself.

    Attributes:
      rank: number of this process.
      count: how many there are.
    """

    rank = 0
    count = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def parts(self, batch: int, accumulate: int) -> list[slice]:
        """Rows of a step's batch that are this process's, in `accumulate` parts.

        Discriminators compare tiles in pairs or in fours, which no part may break.

        Raises:
          ConfigError: the batch cannot be cut so.
        """
        pieces = self.count * accumulate
        if batch % (TOGETHER * pieces):
            raise ConfigError(
                f"batch must be a multiple of {TOGETHER} x processes x accumulate, tiles are "
                f"compared in fours: got batch {batch}, {self.count} processes, accumulate "
                f"{accumulate}"
            )
        size = batch // pieces
        start = self.rank * accumulate
        return [slice((start + k) * size, (start + k + 1) * size) for k in range(accumulate)]

    def total(self, value: Tensor) -> Tensor:
        """Sum over processes; gradients flow back to each."""
        return value

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over processes, in place."""

    def told(self, value: Any) -> Any:
        """What the first process says."""
        return value

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return flag


class _Fabric(Processes):
    """One of several processes; exchanges by Lightning Fabric."""

    def __init__(self, fabric: Any) -> None:
        self._fabric = fabric
        self.rank = int(fabric.global_rank)
        self.count = int(fabric.world_size)

    def total(self, value: Tensor) -> Tensor:
        gathered = self._fabric.all_gather(value, sync_grads=True)
        return torch.as_tensor(gathered.sum(dim=0))

    @torch.no_grad()
    def mean_(self, tensors: Sequence[Tensor]) -> None:
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        flat = self._fabric.all_reduce(flat, reduce_op="mean")
        sizes = [tensor.numel() for tensor in tensors]
        for tensor, part in zip(tensors, flat.split(sizes), strict=True):
            tensor.copy_(part.view_as(tensor))

    def told(self, value: Any) -> Any:
        return self._fabric.broadcast(value, src=0)

    def any(self, flag: bool) -> bool:
        votes = self._fabric.all_reduce(torch.tensor(float(flag)), reduce_op="sum")
        return bool(votes > 0)


_ALONE = Processes()
_joined: list[Processes] = []


def join(device: str = "auto") -> Processes:
    """The processes that `torchrun` started, or this one alone; joining again costs nothing.

    Args:
      device: "cuda" or "auto" gives each process of a machine its own GPU; "cpu" none.

    Raises:
      RuntimeFailure: `torchrun` started several and Lightning Fabric is not installed.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return _ALONE
    if _joined:
        return _joined[0]
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise RuntimeFailure(
            "training in several processes needs Lightning Fabric: "
            "pip install 'privgen[distributed]'"
        ) from error
    local = int(os.environ.get("LOCAL_WORLD_SIZE", count))
    cuda = device != "cpu" and torch.cuda.is_available()
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=local,
        num_nodes=count // local,
        strategy="ddp",
    )
    fabric.launch()
    _joined.append(_Fabric(fabric))
    return _joined[0]
