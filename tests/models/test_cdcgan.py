"""The `cdcgan` family: shapes, sizes, that z and class reach every block, and its discriminator."""

from itertools import pairwise

import pytest
import torch

from privgen.config import TrainConfig
from privgen.errors import ConfigError
from privgen.models import (
    POWERS_OF_TWO,
    Discriminator,
    Generator,
    build_discriminator,
    build_generator,
)
from privgen.models.layers import ModulatedUpConv, channels_at, pixel_norm


def _generator(resolution: int = 32, width: int = 8) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_generator(TrainConfig(resolution=resolution, width=width), 3).eval()


def _inputs(network: torch.nn.Module, count: int, seed: int) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(count, network.z_dim, generator=rng)
    return z, *(torch.randn(count, *shape, generator=rng) for shape in network.noise_shapes)


@pytest.mark.parametrize("resolution", POWERS_OF_TWO)
def test_tiles_have_the_resolution_asked_for_and_stay_in_range(resolution: int) -> None:
    network = _generator(resolution)
    z, *noise = _inputs(network, 2, 1)
    tiles = network(z, torch.tensor([0, 2]), noise)
    assert tiles.shape == (2, 3, resolution, resolution)
    assert tiles.dtype == torch.float32
    assert float(tiles.detach().abs().max()) <= 1.0


def test_the_default_network_has_the_documented_size() -> None:
    count = sum(p.numel() for p in _generator(64, width=32).parameters())
    assert 1.4e6 < count < 1.5e6


def test_it_keeps_the_generator_protocol() -> None:
    assert isinstance(_generator(), Generator)


def test_every_block_is_moved_by_z_and_by_the_class() -> None:
    network = _generator()
    z, *noise = _inputs(network, 1, 2)
    seen: list[list[torch.Tensor]] = []
    for block in network.blocks:
        block.style.register_forward_hook(lambda _m, _i, out: seen[-1].append(out.detach()))
    other_z, *_ = _inputs(network, 1, 3)
    for latent, label in ((z, 0), (other_z, 0), (z, 1)):
        seen.append([])
        network(latent, torch.tensor([label]), noise)
    base, moved_by_z, moved_by_class = seen
    assert len(base) == len(network.blocks) == 7  # one at 4 px, two at each of 8, 16, 32
    for block in range(len(base)):
        assert not torch.allclose(base[block], moved_by_z[block])
        assert not torch.allclose(base[block], moved_by_class[block])


def test_the_signs_of_the_last_entries_of_z_choose_one_of_eight_symmetries() -> None:
    network = _generator()
    z, *noise = _inputs(network, 1, 6)
    tiles = []
    for number in range(8):
        z[0, -3:] = torch.tensor([(number >> k & 1) * 2.0 - 1.0 for k in range(3)])
        tiles.append(network(z, torch.tensor([1]), noise)[0])
    expected = [torch.rot90(t, k, (1, 2)) for t in (tiles[0], tiles[0].flip(2)) for k in range(4)]
    found = [[k for k, e in enumerate(expected) if torch.equal(t, e)] for t in tiles]
    assert sorted(found) == [[k] for k in range(8)]


def _styles(network: torch.nn.Module, psi: float) -> torch.Tensor:
    """Styles of 64 latents of one class, truncated, shape (64, d)."""
    seen: list[torch.Tensor] = []
    handle = network.mapping.register_forward_hook(lambda _m, _i, out: seen.append(out.detach()))
    z, *noise = _inputs(network, 64, 7)
    network(psi * z, torch.ones(64, dtype=torch.long), noise)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("psi", [0.5, 0.25])
def test_truncation_moves_styles_towards_the_centre_of_their_class(psi: float) -> None:
    network = _generator()
    centre, whole, part = (_styles(network, factor) for factor in (0.0, 1.0, psi))
    assert torch.equal(centre, centre[:1].expand_as(centre))
    ratio = float(part.std(dim=0).mean() / whole.std(dim=0).mean())
    assert ratio == pytest.approx(psi, rel=0.15)
    distances = [(styles - centre).norm(dim=1) for styles in (part, whole)]
    assert bool((distances[0] < 0.8 * distances[1]).all())


