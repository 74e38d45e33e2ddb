"""Layers of the style-based families: equalised rates, mapping, modulation, AdaIN, FIR sampling.

Plain PyTorch convolutions and element-wise operations throughout, so that every layer runs on any
device, under autocast, and can be differentiated twice (R1, path length). Only
`minibatch_stddev` looks across a batch.

Conventions: maps are (n, c, h, w), stored channels-last; a style is (n, d). Weights are drawn from
N(0, 1) and scaled when they are used, so that Adam moves every layer at one relative rate. The gain
of a leaky ReLU sits in the weights before it.

Papers: Karras et al. 2018 (equalised learning rate, minibatch standard deviation,
arXiv:1710.10196), 2019 (mapping, AdaIN, noise inputs, arXiv:1812.04948) and 2020 (weight
demodulation, arXiv:1912.04958); Miyato & Koyama 2018 (projection, arXiv:1802.05637).
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privgen.config import TOGETHER
from privgen.models.layers import GAIN, LEAK, pixel_norm, wide

FIR = (1.0, 3.0, 3.0, 1.0)
"""Taps of the separable low-pass filter, before they are scaled to sum to one."""

MAPPING_LAYERS = 8
"""Layers of the mapping network."""

MAPPING_RATE = 0.01
"""Learning rate of the mapping network, relative to the others."""

COARSEST = 4
"""Side of the map generators start from and discriminators end at, pixels."""

NOISY = 8
"""Longest side of the maps whose noise counts from the first step, pixels."""

RGB_SCALE = 0.25
"""Factor on the summed to-RGB maps: a fresh network then starts inside [-1, 1], and the
augmentation, which clamps, lets gradients through (Karras et al. 2021, arXiv:2106.12423)."""


class EqualLinear(nn.Module):
    """Fully connected layer with an equalised learning rate.

    Args:
      c_in, c_out: lengths of input and output.
      start: of the bias.
      rate: learning rate relative to the other layers.
      gain: spread of the output for inputs of spread one.
    """

    def __init__(
        self, c_in: int, c_out: int, *, start: float = 0.0, rate: float = 1.0, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in) / rate)
        self.bias = nn.Parameter(torch.full((c_out,), start / rate))
        self.rate = rate
        self.scale = gain * rate / math.sqrt(c_in)

    def forward(self, x: Tensor) -> Tensor:
        """Rows (n, c_in) -> (n, c_out)."""
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class Blur(nn.Module):
    """The FIR filter on each map alone; zeros beyond the border. It keeps the type of its input.

    Args:
      padding: rows of zeros on each side; without a stride the side grows by 2 padding - 3.
      gain: sum of the kernel.
      stride: 2 halves the side (padding 1).
      up: with stride 2, the transpose, which doubles the side (padding 1, gain 4).
    """

    def __init__(
        self, *, padding: int, gain: float = 1.0, stride: int = 1, up: bool = False
    ) -> None:
        super().__init__()
        self.padding, self.stride, self.up = padding, stride, up
        taps = torch.tensor(FIR)
        kernel = torch.outer(taps, taps) / taps.sum() ** 2 * gain
        self.register_buffer("kernel", kernel[None, None], persistent=False)
        self.kernel: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, c, h, w) -> (n, c, h', w')."""
        # On a CPU, the gradient of a strided filter is 20 times slower in bfloat16.
        maps = wide(x) if self.stride > 1 else x
        kernel = self.kernel.to(maps.dtype).expand(x.shape[1], 1, -1, -1)
        convolve = F.conv_transpose2d if self.up else F.conv2d
        with torch.autocast(x.device.type, enabled=False):
            out = convolve(maps, kernel, None, self.stride, self.padding, groups=x.shape[1])
        return out.to(x.dtype)


