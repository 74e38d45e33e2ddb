"""Tile classifiers of four families, with stems fit for small tiles.

MobileNetV2 and V3 (Sandler et al. 2018, Howard et al. 2019), ResNet (He et al. 2016), DenseNet
(Huang et al. 2017) and EfficientNet (Tan & Le 2019) as torchvision builds them, and
EfficientNet-Lite0. Those networks were made for 224 px: they shrink a tile 32 times, so that a
32 px tile would end as a single position and most layers would see little but padding. Here the
first strides are taken out:

| side, px | standard shrinks by | small shrinks by | layers whose stride is taken out |
|---|---|---|---|
| up to 32 | 8 | 16 | standard two, small one |
| 33 to 64 | 16 | 32 | standard one, small none |
| above | 32 | 32 | none |

counted from the input: convolution, then convolution or (ResNet, DenseNet) max pooling.

A model is named by its network, `resnet18`, or by its family alone, `resnet`; then a size says
which network is meant. "standard" is MobileNetV3-small, ResNet-18, DenseNet-121 and
EfficientNet-B0. "small" keeps each family's building block for few updates on a CPU:

| family | small network |
|---|---|
| mobilenet | MobileNetV3-small at half width |
| resnet | ResNet-18 at half width, one block a stage instead of two |
| densenet | growth 12, three blocks of six layers, so it shrinks half as much as the table says |
| efficientnet | B0 at half width and depth |
"""

import difflib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.densenet import DenseNet
from torchvision.models.efficientnet import EfficientNet, MBConvConfig
from torchvision.models.resnet import BasicBlock

from privgen.benefit.trials.pretrained import UNTRAINED, Normalisation, load_pretrained
from privgen.errors import ConfigError
from privgen.models.effnet_lite import LITE0, WIDTH, EffNetLite

SIZES = ("standard", "small")

SMALLEST_SIDE = 16
"""Pixels at which the last feature map of the small networks is a single position (DenseNet: 2)."""

_FASTER_IN_BFLOAT16 = ("resnet", "densenet")
"""How the names of the models begin whose convolutions are not depthwise, which bfloat16 slows.

Measured with AVX-512 BF16, one core, 64 px, batches of 32, images per second in bfloat16 and in
float32: ResNet-18 51 and 29, ResNet-50 19 and 11, DenseNet-121 24 and 14; MobileNetV2 34 and 51,
V3-large 21 and 54, EfficientNet-B0 25 and 38, Lite0 25 and 43; small ResNet 867 and 582, small
DenseNet 443 and 360, small MobileNet 352 and 924, small EfficientNet 98 and 357. bfloat16 in all
layers but the depthwise ones gains nothing either.
"""

_DROPOUT = 0.2

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


class Classifier(nn.Module):
    """A network that takes tiles as they are.

    Args:
      network: from normalised floats, shape (n, 3, side, side), to logits (n, classes).
      normalisation: what its weights expect of its input.

    Attributes:
      network, normalisation: as given.
    """

    def __init__(self, network: nn.Module, normalisation: Normalisation) -> None:
        super().__init__()
        self.network = network
        self.normalisation = normalisation

    def forward(self, tiles: Tensor) -> Tensor:
        """Logits, shape (n, classes), of uint8 tiles, shape (n, side, side, 3)."""
        return torch.as_tensor(self.network(self.normalisation(tiles)))


class _Lite0(EffNetLite):
    """EfficientNet-Lite0 that classifies."""

    def __init__(self, classes: int) -> None:
        super().__init__(LITE0)
        self.dropout = nn.Dropout(_DROPOUT)
        self.classifier = nn.Linear(WIDTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.classifier(self.dropout(super().forward(x))))


