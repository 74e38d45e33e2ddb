"""Encoders from torchvision's classification networks, with published weights or one's own."""

import difflib
import math
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from privgen.encoders.batching import Encoder
from privgen.encoders.foreign import image_encoder, load_body, read_state, weights_digest
from privgen.encoders.weights import PublishedWeights, locate
from privgen.errors import ConfigError, WeightsError

_PUBLISHED_NAME = re.compile(r".*-(?P<sha256>[0-9a-f]{8,64})\.pth")
_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
_AUXILIARY = re.compile(r"(?:aux\d|AuxLogits)\.")
_MIB = 2**20


def torchvision_network(name: str, weights: Path | None, device: torch.device) -> Encoder:
    """A classification network of torchvision.

    Args:
      name: as torchvision registers it, e.g. `resnet18`.
      weights: a state dictionary of that network, published or not; None looks for the default
        published one in the caches and then fetches it. Its digest must begin as its name says.
      device: where it runs.

    Raises:
      ConfigError: torchvision has no classification network of that name.
      WeightsError: there are no weights, or they do not fit the network.
    """
    preset = _preset(name)
    published = published_weights(name, preset, option=f"`encoder` torchvision:{name}:FILE")
    file = weights or locate(published)
    digest = weights_digest(file)
    whose = "" if published.accepts(digest) else f"@{digest[:8]}"
    return _of_torchvision(name, file, digest, f"torchvision:{name}{whose}", device)


def own_weights(file: Path, sha256: str, device: torch.device) -> Encoder:
    """Weights of one's own for a network of torchvision.

    Args:
      file: what the network's `state_dict()` gives, tensors by name and nothing else, saved with
        `safetensors.torch.save_file` or `torch.save`. Its name begins with the registered name of
        the network: `resnet18.safetensors`, `resnet18-crc.pt`. The last layer may have any number
        of classes, or be missing; every other tensor must be there.
      sha256: of the file, 64 hex digits.
      device: where it runs.

    Raises:
      ConfigError: the name of the file names no network of torchvision.
      WeightsError: the file is missing, has another digest, or does not fit the network.
    """
    name = re.split(r"[-.]", file.name)[0]
    require_digest(file, sha256)
    return _of_torchvision(name, file, sha256, f"file:{name}@{sha256[:8]}", device)


def _preset(name: str) -> Any:
    """torchvision's default weights of a classification network: an entry of an enumeration."""
    models = import_module("torchvision.models")
    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else "Give a name such as resnet18."
        raise ConfigError(f"torchvision has no classification network called {name!r}. {hint}")
    return models.get_model_weights(name).DEFAULT


def require_digest(file: Path, sha256: str) -> None:
    """Refuse a file of another SHA-256, 64 hex digits in lower case.

    Raises:
      WeightsError: it has another one, or is missing.
    """
    found = weights_digest(file)
    if found != sha256:
        raise WeightsError(
            f"{file.name} must have the SHA-256 {sha256}: it has {found}. Give the right file, or "
            "the right digest."
        )


def published_weights(name: str, preset: Any, *, option: str) -> PublishedWeights:
    """What torchvision publishes for a network, and how a person gives it by hand.

    Args:
      name: of the network.
      preset: an entry of its weights enumeration.
      option: the command line that takes the file.

    Raises:
      WeightsError: it is published without a digest.
    """
    parts = _PUBLISHED_NAME.fullmatch(preset.url.rsplit("/", 1)[-1])
    if parts is None:
        raise WeightsError(
            f"torchvision publishes no digest with its {name} weights, so they are not fetched. "
            f"Download {preset.url} and pass {option}"
        )
    return PublishedWeights(
        title=f"torchvision {name}",
        url=preset.url,
        sha256=parts["sha256"],
        # Published in MiB with three decimals; rounded up, it is never too small.
        size=math.ceil((preset.meta["_file_size"] + 0.001) * _MIB),
        option=option,
    )


def _of_torchvision(
    name: str, file: Path, digest: str, called: str, device: torch.device
) -> Encoder:
    preset = _preset(name)
    transforms = preset.transforms()
    side = int(transforms.crop_size[0])
    # Read first: a wrong file is told before a network of some gigabytes is built.
    state = read_state(file, name)
    network = _torchvision_built(name, side)
    head = _without_head(network)
    load_body(network, as_built_today(state), heads=[head], architecture=name, file=file)
    return image_encoder(
        network,
        name=called,
        architecture=name,
        digest=digest,
        side=side,
        mean=transforms.mean,
        std=transforms.std,
        device=device,
    )


def _torchvision_built(name: str, side: int) -> nn.Module:
    models = import_module("torchvision.models")
    with torch.random.fork_rng(devices=[]):  # initial weights must not move the caller's seed
        if name in ("googlenet", "inception_v3"):
            # Their weights expect another normalisation, which these two apply themselves.
            built: nn.Module = models.get_model(
                name, weights=None, transform_input=True, aux_logits=False, init_weights=False
            )
        elif name.startswith("vit_"):
            built = models.get_model(name, weights=None, image_size=side)
        else:
            built = models.get_model(name, weights=None)
    return built


def _without_head(network: nn.Module) -> str:
    """Take away the classifying layer and tell its name.

    It is the last linear layer, or, where there is none (SqueezeNet), the last convolution, whose
    input is then averaged over the tile.
    """
    of_kind = {
        kind: [place for place, layer in network.named_modules() if isinstance(layer, kind)]
        for kind in (nn.Linear, nn.Conv2d)
    }
    head: str = (of_kind[nn.Linear] or of_kind[nn.Conv2d])[-1]
    parent, _, child = head.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return head


def as_built_today(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Without auxiliary classifiers; DenseNet's layers by the names they have had since 2018."""
    if not any(_AUXILIARY.match(key) or _DENSE_LAYER.search(key) for key in state):
        return state
    return {
        _DENSE_LAYER.sub(r"\1\2", key): tensor
        for key, tensor in state.items()
        if not _AUXILIARY.match(key)
    }