def test_every_noise_map_changes_the_tile() -> None:
    network = _generator()
    z, *noise = _inputs(network, 1, 4)
    base = network(z, torch.tensor([0]), noise)
    for index in range(len(noise)):
        changed = [-maps if k == index else maps for k, maps in enumerate(noise)]
        assert not torch.allclose(base, network(z, torch.tensor([0]), changed))


def test_a_tile_does_not_depend_on_its_batch() -> None:
    network = _generator()
    z, *noise = _inputs(network, 4, 5)
    labels = torch.tensor([0, 1, 2, 0])
    together = network(z, labels, noise)
    alone = network(z[2:3], labels[2:3], [maps[2:3] for maps in noise])
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("up", [False, True])
def test_demodulation_equals_normalised_weights_made_for_each_tile(up: bool) -> None:
    torch.manual_seed(1)
    layer = ModulatedUpConv(6, 4, 5, up=up)
    with torch.no_grad():
        layer.noise_strength.zero_()
    x, w = torch.randn(2, 6, 32, 32), torch.randn(2, 5)  # too large to be wrapped
    out = layer(x, w, torch.zeros(2, 1, 64 if up else 32, 64 if up else 32))
    for row in range(2):
        style = layer.style(w[row])
        shaped = style[:, None, None, None] if up else style[None, :, None, None]
        weight = layer.weight * shaped
        axes = (0, 2, 3) if up else (1, 2, 3)
        taps = 4 if up else 1
        weight = weight / (weight.square().sum(axes, keepdim=True) / taps + 1e-8).sqrt()
        if up:
            expected = torch.nn.functional.conv_transpose2d(x[row : row + 1], weight, None, 2, 1)
        else:
            expected = torch.nn.functional.conv2d(x[row : row + 1], weight, None, 1, 1)
        gain = (2 / 1.04) ** 0.5
        expected = torch.nn.functional.leaky_relu(expected * gain, 0.2)
        torch.testing.assert_close(out[row : row + 1], expected, rtol=1e-4, atol=1e-4)


def test_small_maps_do_not_know_where_their_border_is() -> None:
    torch.manual_seed(2)
    layer = ModulatedUpConv(3, 3, 5, up=True)
    x, w = torch.randn(1, 3, 8, 8), torch.randn(1, 5)
    noise = torch.zeros(1, 1, 16, 16)
    rolled = layer(x.roll((3, 5), (2, 3)), w, noise)
    torch.testing.assert_close(rolled, layer(x, w, noise).roll((6, 10), (2, 3)))


def test_channels_double_towards_coarser_maps_within_bounds() -> None:
    sides = (4, 16, 32, 64, 128, 256, 512)
    assert [channels_at(side, width=32) for side in sides] == [128, 128, 64, 32, 16, 8, 8]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (256, [512, 512, 512, 512, 256, 128, 64]),  # Karras et al. 2019
        (512, [512, 512, 512, 512, 512, 256, 128]),  # Karras et al. 2020, configuration F
        (128, [512, 512, 512, 256, 128, 64, 32]),
    ],
)
def test_wide_networks_have_the_papers_channels(width: int, expected: list[int]) -> None:
    sides = (4, 8, 16, 32, 64, 128, 256)
    assert [channels_at(side, width=width) for side in sides] == expected


def test_pixel_norm_gives_rows_of_mean_square_one() -> None:
    rows = pixel_norm(torch.randn(3, 10) * 7)
    torch.testing.assert_close(rows.square().mean(1), torch.ones(3))


def test_an_unknown_family_is_named_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="unknown generator family 'biggan'; known: cdcgan"):
        build_generator(TrainConfig(family="biggan"), 3)


CHANNELS = {4: 32, 8: 32, 16: 32, 32: 16, 64: 8, 128: 8}
"""Channels of a map by its side at width 8: 64 * 8 / side, at least 8, at most 4 * 8."""


def _discriminator(resolution: int = 32) -> torch.nn.Module:
    torch.manual_seed(0)
    config = TrainConfig(discriminator="own", resolution=resolution, head_width=8)
    return build_discriminator(config, 3, frozen_type=torch.float32)


