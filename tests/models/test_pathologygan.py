"""The `pathologygan` family: styles, attention, norms, and sizes written out by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from privgen.config import TrainConfig
from privgen.models import (
    POWERS_OF_TWO,
    Discriminator,
    StyleGenerator,
    build_discriminator,
    build_generator,
)
from privgen.models.pathologygan import AdaptiveNorm, SelfAttention

CHANNELS = {4: 32, 8: 32, 16: 32, 32: 16, 64: 8, 128: 8, 256: 8}
"""Channels of a map by its side at width 8: 64 * 8 / side, at least 8, at most 4 * 8."""


def _networks(resolution: int = 32) -> tuple[nn.Module, ...]:
    torch.manual_seed(0)
    config = TrainConfig(
        family="pathologygan",
        discriminator="own",
        resolution=resolution,
        width=8,
        head_width=8,
        style_dim=16,
    )
    return (
        build_generator(config, 3),
        build_discriminator(config, 3, frozen_type=torch.float32),
    )


def _inputs(network: nn.Module, count: int, seed: int = 1) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(count, network.z_dim, generator=rng)
    return z, *(torch.randn(count, *shape, generator=rng) for shape in network.noise_shapes)


def _tiles(count: int, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(2)) * 2 - 1


def _attend(channels: int) -> int:
    eighth, half = channels // 8, channels // 2
    query_and_key = 2 * (channels * eighth + eighth)
    value_and_out = channels * half + half + half * channels + channels
    return query_and_key + value_and_out + 1


def _styled(channels: int) -> int:
    inner = (channels + 16) // 2
    return 17 * inner + (inner + 1) * 2 * channels


@pytest.mark.parametrize("resolution", POWERS_OF_TWO)
def test_shapes_and_parameters_at_every_resolution(resolution: int) -> None:
    generator, discriminator = _networks(resolution)
    sides = [side for side in CHANNELS if side < resolution]
    attended = 16 if resolution == 32 else 32
    of_g = 3 * 16 + (33 + 4 * 2 * 17 + 17) * 16  # embedding, mapping
    of_g += 17 * 64 + 65 * 4 * 4 * 32 + _styled(32)  # start
    of_d = 0
    for side in sides:
        here, finer = CHANNELS[side], CHANNELS[2 * side]
        of_g += 2 * (9 * here * here + here + _styled(here))  # weights, noise strengths, norms
        of_g += 4 * here * finer + finer + _styled(finer)
        above = 3 if 2 * side == resolution else finer
        of_d += 2 * (9 * above * above + above) + 16 * above * here + here
        of_g += _attend(here) if side == attended else 0
        of_d += _attend(above) if 2 * side == attended else 0
    of_g += 9 * CHANNELS[resolution] * 3 + 3
    of_d += (4 * 4 * 32 + 1) * 64 + 65 + 3 * 64  # dense, logit, embedding
    assert sum(p.numel() for p in generator.parameters()) == of_g
    assert sum(p.numel() for p in discriminator.parameters()) == of_d

    z, *noise = _inputs(generator, 2)
    labels = torch.tensor([0, 2])
    assert generator.noise_shapes == tuple((1, s, s) for k in sides for s in (k, k, 2 * k))
    assert generator.style_count == len(sides) + 1
    tiles = generator(z, labels, noise)
    assert tiles.shape == (2, 3, resolution, resolution)
    assert tiles.dtype == torch.float32
    assert float(tiles.detach().abs().max()) <= 1.0
    assert generator.resolution == discriminator.side == resolution
    (same,) = discriminator.features(tiles)
    assert same is tiles
    logits = discriminator.judge([tiles], labels)
    assert logits.shape == (2, 1)
    assert logits.dtype == torch.float32


def test_they_keep_the_protocols_and_a_call_is_synthesis_of_styles() -> None:
    generator, discriminator = _networks()
    assert isinstance(generator, StyleGenerator)
    assert isinstance(discriminator, Discriminator)
    generator.eval()
    z, *noise = _inputs(generator, 2)
    labels = torch.tensor([0, 1])
    styles = generator.styles(z, labels)
    assert styles.shape == (2, 4, 16)
    assert torch.equal(styles, styles[:, :1].expand(-1, 4, -1))
    assert torch.equal(generator(z, labels, noise), generator.synthesis(styles, noise))


@pytest.mark.parametrize("crossover", [1, 2, 3])
def test_mixing_changes_the_layers_from_the_crossover_on_and_no_others(crossover: int) -> None:
    generator = _networks()[0].eval()
    z, *noise = _inputs(generator, 2)
    styles = generator.styles(z, torch.tensor([0, 0]))
    mixed = torch.cat([styles[:1, :crossover], styles[1:, crossover:]], dim=1)
    norms = [m for m in generator.modules() if isinstance(m, AdaptiveNorm)]
    asked = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]  # start; a pair per block at its style, then the next's
    seen: list[list[torch.Tensor]] = []
    for norm in norms:
        norm.hidden.register_forward_pre_hook(lambda _m, args: seen[-1].append(args[0].detach()))
    outputs = []
    for chosen in (styles[:1], mixed):
        seen.append([])
        outputs.append(generator.synthesis(chosen, [maps[:1] for maps in noise]))
    unchanged = [torch.equal(a, b) for a, b in zip(*seen, strict=True)]
    assert unchanged == [index < crossover for index in asked]
    assert not torch.allclose(outputs[0], outputs[1])


def test_maps_coarser_than_the_crossover_stay_as_they_were() -> None:
    generator = _networks()[0].eval()
    z, *noise = _inputs(generator, 2)
    styles = generator.styles(z, torch.tensor([0, 0]))
    mixed = torch.cat([styles[:1, :2], styles[1:, 2:]], dim=1)
    maps: list[list[torch.Tensor]] = []
    for block in generator.blocks:
        block.attention.register_forward_hook(lambda _m, _i, out: maps[-1].append(out.detach()))
    for chosen in (styles[:1], mixed):
        maps.append([])
        generator.synthesis(chosen, [part[:1] for part in noise])
    assert [torch.equal(a, b) for a, b in zip(*maps, strict=True)] == [True, True, False]


def test_attention_starts_as_the_identity_at_one_middle_resolution() -> None:
    for resolution, side in ((32, 16), (64, 32), (128, 32)):
        for network in _networks(resolution):
            (attention,) = [m for m in network.modules() if isinstance(m, SelfAttention)]
            sides: list[int] = []

            def check(
                _m: nn.Module,
                args: tuple[torch.Tensor],
                out: torch.Tensor,
                sides: list[int] = sides,
            ) -> None:
                sides.append(out.shape[-1])
                assert torch.equal(out, args[0])

            attention.register_forward_hook(check)
            if isinstance(network, StyleGenerator):
                z, *noise = _inputs(network, 2)
                network(z, torch.tensor([0, 1]), noise)
            else:
                network.judge([_tiles(2, resolution)], torch.tensor([0, 1]))
            assert sides == [side]


def test_attention_equals_weighting_every_pooled_place_by_hand() -> None:
    torch.manual_seed(3)
    layer = SelfAttention(8).eval()
    with torch.no_grad():
        layer.gamma.fill_(0.7)
    x = torch.randn(1, 8, 4, 4)
    out = layer(x)
    query, key, value = (part(x)[0] for part in (layer.query, layer.key, layer.value))
    blocks = [(slice(i, i + 2), slice(j, j + 2)) for i in (0, 2) for j in (0, 2)]
    keys = [key[:, a, b].amax((1, 2)) for a, b in blocks]
    values = [value[:, a, b].amax((1, 2)) for a, b in blocks]
    for i, j in ((0, 0), (1, 3), (3, 2)):
        weights = torch.stack([(query[:, i, j] * k).sum() for k in keys]).exp()
        seen = sum(w / weights.sum() * v for w, v in zip(weights, values, strict=True))
        expected = x[0, :, i, j] + 0.7 * (layer.out.weight[:, :, 0, 0] @ seen + layer.out.bias)
        torch.testing.assert_close(out[0, :, i, j], expected)


def test_adaptive_norm_gives_each_map_the_mean_and_spread_of_its_style() -> None:
    torch.manual_seed(4)
    norm = AdaptiveNorm(6, 5)
    x, style = torch.randn(3, 6, 8, 8) * 4 + 7, torch.randn(3, 5)
    out = norm.eval()(x, style)
    scale, shift = norm.scale_and_shift(style)
    torch.testing.assert_close(out.mean((2, 3)), shift, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out.std((2, 3), correction=0), scale.abs(), rtol=1e-3, atol=1e-4)
    expected = nn.functional.instance_norm(x) * scale[:, :, None, None] + shift[:, :, None, None]
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    assert float((scale - scale[:1]).detach().abs().max()) > 0.1


def test_every_weight_has_spectral_norm_one_after_some_passes_whatever_it_was() -> None:
    generator, discriminator = _networks()
    layers = [
        m
        for network in (generator, discriminator)
        for m in network.modules()
        if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    ]
    assert len(layers) == (1 + 4 * 2 + 1) + (2 + 2) + 3 * (3 + 3 * 2) + 4 + 1 + 3 * 3 + 4 + 2
    torch.manual_seed(5)
    for layer in layers:
        original = layer.parametrizations.weight.original
        original.data.copy_(torch.randn(original.shape) * 3)
    z, *noise = _inputs(generator, 2)
    labels = torch.tensor([0, 1])
    for _ in range(25):
        generator(z, labels, noise)
        discriminator.judge([_tiles(2)], labels)
    for layer in layers:
        weight = layer.weight.detach()
        matrix = weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight
        assert 0.99 < float(torch.linalg.matrix_norm(matrix.flatten(1), 2)) < 1.1


def test_only_the_classes_of_the_generator_are_left_without_spectral_norm() -> None:
    generator, discriminator = _networks()
    bare = [
        name
        for network in (generator, discriminator)
        for name, m in network.named_modules()
        if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding)
        and not parametrize.is_parametrized(m, "weight")
    ]
    assert bare == ["embedding"]


def test_evaluating_moves_no_power_iteration_and_a_copy_gives_the_same_tiles() -> None:
    generator, _ = _networks()
    z, *noise = _inputs(generator, 2)
    labels = torch.tensor([0, 1])
    generator(z, labels, noise)
    generator.eval()
    before = copy.deepcopy(generator.state_dict())
    first = generator(z, labels, noise)
    assert all(torch.equal(before[k], v) for k, v in generator.state_dict().items())
    fresh = _networks()[0].eval()
    fresh.load_state_dict(before)
    assert torch.equal(fresh(z, labels, noise), first)
    assert torch.equal(copy.deepcopy(generator)(z, labels, noise), first)


def test_class_latent_and_every_noise_map_change_the_tile() -> None:
    generator = _networks()[0].eval()
    z, *noise = _inputs(generator, 1)
    base = generator(z, torch.tensor([0]), noise)
    assert not torch.allclose(base, generator(z, torch.tensor([1]), noise), atol=1e-2)
    assert not torch.allclose(base, generator(-z, torch.tensor([0]), noise), atol=1e-2)
    for index in range(len(noise)):
        changed = [-maps if k == index else maps for k, maps in enumerate(noise)]
        assert not torch.allclose(base, generator(z, torch.tensor([0]), changed))


def test_changing_the_class_changes_the_logit_by_the_inner_product_alone() -> None:
    discriminator = _networks()[1].eval()
    x = _tiles(2)
    first = discriminator.judge([x], torch.tensor([0, 0]))
    second = discriminator.judge([x], torch.tensor([2, 2]))
    rows = discriminator.embedding.weight
    expected = discriminator.described(x) @ (rows[2] - rows[0])
    torch.testing.assert_close((second - first)[:, 0], expected, rtol=1e-4, atol=1e-6)
    assert float(expected.detach().abs().min()) > 1e-4


def test_neither_a_tile_nor_its_logit_depends_on_the_batch() -> None:
    generator, discriminator = (network.eval() for network in _networks())
    z, *noise = _inputs(generator, 4)
    labels = torch.tensor([0, 1, 2, 0])
    tiles = generator(z, labels, noise)
    alone = generator(z[2:3], labels[2:3], [maps[2:3] for maps in noise])
    torch.testing.assert_close(tiles[2:3], alone, rtol=1e-4, atol=1e-5)
    together = discriminator.judge([tiles], labels)
    torch.testing.assert_close(
        together[2:3], discriminator.judge([alone], labels[2:3]), rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_bfloat16_is_close_to_float32_and_leaves_in_float32() -> None:
    generator, discriminator = (network.eval() for network in _networks())
    z, *noise = _inputs(generator, 4)
    labels = torch.tensor([0, 1, 2, 0])
    exact = generator(z, labels, noise)
    judged = discriminator.judge([exact], labels)
    with torch.autocast("cpu", torch.bfloat16):
        rough = generator(z, labels, noise)
        roughly_judged = discriminator.judge([exact], labels)
    assert rough.dtype == roughly_judged.dtype == torch.float32
    assert float((rough - exact).norm() / exact.norm()) < 0.04
    assert float((roughly_judged - judged).norm() / judged.norm()) < 0.05


def test_the_gradient_penalty_has_the_gradient_finite_differences_find() -> None:
    discriminator = _networks()[1].eval().double()
    with torch.no_grad():
        next(m for m in discriminator.modules() if isinstance(m, SelfAttention)).gamma.fill_(0.5)
    x, labels = _tiles(2).double(), torch.tensor([0, 1])

    def penalty() -> torch.Tensor:
        tiles = x.clone().requires_grad_()
        logits = discriminator.judge(discriminator.features(tiles), labels)
        (gradient,) = torch.autograd.grad(logits.sum(), tiles, create_graph=True)
        return gradient.square().sum()

    weight = discriminator.body[1].first.parametrizations.weight.original
    penalty().backward()
    step = torch.randn(weight.shape, generator=torch.Generator().manual_seed(6)).double()
    expected = float((weight.grad * step).sum())
    with torch.no_grad():
        weight += 1e-7 * step
    above = float(penalty().detach())
    with torch.no_grad():
        weight -= 2e-7 * step
    below = float(penalty().detach())
    assert expected != 0
    assert (above - below) / 2e-7 == pytest.approx(expected, rel=1e-3)


def test_norm_and_attention_have_the_second_derivatives_finite_differences_find() -> None:
    torch.manual_seed(7)
    norm, attention = AdaptiveNorm(2, 3).eval().double(), SelfAttention(8).eval().double()
    with torch.no_grad():
        attention.gamma.fill_(0.5)
    x = torch.randn(1, 2, 3, 3, dtype=torch.double, requires_grad=True)
    style = torch.randn(1, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(norm, (x, style))
    maps = torch.randn(1, 8, 2, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(attention, (maps,))


def test_path_lengths_of_the_synthesis_can_be_penalised_while_training() -> None:
    generator, _ = _networks()
    z, *noise = _inputs(generator, 2)
    styles = generator.styles(z, torch.tensor([0, 1]))
    tiles = generator.synthesis(styles, noise)
    (slope,) = torch.autograd.grad((tiles * _tiles(2)).sum(), styles, create_graph=True)
    slope.square().sum().backward()
    for norm in (m for m in generator.modules() if isinstance(m, AdaptiveNorm)):
        gradient = norm.hidden.parametrizations.weight.original.grad
        assert torch.isfinite(gradient).all()
        assert gradient.any()
