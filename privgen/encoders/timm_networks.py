"""Encoders from timm, a package that is asked for and never required.

timm builds the network; its weights come as a file, from the hub through its own client or from
this machine, and are read by privgen.
"""

import difflib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from privgen.encoders.batching import Encoder
from privgen.encoders.foreign import image_encoder, load_body, one_line, read_state, weights_digest
from privgen.errors import ConfigError, WeightsError

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Weights of a network on the hub, in the order in which they are tried."""


def timm_network(name: str, weights: Path | None, device: torch.device) -> Encoder:
    """A network of timm, histology foundation models on the hub included.

    Args:
      name: as timm lists it, e.g. `resnet18.a1_in1k`; or `hf-hub:OWNER/NAME`, which timm looks up
        on the hub even when the weights are here.
      weights: a state dictionary of that network; None asks the hub, which keeps its own cache and
        knows from its own settings whether the user has access.
      device: where it runs.

    Raises:
      ConfigError: timm is not installed, or knows no such network.
      WeightsError: the weights could not be fetched, or do not fit the network.
    """
    network = _timm_built(_timm_package(), name)
    preset: Mapping[str, Any] = network.pretrained_cfg
    file = weights or _from_hub(name, preset)
    digest = weights_digest(file)
    head = preset.get("classifier") or ()
    heads = [head] if isinstance(head, str) else list(head)
    load_body(network, read_state(file, name), heads=heads, architecture=name, file=file)
    called = f"timm:{name.replace('/', '_')}"
    return image_encoder(
        network,
        name=f"{called}@{digest[:8]}" if weights else called,
        architecture=f"timm {name}",
        digest=digest,
        side=int(preset["input_size"][-1]),
        mean=preset["mean"],
        std=preset["std"],
        device=device,
    )


def _timm_package() -> ModuleType:
    try:
        return import_module("timm")
    except ImportError as error:
        raise ConfigError(
            "timm encoders need the package timm, which is not installed: pip install timm"
        ) from error


def _timm_built(timm: ModuleType, name: str) -> Any:
    if not name.startswith("hf-hub:") and not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f"Did you mean {near[0]}?" if near else "timm.list_models() names them."
        raise ConfigError(f"timm knows no network called {name!r}. {hint}")
    try:
        with torch.random.fork_rng(devices=[]):
            return timm.create_model(name, pretrained=False, num_classes=0)
    except Exception as error:  # the hub's client has a family of its own for every way to fail
        raise WeightsError(f"timm cannot build {name}: {one_line(error)}") from error


def _from_hub(name: str, preset: Mapping[str, Any]) -> Path:
    repository = preset.get("hf_hub_id")
    way_out = f"Download the weights and pass `encoder` timm:{name}:FILE"
    if not repository:
        raise WeightsError(f"the hub has no weights for timm's {name}. {way_out}")
    try:
        hub = import_module("huggingface_hub")
    except ImportError as error:
        raise WeightsError(
            f"the weights of {name} come from the hub: pip install huggingface_hub. Or: {way_out}"
        ) from error
    chosen = preset.get("hf_hub_filename")
    problem: Exception | None = None
    for file in (chosen,) if chosen else HUB_FILES:
        try:
            return Path(hub.hf_hub_download(repo_id=repository, filename=file))
        except Exception as error:  # as above
            problem = problem or error
    raise WeightsError(
        f"the weights of {name} could not be fetched from the hub ({one_line(problem)}). If "
        f"{repository} is gated, ask there for access and log in with `hf auth login`. Or: "
        f"{way_out}"
    ) from problem
