"""What generators that start from a learned constant share (`stylegan`, `stylegan2`).

Latent and class become a style; the constant is painted over by styled convolutions
(`synthesis`), each with a style and a noise map of its own.

Source: Karras et al. 2019, "A style-based generator architecture for generative adversarial
networks", arXiv:1812.04948.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from privgen.models.layers import channels_at
from privgen.models.style_layers import COARSEST, Mapping


class ConstantInputGenerator(nn.Module, ABC):
    """z and class to tiles; keeps the `StyleGenerator` protocol with `synthesis`.

    Args:
      resolution: side of the tiles, a power of two, at least 8.
      classes: number of classes.
      width: channels at 64 px.
      style_dim: length of the latent and of a style.

    Attributes:
      style_count: styles that `synthesis` takes, coarse to fine.
      noise_shapes: shape of each noise map it takes, coarse to fine.
    """

    style_count: int
    noise_shapes: tuple[tuple[int, int, int], ...]

    def __init__(self, *, resolution: int, classes: int, width: int, style_dim: int) -> None:
        super().__init__()
        self.resolution = resolution
        self.z_dim = style_dim
        self.mapping = Mapping(style_dim, classes, style_dim)
        self.constant = nn.Parameter(
            torch.randn(1, channels_at(COARSEST, width=width), COARSEST, COARSEST)
        )

    def start(self, count: int) -> Tensor:
        """The constant, once for each of `count` tiles, (count, c, 4, 4)."""
        x = self.constant.expand(count, -1, -1, -1)
        return x.contiguous(memory_format=torch.channels_last)

    def styles(self, z: Tensor, labels: Tensor) -> Tensor:
        """Styles of tiles, shape (n, style_count, d), equal along the second axis.

        Args:
          z: standard normal, shape (n, z_dim).
          labels: class numbers, shape (n,).
        """
        w: Tensor = self.mapping(z, labels)
        return w[:, None].expand(-1, self.style_count, -1)

    @abstractmethod
    def synthesis(self, styles: Tensor, noise: list[Tensor]) -> Tensor:
        """Tiles of styles, nominally in [-1, 1] (the output is linear), shape (n, 3, r, r).

        Args:
          styles: shape (n, style_count, d), coarse to fine.
          noise: standard normal maps, shapes (n, *noise_shapes[k]).
        """

    def forward(self, z: Tensor, labels: Tensor, noise: list[Tensor]) -> Tensor:
        """Tiles, nominally in [-1, 1], shape (n, 3, r, r), float32.

        Args:
          z: standard normal, shape (n, z_dim).
          labels: class numbers, shape (n,).
          noise: standard normal maps, shapes (n, *noise_shapes[k]).
        """
        return self.synthesis(self.styles(z, labels), noise)
