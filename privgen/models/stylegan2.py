"""`stylegan2`: weight demodulation, a generator of summed to-RGB maps, a residual discriminator.

Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN" (arXiv:1912.04958). The
class joins the latent in front of the mapping network, and is judged by projection (Miyato & Koyama
2018, arXiv:1802.05637). Path-length regularisation, lazy R1 and adaptive augmentation belong to the
training loop; `styles` and `synthesis` are apart for it.

Deliberately unlike the paper: widths are the configuration's, and the summed to-RGB maps are scaled
(`style_layers.RGB_SCALE`).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privgen.config import TrainConfig
from privgen.models.constant_input import ConstantInputGenerator
from privgen.models.layers import GAIN, LEAK, channels_at, wide
from privgen.models.style_layers import (
    COARSEST,
    RGB_SCALE,
    Blur,
    EqualConv2d,
    ModulatedConv2d,
    NoiseInput,
    ProjectionHead,
)


class _Styled(nn.Module):
    """Modulated 3x3 convolution, noise, leaky ReLU."""

    def __init__(self, c_in: int, c_out: int, style_dim: int, *, side: int, up: bool) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(c_in, c_out, 3, style_dim, up=up, gain=GAIN)
        self.noise = NoiseInput(1, side)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        return F.leaky_relu(self.noise(self.conv(x, w), noise), LEAK)


class StyleGAN2Generator(ConstantInputGenerator):
    """z and class to tiles; keeps the `StyleGenerator` protocol.

    At 4 px one convolution, at every other side two; at every side a to-RGB map, which shares the
    style of the next side's first convolution and is added to the doubled sum so far.

    Args:
      resolution: side of the tiles, a power of two, at least 8.
      classes: number of classes.
      width: channels at 64 px.
      style_dim: length of the latent and of a style.
    """

    def __init__(self, *, resolution: int, classes: int, width: int, style_dim: int) -> None:
        super().__init__(resolution=resolution, classes=classes, width=width, style_dim=style_dim)
        channels = channels_at(COARSEST, width=width)
        convs = [_Styled(channels, channels, style_dim, side=COARSEST, up=False)]
        to_rgb = [ModulatedConv2d(channels, 3, 1, style_dim, demodulate=False)]
        sides = [COARSEST]
        while sides[-1] < resolution:
            side = 2 * sides[-1]
            c_out = channels_at(side, width=width)
            convs.append(_Styled(channels, c_out, style_dim, side=side, up=True))
            convs.append(_Styled(c_out, c_out, style_dim, side=side, up=False))
            to_rgb.append(ModulatedConv2d(c_out, 3, 1, style_dim, demodulate=False))
            sides += [side, side]
            channels = c_out
        self.convs, self.to_rgb = nn.ModuleList(convs), nn.ModuleList(to_rgb)
        self.enlarge = Blur(padding=1, gain=4.0, stride=2, up=True)
        self.noise_shapes = tuple((1, side, side) for side in sides)
        self.style_count = len(sides) + 1

    def synthesis(self, styles: Tensor, noise: list[Tensor]) -> Tensor:
        """Tiles of styles, nominally in [-1, 1] (the output is linear), shape (n, 3, r, r).

        Args:
          styles: shape (n, style_count, d), coarse to fine; the last is the last to-RGB map's.
          noise: one standard normal map a convolution, shapes (n, *noise_shapes[k]).
        """
        x = self.start(len(styles))
        rgb: Tensor | None = None
        for k, (conv, maps) in enumerate(zip(self.convs, noise, strict=True)):
            x = conv(x, styles[:, k], maps)
            if k % 2 == 0:  # the last convolution at its side
                added = wide(self.to_rgb[k // 2](x, styles[:, k + 1]))
                rgb = added if rgb is None else self.enlarge(rgb) + added
        assert rgb is not None
        return rgb * RGB_SCALE


class _Residual(nn.Module):
    """Two convolutions and a shortcut, all of which halve the side in the end."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        # Halves of the variance: the sum of the two branches keeps the spread of the input.
        self.first = EqualConv2d(c_in, c_in, 3, gain=GAIN)
        self.second = EqualConv2d(c_in, c_out, 3, gain=GAIN * math.sqrt(0.5), resample="down")
        self.halve = Blur(padding=1, stride=2)
        self.shortcut = EqualConv2d(c_in, c_out, 1, gain=math.sqrt(0.5), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.first(x), LEAK)
        y = F.leaky_relu(self.second(y), LEAK)
        return y + torch.as_tensor(self.shortcut(self.halve(x)))


class StyleGAN2Discriminator(nn.Module):
    """Residual blocks down to 4 px, then minibatch statistics and projection on the class.

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
        blocks: list[nn.Module] = []
        while side > COARSEST:
            side //= 2
            c_out = channels_at(side, width=width)
            blocks.append(_Residual(channels, c_out))
            channels = c_out
        self.blocks = nn.Sequential(*blocks)
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
        return torch.as_tensor(self.head(self.blocks(x), labels))


def build_generator(config: TrainConfig, classes: int) -> StyleGAN2Generator:
    """A fresh generator of the configured size."""
    return StyleGAN2Generator(
        resolution=config.resolution,
        classes=classes,
        width=config.width,
        style_dim=config.style_dim,
    )


def build_discriminator(config: TrainConfig, classes: int) -> StyleGAN2Discriminator:
    """A fresh discriminator of the configured size."""
    return StyleGAN2Discriminator(
        resolution=config.resolution, classes=classes, width=config.head_width
    )
