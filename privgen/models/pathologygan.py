"""`pathologygan`: BigGAN-style blocks, styled by a mapping network, for tissue.

Quiros et al. 2019, "PathologyGAN" (arXiv:1907.02644). A mapping of residual dense layers makes a
style of the latent; one style a resolution modulates the generator by adaptive instance norm
(Huang & Belongie 2017, arXiv:1703.06868; Karras et al. 2019, arXiv:1812.04948). Blocks are
residual, up-sampled by 2x2 transposed convolutions, with self-attention at a middle resolution
(Zhang et al. 2019, arXiv:1805.08318, its keys and values pooled as in BigGAN, Brock et al. 2019,
arXiv:1809.11096) and noise of learned strength in every layer. Both networks are spectrally
normalised (Miyato et al. 2018, arXiv:1802.05957) and start from orthogonal weights. The
relativistic average loss and orthogonal regularisation belong to training.

Where this differs from the paper:
- it is conditional: the mapping sees the class too, and the discriminator is told it by projection
  (Miyato & Koyama 2018, arXiv:1802.05637); the paper has no classes;
- maps start from 4x4 instead of 7x7 and sides are powers of two, so attention sits at 32 px
  (16 px for tiles of 32) instead of 28;
- tiles leave through tanh in [-1, 1] instead of a sigmoid in [0, 1];
- the scale of adaptive instance norm is one plus a linear function, so that no channel starts dead;
- the first dense layer, whose output has no places, is not instance-normalised.
`width` 128 and `head_width` 64 come close to the paper's channel counts.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from privgen.config import TrainConfig
from privgen.models.layers import LEAK, channels_at, wide

COARSEST = 4
"""Side of the map the generator starts from, and the discriminator ends with."""

RESIDUAL_DENSE = 4
"""Residual dense layers of the mapping."""

NOISE_STRENGTH = 0.1
"""Of every noise input before training."""

EPSILON = 1e-5
"""Added to a map's variance."""


