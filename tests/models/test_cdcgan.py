"""The `cdcgan` generator: shapes, sizes, and that z and class reach every block."""

import pytest
import torch

from privgen.config import TrainConfig
from privgen.errors import ConfigError
from privgen.models import POWERS_OF_TWO, Generator, build_generator
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


def test_pixel_norm_gives_rows_of_mean_square_one() -> None:
    rows = pixel_norm(torch.randn(3, 10) * 7)
    torch.testing.assert_close(rows.square().mean(1), torch.ones(3))


def test_an_unknown_family_is_named_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="unknown generator family 'biggan'; known: cdcgan"):
        build_generator(TrainConfig(family="biggan"), 3)
