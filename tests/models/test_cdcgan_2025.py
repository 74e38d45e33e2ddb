"""The `cdcgan-2025` family: every layer as published, and what is assumed where the paper is mute.

Expected counts are written out from the published numbers: latent 1500, 128 filters, 4x4 and 7x7
kernels, a 7x7 start; 9 classes, as in NCT-CRC-HE.
"""

import math

import pytest
import torch
from torch import nn

from privgen.config import RESOLUTIONS, TrainConfig
from privgen.models import (
    Discriminator,
    Generator,
    StyleGenerator,
    build_discriminator,
    build_generator,
)


def _networks(resolution: int = 32, width: int = 8, classes: int = 3) -> tuple[nn.Module, ...]:
    torch.manual_seed(0)
    config = TrainConfig(
        family="cdcgan-2025",
        discriminator="own",
        resolution=resolution,
        width=width,
        head_width=width,
    )
    return (
        build_generator(config, classes),
        build_discriminator(config, classes, frozen_type=torch.float32),
    )


def _draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_at_224_px_every_layer_of_the_generator_has_the_published_size() -> None:
    generator, _ = _networks(224, width=128, classes=9)
    expected = {
        "label_map.embedding": 9 * 50,
        "label_map.dense": 50 * 49 + 49,
        "dense": 1500 * 7 * 7 * 128 + 7 * 7 * 128,
        "doublings.0": (128 + 1) * 128 * 4 * 4 + 128,
        "doublings.2": 128 * 128 * 4 * 4 + 128,
        "doublings.4": 128 * 128 * 4 * 4 + 128,
        "doublings.6": 128 * 128 * 4 * 4 + 128,
        "doublings.8": 128 * 128 * 4 * 4 + 128,
        "to_rgb": 128 * 3 * 7 * 7 + 3,
    }
    assert _sizes(generator) == expected
    assert sum(expected.values()) == 10_749_448


def test_at_224_px_every_layer_of_the_discriminator_has_the_published_size() -> None:
    _, discriminator = _networks(224, width=128, classes=9)
    expected = {
        "label_map.embedding": 9 * 50,
        "label_map.dense": 50 * 224 * 224 + 224 * 224,
        "body.0": (3 + 1) * 128 * 4 * 4 + 128,
        "body.2": 128 * 128 * 4 * 4 + 128,
        "logit": 56 * 56 * 128 + 1,
    }
    assert _sizes(discriminator) == expected
    assert sum(expected.values()) == 3_231_427


