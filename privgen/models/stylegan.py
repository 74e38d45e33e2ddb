"""`stylegan`: a style-based generator with AdaIN, and a plain convolutional discriminator.

Karras et al. 2019, "A style-based generator architecture for generative adversarial networks"
(arXiv:1812.04948): a mapping network, a learned constant as input, and after every convolution
noise, a leaky ReLU and adaptive instance normalisation by a style of its own. The class joins the
latent in front of the mapping network, and is judged by projection (Miyato & Koyama 2018,
arXiv:1802.05637).

Deliberately unlike the paper: the networks do not grow (the 2020 paper drops that), to-RGB exists
at the last resolution only, the constant starts random (a flat map has no spread to normalise), and
widths are the configuration's.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privgen.config import TrainConfig
from privgen.models.constant_input import ConstantInputGenerator
from privgen.models.layers import GAIN, LEAK, channels_at, wide
from privgen.models.style_layers import (
    COARSEST,
    RGB_SCALE,
    EqualConv2d,
    EqualLinear,
    NoiseInput,
    ProjectionHead,
    adain,
)


class _Finish(nn.Module):
    """What follows every convolution: noise, leaky ReLU, AdaIN by a style."""

    def __init__(self, channels: int, style_dim: int, side: int) -> None:
        super().__init__()
        self.noise = NoiseInput(channels, side)
        self.style = EqualLinear(style_dim, 2 * channels)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        scale, shift = self.style(w).chunk(2, dim=1)
        return adain(F.leaky_relu(self.noise(x, noise), LEAK), 1 + wide(scale), wide(shift))


class StyleGANGenerator(ConstantInputGenerator):
    """z and class to tiles; keeps the `StyleGenerator` protocol.

    Args:
      resolution: side of the tiles, a power of two, at least 8.
      classes: number of classes.
      width: channels at 64 px.
      style_dim: length of the latent and of a style.
    """

    def __init__(self, *, resolution: int, classes: int, width: int, style_dim: int) -> None:
        super().__init__(resolution=resolution, classes=classes, width=width, style_dim=style_dim)
        channels = channels_at(COARSEST, width=width)
        convs: list[nn.Module] = [EqualConv2d(channels, channels, 3, gain=GAIN)]
        finishes = [_Finish(channels, style_dim, COARSEST) for _ in range(2)]
        sides = [COARSEST, COARSEST]
        while sides[-1] < resolution:
            side = 2 * sides[-1]
            c_out = channels_at(side, width=width)
            convs.append(EqualConv2d(channels, c_out, 3, gain=GAIN, resample="up"))
            convs.append(EqualConv2d(c_out, c_out, 3, gain=GAIN))
            finishes += [_Finish(c_out, style_dim, side) for _ in range(2)]
            sides += [side, side]
            channels = c_out
        self.convs, self.finishes = nn.ModuleList(convs), nn.ModuleList(finishes)
        self.noise_shapes = tuple((1, side, side) for side in sides)
        self.style_count = len(sides)
        self.to_rgb = EqualConv2d(channels, 3, 1)

    def synthesis(self, styles: Tensor, noise: list[Tensor]) -> Tensor:
        """Tiles of styles, nominally in [-1, 1] (the output is linear), shape (n, 3, r, r).

        Args:
          styles: shape (n, style_count, d), coarse to fine.
          noise: one standard normal map a style, shapes (n, *noise_shapes[k]).
        """
        x = self.start(len(styles))
        for k, (finish, maps) in enumerate(zip(self.finishes, noise, strict=True)):
            x = finish(x if k == 0 else self.convs[k - 1](x), styles[:, k], maps)
        return wide(self.to_rgb(x)) * RGB_SCALE


class StyleGANDiscriminator(nn.Module):
    """Two convolutions a resolution, the second halves the side; minibatch statistics at 4 px.

    Args:
      resolution: side of the tiles, a power of two, at least 8.
      classes: number of classes.
      width: channels at 64 px.
    """

    def __init__(self, *, resolution: int, classes: int, width: int) -> None:
        super().__init__()
        self.side = side = resolution
        channels = channels_at(side, width=width)
        self.from_rgb = EqualConv2d(3, channels, 1, gain=GAIN)
        convs: list[nn.Module] = []
        while side > COARSEST:
            side //= 2
            c_out = channels_at(side, width=width)
            convs.append(EqualConv2d(channels, channels, 3, gain=GAIN))
            convs.append(EqualConv2d(channels, c_out, 3, gain=GAIN, resample="down"))
            channels = c_out
        self.convs = nn.ModuleList(convs)
        self.head = ProjectionHead(channels, classes)

    def features(self, x: Tensor) -> list[Tensor]:
        """The tiles themselves, shape (n, 3, side, side): nothing here is frozen."""
        return [x]

    def judge(self, features: list[Tensor], labels: Tensor) -> Tensor:
        """Logits, high for real, shape (n, 1), float32.

        Args:
          features: of `features`.
          labels: class numbers, shape (n,); tiles 4k .. 4k + 3 are compared.
        """
        (x,) = features
        x = F.leaky_relu(self.from_rgb(x.contiguous(memory_format=torch.channels_last)), LEAK)
        for conv in self.convs:
            x = F.leaky_relu(conv(x), LEAK)
        return torch.as_tensor(self.head(x, labels))


def build_generator(config: TrainConfig, classes: int) -> StyleGANGenerator:
    """A fresh generator of the configured size."""
    return StyleGANGenerator(
        resolution=config.resolution,
        classes=classes,
        width=config.width,
        style_dim=config.style_dim,
    )


def build_discriminator(config: TrainConfig, classes: int) -> StyleGANDiscriminator:
    """A fresh discriminator of the configured size."""
    return StyleGANDiscriminator(
        resolution=config.resolution, classes=classes, width=config.head_width
    )
