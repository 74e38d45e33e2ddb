"""The registry of generator families and the two small protocols they keep.

A user's own module can be trained, sampled and audited when it keeps them.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from privgen.config import TrainConfig
from privgen.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@runtime_checkable
class Generator(Protocol):
    """Latent and class to tiles.

    Attributes:
      z_dim: length of the latent of one tile.
      noise_shapes: shapes (1, h, w) of the noise maps of one tile.
      resolution: side of the tiles, pixels.
    """

    z_dim: int
    noise_shapes: tuple[tuple[int, int, int], ...]
    resolution: int

    def __call__(self, z: "Tensor", labels: "Tensor", noise: "Sequence[Tensor]") -> "Tensor":
        """Tiles in [-1, 1], shape (n, 3, r, r).

        Args:
          z: standard normal, shape (n, z_dim).
          labels: class numbers, shape (n,).
          noise: standard normal maps, one a noise shape, each (n, 1, h, w).
        """
        ...


@runtime_checkable
class Discriminator(Protocol):
    """Tiles and class to logits, in two parts, so that the frozen part runs once a step.

    Attributes:
      side: pixels a side at which it judges.
    """

    side: int

    def features(self, x: "Tensor") -> "list[Tensor]":
        """What nothing learns from: maps of tiles in [-1, 1], shape (n, 3, side, side)."""
        ...

    def judge(self, features: "Sequence[Tensor]", labels: "Tensor") -> "Tensor":
        """Logits, high for real, shape (n, m); tiles 2k and 2k + 1 may be compared."""
        ...


def _cdcgan(config: TrainConfig, classes: int) -> "nn.Module":
    from privgen.models.cdcgan import ConditionalGenerator

    return ConditionalGenerator(resolution=config.resolution, classes=classes, width=config.width)


FAMILIES: dict[str, Callable[[TrainConfig, int], "nn.Module"]] = {"cdcgan": _cdcgan}
"""Generator families by name."""


def build_generator(config: TrainConfig, classes: int) -> "nn.Module":
    """A fresh generator of the configured family; its weights come from PyTorch's random state.

    Raises:
      ConfigError: the family is unknown.
    """
    if config.family not in FAMILIES:
        raise ConfigError(
            f"unknown generator family {config.family!r}; known: {', '.join(FAMILIES)}"
        )
    return FAMILIES[config.family](config, classes)


def build_discriminator(
    config: TrainConfig, classes: int, *, frozen_type: "torch.dtype"
) -> "nn.Module":
    """A fresh projected discriminator.

    Args:
      config: of the run.
      classes: number of classes.
      frozen_type: of the frozen part's weights.

    Raises:
      WeightsError: the pyramid's weights are not installed.
    """
    from privgen.models.projected import ProjectedDiscriminator

    return ProjectedDiscriminator(
        side=config.judged_side,
        classes=classes,
        width=config.head_width,
        frozen_type=frozen_type,
    )
