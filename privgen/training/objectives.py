"""What the two networks are trained to do, and what keeps them from going astray.

Losses of logits, high for real: hinge (Lim & Ye 2017, arXiv:1705.02894), non-saturating logistic
(Goodfellow et al. 2014), relativistic average (Jolicoeur-Martineau 2018, arXiv:1807.00734).
Penalties: R1 (Mescheder et al. 2018, arXiv:1801.04406), path length (Karras et al. 2020,
arXiv:1912.04958), orthogonality (Brock et al. 2019, arXiv:1809.11096), and one against collapse:
synthetic tiles of a class should differ from each other as much as real tiles of that class do.

`total` sums a tensor over the processes of a run, with gradients; alone it is the identity.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privgen.models.layers import wide

Total = Callable[[Tensor], Tensor]


def alone(value: Tensor) -> Tensor:
    """The sum over one process."""
    return value


def discriminator_loss(kind: str, real: Tensor, synthetic: Tensor, total: Total = alone) -> Tensor:
    """What the discriminator minimises.

    Args:
      kind: "hinge": `mean(max(0, 1 - r)) + mean(max(0, 1 + s))`; "logistic":
        `mean(softplus(-r)) + mean(softplus(s))`; "relativistic": the logistic loss of
        `r - mean(s)` and `s - mean(r)`.
      real, synthetic: logits, shape (n, m).
      total: sum over processes.
    """
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + synthetic).mean()
    if kind == "relativistic":
        real, synthetic = _relative(real, synthetic, total)
    return F.softplus(-real).mean() + F.softplus(synthetic).mean()


def generator_loss(kind: str, real: Tensor, synthetic: Tensor, total: Total = alone) -> Tensor:
    """What the generator minimises; arguments as `discriminator_loss`.

    "hinge": `-mean(s)`; "logistic": `mean(softplus(-s))`; "relativistic": the discriminator's loss
    with the two sides exchanged.
    """
    if kind == "hinge":
        return -synthetic.mean()
    if kind == "relativistic":
        real, synthetic = _relative(real, synthetic, total)
        return F.softplus(real).mean() + F.softplus(-synthetic).mean()
    return F.softplus(-synthetic).mean()


def _relative(real: Tensor, synthetic: Tensor, total: Total) -> tuple[Tensor, Tensor]:
    """Each side less the mean of the other."""
    sums = total(torch.stack([real.sum(), synthetic.sum(), real.new_tensor(real.numel())]))
    return real - sums[1] / sums[2], synthetic - sums[0] / sums[2]


def r1_penalty(
    judge: Callable[[Sequence[Tensor], Tensor], Tensor], real: Sequence[Tensor], labels: Tensor
) -> Tensor:
    """Half the squared gradient of the real logits with respect to what is judged, mean over tiles.

    Args:
      judge: a discriminator's learned part.
      real: its input for real tiles, maps of shape (n, c, h, w); the tiles themselves where nothing
        is frozen.
      labels: class numbers, shape (n,).

    Returns:
      Scalar with a graph to the discriminator's parameters. A tile's logit is the mean of its
      columns.
    """
    maps = [wide(m.detach()).requires_grad_() for m in real]
    logits = judge(maps, labels).mean(dim=1).sum()
    gradients = torch.autograd.grad(logits, maps, create_graph=True)
    return torch.stack([g.square().flatten(1).sum(1).mean() for g in gradients]).sum() / 2


def path_lengths(tiles: Tensor, styles: Tensor, directions: Tensor) -> Tensor:
    """Length of the Jacobian of each tile with respect to its styles, along a random direction.

    Args:
      tiles: of `styles`, with their graph, shape (n, 3, r, r).
      styles: shape (n, k, d).
      directions: standard normal, shape (n, 3, r, r).

    Returns:
      `sqrt(mean_k |J_k^T y|^2)` with `y = directions / r`, shape (n,), with a graph.

    Source: Karras et al. 2020, section 3.2.
    """
    (gradient,) = torch.autograd.grad(
        (tiles * directions).sum() / tiles.shape[-1], styles, create_graph=True
    )
    return (gradient.square().sum(dim=2).mean(dim=1) + 1e-12).sqrt()


def orthogonality(network: nn.Module) -> Tensor:
    """Sum of squared inner products between different filters of each weight of a network.

    Source: Brock et al. 2019, equation 3: `|W W^T * (1 - I)|^2`, W one row an output.
    """
    terms = []
    for name, weight in network.named_parameters():
        if weight.ndim < 2 or "embedding" in name:
            continue
        rows = weight.flatten(1)
        products = rows @ rows.t()
        terms.append((products - torch.diag(products.diagonal())).square().sum())
    return torch.stack(terms).sum()


def pair_distance(features: Tensor, labels: Tensor, total: Total = alone) -> Tensor:
    """Mean Euclidean distance between tiles 2k and 2k + 1 where they are of one class.

    Args:
      features: shape (n, ...), flattened a tile; n even.
      labels: class numbers, shape (n,).
      total: sum over processes.

    Returns:
      Scalar; 0 when no pair is of one class.
    """
    pairs = wide(features).flatten(1)
    distances = ((pairs[0::2] - pairs[1::2]).square().sum(dim=1) + 1e-8).sqrt()
    same = (labels[0::2] == labels[1::2]).to(distances.dtype)
    sums = total(torch.stack([(distances * same).sum(), same.sum()]))
    return sums[0] / sums[1].clamp_min(1)


def diversity_shortfall(
    real: Sequence[Tensor], synthetic: Sequence[Tensor], labels: Tensor, total: Total = alone
) -> Tensor:
    """By how much synthetic tiles of a class differ less than real ones, averaged over scales.

    Args:
      real, synthetic: feature maps a scale, each (n, c, h, w), of batches with the same labels, in
        pairs augmented alike.
      labels: class numbers, shape (n,).
      total: sum over processes.

    Returns:
      Scalar in [0, 1]: mean of `max(0, 1 - synthetic distance / real distance)`.
    """
    terms = [
        F.relu(
            1 - pair_distance(b, labels, total) / pair_distance(a, labels, total).clamp_min(1e-6)
        )
        for a, b in zip(real, synthetic, strict=True)
    ]
    return torch.stack(terms).mean()


@torch.no_grad()
def diversity(
    real: Tensor, synthetic: Tensor, labels: Tensor, *, places: int, total: Total = alone
) -> float:
    """Mean distance between synthetic tiles of a class, against that of real ones: 1 is as diverse.

    Args:
      real, synthetic: feature maps, each (n, c, h, w), of batches with the same labels, in pairs
        augmented alike.
      labels: class numbers, shape (n,).
      places: maps are first averaged to this many places a side: 1 compares content alone.
      total: sum over processes.

    Returns:
      The ratio; 0 when no pair is of one class.
    """
    target, found = (
        pair_distance(F.adaptive_avg_pool2d(wide(maps), places), labels, total)
        for maps in (real, synthetic)
    )
    return float(found / target) if target > 0 else 0.0
