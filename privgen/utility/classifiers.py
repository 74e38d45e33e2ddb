"""Four families of tile classifiers, trained from scratch, with stems fit for small tiles.

MobileNetV3 (Howard et al. 2019), ResNet (He et al. 2016), DenseNet (Huang et al. 2017) and
EfficientNet (Tan & Le 2019) as torchvision builds them, without published weights. Those networks
were made for 224 px: they shrink a tile 32 times, so that a 32 px tile would end as a single
position and most layers would see padding only. Here the first strides are taken out until the
last feature map is 4 x 4 or larger:

| side, px | shrinks by | strides taken out |
|---|---|---|
| up to 32 | 8 | first convolution, and the next one (ResNet, DenseNet: max pooling) |
| 33 to 64 | 16 | first convolution |
| above | 32 | none |

Two sizes: "standard" is MobileNetV3-small, ResNet-18, DenseNet-121 and EfficientNet-B0; "small" keeps
each family's building block and narrows it (MobileNetV3-small at half width, one block a stage
instead of two, DenseNet with growth 12 and three blocks of six layers, EfficientNet-B0 at half
width and depth) for few updates on a CPU. A figure names the size it was made with.

Batch norm keeps running averages with momentum .1 in every family. MobileNetV3's published .01
needs hundreds of updates before the averages mean anything: after a short training such
a network collapses at evaluation, and any other arm would then look like a gain.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import nn
from torchvision.models.densenet import DenseNet
from torchvision.models.efficientnet import EfficientNet, MBConvConfig
from torchvision.models.mobilenetv3 import MobileNetV3, mobilenet_v3_small
from torchvision.models.resnet import BasicBlock, ResNet

from privgen.errors import ConfigError

Size = Literal["standard", "small"]
SIZES: tuple[Size, ...] = get_args(Size)

SMALLEST_SIDE = 16
"""Below this, pixels, the last feature map of every family is a single position."""

BFLOAT16_FAMILIES = frozenset({"resnet", "densenet"})
"""Families a CPU trains faster under bfloat16 autocast; depthwise convolutions are slower there.

Measured with AVX-512 BF16, one core, 32 px, batch 32, channels last, updates a second in bfloat16
and float32: ResNet-18 2.8, 1.7; DenseNet-121 1.3, .7; MobileNetV3-small 4.3, 9.2; EfficientNet-B0 1.2, 2.2.
"""

_NORM_MOMENTUM = 0.1
_NORM_EPS = 1e-5

# Kind of block, expansion, kernel, stride, channels in, channels out, repeats (Tan & Le 2019, table 1).
_EFFICIENTNET_B0 = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)


def build(family: str, *, classes: int, side: int, seed: int, size: Size = "standard") -> nn.Module:
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
            f"classifiers need tiles of {SMALLEST_SIDE} px or more: got {side} px. Give a larger side."
        )
    if classes < 2:
        raise ConfigError(f"a classifier needs 2 classes or more: got {classes}")
    removed = 2 if side <= 32 else 1 if side <= 64 else 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _BUILDERS[family](classes, removed, size == "small")
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum, layer.eps = _NORM_MOMENTUM, _NORM_EPS
    return model.to(memory_format=torch.channels_last)


def _mobilenet(classes: int, removed: int, small: bool) -> nn.Module:
    model: MobileNetV3 = mobilenet_v3_small(
        weights=None, num_classes=classes, width_mult=0.5 if small else 1.0
    )
    _take_out_strides(model.features, removed)
    return model


def _resnet(classes: int, removed: int, small: bool) -> nn.Module:
    model = ResNet(BasicBlock, [1, 1, 1, 1] if small else [2, 2, 2, 2], num_classes=classes)
    if removed >= 1:
        model.conv1.stride = (1, 1)
    if removed >= 2:
        model.maxpool = nn.Identity()
    return model


def _densenet(classes: int, removed: int, small: bool) -> nn.Module:
    if small:
        model = DenseNet(12, (6, 6, 6), num_init_features=24, num_classes=classes)
    else:
        model = DenseNet(32, (6, 12, 24, 16), num_init_features=64, num_classes=classes)
    kept = 1 if small else 0
    if removed > kept:
        model.features.conv0.stride = (1, 1)
    if removed > kept + 1:
        model.features.pool0 = nn.Identity()
    return model


def _efficientnet(classes: int, removed: int, small: bool) -> nn.Module:
    scale = 0.5 if small else 1.0
    stages = [
        MBConvConfig(*stage, width_mult=scale, depth_mult=scale) for stage in _EFFICIENTNET_B0
    ]
    model = EfficientNet(stages, dropout=0.2, num_classes=classes, last_channel=round(1280 * scale))
    _take_out_strides(model.features, removed)
    return model


def _take_out_strides(features: nn.Module, count: int) -> None:
    """Give the first `count` strided convolutions stride 1."""
    strided = [
        layer
        for layer in features.modules()
        if isinstance(layer, nn.Conv2d) and layer.stride != (1, 1)
    ]
    for layer in strided[:count]:
        layer.stride = (1, 1)


_BUILDERS: dict[str, Callable[[int, int, bool], nn.Module]] = {
    "mobilenet": _mobilenet,
    "resnet": _resnet,
    "densenet": _densenet,
    "efficientnet": _efficientnet,
}

FAMILIES: tuple[str, ...] = tuple(_BUILDERS)
"""The families, in the order of the tables."""
