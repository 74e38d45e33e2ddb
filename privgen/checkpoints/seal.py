"""The seal of a checkpoint: that its ledger is the one its weights were trained under.

The ledger decides who counts as a member, so an audit is worth no more than it is. Every checkpoint
holds a SHA-256 over the ledger's content and the digest of the averaged weights; whoever reads it
computes that again.

What this finds: a ledger that was edited (roles exchanged, tiles struck out, patients renamed), and
a ledger that was put beside the weights of another run or another step. What it cannot find:
somebody who edits and computes the seal anew. There is no key in it; whoever must defend against
its own staff signs the file.
"""

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor


def weights_digest(
    *,
    family: str,
    resolution: int,
    classes: tuple[str, ...],
    class_share: tuple[float, ...],
    tensors: Mapping[str, Tensor],
) -> str:
    """SHA-256, 64 hex digits, over all that decides a sample: weights, classes and shares.

    Args:
      family, resolution, classes, class_share: of the generator.
      tensors: its state dictionary, in any order.
    """
    digest = hashlib.sha256(f"{family} {resolution} {classes} {class_share}".encode())
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def seal_of(ledger: str, weights: str) -> str:
    """The seal, 64 hex digits.

    Args:
      ledger: JSON; only its content counts, neither spaces nor the order of its keys.
      weights: their digest.

    Raises:
      ValueError: `ledger` is no JSON.
    """
    canonical = json.dumps(json.loads(ledger), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"privgen-seal/1\n{weights}\n{canonical}".encode()).hexdigest()
