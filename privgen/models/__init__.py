"""The registry of generator families and the small protocols they keep.

A user's own modules can be trained, sampled and audited when they keep them:

```python
from privgen.models import Family, register_family

register_family("mine", Family(generator=make_g, discriminator=make_d, about="our in-house net"))
privgen.train("tiles/", config={"family": "mine"})
```

No module is ever imported because a file names it: a checkpoint of a family that is not registered
is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from privgen.config import RESOLUTIONS, DiscriminatorKind, TrainConfig
from privgen.errors import ConfigError
from privgen.limits import shown

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@runtime_checkable
class Generator(Protocol):
    """Latent and class to tiles.

    Attributes:
      z_dim: length of the latent of one tile.
      noise_shapes: shapes (1, h, w) of the noise maps of one tile; may be empty.
      resolution: side of the tiles, pixels.
    """

    z_dim: int
    noise_shapes: tuple[tuple[int, int, int], ...]
    resolution: int

    def __call__(self, z: "Tensor", labels: "Tensor", noise: "Sequence[Tensor]") -> "Tensor":
        """Tiles in [-1, 1], shape (n, 3, r, r).

        Args:
          z: standard normal, shape (n, z_dim).
          labels: class numbers, shape (n,).
          noise: standard normal maps, one a noise shape, each (n, 1, h, w).
        """
        ...


@runtime_checkable
class StyleGenerator(Generator, Protocol):
    """A generator whose latent and class become styles first, and styles become a tile.

    Calling it is `synthesis(styles(z, labels), noise)`. Style mixing, path-length regularisation
    and truncation towards a class's mean style need the two halves apart.

    Attributes:
      style_count: number of styles of one tile, coarse to fine.
    """

    style_count: int

    def styles(self, z: "Tensor", labels: "Tensor") -> "Tensor":
        """Styles of tiles, shape (n, style_count, d), equal along the second axis."""
        ...

    def synthesis(self, styles: "Tensor", noise: "Sequence[Tensor]") -> "Tensor":
        """Tiles in [-1, 1], shape (n, 3, r, r), of styles of shape (n, style_count, d)."""
        ...


@runtime_checkable
class Discriminator(Protocol):
    """Tiles and class to logits, in two parts, so that a frozen part runs once per step.

    Attributes:
      side: pixels per side at which it judges.
    """

    side: int

    def features(self, x: "Tensor") -> "list[Tensor]":
        """What nothing learns from: maps of tiles in [-1, 1], shape (n, 3, side, side).

        Without a frozen part these are the tiles themselves, `[x]`.
        """
        ...

    def judge(self, features: "Sequence[Tensor]", labels: "Tensor") -> "Tensor":
        """Logits, high for real, shape (n, m); tiles 2k and 2k + 1 may be compared."""
        ...


POWERS_OF_TWO = (32, 64, 128, 256)
"""Sides most families can make, pixels."""

Preset = Mapping[str, str | float]
"""Configuration keys with their values."""

Builder = Callable[[TrainConfig, int], "nn.Module"]


def _no_preset(resolution: int, discriminator: str, batch: int | None) -> Preset:
    return {}


@dataclass(frozen=True, kw_only=True)
class Family:
    """How to build and train one kind of generator.

    Attributes:
      generator, discriminator: build a fresh network of (configuration, number of classes); weights
        come from PyTorch's random state. The discriminator is the family's own.
      about: one line: what it is, or what it reproduces.
      preset: configuration keys for (resolution, kind of discriminator, batch asked for or None).
      discriminator_kind: which discriminator trains it unless asked otherwise.
      resolutions: sides it can make, pixels.
    """

    generator: Builder
    discriminator: Builder
    about: str
    preset: Callable[[int, str, int | None], Preset] = _no_preset
    discriminator_kind: DiscriminatorKind = "projected"
    resolutions: tuple[int, ...] = POWERS_OF_TWO


def _shipped(
    name: str,
    about: str,
    kind: DiscriminatorKind = "projected",
    resolutions: tuple[int, ...] = POWERS_OF_TWO,
) -> Family:
    """A family of this package; its module is imported when the first network is built."""

    def generator(config: TrainConfig, classes: int) -> "nn.Module":
        built: nn.Module = import_module(f"privgen.models.{name}").build_generator(config, classes)
        return built

    def discriminator(config: TrainConfig, classes: int) -> "nn.Module":
        module = import_module(f"privgen.models.{name}")
        built: nn.Module = module.build_discriminator(config, classes)
        return built

    def preset(resolution: int, discriminator: str, batch: int | None) -> Preset:
        presets = import_module("privgen.models.presets")
        found: Preset = getattr(presets, name)(resolution, discriminator, batch)
        return found

    return Family(
        generator=generator,
        discriminator=discriminator,
        about=about,
        preset=preset,
        discriminator_kind=kind,
        resolutions=resolutions,
    )


FAMILIES: dict[str, Family] = {
    "cdcgan": _shipped("cdcgan", "a conditional DCGAN made modern; the default"),
    "cdcgan-2025": _shipped(
        "cdcgan_2025", "the published conditional DCGAN, as printed", "own", RESOLUTIONS
    ),
    "stylegan": _shipped("stylegan", "Karras et al. 2019"),
    "stylegan2": _shipped("stylegan2", "Karras et al. 2020, with adaptive augmentation"),
    "pathologygan": _shipped("pathologygan", "Quiros et al. 2019"),
}
"""Generator families by name."""

SHIPPED = frozenset(FAMILIES)
"""Names of those that are not one's own."""


def register_family(name: str, family: Family) -> None:
    """Make a family of one's own known by name, for training and for loading its files.

    Raises:
      ConfigError: the name is taken.
    """
    if name in FAMILIES:
        raise ConfigError(f"a generator family {name!r} is already registered; choose another name")
    FAMILIES[name] = family


def family(name: str) -> Family:
    """The family of that name.

    Raises:
      ConfigError: the family is unknown.
    """
    if name not in FAMILIES:
        raise ConfigError(f"unknown generator family {shown(name)}; known: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def build_generator(config: TrainConfig, classes: int) -> "nn.Module":
    """A fresh generator of the configured family; its weights come from PyTorch's random state.

    Raises:
      ConfigError: the family is unknown, or cannot make the resolution.
    """
    chosen = family(config.family)
    if config.resolution not in chosen.resolutions:
        sides = ", ".join(str(side) for side in chosen.resolutions)
        raise ConfigError(
            f"{config.family} makes tiles of {sides} px: got {config.resolution}. "
            "Give another `resolution` or `family`."
        )
    return chosen.generator(config, classes)


def build_discriminator(
    config: TrainConfig, classes: int, *, frozen_type: "torch.dtype"
) -> "nn.Module":
    """A fresh discriminator, projected or the family's own.

    Args:
      config: of the run.
      classes: number of classes.
      frozen_type: of a frozen part's weights.

    Raises:
      ConfigError: the family is unknown.
      WeightsError: the pyramid's weights are not installed.
    """
    if config.discriminator == "own":
        return family(config.family).discriminator(config, classes)
    from privgen.models.projected import ProjectedDiscriminator

    return ProjectedDiscriminator(
        side=config.judged_side,
        classes=classes,
        width=config.head_width,
        frozen_type=frozen_type,
    )
