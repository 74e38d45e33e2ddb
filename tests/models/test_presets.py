"""Presets: who wins, and the numbers that papers print."""

from dataclasses import replace

import pytest

from privgen.config import TrainConfig
from privgen.errors import ConfigError
from privgen.models import FAMILIES
from privgen.models.presets import configure


def test_what_is_asked_for_wins_over_the_preset_and_the_preset_over_the_defaults() -> None:
    plain = TrainConfig()
    preset = configure({"family": "stylegan2"})
    assert (plain.style_mixing, plain.generator_rate) == (0.0, 3e-4)
    assert (preset.style_mixing, preset.generator_rate) == (0.9, 0.002)
    asked = configure({"family": "stylegan2", "style_mixing": 0.0, "seed": 3})
    assert (asked.style_mixing, asked.generator_rate, asked.seed) == (0.0, 0.002, 3)
    assert asked.beta2 == plain.beta2
    assert configure({}) == replace(plain, r1_gamma=0.2, r1_every=8)


def test_a_family_has_its_usual_discriminator_unless_another_is_asked_for() -> None:
    assert configure({"family": "cdcgan-2025"}).discriminator == "own"
    assert configure({"family": "stylegan2"}).discriminator == "projected"
    other = configure({"family": "stylegan2", "discriminator": "own"})
    assert (other.discriminator, other.loss, other.ada_target) == ("own", "logistic", 0.6)


@pytest.mark.parametrize(
    ("resolution", "batch", "gamma", "half_life"),
    # batch min(4096 // r, 32); gamma .0002 r^2 / batch; half-life batch * 10 / 32 kimg:
    # docs/methods.md#generators
    [(64, 32, 0.0256, 10.0), (128, 32, 0.1024, 10.0), (256, 16, 0.8192, 5.0)],
)
@pytest.mark.parametrize("family", ["stylegan", "stylegan2"])
def test_style_generators_follow_the_published_sizing_rules(
    family: str, resolution: int, batch: int, gamma: float, half_life: float
) -> None:
    config = configure({"family": family, "discriminator": "own", "resolution": resolution})
    assert config.batch == batch
    assert config.r1_gamma == pytest.approx(gamma)
    assert config.ema_kimg == pytest.approx(half_life)
    assert (config.generator_rate, config.discriminator_rate) == (0.0025, 0.0025)
    assert (config.generator_beta1, config.beta2) == (0.0, 0.99)


@pytest.mark.parametrize(
    ("resolution", "batch", "gamma", "half_life"),
    [(64, 8, 0.1024, 2.5), (64, 64, 0.0128, 20.0), (256, 32, 0.4096, 10.0), (32, 4, 0.0512, 1.25)],
)
@pytest.mark.parametrize("family", ["stylegan", "stylegan2"])
def test_the_sizing_rules_follow_a_batch_that_is_asked_for(
    family: str, resolution: int, batch: int, gamma: float, half_life: float
) -> None:
    given = {"family": family, "discriminator": "own", "resolution": resolution, "batch": batch}
    config = configure(given)
    assert config.batch == batch
    assert config.r1_gamma == pytest.approx(gamma)
    assert config.ema_kimg == pytest.approx(half_life)
    asked = configure({**given, "r1_gamma": 3.0, "ema_kimg": 7.0})
    assert (asked.r1_gamma, asked.ema_kimg) == (3.0, 7.0)


def test_stylegan2_applies_its_penalties_lazily_and_adapts_its_augmentation() -> None:
    config = configure({"family": "stylegan2", "discriminator": "own"})
    assert (config.r1_every, config.path_every, config.path_weight) == (16, 4, 2.0)
    assert (config.ada_target, config.style_mixing) == (0.6, 0.9)
    older = configure({"family": "stylegan", "discriminator": "own"})
    assert (older.r1_every, older.path_weight, older.ada_target) == (16, 0.0, 0.0)


def test_the_published_conditional_dcgan_has_its_printed_hyperparameters() -> None:
    config = configure({"family": "cdcgan-2025", "resolution": 224})
    assert (config.batch, config.width, config.head_width) == (128, 128, 128)
    assert (config.generator_rate, config.generator_beta1) == (2e-4, 0.9)
    assert (config.discriminator_rate, config.discriminator_beta1) == (1e-4, 0.5)
    assert config.loss == "logistic"  # binary cross entropy of a sigmoid
    assert (config.augment, config.ema_kimg, config.diversity) == (0.0, 0.0, 0.0)
    assert (config.r1_gamma, config.orthogonal, config.ada_target) == (0.0, 0.0, 0.0)


def test_pathologygan_is_relativistic_and_orthogonal() -> None:
    config = configure({"family": "pathologygan", "discriminator": "own"})
    assert (config.loss, config.orthogonal, config.style_mixing) == ("relativistic", 1e-4, 0.9)


@pytest.mark.parametrize("discriminator", ["own", "projected"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_preset_is_a_valid_configuration(family: str, discriminator: str) -> None:
    for resolution in FAMILIES[family].resolutions:
        given = {"family": family, "discriminator": discriminator, "resolution": resolution}
        config = configure(given)
        assert TrainConfig.from_dict(config.to_dict()) == config
        assert config.discriminator == discriminator
        assert config.batch % 4 == 0  # tiles are compared in fours
        if discriminator == "projected":
            assert (config.loss, config.r1_gamma, config.augment) == ("hinge", 0.2, 1.0)


def test_an_unknown_family_is_refused_with_all_known_ones() -> None:
    listed = "cdcgan, cdcgan-2025, stylegan, stylegan2, pathologygan"
    with pytest.raises(ConfigError, match=rf"^unknown generator family 'dcgan'; known: {listed}"):
        configure({"family": "dcgan"})


def test_an_unknown_key_is_refused_before_any_preset() -> None:
    with pytest.raises(ConfigError, match=r"'r1_gama'; did you mean r1_gamma\?"):
        configure({"family": "stylegan2", "r1_gama": 1.0})
