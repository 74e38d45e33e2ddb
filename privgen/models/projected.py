"""Projected discriminator: small heads that judge tiles in a frozen feature pyramid.

Sauer et al. 2021, "Projected GANs converge faster" (arXiv:2111.01007): EfficientNet-Lite0 features
at strides 4 to 32, mixed by fixed random 1x1 convolutions across channels and across scales, each
scale judged by its own small head. Heads are class-conditional by projection (Miyato & Koyama 2018,
arXiv:1802.05637), spectrally normalised, and see how much two tiles of one class, augmented alike,
differ (minibatch statistics, Karras et al. 2018, here within the class: across classes a collapse
is hidden).

The pyramid is frozen, so its batch norms are folded into its convolutions and only gradients with
respect to its input are ever needed: each is again a plain convolution, by a flipped or transposed
kernel, which on a CPU in bfloat16 runs three to four times faster than the generic backward pass.
"""

import copy
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrizations import spectral_norm

from privgen.models.effnet_lite import PYRAMID_CHANNELS, load_effnet_lite0, normalise
from privgen.models.layers import LEAK, spectral_conv, wide
from privgen.models.resampling import resize

MIXED_CHANNELS = (32, 48, 64, 96)
"""Channels of the mixed maps at strides 4, 8, 16, 32."""

PYRAMID_SPREAD = (10.0, 7.6, 5.2, 2.7)
"""Standard deviation of each pyramid map on H&E tiles at 96 px; mixing divides by it."""


class _InputGradConv(torch.autograd.Function):
    """Convolution of frozen weights whose backward pass is a forward convolution."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        flipped: Tensor,
        bias: Tensor,
        stride: int,
        padding: tuple[int, int, int, int],
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(weight, flipped)
        ctx.geometry = (x.shape, stride, padding, groups)
        left, right, top, bottom = padding
        if groups == 1 or (left, top) == (right, bottom):
            return _padded_conv(x, weight, bias, stride, padding, groups)
        # An uneven border is made of an even, wider one whose first outputs are dropped: no copy.
        skip = tuple(-(-(b - a) // stride) for a, b in ((top, bottom), (left, right)))
        sides = (top + skip[0] * stride, left + skip[1] * stride)
        out = F.conv2d(x, weight, bias, stride, sides, 1, groups)
        h, w = (
            (size + before + after - weight.shape[-1]) // stride + 1
            for size, before, after in zip(x.shape[2:], (top, left), (bottom, right), strict=True)
        )
        return out[:, :, skip[0] : skip[0] + h, skip[1] : skip[1] + w]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        weight, flipped = ctx.saved_tensors
        (count, c_in, h, w), stride, (left, _, top, _), groups = ctx.geometry
        kernel = flipped.shape[-1]
        before = (kernel - 1 - left, kernel - 1 - top)
        if stride == 1:
            after = (
                w + kernel - 1 - gradient.shape[3] - before[0],
                h + kernel - 1 - gradient.shape[2] - before[1],
            )
            padding = (before[0], after[0], before[1], after[1])
            grad_input = _padded_conv(gradient, flipped, None, 1, padding, groups)
        elif groups == 1:
            reached = [(size - 1) * stride + kernel for size in gradient.shape[2:]]
            short = [max(0, top + h - reached[0]), max(0, left + w - reached[1])]
            whole = F.conv_transpose2d(gradient, weight, None, stride, 0, short)
            grad_input = whole[:, :, top : top + h, left : left + w]
        else:
            sides = (h + kernel - 1, w + kernel - 1)
            spread = gradient.new_zeros((count, *sides, c_in)).permute(0, 3, 1, 2)
            spread[:, :, before[1] : before[1] + h : stride, before[0] : before[0] + w : stride] = (
                gradient
            )
            grad_input = F.conv2d(spread, flipped, None, 1, 0, 1, groups)
        return grad_input, None, None, None, None, None, None


def _padded_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: tuple[int, int, int, int],
    groups: int,
) -> Tensor:
    left, right, top, bottom = padding
    if (left, top) == (right, bottom):
        return F.conv2d(x, weight, bias, stride, (top, left), 1, groups)
    return F.conv2d(F.pad(x, padding), weight, bias, stride, 0, 1, groups)


class FrozenConv(nn.Module):
    """A convolution with "SAME" padding that never learns.

    Args:
      conv: whose weights to take.
      kept: whether state files hold them; published weights need not be kept, random ones must.
    """

    def __init__(self, conv: nn.Conv2d, *, kept: bool = False) -> None:
        super().__init__()
        self.stride, self.groups = conv.stride[0], conv.groups
        weight = conv.weight.detach()
        flipped = weight.flip(2, 3)
        if conv.groups == 1:
            flipped = flipped.transpose(0, 1)
        bias = torch.zeros(len(weight)) if conv.bias is None else conv.bias.detach()
        self.register_buffer("weight", weight.clone(), persistent=kept)
        self.register_buffer("flipped", flipped.contiguous(), persistent=kept)
        self.register_buffer("bias", bias.clone(), persistent=kept)
        self.weight: Tensor
        self.flipped: Tensor
        self.bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight.shape[-1]
        total = [
            max((math.ceil(s / self.stride) - 1) * self.stride + kernel - s, 0)
            for s in x.shape[-2:]
        ]
        top, left = total[0] // 2, total[1] // 2
        padding = (left, total[1] - left, top, total[0] - top)
        out = _InputGradConv.apply(
            x, self.weight, self.flipped, self.bias, self.stride, padding, self.groups
        )
        return torch.as_tensor(out)


def _frozen(layers: nn.Module) -> nn.Sequential:
    """A conv / batch norm / ReLU6 chain with its batch norms folded and its convolutions frozen."""
    folded: list[nn.Module] = []
    for layer in layers.children():
        if isinstance(layer, nn.BatchNorm2d) and isinstance(folded[-1], nn.Conv2d):
            folded[-1] = fuse_conv_bn_eval(copy.deepcopy(folded[-1]), layer)
        else:
            folded.append(layer)
    return nn.Sequential(*(FrozenConv(x) if isinstance(x, nn.Conv2d) else x for x in folded))


class FrozenPyramid(nn.Module):
    """EfficientNet-Lite0 up to stride 32, for gradients with respect to its input alone."""

    def __init__(self) -> None:
        super().__init__()
        network = load_effnet_lite0()
        network.stem = _frozen(network.stem)
        for stage in network.stages:
            for block in stage.children():
                block.layers = _frozen(cast(nn.Module, block.layers))
        del network.head, network.classifier
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps at strides 4, 8, 16, 32 of RGB tiles in [-1, 1], shape (n, 3, h, w)."""
        rgb = normalise((x + 1) * 127.5)
        dtype = next(self.network.stem.children()).weight.dtype
        return self.network.pyramid(rgb.to(dtype))  # type: ignore[arg-type]