def build(
    model: str,
    *,
    classes: int,
    side: int,
    seed: int,
    size: str = "standard",
    weights: str | None = None,
) -> Classifier:
    """A classifier; the same arguments give the same weights.

    Args:
      model: one of `MODELS`.
      classes: number of classes, 2 or more.
      side: of the tiles, pixels, `SMALLEST_SIDE` or more.
      seed: of the initial weights; the caller's random state is left as it was.
      size: "standard" or "small": which network a family's name means; no network's own name
        heeds it.
      weights: of `pretrained`; the last layer is fresh all the same. None starts all layers fresh.

    Returns:
      A module in training mode, channels last, from uint8 (n, side, side, 3) to logits
      (n, classes).

    Raises:
      ConfigError: an argument is not one of those, or there are no such weights for that model.
      WeightsError: the weights are not on this machine and could not be fetched, or do not fit.
    """
    if model not in MODELS:
        near = difflib.get_close_matches(model, MODELS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"a classifier must be of {', '.join(MODELS)}: got {model!r}.{hint}")
    if size not in SIZES:
        raise ConfigError(f"a classifier size must be one of {', '.join(SIZES)}: got {size!r}")
    if side < SMALLEST_SIDE:
        raise ConfigError(
            f"classifiers need tiles of {SMALLEST_SIDE} px or more: got {side} px. "
            "Give a larger side."
        )
    if classes < 2:
        raise ConfigError(f"a classifier needs 2 classes or more: got {classes}")
    small = model in FAMILIES and size == "small"
    if small and weights is not None:
        raise ConfigError(
            f"there are no weights for {model} of size small: got {weights!r}. Give size standard, "
            f"or the name of a network, e.g. {_STANDARD[model]}."
        )
    name = _STANDARD.get(model, model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = (_SMALL[model] if small else _NETWORKS[name])(classes)
    normalisation = UNTRAINED if weights is None else load_pretrained(network, name, weights)
    removed = 2 if side <= 32 else 1 if side <= 64 else 0
    if small:
        removed = max(0, removed - 1)
    strided = [
        layer
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d) and layer.stride not in (1, (1, 1))
    ]
    for layer in strided[:removed]:
        layer.stride = (1, 1)
    return Classifier(network, normalisation).to(memory_format=torch.channels_last)


def uses_bfloat16(model: str, device: torch.device) -> bool:
    """Whether a model trains faster under bfloat16 autocast there.

    Args:
      model: one of `MODELS`.
      device: where. On a GPU with bfloat16 every model is said to; that was not measured.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has: Callable[[], bool] = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)
    return model.startswith(_FASTER_IN_BFLOAT16) and has()


def _torchvision(name: str) -> Callable[[int], nn.Module]:
    def made(classes: int) -> nn.Module:
        network: nn.Module = models.get_model(name, weights=None, num_classes=classes)
        return network

    return made


def _small_mobilenet(classes: int) -> nn.Module:
    network: nn.Module = models.mobilenet_v3_small(
        weights=None, num_classes=classes, width_mult=0.5
    )
    return network


def _small_resnet(classes: int) -> nn.Module:
    """One block a stage at half width; torchvision's class has no narrower basic blocks."""
    widths = (32, 64, 128, 256)
    features = nn.Sequential(
        nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        BasicBlock(widths[0], widths[0]),
        *(_halving_block(*pair) for pair in pairwise(widths)),
    )
    head = nn.Linear(widths[-1], classes)
    network = nn.Sequential()
    for name, part in (
        ("features", features),
        ("pool", nn.AdaptiveAvgPool2d(1)),
        ("flat", nn.Flatten()),
        ("fc", head),
    ):
        network.add_module(name, part)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return network


def _halving_block(before: int, after: int) -> nn.Module:
    shortcut = nn.Sequential(
        nn.Conv2d(before, after, 1, stride=2, bias=False), nn.BatchNorm2d(after)
    )
    block: nn.Module = BasicBlock(before, after, stride=2, downsample=shortcut)
    return block


def _small_densenet(classes: int) -> nn.Module:
    network: nn.Module = DenseNet(12, (6, 6, 6), num_init_features=24, num_classes=classes)
    return network


def _small_efficientnet(classes: int) -> nn.Module:
    stages: list[Any] = [
        MBConvConfig(*stage, width_mult=0.5, depth_mult=0.5) for stage in _EFFICIENTNET_B0
    ]
    network: nn.Module = EfficientNet(
        stages, dropout=_DROPOUT, num_classes=classes, last_channel=640
    )
    return network


_SMALL: dict[str, Callable[[int], nn.Module]] = {
    "mobilenet": _small_mobilenet,
    "resnet": _small_resnet,
    "densenet": _small_densenet,
    "efficientnet": _small_efficientnet,
}

FAMILIES: tuple[str, ...] = tuple(_SMALL)
"""The families, in the order of the tables."""

_STANDARD = {
    "mobilenet": "mobilenet_v3_small",
    "resnet": "resnet18",
    "densenet": "densenet121",
    "efficientnet": "efficientnet_b0",
}

_NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    **{
        name: _torchvision(name)
        for name in (
            "mobilenet_v2",
            "mobilenet_v3_small",
            "mobilenet_v3_large",
            "resnet18",
            "resnet50",
            "densenet121",
            "efficientnet_b0",
        )
    },
    "efficientnet_lite0": _Lite0,
}

MODELS: tuple[str, ...] = (*FAMILIES, *_NETWORKS)
"""Every name `build` knows: the families, then the networks."""