class EqualConv2d(nn.Module):
    """Convolution with an equalised learning rate that keeps, doubles or halves the side.

    Doubling is a transposed convolution of stride 2, then the FIR filter; halving is the filter,
    then a convolution of stride 2.

    Args:
      c_in, c_out: channels.
      kernel: side of the kernel, odd; 3 unless the side is kept.
      gain: spread of the output for inputs of spread one.
      bias: add a learned constant a channel.
      resample: what happens to the side.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        *,
        gain: float = 1.0,
        bias: bool = True,
        resample: Literal["keep", "up", "down"] = "keep",
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None
        self.scale = gain / math.sqrt(c_in * kernel**2)
        self.resample = resample
        if resample != "keep":
            up = resample == "up"
            self.blur = Blur(padding=1 if up else 2, gain=4.0 if up else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, c_in, h, w) -> (n, c_out, h', w')."""
        weight = self.weight * self.scale
        if self.resample == "keep":
            return F.conv2d(x, weight, self.bias, padding=weight.shape[-1] // 2)
        if self.resample == "down":
            return F.conv2d(self.blur(x), weight, self.bias, stride=2)
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        x = torch.as_tensor(self.blur(x))
        return x if self.bias is None else x + self.bias[:, None, None].to(x.dtype)


class ModulatedConv2d(nn.Module):
    """Convolution whose input channels a style scales, with weights of unit norm for each tile.

    Scaling the activations before and after one shared convolution is the same as a convolution
    with weights made for each tile, and is fast wherever plain convolutions are (Karras et al.
    2020, section 2.2 and appendix B).

    Args:
      c_in, c_out: channels.
      kernel: side of the kernel, odd.
      style_dim: length of a style.
      up: double the side.
      demodulate: bring the scaled weights of each output channel to norm `gain`.
      gain: that norm.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        style_dim: int,
        *,
        up: bool = False,
        demodulate: bool = True,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.style = EqualLinear(style_dim, c_in, start=1.0)
        self.conv = EqualConv2d(c_in, c_out, kernel, bias=False, resample="up" if up else "keep")
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.demodulate, self.gain = demodulate, gain

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map (n, c_in, h, w), style (n, style_dim) -> (n, c_out, h', w')."""
        style = self.style(w)
        x = self.conv(x * style[:, :, None, None].to(x.dtype))
        bias = self.bias[None, :, None, None].to(x.dtype)
        if not self.demodulate:
            return x + bias
        energy = (self.conv.weight * self.conv.scale).square().sum(dim=(2, 3))
        power = wide(style.square() @ energy.t().to(style.dtype))
        factor = self.gain * torch.rsqrt(power + 1e-8)
        return torch.addcmul(bias, x, factor[:, :, None, None].to(x.dtype))


class NoiseInput(nn.Module):
    """Adds a noise map to every channel, by a learned strength.

    It starts at zero as in the papers, but at one on the coarsest maps: a few minutes of training
    otherwise leave every tile with the layout of the learned constant.

    Args:
      channels: number of strengths: one a channel (Karras et al. 2019), or 1 for all (2020).
      side: of the maps, pixels.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.full((channels,), float(side <= NOISY)))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Map (n, c, h, w), standard normal noise (n, 1, h, w) -> (n, c, h, w)."""
        strength = self.strength[None, :, None, None].to(x.dtype)
        return torch.addcmul(x, strength, noise.to(x.dtype))


class Mapping(nn.Module):
    """Latent and class to one style.

    Args:
      z_dim: length of the latent, and of the class's embedding.
      classes: number of classes.
      style_dim: length of the style, and of the layers between.
    """

    def __init__(self, z_dim: int, classes: int, style_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, z_dim)
        lengths = [2 * z_dim, *[style_dim] * MAPPING_LAYERS]
        self.layers = nn.ModuleList(
            EqualLinear(lengths[k], style_dim, rate=MAPPING_RATE, gain=GAIN)
            for k in range(MAPPING_LAYERS)
        )

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Latents (n, z_dim), class numbers (n,) -> styles (n, style_dim); never in bfloat16."""
        with torch.autocast(z.device.type, enabled=False):
            w = torch.cat([pixel_norm(z), pixel_norm(self.embedding(labels))], dim=1)
            for layer in self.layers:
                w = F.leaky_relu(layer(w), LEAK)
        return w


def adain(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Each map of each tile brought to standard deviation |scale| and mean `shift`.

    Args:
      x: maps, shape (n, c, h, w).
      scale, shift: shape (n, c).

    Source: Karras et al. 2019, equation 1 (after Huang & Belongie 2017, arXiv:1703.06868).
    """
    maps = wide(x)
    variance, mean = torch.var_mean(maps, dim=(2, 3), correction=0)
    factor = scale * torch.rsqrt(variance + 1e-8)
    offset = shift - mean * factor
    return torch.addcmul(offset[:, :, None, None], maps, factor[:, :, None, None]).to(x.dtype)


def minibatch_stddev(x: Tensor) -> Tensor:
    """`x` with one more channel: how much a tile's group of tiles differ, the same everywhere.

    Groups are contiguous and of `TOGETHER` tiles, or of the largest number below that divides the
    batch: a batch split over processes in multiples of `TOGETHER` has the same groups.

    Args:
      x: maps, shape (n, c, h, w).

    Returns:
      Shape (n, c + 1, h, w); the last channel is the standard deviation over the group (divisor:
      its size), averaged over channels and places.
    """
    n, c, h, w = x.shape
    size = next(k for k in range(TOGETHER, 0, -1) if n % k == 0)
    groups = wide(x).reshape(n // size, size, c, h, w)
    spread = (groups.var(dim=1, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    column = spread.repeat_interleave(size).to(x.dtype)
    return torch.cat([x, column[:, None, None, None].expand(n, 1, h, w)], dim=1)


class ProjectionHead(nn.Module):
    """Coarsest map to one logit: minibatch statistics, two layers, projection on the class.

    Args:
      channels: of the coarsest map.
      classes: number of classes.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = EqualConv2d(channels + 1, channels, 3, gain=GAIN)
        self.dense = EqualLinear(channels * COARSEST**2, channels, gain=GAIN)
        self.direction = nn.Parameter(torch.randn(channels))
        self.embedding = nn.Embedding(classes, channels)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Maps (n, channels, 4, 4), class numbers (n,) -> logits (n, 1), never in bfloat16."""
        x = F.leaky_relu(self.conv(minibatch_stddev(x)), LEAK)
        h = F.leaky_relu(self.dense(x.flatten(1)), LEAK)
        direction = self.direction + self.embedding(labels)  # float32, so the sum is too
        projected = (h * direction).sum(dim=1, keepdim=True) / math.sqrt(h.shape[1])
        return torch.as_tensor(projected + self.bias)