class _Head(nn.Module):
    """Judges one scale: a map of local logits, class-conditional by projection."""

    def __init__(self, c_in: int, inner: int, halvings: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(1 + halvings):
            layers += [spectral_conv(c_in, inner, 3, 1 if index == 0 else 2), nn.LeakyReLU(LEAK)]
            c_in = inner
        self.body = nn.Sequential(*layers)
        self.compare = spectral_conv(inner + 1, inner, 1)
        self.logit = spectral_conv(inner, 1, 1)
        self.embedding = spectral_norm(nn.Embedding(classes, inner))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        h = self.body(x)
        h = F.leaky_relu(self.compare(torch.cat([h, pair_spread(h)], dim=1)), LEAK)
        projection = (self.embedding(labels)[:, :, None, None].to(h.dtype) * h).sum(1, keepdim=True)
        return wide(self.logit(h) + projection).flatten(1)


def pair_spread(h: Tensor) -> Tensor:
    """How much each place of a map differs between tiles 2k and 2k + 1.

    Args:
      h: maps, shape (n, c, h, w), n even.

    Returns:
      Half the absolute difference, averaged over channels, for both tiles: shape (n, 1, h, w).
    """
    spread = (h[0::2] - h[1::2]).abs().mean(dim=1, keepdim=True) / 2
    return spread.repeat_interleave(2, dim=0)


class ProjectedDiscriminator(nn.Module):
    """Frozen pyramid, fixed random mixing, one trained head a scale.

    Args:
      side: pixels per side at which tiles are judged.
      classes: number of classes.
      width: channels inside a head.
      frozen_type: of the frozen part's weights and maps.
    """

    def __init__(
        self, *, side: int, classes: int, width: int, frozen_type: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.side = side
        self.pyramid = FrozenPyramid()
        across = [
            FrozenConv(_random_mix(c_in, c_out, spread), kept=True)
            for c_in, c_out, spread in zip(
                PYRAMID_CHANNELS, MIXED_CHANNELS, PYRAMID_SPREAD, strict=True
            )
        ]
        down = [
            FrozenConv(_random_mix(coarse, fine, 1.0), kept=True)
            for fine, coarse in pairwise(MIXED_CHANNELS)
        ]
        self.across, self.down = nn.ModuleList(across), nn.ModuleList(down)
        for part in (self.pyramid, self.across, self.down):
            part.to(frozen_type)
        halvings = (2, 1, 0, 0)
        self.heads = nn.ModuleList(
            _Head(c, width, halving, classes)
            for c, halving in zip(MIXED_CHANNELS, halvings, strict=True)
        )

    def features(self, x: Tensor) -> list[Tensor]:
        """Mixed maps, finest first, of tiles in [-1, 1], shape (n, 3, side, side)."""
        maps = [mix(m) for mix, m in zip(self.across, self.pyramid(x), strict=True)]
        for k in range(len(maps) - 2, -1, -1):
            coarse = resize(self.down[k](maps[k + 1]), maps[k].shape[-1])
            maps[k] = (maps[k] + coarse) * math.sqrt(0.5)
        return maps

    def judge(self, features: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Logits, high for real, shape (n, m): one column a place and scale.

        Tiles 2k and 2k + 1 are compared with each other; they should be of one class.
        """
        return torch.cat(
            [head(f, labels) for head, f in zip(self.heads, features, strict=True)], dim=1
        )


def _random_mix(c_in: int, c_out: int, spread: float) -> nn.Conv2d:
    """A fixed random 1x1 convolution that brings maps of standard deviation `spread` to one."""
    conv = nn.Conv2d(c_in, c_out, 1, bias=False)
    nn.init.normal_(conv.weight, std=1 / (spread * math.sqrt(c_in)))
    return conv
