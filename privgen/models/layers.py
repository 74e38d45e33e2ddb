"""Layers shared by the generator families. Pure PyTorch operations; no statistics across a batch.

Conventions: feature maps are (n, c, h, w), stored channels-last; a style `w` is (n, d).

Papers: Karras et al. 2020 (weight demodulation, noise inputs, arXiv:1912.04958); Miyato et al. 2018
(spectral normalisation, arXiv:1802.05957).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

LEAK = 0.2
"""Negative slope of every leaky ReLU."""

GAIN = math.sqrt(2 / (1 + LEAK**2))
"""Gain that keeps the variance of a leaky ReLU's output at one."""

MOST_CHANNELS = 512
"""Channels of the widest map of any network (Karras et al. 2018 and later)."""

WRAPPED_SIDE = 16
"""Maps up to this side are padded by wrapping around. Zeros would tell the network where the border
is, and from that alone it can learn one layout and repeat it whatever z is."""


def channels_at(side: int, *, width: int) -> int:
    """Channels of a map of `side` pixels: `width` at 64 px, doubling towards coarser maps.

    At least 8, at most 4 `width` and never more than 512. Width 256 gives the counts of StyleGAN,
    width 512 those of StyleGAN2's configuration F: 512 up to 64 px, then 256 at 128 px and 128 at
    256 px (Karras et al. 2019 and 2020).

    Args:
      side: pixels per side.
      width: channels at 64 px.
    """
    return max(8, min(MOST_CHANNELS, 4 * width, 64 * width // side))


def wide(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 where it is that already: for sums, logits and colours."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def pixel_norm(z: Tensor) -> Tensor:
    """Each row of `z`, shape (n, d), scaled to mean square one."""
    return z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)


def spectral_conv(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Module:
    """A spectrally normalised convolution that keeps the side (stride 1) or halves it."""
    return spectral_norm(nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2))


class ModulatedUpConv(nn.Module):
    """Transposed 4x4 convolution that doubles the side, styled by `w`, with demodulation and noise.

    Scaling the input channels by the style and the output channels by the inverse norm the scaled
    weights would have is weight modulation and demodulation, without a separate weight an image.

    Args:
      c_in, c_out: channels.
      style_dim: length of `w`.
      up: double the side (4x4 transposed); else keep it (3x3).
    """

    def __init__(self, c_in: int, c_out: int, style_dim: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        shape = (c_in, c_out, 4, 4) if up else (c_out, c_in, 3, 3)
        self.weight = nn.Parameter(torch.randn(shape) / math.sqrt(c_in * (4 if up else 9)))
        self.style = nn.Linear(style_dim, c_in)
        self.shift = nn.Linear(style_dim, c_out)
        self.noise_strength = nn.Parameter(torch.full((c_out,), 0.1))
        nn.init.zeros_(self.shift.weight)
        nn.init.zeros_(self.shift.bias)
        nn.init.normal_(self.style.weight, std=0.5 / math.sqrt(style_dim))
        nn.init.ones_(self.style.bias)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        """Map (n, c_in, h, w), style (n, d), noise (n, 1, h', w') -> (n, c_out, h', w')."""
        style = self.style(w)
        energy = self.weight.square().sum(dim=(2, 3))
        energy = energy if self.up else energy.t()
        taps = (
            4 if self.up else 1
        )  # each output pixel of a 4x4 stride-2 kernel sees a quarter of it
        # The gain of the leaky ReLU commutes with it, so it is applied to the small tensors.
        demodulation = GAIN * torch.rsqrt(wide(style).square() @ wide(energy) / taps + 1e-8)
        x = x * style[:, :, None, None].to(x.dtype)
        wrap = x.shape[-1] <= WRAPPED_SIDE
        if wrap:
            x = F.pad(x, (1, 1, 1, 1), mode="circular")
        if self.up:
            x = F.conv_transpose2d(x, self.weight, stride=2, padding=3 if wrap else 1)
        else:
            x = F.conv2d(x, self.weight, padding=0 if wrap else 1)
        shift = GAIN * self.shift(w)[:, :, None, None].to(x.dtype)
        strength = GAIN * self.noise_strength[None, :, None, None].to(x.dtype)
        x = torch.addcmul(shift, x, demodulation[:, :, None, None].to(x.dtype))
        return F.leaky_relu(torch.addcmul(x, strength, noise.to(x.dtype)), LEAK)
