"""What the two networks are trained to do.

Hinge losses (Lim & Ye 2017, arXiv:1705.02894) and one term against collapse: synthetic tiles of a
class should differ from each other as much as real tiles of that class do.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def discriminator_hinge(real: Tensor, synthetic: Tensor) -> Tensor:
    """`mean(max(0, 1 - real)) + mean(max(0, 1 + synthetic))` of logits, high for real."""
    return F.relu(1 - real).mean() + F.relu(1 + synthetic).mean()


def generator_hinge(synthetic: Tensor) -> Tensor:
    """`-mean(synthetic)` of logits, high for real."""
    return -synthetic.mean()


def intra_class_distance(features: Tensor, labels: Tensor) -> Tensor:
    """Mean Euclidean distance between two tiles of the same class.

    Args:
      features: shape (n, ...), flattened a tile.
      labels: class numbers, shape (n,).

    Returns:
      Scalar; 0 when no class has two tiles.
    """
    flat = features.flatten(1).float()
    squares = flat.square().sum(1)
    squared = squares[:, None] + squares[None, :] - 2 * flat @ flat.t()
    pairs = (labels[:, None] == labels[None, :]).triu(diagonal=1)
    distances = squared[pairs].clamp_min(1e-6).sqrt()
    return distances.sum() / max(len(distances), 1)


def diversity_shortfall(
    real: Sequence[Tensor], synthetic: Sequence[Tensor], labels: Tensor
) -> Tensor:
    """By how much synthetic tiles of a class differ less than real ones, averaged over scales.

    Args:
      real, synthetic: feature maps a scale, each (n, c, h, w), of batches with the same labels.
      labels: class numbers, shape (n,).

    Returns:
      Scalar in [0, 1]: mean of `max(0, 1 - synthetic distance / real distance)`; 0 when the batch
      has no two tiles of one class.
    """
    terms = []
    for a, b in zip(real, synthetic, strict=True):
        target = intra_class_distance(a, labels)
        if target > 0:
            terms.append(F.relu(1 - intra_class_distance(b, labels) / target))
    return torch.stack(terms).mean() if terms else torch.zeros((), device=labels.device)


@torch.no_grad()
def diversity(real: Tensor, synthetic: Tensor, labels: Tensor) -> float:
    """Mean distance between synthetic tiles of a class, against that of real ones: 1 is as diverse.

    Args:
      real, synthetic: feature maps, each (n, c, h, w), of batches with the same labels; places are
        averaged first, so that it is content that counts.
      labels: class numbers, shape (n,).

    Returns:
      The ratio; 0 when the batch has no two tiles of one class.
    """
    target = intra_class_distance(real.mean(dim=(2, 3)), labels)
    found = intra_class_distance(synthetic.mean(dim=(2, 3)), labels)
    return float(found / target) if target > 0 else 0.0