def attention_side(resolution: int) -> int:
    """Side of the maps that attend to themselves: 32 px, or 16 in tiles of 32."""
    return min(32, resolution // 2)


def _normalised(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """That layer with orthogonal weights and no bias yet, spectrally normalised."""
    nn.init.orthogonal_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return spectral_norm(layer)


def _dense(c_in: int, c_out: int) -> nn.Module:
    return _normalised(nn.Linear(c_in, c_out))


def _conv(c_in: int, c_out: int, kernel: int, stride: int = 1, *, bias: bool = True) -> nn.Module:
    return _normalised(
        nn.Conv2d(c_in, c_out, kernel, stride, (kernel - stride + 1) // 2, bias=bias)
    )


class SelfAttention(nn.Module):
    """`x + gamma * attended(x)` of 8 channels or more; gamma starts at 0: the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = _conv(channels, channels // 8, 1)
        self.key = _conv(channels, channels // 8, 1)
        self.value = _conv(channels, channels // 2, 1)
        self.out = _conv(channels // 2, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Maps, shape (n, c, h, w), h and w even -> the same shape."""
        query = self.query(x).flatten(2)
        key, value = _pooled(self.key(x)), _pooled(self.value(x))
        weights = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
        seen = (value @ weights.transpose(1, 2)).reshape(len(x), -1, *x.shape[2:])
        seen = self.gamma * self.out(seen.contiguous(memory_format=torch.channels_last))
        return torch.as_tensor(x + seen)


def _pooled(x: Tensor) -> Tensor:
    """The greatest of every 2x2 places, shape (n, c, h w / 4); its gradient is deterministic."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).amax(dim=(3, 5)).flatten(2)


class AdaptiveNorm(nn.Module):
    """Each map of each tile brought to the mean and spread its style asks for."""

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        inner = (channels + style_dim) // 2
        self.hidden = _dense(style_dim, inner)
        self.affine = _dense(inner, 2 * channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Maps (n, c, h, w), styles (n, d) -> (n, c, h, w) of mean `shift` and spread `|scale|`."""
        scale, shift = self.scale_and_shift(style)
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0)
        scale = (scale * torch.rsqrt(variance + EPSILON)).to(x.dtype)
        shift = shift.to(x.dtype) - mean * scale
        return torch.addcmul(shift[:, :, None, None], x, scale[:, :, None, None])

    def scale_and_shift(self, style: Tensor) -> tuple[Tensor, Tensor]:
        """Spread and mean of each channel, both (n, c), for styles (n, d)."""
        scale, shift = self.affine(F.relu(self.hidden(style))).chunk(2, dim=1)
        return 1 + scale, shift


class StyledLayer(nn.Module):
    """A convolution to `channels` (the norm would undo its bias), noise, norm, leaky ReLU."""

    def __init__(self, conv: nn.Module, channels: int, style_dim: int) -> None:
        super().__init__()
        self.conv = conv
        self.noise_strength = nn.Parameter(torch.full((channels,), NOISE_STRENGTH))
        self.norm = AdaptiveNorm(channels, style_dim)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """Maps (n, c, h, w), styles (n, d), noise (n, 1, h', w') -> (n, channels, h', w')."""
        x = self.conv(x)
        strength = self.noise_strength[None, :, None, None].to(x.dtype)
        return F.leaky_relu(self.norm(torch.addcmul(x, strength, noise.to(x.dtype)), style), LEAK)


class GeneratorBlock(nn.Module):
    """A residual pair of styled layers, attention where asked, and an up-sampling styled layer."""

    def __init__(self, c_in: int, c_out: int, style_dim: int, *, attend: bool) -> None:
        super().__init__()
        self.first = StyledLayer(_conv(c_in, c_in, 3, bias=False), c_in, style_dim)
        self.second = StyledLayer(_conv(c_in, c_in, 3, bias=False), c_in, style_dim)
        self.attention = SelfAttention(c_in) if attend else nn.Identity()
        doubling = _normalised(nn.ConvTranspose2d(c_in, c_out, 2, stride=2, bias=False))
        self.up = StyledLayer(doubling, c_out, style_dim)

    def forward(self, x: Tensor, here: Tensor, finer: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """Maps (n, c_in, h, w) -> (n, c_out, 2h, 2w).

        Args:
          x: maps.
          here, finer: styles (n, d) of this resolution and of the next.
          noise: two maps of side h, one of side 2h.
        """
        x = x + self.second(self.first(x, here, noise[0]), here, noise[1])
        return torch.as_tensor(self.up(self.attention(x), finer, noise[2]))


class _ResidualDense(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _dense(width, width), _dense(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(x + self.second(F.relu(self.first(F.relu(x)))))


class PathologyGenerator(nn.Module):
    """z and class to tiles, by way of one style a resolution.

    Args:
      resolution: side of the tiles, a power of two, at least 32.
      classes: number of classes.
      width: channels at 64 px.
      style_dim: length of the latent and of a style.
    """

    def __init__(self, *, resolution: int, classes: int, width: int, style_dim: int) -> None:
        super().__init__()
        self.resolution, self.z_dim = resolution, style_dim
        self.embedding = nn.Embedding(classes, style_dim)
        self.mapping = nn.Sequential(
            _dense(2 * style_dim, style_dim),
            *(_ResidualDense(style_dim) for _ in range(RESIDUAL_DENSE)),
            _dense(style_dim, style_dim),
        )
        channels = channels_at(COARSEST, width=width)
        self.start = nn.Sequential(
            _dense(style_dim, 8 * width),
            nn.LeakyReLU(LEAK),
            _dense(8 * width, COARSEST**2 * channels),
        )
        self.start_norm = AdaptiveNorm(channels, style_dim)
        blocks: list[nn.Module] = []
        noise_shapes: list[tuple[int, int, int]] = []
        side = COARSEST
        while side < resolution:
            c_out = channels_at(2 * side, width=width)
            attend = side == attention_side(resolution)
            blocks.append(GeneratorBlock(channels, c_out, style_dim, attend=attend))
            noise_shapes += [(1, side, side), (1, side, side), (1, 2 * side, 2 * side)]
            channels, side = c_out, 2 * side
        self.blocks = nn.ModuleList(blocks)
        self.noise_shapes = tuple(noise_shapes)
        self.style_count = len(blocks) + 1
        self.to_rgb = _conv(channels, 3, 3)

    def styles(self, z: Tensor, labels: Tensor) -> Tensor:
        """One style a resolution, coarse to fine, of latents (n, z_dim): (n, style_count, d)."""
        w = self.mapping(torch.cat([z, self.embedding(labels)], dim=1))
        return torch.as_tensor(w[:, None].repeat(1, self.style_count, 1))

    def synthesis(self, styles: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """Tiles in [-1, 1], shape (n, 3, r, r).

        Args:
          styles: shape (n, style_count, d); style k is that of maps of side 4 * 2^k.
          noise: standard normal, one a styled convolution, shapes (n, *noise_shapes[k]).
        """
        coarsest = styles[:, 0]
        x = self.start(coarsest).reshape(len(styles), COARSEST, COARSEST, -1).permute(0, 3, 1, 2)
        x = F.leaky_relu(self.start_norm(x, coarsest), LEAK)
        for k, block in enumerate(self.blocks):
            x = block(x, styles[:, k], styles[:, k + 1], noise[3 * k : 3 * k + 3])
        return torch.tanh(wide(self.to_rgb(x)))

    def forward(self, z: Tensor, labels: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """`synthesis(styles(z, labels), noise)`."""
        return self.synthesis(self.styles(z, labels), noise)


class _DiscriminatorBlock(nn.Module):
    """A residual pair of convolutions (in the first block on three colours), attention, halving."""

    def __init__(self, c_in: int, c_out: int, *, attend: bool) -> None:
        super().__init__()
        self.first, self.second = _conv(c_in, c_in, 3), _conv(c_in, c_in, 3)
        self.attention = SelfAttention(c_in) if attend else nn.Identity()
        self.down = _conv(c_in, c_out, 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, c_in, h, w) -> (n, c_out, h / 2, w / 2)."""
        h = F.leaky_relu(self.first(x), LEAK)
        x = x + F.leaky_relu(self.second(h), LEAK)
        return F.leaky_relu(self.down(self.attention(x)), LEAK)


class PathologyDiscriminator(nn.Module):
    """Tiles and class to one logit.

    Args:
      resolution: side of the tiles, a power of two, at least 32.
      classes: number of classes.
      width: channels at 64 px.
    """

    def __init__(self, *, resolution: int, classes: int, width: int) -> None:
        super().__init__()
        self.side = resolution
        blocks: list[nn.Module] = []
        channels, side = 3, resolution
        while side > COARSEST:
            c_out = channels_at(side // 2, width=width)
            attend = side == attention_side(resolution)
            blocks.append(_DiscriminatorBlock(channels, c_out, attend=attend))
            channels, side = c_out, side // 2
        self.body = nn.Sequential(*blocks)
        self.dense = _dense(COARSEST**2 * channels, 2 * channels)
        self.logit = _dense(2 * channels, 1)
        self.embedding = spectral_norm(nn.Embedding(classes, 2 * channels))

    def features(self, x: Tensor) -> list[Tensor]:
        """The tiles themselves, shape (n, 3, side, side): nothing is frozen."""
        return [x]

    def described(self, x: Tensor) -> Tensor:
        """What the logit is linear in: tiles in [-1, 1] -> shape (n, c)."""
        return F.leaky_relu(self.dense(self.body(x).flatten(1)), LEAK)

    def judge(self, features: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Logits, high for real, shape (n, 1): `logit(h) + <embedding(label), h>`."""
        h = self.described(features[0])
        projection = (self.embedding(labels).to(h.dtype) * h).sum(dim=1, keepdim=True)
        return wide(self.logit(h) + projection)


def build_generator(config: TrainConfig, classes: int) -> PathologyGenerator:
    """A fresh generator of the configured size; latents are as long as styles."""
    size, width = config.resolution, config.width
    return PathologyGenerator(
        resolution=size, classes=classes, width=width, style_dim=config.style_dim
    )


def build_discriminator(config: TrainConfig, classes: int) -> PathologyDiscriminator:
    """A fresh discriminator of the configured size, judging at the tiles' own resolution."""
    return PathologyDiscriminator(
        resolution=config.resolution, classes=classes, width=config.head_width
    )
