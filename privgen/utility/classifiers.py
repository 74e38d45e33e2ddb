"""Four families of tile classifiers, trained from scratch, with stems fit for small tiles.

MobileNetV3 (Howard et al. 2019), ResNet (He et al. 2016), DenseNet (Huang et al. 2017) and
EfficientNet (Tan & Le 2019) as torchvision builds them, without published weights. Those networks
were made for 224 px: they shrink a tile 32 times, so that a 32 px tile would end as a single
position and most layers would see little but padding. Here the first strides are taken out, so that
32 and 64 px tiles end as 4 x 4 positions:

| side, px | shrinks by | layers whose stride is taken out |
|---|---|---|
| up to 32 | 8 | the first two: convolution, then convolution or (ResNet, DenseNet) max pooling |
| 33 to 64 | 16 | the first |
| above | 32 | none |

Two sizes. "standard" is MobileNetV3-small, ResNet-18, DenseNet-121 and EfficientNet-B0. "small"
keeps each family's building block for few updates on a CPU: MobileNetV3-small at half width, one
block a stage of ResNet, DenseNet with growth 12 and three blocks of six layers (a stage less, made
up for by one stride more at the start, as in the small ResNet, which thus shrinks twice as much),
EfficientNet-B0 at half width and depth. A figure names the size it was made with.
"""

from collections.abc import Callable

import torch
from torch import nn
from torchvision.models.densenet import DenseNet
from torchvision.models.efficientnet import EfficientNet, MBConvConfig
from torchvision.models.mobilenetv3 import mobilenet_v3_small
from torchvision.models.resnet import BasicBlock, ResNet

from privgen.errors import ConfigError

SIZES = ("standard", "small")

SMALLEST_SIDE = 16
"""Below this, pixels, the last feature map of every family is a single position."""

BFLOAT16_FAMILIES = frozenset({"resnet", "densenet"})
"""Families a CPU trains faster under bfloat16 autocast; depthwise convolutions are slower there.

Measured with AVX-512 BF16, one core, 32 px, batch 32, channels last, updates a second in bfloat16
and in float32: ResNet-18 2.8 and 1.7, DenseNet-121 1.3 and 0.7, MobileNetV3-small 4.3 and 9.2,
EfficientNet-B0 1.2 and 2.2.
"""

_SHRINK_MORE_WHEN_SMALL = frozenset({"resnet", "densenet"})

# Expansion, kernel, stride, channels in, channels out, repeats (Tan & Le 2019, table 1).
_EFFICIENTNET_B0 = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)


def build(family: str, *, classes: int, side: int, seed: int, size: str = "standard") -> nn.Module:
    """A freshly initialised classifier; the same arguments give the same weights.

    Args:
      family: one of `FAMILIES`.
      classes: number of classes, 2 or more.
      side: of the tiles, pixels, `SMALLEST_SIDE` or more.
      seed: of the initial weights; the caller's random state is left as it was.
      size: "standard" or "small".

    Returns:
      A module in training mode, channels last, from (n, 3, side, side) to logits (n, classes).

    Raises:
      ConfigError: an argument is not one of those.
    """
    if family not in _BUILDERS:
        raise ConfigError(
            f"a classifier family must be one of {', '.join(FAMILIES)}: got {family!r}"
        )
    if size not in SIZES:
        raise ConfigError(f"a classifier size must be one of {', '.join(SIZES)}: got {size!r}")
    if side < SMALLEST_SIDE:
        raise ConfigError(
            f"classifiers need tiles of {SMALLEST_SIDE} px or more: got {side} px. "
            "Give a larger side."
        )
    if classes < 2:
        raise ConfigError(f"a classifier needs 2 classes or more: got {classes}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _BUILDERS[family](classes, size == "small")
    removed = 2 if side <= 32 else 1 if side <= 64 else 0
    if size == "small" and family in _SHRINK_MORE_WHEN_SMALL:
        removed = max(0, removed - 1)
    strided = [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d) and layer.stride not in (1, (1, 1))
    ]
    for layer in strided[:removed]:
        layer.stride = (1, 1)
    return model.to(memory_format=torch.channels_last)


def _mobilenet(classes: int, small: bool) -> nn.Module:
    model: nn.Module = mobilenet_v3_small(
        weights=None, num_classes=classes, width_mult=0.5 if small else 1.0
    )
    return model


def _resnet(classes: int, small: bool) -> nn.Module:
    blocks = [1, 1, 1, 1] if small else [2, 2, 2, 2]
    model: nn.Module = ResNet(BasicBlock, blocks, num_classes=classes)
    return model


def _densenet(classes: int, small: bool) -> nn.Module:
    if small:
        model: nn.Module = DenseNet(12, (6, 6, 6), num_init_features=24, num_classes=classes)
    else:
        model = DenseNet(32, (6, 12, 24, 16), num_init_features=64, num_classes=classes)
    return model


def _efficientnet(classes: int, small: bool) -> nn.Module:
    scale = 0.5 if small else 1.0
    stages = [
        MBConvConfig(*stage, width_mult=scale, depth_mult=scale) for stage in _EFFICIENTNET_B0
    ]
    model: nn.Module = EfficientNet(
        stages, dropout=0.2, num_classes=classes, last_channel=round(1280 * scale)
    )
    return model


_BUILDERS: dict[str, Callable[[int, bool], nn.Module]] = {
    "mobilenet": _mobilenet,
    "resnet": _resnet,
    "densenet": _densenet,
    "efficientnet": _efficientnet,
}

FAMILIES: tuple[str, ...] = tuple(_BUILDERS)
"""The families, in the order of the tables."""