def _sizes(network: nn.Module) -> dict[str, int]:
    return {
        name: sum(p.numel() for p in layer.parameters())
        for name, layer in network.named_modules()
        if not list(layer.children()) and list(layer.parameters())
    }


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_maps_double_five_times_from_a_32nd_of_the_resolution(resolution: int) -> None:
    generator, discriminator = _networks(resolution)
    sides: list[int] = []
    for layer in generator.doublings:
        layer.register_forward_pre_hook(lambda _m, args: sides.append(args[0].shape[-1]))
    labels = torch.tensor([0, 2])
    tiles = generator(_draw(2, 1500), labels, [])
    start = resolution // 32
    assert sides[::2] == [start * 2**k for k in range(5)]
    assert tiles.shape == (2, 3, resolution, resolution)
    assert tiles.dtype == torch.float32
    assert float(tiles.detach().abs().max()) <= 1.0
    assert generator.resolution == discriminator.side == resolution
    (same,) = discriminator.features(tiles)
    assert same is tiles
    logits = discriminator.judge([tiles], labels)
    assert logits.shape == (2, 1)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_parameters_at_every_resolution_are_those_of_the_formula(resolution: int) -> None:
    generator, discriminator = _networks(resolution)
    start, f = (resolution // 32) ** 2, 8
    of_g = 3 * 50 + 51 * start + 1501 * start * f + (5 * f + 1) * f * 16 + 5 * f + 147 * f + 3
    of_d = 3 * 50 + 51 * resolution**2 + (4 + f) * f * 16 + 2 * f + (resolution // 4) ** 2 * f + 1
    assert sum(p.numel() for p in generator.parameters()) == of_g
    assert sum(p.numel() for p in discriminator.parameters()) == of_d


def test_slopes_dropout_and_the_lack_of_noise_and_normalisation_are_as_published() -> None:
    generator, discriminator = _networks()
    layers = [*generator.modules(), *discriminator.modules()]
    assert {m.negative_slope for m in layers if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert [m.p for m in layers if isinstance(m, nn.Dropout)] == [0.4]
    assert not list(generator.buffers())
    assert not list(discriminator.buffers())
    assert generator.noise_shapes == ()
    assert generator.z_dim == 1500


def test_weights_start_glorot_uniform_and_biases_at_zero_as_in_keras() -> None:
    generator, discriminator = _networks(64)
    fans = {
        generator.dense.weight: 1500 + 4 * 8,
        generator.label_map.dense.weight: 50 + 4,
        generator.doublings[0].weight: (9 + 8) * 16,
        generator.to_rgb.weight: (8 + 3) * 49,
        discriminator.body[0].weight: (4 + 8) * 16,
        discriminator.logit.weight: 16 * 16 * 8 + 1,
    }
    for weight, fan in fans.items():
        limit = math.sqrt(6 / fan)
        assert 0.9 * limit < float(weight.detach().abs().max()) <= limit
    biases = [
        p for net in (generator, discriminator) for n, p in net.named_parameters() if "bias" in n
    ]
    assert len(biases) == 8 + 4
    assert all(not p.any() for p in biases)


def test_the_class_is_the_last_channel_of_the_start_map() -> None:
    generator, _ = _networks(64)
    starts: list[torch.Tensor] = []
    generator.doublings.register_forward_pre_hook(lambda _m, args: starts.append(args[0].detach()))
    z = _draw(1, 1500)
    first = generator(z, torch.tensor([0]), [])
    second = generator(z, torch.tensor([1]), [])
    assert starts[0].shape == (1, 9, 2, 2)
    assert torch.equal(starts[0][:, :8], starts[1][:, :8])
    assert not torch.isclose(starts[0][:, 8], starts[1][:, 8]).any()
    assert not torch.equal(first, second)


def test_the_class_is_a_fourth_channel_of_the_judged_tile() -> None:
    _, discriminator = _networks()
    discriminator.eval()
    seen: list[torch.Tensor] = []
    discriminator.body.register_forward_pre_hook(lambda _m, args: seen.append(args[0].detach()))
    x = _draw(2, 3, 32, 32)
    first = discriminator.judge([x], torch.tensor([0, 0]))
    second = discriminator.judge([x], torch.tensor([1, 1]))
    for pair, label in zip(seen, (0, 1), strict=True):
        assert pair.shape == (2, 4, 32, 32)
        assert torch.equal(pair[:, :3], x)
        row = discriminator.label_map.embedding.weight[label]
        expected = (discriminator.label_map.dense.weight @ row).reshape(32, 32)
        torch.testing.assert_close(pair[1, 3], expected)
    assert not torch.equal(first, second)


def test_dropout_draws_from_the_seeded_state_while_training_and_rests_in_evaluation() -> None:
    _, discriminator = _networks()
    x, labels = _draw(2, 3, 32, 32), torch.tensor([0, 1])
    logits = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        logits.append(discriminator.judge([x], labels))
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])
    discriminator.eval()
    assert torch.equal(discriminator.judge([x], labels), discriminator.judge([x], labels))


def test_they_keep_the_protocols_and_the_generator_has_no_styles() -> None:
    generator, discriminator = _networks()
    assert isinstance(generator, Generator)
    assert not isinstance(generator, StyleGenerator)
    assert isinstance(discriminator, Discriminator)


def test_neither_a_tile_nor_its_logit_depends_on_the_batch() -> None:
    generator, discriminator = (network.eval() for network in _networks())
    z, labels = _draw(4, 1500), torch.tensor([0, 1, 2, 0])
    tiles = generator(z, labels, [])
    alone = generator(z[2:3], labels[2:3], [])
    torch.testing.assert_close(tiles[2:3], alone, rtol=1e-4, atol=1e-6)
    together = discriminator.judge([tiles], labels)
    torch.testing.assert_close(
        together[2:3], discriminator.judge([alone], labels[2:3]), rtol=1e-4, atol=1e-6
    )


@torch.no_grad()
def test_bfloat16_is_close_to_float32_and_leaves_in_float32() -> None:
    generator, discriminator = (network.eval() for network in _networks())
    z, labels = _draw(4, 1500), torch.tensor([0, 1, 2, 0])
    exact = generator(z, labels, [])
    judged = discriminator.judge([exact], labels)
    with torch.autocast("cpu", torch.bfloat16):
        rough = generator(z, labels, [])
        roughly_judged = discriminator.judge([exact], labels)
    assert rough.dtype == roughly_judged.dtype == torch.float32
    assert float((rough - exact).norm() / exact.norm()) < 0.02
    assert float((roughly_judged - judged).norm() / judged.norm()) < 0.05


def test_the_gradient_penalty_has_the_gradient_finite_differences_find() -> None:
    _, discriminator = _networks()
    discriminator.eval().double()
    x, labels = _draw(2, 3, 32, 32).double(), torch.tensor([0, 1])

    def penalty() -> torch.Tensor:
        tiles = x.clone().requires_grad_()
        logits = discriminator.judge(discriminator.features(tiles), labels)
        (gradient,) = torch.autograd.grad(logits.sum(), tiles, create_graph=True)
        return gradient.square().sum()

    weight = discriminator.body[0].weight
    penalty().backward()
    step = _draw(*weight.shape, seed=2).double()
    expected = float((weight.grad * step).sum())
    with torch.no_grad():
        weight += 1e-7 * step
    above = float(penalty().detach())
    with torch.no_grad():
        weight -= 2e-7 * step
    below = float(penalty().detach())
    assert expected != 0
    assert (above - below) / 2e-7 == pytest.approx(expected, rel=1e-3)
