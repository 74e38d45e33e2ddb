"""Encoders without a network: what a comparison of raw pixels or of colours alone would find."""

import torch
from torch import Tensor
from torch.nn import functional as F

from privgen.encoders.batching import BatchEncoder, Encoder, encoder_digest

PIXELS_SIDE = 32
COLOUR_BINS = 8


def pixels() -> Encoder:
    """The tile itself, reduced to 32 pixels per side, in [0, 1]."""

    def forward(tiles: Tensor) -> Tensor:
        small = F.interpolate(tiles, (PIXELS_SIDE, PIXELS_SIDE), mode="bicubic", antialias=True)
        return small.float().flatten(1) / 255

    return BatchEncoder(
        name="pixels",
        digest=encoder_digest("", f"bicubic antialiased {PIXELS_SIDE}; rgb/255"),
        width=3 * PIXELS_SIDE**2,
        forward=forward,
    )


def colour() -> Encoder:
    """Square root of the joint colour histogram: distances are Hellinger's, places forgotten."""
    width = COLOUR_BINS**3

    def forward(tiles: Tensor) -> Tensor:
        level = tiles.flatten(2).long() * COLOUR_BINS // 256
        bins = (level[:, 0] * COLOUR_BINS + level[:, 1]) * COLOUR_BINS + level[:, 2]
        counts = torch.zeros(len(tiles), width).scatter_add_(1, bins, torch.ones(bins.shape))
        return (counts / bins.shape[1]).sqrt()

    return BatchEncoder(
        name="colour",
        digest=encoder_digest(
            "", f"joint RGB histogram, {COLOUR_BINS} bins a channel, square root"
        ),
        width=width,
        forward=forward,
    )
