"""`cdcgan-2025`: the published conditional DCGAN for colorectal tissue, layer by layer.

Generator: latent of 1500, dense to a 7x7 map of 128 channels, the class as one more channel of that
map, five 4x4 transposed convolutions of stride 2 with 128 filters each, a 7x7 convolution, tanh:
224 px. Discriminator: the class as a fourth channel of the tile, two 4x4 convolutions of stride 2
with 128 filters each, dropout .4, one dense unit; its sigmoid is part of the loss. Leaky ReLUs have
slope .2 throughout. Neither network normalises anything (DCGAN: Radford et al. 2016,
arXiv:1511.06434).

Printed, and so kept: all of the above. Assumed, because the paper says only "label embedding to a
7x7 map": the usual Keras recipe, an embedding of dimension 50 and a dense layer without activation,
in both networks; "same" padding; glorot uniform weights, zero biases, embeddings uniform in
[-.05, .05], which are the defaults of Keras.

Only 224 px was published. At 32, 64, 128 and 256 px the generator starts from a map of
resolution / 32 pixels per side (1, 2, 4, 8); everything else is unchanged.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from privgen.config import TrainConfig
from privgen.models.layers import LEAK, wide

LATENT = 1500
"""Length of z."""

LABEL_EMBEDDING = 50
"""Length of a class's embedding (assumed)."""

DOUBLINGS = 5
"""Transposed convolutions of the generator."""

DROPOUT = 0.4
"""Share of the discriminator's last map that is dropped while it trains."""


class LabelMap(nn.Module):
    """A class as a map of one channel: embedding, then one dense unit per pixel.

    Args:
      classes: number of classes.
      side: pixels per side.
    """

    def __init__(self, classes: int, side: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, LABEL_EMBEDDING)
        self.dense = nn.Linear(LABEL_EMBEDDING, side * side)
        self.side = side

    def forward(self, labels: Tensor) -> Tensor:
        """Class numbers, shape (n,) -> (n, 1, side, side)."""
        return torch.as_tensor(self.dense(self.embedding(labels))).reshape(
            -1, 1, self.side, self.side
        )


class PublishedGenerator(nn.Module):
    """z and class to tiles.

    Args:
      resolution: side of the tiles, a multiple of 32; 224 is the published one.
      classes: number of classes.
      filters: of every layer; 128 are the published ones.
    """

    z_dim = LATENT
    noise_shapes: tuple[tuple[int, int, int], ...] = ()

    def __init__(self, *, resolution: int, classes: int, filters: int) -> None:
        super().__init__()
        self.resolution = resolution
        self.start_side = resolution // 2**DOUBLINGS
        self.label_map = LabelMap(classes, self.start_side)
        self.dense = nn.Linear(LATENT, self.start_side**2 * filters)
        layers: list[nn.Module] = []
        for index in range(DOUBLINGS):
            c_in = filters + 1 if index == 0 else filters
            layers.append(nn.ConvTranspose2d(c_in, filters, 4, stride=2, padding=1))
            layers.append(nn.LeakyReLU(LEAK))
        self.doublings = nn.Sequential(*layers)
        self.to_rgb = nn.Conv2d(filters, 3, 7, padding=3)
        self.apply(_as_keras)

    def forward(self, z: Tensor, labels: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """Tiles in [-1, 1], shape (n, 3, r, r).

        Args:
          z: standard normal, shape (n, 1500).
          labels: class numbers, shape (n,).
          noise: empty; this generator has no noise inputs.
        """
        side = self.start_side
        x = nn.functional.leaky_relu(self.dense(z), LEAK).reshape(len(z), side, side, -1)
        x = torch.cat([x.permute(0, 3, 1, 2), self.label_map(labels)], dim=1)
        x = self.doublings(x.contiguous(memory_format=torch.channels_last))
        return torch.tanh(wide(self.to_rgb(x)))


class PublishedDiscriminator(nn.Module):
    """Tiles and class to one logit.

    Args:
      resolution: side of the tiles, a multiple of 4.
      classes: number of classes.
      filters: of both convolutions; 128 are the published ones.
    """

    def __init__(self, *, resolution: int, classes: int, filters: int) -> None:
        super().__init__()
        self.side = resolution
        self.label_map = LabelMap(classes, resolution)
        self.body = nn.Sequential(
            nn.Conv2d(4, filters, 4, stride=2, padding=1),
            nn.LeakyReLU(LEAK),
            nn.Conv2d(filters, filters, 4, stride=2, padding=1),
            nn.LeakyReLU(LEAK),
        )
        self.dropout = nn.Dropout(DROPOUT)
        self.logit = nn.Linear((resolution // 4) ** 2 * filters, 1)
        self.apply(_as_keras)

    def features(self, x: Tensor) -> list[Tensor]:
        """The tiles themselves, shape (n, 3, side, side): nothing is frozen."""
        return [x]

    def judge(self, features: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Logits, high for real, shape (n, 1); while training, dropout draws from PyTorch's state.

        Args:
          features: the tiles, as `features` gives them.
          labels: class numbers, shape (n,).
        """
        (x,) = features
        pair = torch.cat([x, self.label_map(labels).to(x.dtype)], dim=1)
        h = self.body(pair.contiguous(memory_format=torch.channels_last))
        flat = h.permute(0, 2, 3, 1).flatten(1)
        return wide(self.logit(self.dropout(flat)))


def build_generator(config: TrainConfig, classes: int) -> PublishedGenerator:
    """A fresh generator; `config.width` filters a layer."""
    return PublishedGenerator(resolution=config.resolution, classes=classes, filters=config.width)


def build_discriminator(config: TrainConfig, classes: int) -> PublishedDiscriminator:
    """A fresh discriminator; `config.head_width` filters a layer."""
    return PublishedDiscriminator(
        resolution=config.resolution, classes=classes, filters=config.head_width
    )


def _as_keras(module: nn.Module) -> None:
    """Weights as Keras draws them by default."""
    if isinstance(module, nn.Embedding):
        nn.init.uniform_(module.weight, -0.05, 0.05)
    elif isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
