"""Exponential moving average of a generator's weights, with a half-life in thousands of images."""

import copy

import torch
from torch import Tensor, nn

RAMP = 0.05
"""Early on the half-life is at most this share of the images seen: first grids are not noise."""


def decay(*, batch: int, images_seen: int, half_life_kimg: float) -> float:
    """The factor the old average keeps when one batch is added (Karras et al. 2020)."""
    half_life = min(1000 * half_life_kimg, RAMP * images_seen)
    return float(0.5 ** (batch / max(half_life, 1e-8)))


def average_of(network: nn.Module) -> nn.Module:
    """A frozen copy that `update` moves towards `network`."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, factor: float) -> None:
    """`average = factor * average + (1 - factor) * network`, in place; buffers are copied."""
    targets: list[Tensor] = list(average.parameters())
    sources: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(targets, sources, 1 - factor)
    for old, new in zip(average.buffers(), network.buffers(), strict=True):
        old.copy_(new)
