"""What each family is trained with unless told otherwise, and what that reproduces.

A preset belongs to a family, a resolution, a kind of discriminator and a batch, if one is asked
for. Channel counts are chosen for a CPU and a few hundred tiles; `width`, `style_dim` and
`head_width` bring back the papers'. With a projected discriminator every family takes Sauer et
al.'s (2021) hinge loss, with lazy R1, and the fixed augmentation of small data; with its own, the
losses and penalties of its paper.
"""

from collections.abc import Mapping

from privgen.config import TrainConfig
from privgen.models import Preset, family

_PROJECTED: Preset = {"r1_gamma": 0.2, "r1_every": 8}
"""R1 on the pyramid's maps, lazily: on a few hundred tiles it keeps FD from rising again and rows
diverse (docs/generators.md)."""


def configure(options: Mapping[str, object]) -> TrainConfig:
    """A configuration: what is asked for, over the family's preset, over the plain defaults.

    Raises:
      ConfigError: an unknown family or key, or a value out of range.
    """
    named = TrainConfig.from_dict(options)
    chosen = family(named.family)
    kind = named.discriminator if "discriminator" in options else chosen.discriminator_kind
    batch = named.batch if "batch" in options else None
    preset = chosen.preset(named.resolution, kind, batch)
    return TrainConfig.from_dict({"discriminator": kind, **preset, **options})


def cdcgan(resolution: int, discriminator: str, batch: int | None) -> Preset:
    """The default: small, quick, projected. With its own discriminator: hinge and lazy R1."""
    if discriminator == "projected":
        return _PROJECTED
    return {"batch": 64, "head_width": 64, "r1_gamma": 0.1, "generator_rate": 2e-4}


def cdcgan_2025(resolution: int, discriminator: str, batch: int | None) -> Preset:
    """The published conditional DCGAN for colorectal tissue, as printed: no EMA, no augmentation.

    docs/methods.md#generators: batch 128, binary cross entropy, Adam 1e-4 (beta1 .5) and 2e-4
    (beta1 .9).
    """
    printed: Preset = {
        "batch": 128,
        "width": 128,
        "head_width": 128,
        "loss": "logistic",
        "generator_rate": 2e-4,
        "discriminator_rate": 1e-4,
        "generator_beta1": 0.9,
        "discriminator_beta1": 0.5,
        "beta2": 0.999,
        "ema_kimg": 0.0,
        "augment": 0.0,
        "diversity": 0.0,
    }
    return printed if discriminator == "own" else {**_PROJECTED, "width": 128}


def _sized(resolution: int, batch: int | None) -> Preset:
    """StyleGAN2-ADA's rules for one device: minibatch, R1 weight, EMA half-life, rate.

    Weight and half-life follow from the minibatch, also from one that was asked for.
    """
    batch = batch or max(min(4096 // resolution, 32), 4)
    return {
        "batch": batch,
        "loss": "logistic",
        "r1_gamma": 0.0002 * resolution**2 / batch,
        "r1_every": 16,
        "style_mixing": 0.9,
        "generator_rate": 0.0025,
        "discriminator_rate": 0.0025,
        "ema_kimg": batch * 10 / 32,
        "diversity": 0.0,
    }


_PROJECTED_STYLES: Preset = {**_PROJECTED, "style_mixing": 0.9, "generator_rate": 0.002}
"""For families with equalised learning rates, whose steps are measured in units of their scale."""


def stylegan(resolution: int, discriminator: str, batch: int | None) -> Preset:
    """Karras et al. 2019: logistic loss, R1, style mixing; augmentation fixed, for small data.

    R1 is lazy, as in the paper of 2020, which found it as good and cheaper.
    """
    if discriminator == "projected":
        return _PROJECTED_STYLES
    return _sized(resolution, batch)


def stylegan2(resolution: int, discriminator: str, batch: int | None) -> Preset:
    """Karras et al. 2020 and 2020b: lazy R1 and path length, adaptive augmentation (target .6)."""
    if discriminator == "projected":
        return _PROJECTED_STYLES
    return {**_sized(resolution, batch), "path_weight": 2.0, "path_every": 4, "ada_target": 0.6}


def pathologygan(resolution: int, discriminator: str, batch: int | None) -> Preset:
    """Quiros et al. 2019: relativistic average loss, orthogonal regularisation, style mixing."""
    if discriminator == "projected":
        return {**_PROJECTED, "style_mixing": 0.9, "orthogonal": 1e-4}
    return {
        "batch": 64,
        "loss": "relativistic",
        "style_mixing": 0.9,
        "orthogonal": 1e-4,
        "generator_rate": 1e-4,
        "discriminator_rate": 1e-4,
        "generator_beta1": 0.5,
        "discriminator_beta1": 0.5,
        "beta2": 0.9,
        "diversity": 0.0,
    }
