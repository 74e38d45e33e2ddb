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


def pair_distance(features: Tensor, labels: Tensor) -> Tensor:
    """Mean Euclidean distance between tiles 2k and 2k + 1 where they are of one class.

    Args:
      features: shape (n, ...), flattened a tile; n even.
      labels: class numbers, shape (n,).

    Returns:
      Scalar; 0 when no pair is of one class.
    """
    pairs = features.float().flatten(1)
    distances = ((pairs[0::2] - pairs[1::2]).square().sum(dim=1) + 1e-8).sqrt()
    same = (labels[0::2] == labels[1::2]).to(distances.dtype)
    return torch.as_tensor((distances * same).sum() / same.sum().clamp_min(1))


def diversity_shortfall(
    real: Sequence[Tensor], synthetic: Sequence[Tensor], labels: Tensor
) -> Tensor:
    """By how much synthetic tiles of a class differ less than real ones, averaged over scales.

    Args:
      real, synthetic: feature maps a scale, each (n, c, h, w), of batches with the same labels, in
        pairs augmented alike.
      labels: class numbers, shape (n,).

    Returns:
      Scalar in [0, 1]: mean of `max(0, 1 - synthetic distance / real distance)`.
    """
    terms = [
        F.relu(1 - pair_distance(b, labels) / pair_distance(a, labels).clamp_min(1e-6))
        for a, b in zip(real, synthetic, strict=True)
    ]
    return torch.stack(terms).mean()


@torch.no_grad()
def diversity(real: Tensor, synthetic: Tensor, labels: Tensor) -> float:
    """Mean distance between synthetic tiles of a class, against that of real ones: 1 is as diverse.

    Args:
      real, synthetic: feature maps, each (n, c, h, w), of batches with the same labels, in pairs
        augmented alike; places are averaged first, so that it is content that counts.
      labels: class numbers, shape (n,).

    Returns:
      The ratio; 0 when no pair is of one class.
    """
    target = pair_distance(real.mean(dim=(2, 3)), labels)
    found = pair_distance(synthetic.mean(dim=(2, 3)), labels)
    return float(found / target) if target > 0 else 0.0
