"""Networks and weights made by others: how a file becomes an encoder, and what is refused.

The embedding is what the network hands to its last layer, the classifying one, which is taken
away: any number of classes will do. A tile is scaled as a whole to the side the weights were
trained at, bicubic and antialiased, and normalised as they expect; always in fp32.

Weights are tensors alone: a safetensors file, or a PyTorch file read with `weights_only`. Nothing
here unpickles objects, compiles a stored program, or runs code that came with a file.

Source: Parmar et al. 2022, arXiv:2104.11222 (why every reduction is antialiased).
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privgen.checkpoints.state import load_weights
from privgen.encoders.batching import BatchEncoder, Encoder, encoder_digest
from privgen.errors import CheckpointError, ConfigError, WeightsError
from privgen.files import sha256_file

_LONGEST_REASON = 200


def weights_digest(file: Path) -> str:
    """SHA-256 of a file of weights.

    Raises:
      WeightsError: it cannot be read.
    """
    try:
        return sha256_file(file)
    except OSError as error:
        raise WeightsError(
            f"the weights cannot be read from {file.name} ({error.strerror}). Give the path of a "
            "safetensors or PyTorch file."
        ) from error


def read_state(file: Path, architecture: str) -> dict[str, Tensor]:
    """The tensors of a safetensors or PyTorch file, told by its content and never by its name.

    Raises:
      WeightsError: it is neither, is damaged, or holds anything but tensors.
    """
    # Otherwise it is not such a file, or a damaged one, which is no PyTorch file either.
    with suppress(safetensors.SafetensorError):
        return safetensors.torch.load_file(file)
    try:
        return load_weights(file)
    except CheckpointError as error:
        raise WeightsError(
            f"the weights of {architecture} must be a safetensors file, or a PyTorch file of "
            f"tensors and nothing else: {file.name} is neither, or damaged. Save the network's "
            "state_dict()."
        ) from error


def load_body(
    network: nn.Module,
    state: Mapping[str, Tensor],
    *,
    heads: Collection[str],
    architecture: str,
    file: Path,
) -> None:
    """Load every tensor but those of the classifying layer, which may be there or not.

    Args:
      network: without its classifying layer.
      state: tensors by name.
      heads: names of the classifying layers.
      architecture, file: what to call the network and its weights in an error.

    Raises:
      WeightsError: a tensor is missing, has another shape or no place.
    """
    prefixes = tuple(f"{head}." for head in heads)
    body = OrderedDict(
        (key, tensor) for key, tensor in state.items() if not key.startswith(prefixes)
    )
    # PyTorch keeps layer versions beside the tensors; safetensors drops them, so today's is meant.
    today = {"": {"version": getattr(network, "_version", 1)}}
    vars(body)["_metadata"] = getattr(state, "_metadata", None) or today
    try:
        network.load_state_dict(body)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(
            f"the weights in {file.name} do not fit {architecture}: {one_line(error)}. Give the "
            "state dictionary of that network."
        ) from error


def image_encoder(
    network: nn.Module,
    *,
    name: str,
    architecture: str,
    digest: str,
    side: int,
    mean: Collection[float],
    std: Collection[float],
    device: torch.device,
) -> Encoder:
    """The encoder of a loaded network.

    Args:
      network: normalised float (n, 3, side, side) to (n, width).
      name: of the encoder.
      architecture: of the network.
      digest: of its weights, 64 hex digits.
      side: pixels per side of its input.
      mean, std: of a channel in [0, 1], as the weights expect; three each.
      device: where it runs.

    Raises:
      ConfigError: its output is not one vector per tile.
    """
    network = network.eval().requires_grad_(False).to(device)
    centre, spread = (
        torch.tensor(list(values), dtype=torch.float32, device=device).reshape(1, 3, 1, 1)
        for values in (mean, std)
    )

    def forward(tiles: Tensor) -> Tensor:
        resized = F.interpolate(tiles, (side, side), mode="bicubic", antialias=True)
        x = (resized.to(device).float() / 255 - centre) / spread
        return torch.as_tensor(network(x)).float()

    with torch.inference_mode():
        found = forward(torch.zeros((1, 3, side, side), dtype=torch.uint8))
    if found.ndim != 2:
        raise ConfigError(
            f"{architecture} gives no single vector per tile: its output has shape "
            f"{tuple(found.shape)}. Choose another network."
        )
    description = (
        f"{architecture} before its last layer; bicubic antialiased {side}; "
        f"mean {[float(x) for x in mean]}, sd {[float(x) for x in std]}"
    )
    return BatchEncoder(
        name=name,
        digest=encoder_digest(digest, description),
        width=int(found.shape[1]),
        forward=forward,
    )


def one_line(error: BaseException | None) -> str:
    """An error of another package as part of a line of ours."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."
