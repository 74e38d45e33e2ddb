"""What both style-based families promise, and the sizes and layers of the AdaIN one."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from privgen.config import TrainConfig
from privgen.models import (
    POWERS_OF_TWO,
    Discriminator,
    StyleGenerator,
    build_discriminator,
    build_generator,
)
from privgen.models.style_layers import NoiseInput

CHANNELS = {4: 32, 8: 32, 16: 32, 32: 16, 64: 8, 128: 8, 256: 8}
"""At width 8."""

both = pytest.mark.parametrize("family", ["stylegan", "stylegan2"])


def _config(family: str, resolution: int) -> TrainConfig:
    return TrainConfig(
        family=family,
        resolution=resolution,
        width=8,
        head_width=8,
        style_dim=6,
        discriminator="own",
    )


def _generator(family: str, resolution: int = 32, *, noise: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    network = build_generator(_config(family, resolution), 3)
    for module in network.modules():
        if isinstance(module, NoiseInput):
            nn.init.constant_(module.strength, noise)
    return network


def _discriminator(family: str, resolution: int = 32) -> nn.Module:
    torch.manual_seed(0)
    return build_discriminator(_config(family, resolution), 3, frozen_type=torch.float32)


def _inputs(network: nn.Module, count: int, seed: int) -> tuple[Tensor, ...]:
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(count, network.z_dim, generator=rng)
    return z, *(torch.randn(count, *shape, generator=rng) for shape in network.noise_shapes)


def _tiles(count: int, side: int = 32, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _sides(resolution: int) -> list[int]:
    return [side for side in CHANNELS if side <= resolution]


@both
@pytest.mark.parametrize("resolution", POWERS_OF_TWO)
def test_tiles_styles_noise_and_logits_have_their_shapes(family: str, resolution: int) -> None:
    network = _generator(family, resolution)
    z, *noise = _inputs(network, 2, 1)
    labels = torch.tensor([0, 2])
    finer = _sides(resolution)[1:]
    assert network.style_count == 2 + 2 * len(finer)  # two at 4 px, two a doubling
    at_coarsest = 2 if family == "stylegan" else 1
    expected = [4] * at_coarsest + [side for side in finer for _ in range(2)]
    assert network.noise_shapes == tuple((1, side, side) for side in expected)
    with torch.no_grad():
        styles = network.styles(z, labels)
        tiles = network(z, labels, noise)
        assert styles.shape == (2, network.style_count, 6)
        torch.testing.assert_close(styles, styles[:, :1].expand_as(styles), rtol=0, atol=0)
        assert tiles.shape == (2, 3, resolution, resolution)
        assert tiles.dtype == torch.float32
        torch.testing.assert_close(network.synthesis(styles, noise), tiles, rtol=0, atol=0)
        judge = _discriminator(family, resolution)
        logits = judge.judge(judge.features(tiles), labels)
    assert judge.side == resolution
    assert logits.shape == (2, 1)
    assert logits.dtype == torch.float32


@both
def test_networks_keep_the_protocols(family: str) -> None:
    assert isinstance(_generator(family), StyleGenerator)
    judge = _discriminator(family)
    assert isinstance(judge, Discriminator)
    tiles = _tiles(2)
    assert all(found is tiles for found in judge.features(tiles))


@both
def test_most_of_a_fresh_networks_tiles_lie_within_the_range_that_is_not_clamped(
    family: str,
) -> None:
    network = _generator(family, 64)
    z, *noise = _inputs(network, 16, 2)
    with torch.no_grad():
        tiles = network(z, torch.arange(16) % 3, noise)
    assert 0.1 < float(tiles.std()) < 0.7
    assert float((tiles.abs() <= 1).float().mean()) > 0.9


@both
def test_a_tile_does_not_depend_on_its_batch(family: str) -> None:
    network = _generator(family, noise=0.3)
    z, *noise = _inputs(network, 4, 5)
    labels = torch.tensor([0, 1, 2, 0])
    together = network(z, labels, noise)
    alone = network(z[2:3], labels[2:3], [maps[2:3] for maps in noise])
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-5)


@both
def test_noise_reaches_the_tile_from_every_map_once_its_strength_is_learned(family: str) -> None:
    for strength in (0.0, 0.3):
        network = _generator(family, noise=strength)
        z, *noise = _inputs(network, 1, 4)
        base = network(z, torch.tensor([0]), noise)
        for index in range(len(noise)):
            changed = [-maps if k == index else maps for k, maps in enumerate(noise)]
            same = torch.equal(base, network(z, torch.tensor([0]), changed))
            assert same is (strength == 0.0)


@both
def test_z_and_the_class_reach_every_layer_that_takes_a_style(family: str) -> None:
    network = _generator(family)
    z, *noise = _inputs(network, 1, 2)
    other, *_ = _inputs(network, 1, 3)
    seen: list[list[Tensor]] = []
    affine = [layer for name, layer in network.named_modules() if name.endswith(".style")]
    for layer in affine:
        layer.register_forward_hook(lambda _m, _i, out: seen[-1].append(out.detach()))
    for latent, label in ((z, 0), (other, 0), (z, 1)):
        seen.append([])
        network(latent, torch.tensor([label]), noise)
    base, moved_by_z, moved_by_class = seen
    assert len(base) == len(affine) == (8 if family == "stylegan" else 7 + 4)
    for k in range(len(base)):
        assert not torch.allclose(base[k], moved_by_z[k])
        assert not torch.allclose(base[k], moved_by_class[k])


@both
def test_the_class_changes_the_logit(family: str) -> None:
    judge = _discriminator(family)
    tiles = _tiles(4)
    logits = [judge.judge([tiles], torch.full((4,), label)) for label in range(3)]
    assert not torch.allclose(logits[0], logits[1])
    assert not torch.allclose(logits[1], logits[2])


@both
def test_judging_a_batch_in_fours_changes_nothing_and_only_a_group_is_compared(
    family: str,
) -> None:
    judge = _discriminator(family)
    tiles, labels = _tiles(8), torch.arange(8) % 3
    logits = judge.judge([tiles], labels)
    parts = [judge.judge([tiles[k : k + 4]], labels[k : k + 4]) for k in (0, 4)]
    torch.testing.assert_close(logits, torch.cat(parts), rtol=1e-4, atol=1e-5)
    repeated = torch.cat([tiles[:1].expand(4, -1, -1, -1), tiles[4:]])
    changed = judge.judge([repeated], labels)
    assert not torch.allclose(changed[0], logits[0], rtol=1e-3)
    torch.testing.assert_close(changed[4:], logits[4:], rtol=1e-4, atol=1e-5)


def _directional(network: nn.Module, penalty: object, step: float = 1e-9) -> tuple[float, float]:
    """Slope of a penalty along a random direction of all parameters: by autograd, by difference.

    The penalty jumps where a unit crosses the kink of its leaky ReLU, so the step is tiny.
    """
    assert callable(penalty)
    parameters = list(network.parameters())
    direction = [torch.randn_like(p) for p in parameters]
    gradients = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    slope = sum(
        float((g * d).sum()) for g, d in zip(gradients, direction, strict=True) if g is not None
    )
    values = []
    for sign in (1.0, -2.0):
        with torch.no_grad():
            for parameter, part in zip(parameters, direction, strict=True):
                parameter.add_(part, alpha=sign * step)
        values.append(float(penalty().detach()))
    return slope, (values[0] - values[1]) / (2 * step)


@both
def test_the_gradient_of_r1_equals_finite_differences(family: str) -> None:
    judge = _discriminator(family).double()
    tiles = _tiles(4).double().requires_grad_()

    def r1() -> Tensor:
        logits = judge.judge(judge.features(tiles), torch.tensor([0, 1, 2, 0]))
        (gradient,) = torch.autograd.grad(logits.sum(), tiles, create_graph=True)
        return gradient.square().sum(dim=(1, 2, 3)).mean()

    slope, difference = _directional(judge, r1)
    assert slope == pytest.approx(difference, rel=1e-4)
    assert slope != 0


def _pull_back(network: nn.Module, styles: Tensor, noise: list[Tensor], y: Tensor) -> Tensor:
    """J^T y, the quantity of path-length regularisation, shape of `styles`."""
    tiles = network.synthesis(styles, noise)
    (gradient,) = torch.autograd.grad((tiles * y).sum(), styles, create_graph=True)
    return gradient


@both
def test_the_path_length_jacobian_equals_finite_differences(family: str) -> None:
    network = _generator(family, noise=0.1).double()
    z, *noise = (part.double() for part in _inputs(network, 1, 6))
    w = network.styles(z, torch.tensor([1])).detach().contiguous().requires_grad_()
    y = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    found = _pull_back(network, w, noise, y).detach().flatten()
    step = 1e-6
    moves = torch.eye(w.numel(), dtype=torch.float64).reshape(-1, *w.shape[1:]) * step
    many = [maps.expand(len(moves), -1, -1, -1) for maps in noise]
    with torch.no_grad():
        ahead, behind = (network.synthesis(w + sign * moves, many) for sign in (1, -1))
    expected = ((ahead - behind) * y).sum(dim=(1, 2, 3)) / (2 * step)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@both
def test_the_gradient_of_the_path_length_equals_finite_differences(family: str) -> None:
    network = _generator(family, noise=0.1).double()
    z, *noise = (part.double() for part in _inputs(network, 2, 7))
    y = torch.randn(2, 3, 32, 32, dtype=torch.float64)

    def penalty() -> Tensor:
        pulled = _pull_back(network, network.styles(z, torch.tensor([0, 2])), noise, y)
        return (pulled.square().sum(dim=2).mean(dim=1).sqrt() - 1).square().mean()

    slope, difference = _directional(network, penalty)
    assert slope == pytest.approx(difference, rel=1e-3)
    assert slope != 0


@both
def test_in_float32_every_weight_gets_a_finite_gradient_through_the_penalties(family: str) -> None:
    judge, tiles = _discriminator(family), _tiles(4).requires_grad_()
    logits = judge.judge([tiles], torch.tensor([0, 1, 2, 0]))
    (gradient,) = torch.autograd.grad(logits.sum(), tiles, create_graph=True)
    (gradient.square().sum() + logits.sum()).backward()
    network = _generator(family)
    z, *noise = _inputs(network, 2, 8)
    styles = network.styles(z, torch.tensor([0, 1]))
    pulled = _pull_back(network, styles, noise, torch.ones(2, 3, 32, 32))
    (pulled.square().sum() + network(z, torch.tensor([0, 1]), noise).square().sum()).backward()
    for name, parameter in [*judge.named_parameters(), *network.named_parameters()]:
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool((parameter.grad != 0).any()), name


@both
def test_bfloat16_gives_about_the_same_tiles_and_logits_in_float32(family: str) -> None:
    network, judge = _generator(family, noise=0.1), _discriminator(family)
    z, *noise = _inputs(network, 4, 9)
    labels = torch.tensor([0, 1, 2, 0])
    made = []
    for low in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=low):
            tiles = network(z, labels, noise)
            made.append((tiles, judge.judge([_tiles(4)], labels)))
    for exact, rough in zip(*made, strict=True):
        assert exact.dtype == rough.dtype == torch.float32
        assert not torch.equal(exact, rough)
        assert float((exact - rough).abs().mean()) < 0.03 * float(exact.std())


def _mapping_size(d: int, classes: int) -> int:
    return classes * d + (2 * d * d + d) + 7 * (d * d + d)


def _head_size(c: int, classes: int) -> int:
    conv, dense = 9 * (c + 1) * c + c, 16 * c * c + c
    return conv + dense + c + classes * c + 1  # and the direction, the classes', the bias


@pytest.mark.parametrize("resolution", POWERS_OF_TWO)
def test_stylegan_has_the_parameters_its_layers_add_up_to(resolution: int) -> None:
    d, classes, sides = 6, 3, _sides(resolution)
    convs = [(32, 32)]
    for below, side in pairwise(sides):
        convs += [(CHANNELS[below], CHANNELS[side]), (CHANNELS[side], CHANNELS[side])]
    finishes = [32, *(c_out for _, c_out in convs)]  # after the constant, then every convolution
    expected = (
        _mapping_size(d, classes)
        + 16 * 32
        + sum(9 * c_in * c_out + c_out for c_in, c_out in convs)
        + sum(c + 2 * c * d + 2 * c for c in finishes)  # noise strengths, scales and shifts
        + 3 * CHANNELS[resolution]
        + 3
    )
    assert sum(p.numel() for p in _generator("stylegan", resolution).parameters()) == expected
    top = CHANNELS[resolution]
    judged = 3 * top + top + _head_size(32, classes)
    for below, side in pairwise(sides):
        c_in, c_out = CHANNELS[side], CHANNELS[below]
        judged += 9 * c_in * c_in + c_in + 9 * c_in * c_out + c_out
    assert sum(p.numel() for p in _discriminator("stylegan", resolution).parameters()) == judged


@pytest.mark.parametrize("first", [1, 4, 7])
def test_mixed_styles_change_only_the_layers_from_the_crossing_on(first: int) -> None:
    network = _generator("stylegan")
    z, *noise = _inputs(network, 2, 10)
    styles = network.styles(z, torch.tensor([0, 1]))
    mixed = torch.cat([styles[:, :first], styles.flip(0)[:, first:]], dim=1)
    seen: list[list[Tensor]] = []
    for finish in network.finishes:
        finish.register_forward_hook(lambda _m, _i, out: seen[-1].append(out.detach()))
    tiles = []
    for used in (styles, mixed):
        seen.append([])
        tiles.append(network.synthesis(used, noise))
    same = [torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*seen, strict=True)]
    assert same == [k < first for k in range(8)]
    assert not torch.allclose(tiles[0], tiles[1])


def test_every_map_has_the_spread_and_mean_of_its_style() -> None:
    network = _generator("stylegan", noise=0.5)
    z, *noise = _inputs(network, 2, 11)
    seen: list[Tensor] = []
    for finish in network.finishes:
        finish.style.register_forward_hook(lambda _m, _i, out: seen.append(out.detach()))
        finish.register_forward_hook(lambda _m, _i, out: seen.append(out.detach()))
    network(z, torch.tensor([0, 1]), noise)
    for style, maps in zip(seen[0::2], seen[1::2], strict=True):
        scale, shift = style.chunk(2, dim=1)
        torch.testing.assert_close(maps.mean(dim=(2, 3)), shift, rtol=1e-3, atol=1e-4)
        spread = maps.std(dim=(2, 3), correction=0)
        torch.testing.assert_close(spread, (1 + scale).abs(), rtol=1e-3, atol=1e-4)
