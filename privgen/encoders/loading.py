"""Encoders by name: tiles in, feature vectors out.

| spec | what it is |
|---|---|
| `effnet_lite0` | the default; needs no download |
| `effnet_lite2` | for generators that were trained in the default; needs no download |
| `inception_fid`, `inception_fid:FILE` | the network of the Frechet Inception distance |
| `torchvision:NAME`, `torchvision:NAME:FILE` | a classification network of torchvision |
| `timm:NAME`, `timm:NAME:FILE` | a network of timm, if that package is installed |
| `file:FILE#sha256=HEX` | weights of one's own for a network of torchvision |
| `pixels`, `colour` | baselines without a network |

An encoder is fixed down to its digest: the weights' bytes and everything done to a tile before and
after them. Every tile is scaled as a whole and antialiased; none is cropped.
"""

import difflib
import re
from collections.abc import Callable
from pathlib import Path

import torch

from privgen.encoders.baselines import COLOUR_BINS, PIXELS_SIDE, colour, pixels
from privgen.encoders.batching import BatchEncoder, Encoder, Precision
from privgen.encoders.networks import EFFNET_SIDE, effnet_encoder, inception_fid, inception_network
from privgen.encoders.timm_networks import timm_network
from privgen.encoders.torchvision_networks import own_weights, torchvision_network
from privgen.errors import ConfigError
from privgen.models.effnet_lite import LITE0, LITE2

__all__ = [
    "COLOUR_BINS",
    "EFFNET_SIDE",
    "PIXELS_SIDE",
    "SPECS",
    "BatchEncoder",
    "Encoder",
    "Precision",
    "inception_network",
    "load_encoder",
]

SPECS = (
    "effnet_lite0",
    "effnet_lite2",
    "inception_fid",
    "torchvision:NAME",
    "timm:NAME",
    "file:FILE#sha256=HEX",
    "pixels",
    "colour",
)
"""What `load_encoder` understands."""

_OWN_WEIGHTS = re.compile(r"(?P<file>.+)#sha256=(?P<sha256>[0-9a-fA-F]{64})")
_TIMM = re.compile(r"(?P<name>hf-hub:[^:]+|[^:]+)(?::(?P<file>.+))?")


def load_encoder(
    spec: str = "effnet_lite0",
    *,
    device: str | None = None,
    precision: Precision = "auto",
) -> Encoder:
    """Load an encoder by name.

    Args:
      spec: one of `SPECS`; behind the name of a network, `:FILE` names its weights on this machine.
      device: "cpu" or "cuda"; None takes a GPU where there is one.
      precision: of the EfficientNets: "auto" takes bf16 where the processor has instructions for it
        (about three times as fast), else fp32. The others always compute in fp32.

    Raises:
      ConfigError: there is no such encoder, or the package it needs is not installed.
      WeightsError: the weights are not on this machine and could not be fetched, or do not fit.
    """
    name, _, argument = spec.partition(":")
    if name not in _LOADERS:
        near = sorted(difflib.get_close_matches(name, _LOADERS, n=2))
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(f"no encoder is called {name!r}; there are {', '.join(SPECS)}.{hint}")
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return _LOADERS[name](argument, where, precision)


def _effnet_lite0(argument: str, device: torch.device, precision: Precision) -> Encoder:
    _require_no_file("effnet_lite0", argument)
    return effnet_encoder("effnet_lite0", LITE0, device, precision)


def _effnet_lite2(argument: str, device: torch.device, precision: Precision) -> Encoder:
    _require_no_file("effnet_lite2", argument)
    return effnet_encoder("effnet_lite2", LITE2, device, precision)


def _inception_fid(argument: str, device: torch.device, _: Precision) -> Encoder:
    return inception_fid(Path(argument) if argument else None, device)


def _torchvision(argument: str, device: torch.device, _: Precision) -> Encoder:
    name, _separator, file = argument.partition(":")
    return torchvision_network(name, Path(file) if file else None, device)


def _timm(argument: str, device: torch.device, _: Precision) -> Encoder:
    parts = _TIMM.fullmatch(argument)
    if parts is None:
        raise ConfigError(
            f"a timm encoder is timm:NAME or timm:NAME:FILE: got {f'timm:{argument}'!r}. Name a "
            "network, e.g. timm:resnet18."
        )
    return timm_network(parts["name"], Path(parts["file"]) if parts["file"] else None, device)


def _file(argument: str, device: torch.device, _: Precision) -> Encoder:
    parts = _OWN_WEIGHTS.fullmatch(argument)
    if parts is None:
        raise ConfigError(
            "own weights are named with their digest, file:FILE#sha256=HEX with 64 hex digits: got "
            f"{f'file:{argument}'!r}. sha256sum FILE prints it."
        )
    return own_weights(Path(parts["file"]), parts["sha256"].lower(), device)


def _pixels(argument: str, device: torch.device, precision: Precision) -> Encoder:
    _require_no_file("pixels", argument)
    return pixels()


def _colour(argument: str, device: torch.device, precision: Precision) -> Encoder:
    _require_no_file("colour", argument)
    return colour()


def _require_no_file(name: str, argument: str) -> None:
    if argument:
        raise ConfigError(
            f"the encoder {name} takes no file: got {f'{name}:{argument}'!r}. Give {name!r}."
        )


_LOADERS: dict[str, Callable[[str, torch.device, Precision], Encoder]] = {
    "effnet_lite0": _effnet_lite0,
    "effnet_lite2": _effnet_lite2,
    "inception_fid": _inception_fid,
    "torchvision": _torchvision,
    "timm": _timm,
    "file": _file,
    "pixels": _pixels,
    "colour": _colour,
}
