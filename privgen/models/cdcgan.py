"""`cdcgan`: a conditional DCGAN made modern, the default generator.

DCGAN's transposed 4x4 convolutions, styled at every block by a small mapping of (z, class), with
noise inputs and no batch statistics (Radford et al. 2016; Karras et al. 2020). The latent has a
spatial part: tissue has no fixed layout, so the coarsest map is drawn, not learned, and a class
cannot fall back on one arrangement.

Its own discriminator is DCGAN's, one strided convolution a resolution, spectrally normalised
(Miyato et al. 2018, arXiv:1802.05957), told the class by projection (Miyato & Koyama 2018,
arXiv:1802.05637), and shown how much two tiles of one class differ. It is for those who want no
frozen features; the projected discriminator learns faster from few tiles.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from privgen.config import TrainConfig
from privgen.models.layers import (
    LEAK,
    ModulatedUpConv,
    channels_at,
    pixel_norm,
    spectral_conv,
    wide,
)
from privgen.models.projected import pair_spread

COARSEST = 4
"""Side of the map the generator starts from, and the discriminator ends with."""

STYLE_Z = 64
"""Entries of z that go through the mapping."""

SPATIAL_Z = 16
"""Channels of z laid out on the coarsest map."""

SYMMETRY_Z = 3
"""Last entries of z; their signs choose one of the 8 symmetries of the square."""


class ConditionalGenerator(nn.Module):
    """z and class to tiles.

    Truncation multiplies z by psi: styles and the coarsest map move towards those of z = 0, the
    centre of the class, and so that they can, z is not normalised. The drawn orientation stays for
    any psi above 0, and noise maps are not part of z.

    Args:
      resolution: side of the tiles, a power of two, at least 8.
      classes: number of classes.
      width: channels at 64 px.
      style_dim: length of the style that reaches every block.
    """

    z_dim = STYLE_Z + SPATIAL_Z * COARSEST**2 + SYMMETRY_Z

    def __init__(self, *, resolution: int, classes: int, width: int, style_dim: int = 128) -> None:
        super().__init__()
        self.resolution = resolution
        self.embedding = nn.Embedding(classes, STYLE_Z)
        self.mapping = nn.Sequential(
            nn.Linear(2 * STYLE_Z, style_dim),
            nn.LeakyReLU(LEAK),
            nn.Linear(style_dim, style_dim),
            nn.LeakyReLU(LEAK),
        )
        channels = channels_at(COARSEST, width=width)
        self.start = nn.Conv2d(SPATIAL_Z, channels, 1)
        blocks: list[nn.Module] = [ModulatedUpConv(channels, channels, style_dim, up=False)]
        sides = [COARSEST]
        while sides[-1] < resolution:
            side = 2 * sides[-1]
            c_out = channels_at(side, width=width)
            blocks.append(ModulatedUpConv(channels, c_out, style_dim, up=True))
            blocks.append(ModulatedUpConv(c_out, c_out, style_dim, up=False))
            sides += [side, side]
            channels = c_out
        self.blocks = nn.ModuleList(blocks)
        self.noise_shapes = tuple((1, side, side) for side in sides)
        self.to_rgb = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor, noise: list[Tensor]) -> Tensor:
        """Tiles in [-1, 1], shape (n, 3, r, r).

        Args:
          z: standard normal, shape (n, z_dim).
          labels: class numbers, shape (n,).
          noise: one standard normal map per block, shapes (n, *noise_shapes[k]).
        """
        condition = torch.cat([z[:, :STYLE_Z], pixel_norm(self.embedding(labels))], 1)
        w = self.mapping(condition)
        x = z[:, STYLE_Z:-SYMMETRY_Z].reshape(-1, SPATIAL_Z, COARSEST, COARSEST)
        x = F.leaky_relu(self.start(x.contiguous(memory_format=torch.channels_last)), LEAK)
        for block, block_noise in zip(self.blocks, noise, strict=True):
            x = block(x, w, block_noise)
        return oriented(torch.tanh(wide(self.to_rgb(x))), z[:, -SYMMETRY_Z:])


class ConditionalDiscriminator(nn.Module):
    """Tiles and class to one logit.

    Args:
      resolution: side of the tiles, a power of two, at least 8.
      classes: number of classes.
      width: channels at 64 px.
    """

    def __init__(self, *, resolution: int, classes: int, width: int) -> None:
        super().__init__()
        self.side = resolution
        layers: list[nn.Module] = []
        channels, side = 3, resolution
        while side > COARSEST:
            side //= 2
            c_out = channels_at(side, width=width)
            layers.append(spectral_norm(nn.Conv2d(channels, c_out, 4, stride=2, padding=1)))
            layers.append(nn.LeakyReLU(LEAK))
            channels = c_out
        self.body = nn.Sequential(*layers)
        self.compare = spectral_conv(channels + 1, channels, 1)
        self.logit = spectral_norm(nn.Linear(channels, 1))
        self.embedding = spectral_norm(nn.Embedding(classes, channels))

    def features(self, x: Tensor) -> list[Tensor]:
        """The tiles themselves, shape (n, 3, side, side): nothing is frozen."""
        return [x]

    def described(self, x: Tensor) -> Tensor:
        """What the logit is linear in: tiles in [-1, 1], n even -> shape (n, c).

        Tiles 2k and 2k + 1 are compared with each other; they should be of one class.
        """
        h = self.body(x)
        h = F.leaky_relu(self.compare(torch.cat([h, pair_spread(h)], dim=1)), LEAK)
        return h.sum(dim=(2, 3))

    def judge(self, features: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Logits, high for real, shape (n, 1): `logit(h) + <embedding(label), h>`.

        Args:
          features: the tiles, as `features` gives them, n even.
          labels: class numbers, shape (n,).
        """
        (x,) = features
        h = self.described(x)
        projection = (self.embedding(labels).to(h.dtype) * h).sum(dim=1, keepdim=True)
        return wide(self.logit(h) + projection)


def build_generator(config: TrainConfig, classes: int) -> ConditionalGenerator:
    """A fresh generator of the configured size."""
    return ConditionalGenerator(
        resolution=config.resolution,
        classes=classes,
        width=config.width,
        style_dim=config.style_dim,
    )


def build_discriminator(config: TrainConfig, classes: int) -> ConditionalDiscriminator:
    """A fresh discriminator of the configured size, judging at the tiles' own resolution."""
    return ConditionalDiscriminator(
        resolution=config.resolution, classes=classes, width=config.head_width
    )


def oriented(tiles: Tensor, signs: Tensor) -> Tensor:
    """Each tile flipped, mirrored and transposed where its entry of `signs`, (n, 3), is positive.

    Tissue has no up, and the discriminator is shown every orientation, so the network need not
    learn one layout eight times.
    """
    flip, mirror, swap = (signs[:, k, None, None, None] > 0 for k in range(SYMMETRY_Z))
    tiles = torch.where(flip, tiles.flip(2), tiles)
    tiles = torch.where(mirror, tiles.flip(3), tiles)
    return torch.where(swap, tiles.transpose(2, 3), tiles)