def _tiles(count: int, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(7)) * 2 - 1


@pytest.mark.parametrize("resolution", POWERS_OF_TWO)
def test_its_own_discriminator_halves_down_to_four_pixels_and_gives_one_logit(
    resolution: int,
) -> None:
    network = _discriminator(resolution)
    widths = [3, *(CHANNELS[side] for side in sorted(CHANNELS, reverse=True) if side < resolution)]
    convolutions = [m for m in network.body if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == widths[1:]
    assert {(m.kernel_size, m.stride) for m in convolutions} == {((4, 4), (2, 2))}
    expected = sum((16 * a + 1) * b for a, b in pairwise(widths))
    expected += (32 + 1 + 1) * 32 + (32 + 1) + 3 * 32  # compare, logit, embedding
    assert sum(p.numel() for p in network.parameters()) == expected
    x = _tiles(2, resolution)
    assert network.body(x).shape == (2, 32, 4, 4)
    (same,) = network.features(x)
    assert same is x
    logits = network.judge([x], torch.tensor([0, 2]))
    assert logits.shape == (2, 1)
    assert logits.dtype == torch.float32
    assert network.side == resolution
    assert isinstance(network, Discriminator)


def test_changing_the_class_changes_the_logit_by_the_inner_product_alone() -> None:
    network = _discriminator().eval()
    x = _tiles(2)
    first = network.judge([x], torch.tensor([0, 0]))
    second = network.judge([x], torch.tensor([2, 2]))
    rows = network.embedding.weight
    expected = network.described(x) @ (rows[2] - rows[0])
    torch.testing.assert_close((second - first)[:, 0], expected, rtol=1e-4, atol=1e-5)
    assert float(expected.detach().abs().min()) > 1e-3


def test_a_logit_depends_on_the_other_tile_of_its_pair_and_on_no_other() -> None:
    network = _discriminator().eval()
    x, labels = _tiles(4), torch.tensor([0, 0, 1, 1])
    base = network.judge([x], labels)
    moved = x.clone()
    moved[3] = -moved[3]
    changed = network.judge([moved], labels)
    torch.testing.assert_close(changed[:2], base[:2], rtol=1e-5, atol=1e-6)
    assert not torch.isclose(changed[2:], base[2:], rtol=1e-4).any()


def test_every_weight_of_its_own_discriminator_has_spectral_norm_one() -> None:
    network = _discriminator()
    for _ in range(25):
        network.judge([_tiles(2)], torch.tensor([0, 1]))
    layers = [m for m in network.modules() if hasattr(m, "parametrizations")]
    assert len(layers) == 3 + 3  # one convolution a halving; compare, logit, embedding
    for layer in layers:
        norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert 0.99 < float(norm) < 1.05


@torch.no_grad()
def test_its_own_discriminator_in_bfloat16_is_close_to_float32() -> None:
    network = _discriminator().eval()
    x, labels = _tiles(4), torch.tensor([0, 0, 1, 1])
    exact = network.judge([x], labels)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network.judge([x], labels)
    assert rough.dtype == torch.float32
    assert float((rough - exact).norm() / exact.norm()) < 0.03


def test_the_gradient_penalty_has_the_gradient_finite_differences_find() -> None:
    network = _discriminator().eval().double()
    x, labels = _tiles(2).double(), torch.tensor([0, 0])

    def penalty() -> torch.Tensor:
        tiles = x.clone().requires_grad_()
        logits = network.judge(network.features(tiles), labels)
        (gradient,) = torch.autograd.grad(logits.sum(), tiles, create_graph=True)
        return gradient.square().sum()

    weight = network.body[0].parametrizations.weight.original
    penalty().backward()
    step = torch.randn(weight.shape, generator=torch.Generator().manual_seed(8)).double()
    expected = float((weight.grad * step).sum())
    with torch.no_grad():
        weight += 1e-7 * step
    above = float(penalty().detach())
    with torch.no_grad():
        weight -= 2e-7 * step
    below = float(penalty().detach())
    assert expected != 0
    assert (above - below) / 2e-7 == pytest.approx(expected, rel=1e-3)
