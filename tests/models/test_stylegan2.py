"""`stylegan2`: sizes, which layer takes which style, summed to-RGB maps, residual blocks.

What it shares with `stylegan` is tested there, for both.
"""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privgen.models import POWERS_OF_TWO
from privgen.models.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator

CHANNELS = {4: 32, 8: 32, 16: 32, 32: 16, 64: 8, 128: 8, 256: 8}
"""At width 8."""


def _generator(resolution: int = 32) -> StyleGAN2Generator:
    torch.manual_seed(0)
    return StyleGAN2Generator(resolution=resolution, classes=3, width=8, style_dim=6)


def _discriminator(resolution: int = 32) -> StyleGAN2Discriminator:
    torch.manual_seed(0)
    return StyleGAN2Discriminator(resolution=resolution, classes=3, width=8)


def _inputs(network: StyleGAN2Generator, count: int) -> tuple[Tensor, ...]:
    rng = torch.Generator().manual_seed(1)
    z = torch.randn(count, network.z_dim, generator=rng)
    return z, *(torch.randn(count, *shape, generator=rng) for shape in network.noise_shapes)


@pytest.mark.parametrize("resolution", POWERS_OF_TWO)
def test_it_has_the_parameters_its_layers_add_up_to(resolution: int) -> None:
    d, classes = 6, 3
    sides = [side for side in CHANNELS if side <= resolution]
    convs = [(32, 32)]
    for below, side in pairwise(sides):
        convs += [(CHANNELS[below], CHANNELS[side]), (CHANNELS[side], CHANNELS[side])]
    mapping = classes * d + (2 * d * d + d) + 7 * (d * d + d)
    # Weights, bias, one noise strength, and the affine map that scales the input channels.
    styled = sum(9 * c_in * c_out + c_out + 1 + c_in * d + c_in for c_in, c_out in convs)
    to_rgb = sum(3 * CHANNELS[s] + 3 + CHANNELS[s] * d + CHANNELS[s] for s in sides)
    expected = mapping + 16 * 32 + styled + to_rgb
    assert sum(p.numel() for p in _generator(resolution).parameters()) == expected
    head = (9 * 33 * 32 + 32) + (16 * 32 * 32 + 32) + 32 + classes * 32 + 1
    judged = 4 * CHANNELS[resolution] + head
    for below, side in pairwise(sides):
        c_in, c_out = CHANNELS[side], CHANNELS[below]
        judged += 9 * c_in * c_in + c_in + 9 * c_in * c_out + c_out + c_in * c_out
    assert sum(p.numel() for p in _discriminator(resolution).parameters()) == judged


@pytest.mark.parametrize("first", [1, 4, 6, 7])
def test_mixed_styles_change_only_the_layers_from_the_crossing_on(first: int) -> None:
    network = _generator()
    z, *noise = _inputs(network, 2)
    styles = network.styles(z, torch.tensor([0, 1]))
    mixed = torch.cat([styles[:, :first], styles.flip(0)[:, first:]], dim=1)
    convs: list[list[Tensor]] = []
    rgbs: list[list[Tensor]] = []
    for conv in network.convs:
        conv.register_forward_hook(lambda _m, _i, out: convs[-1].append(out.detach()))
    for rgb in network.to_rgb:
        rgb.register_forward_hook(lambda _m, _i, out: rgbs[-1].append(out.detach()))
    tiles = []
    for used in (styles, mixed):
        convs.append([])
        rgbs.append([])
        tiles.append(network.synthesis(used, noise))
    same = [torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*convs, strict=True)]
    assert same == [k < first for k in range(7)]
    # The to-RGB map of a side takes the style of the next side's first convolution.
    same = [torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*rgbs, strict=True)]
    assert same == [k < first for k in (1, 3, 5, 7)]
    assert not torch.allclose(tiles[0], tiles[1])


def test_a_tile_is_a_quarter_of_the_sum_of_the_to_rgb_maps_doubled_to_its_side() -> None:
    network = _generator()
    z, *noise = _inputs(network, 2)
    seen: list[Tensor] = []
    for rgb in network.to_rgb:
        nn.init.normal_(rgb.bias)
        rgb.register_forward_hook(lambda _m, _i, out: seen.append(out.detach()))
    tiles = network(z, torch.tensor([0, 1]), noise).detach()
    assert [maps.shape[-1] for maps in seen] == [4, 8, 16, 32]
    total = torch.zeros_like(tiles)
    for maps in seen:
        while maps.shape[-1] < 32:  # bilinear interpolation, with zeros beyond the border
            padded = F.pad(maps, (1, 1, 1, 1))
            maps = F.interpolate(padded, scale_factor=2, mode="bilinear")[:, :, 2:-2, 2:-2]
        total += maps
    torch.testing.assert_close(tiles, total / 4, rtol=1e-4, atol=1e-5)


def test_a_residual_block_is_the_sum_of_its_branches() -> None:
    torch.manual_seed(2)
    block = _discriminator().blocks[0]
    x = torch.randn(2, 16, 32, 32)
    out = block(x)
    with torch.no_grad():
        block.shortcut.weight.zero_()
        branch = block(x)
        block.second.weight.zero_()
        assert not block(x).any()
    kept = _discriminator().blocks[0]
    with torch.no_grad():
        kept.second.weight.zero_()
    torch.testing.assert_close(out, branch + kept(x))
    assert out.shape == (2, 32, 16, 16)


def test_spread_is_kept_through_the_network() -> None:
    torch.manual_seed(3)
    network, judge = _generator(64), _discriminator(64)
    z, *noise = _inputs(network, 8)
    spreads: list[float] = []
    for layer in (*network.convs, *judge.blocks):
        layer.register_forward_hook(lambda _m, _i, out: spreads.append(float(out.std().detach())))
    with torch.no_grad():
        network(z, torch.arange(8) % 3, noise)
        judge.judge([torch.randn(8, 3, 64, 64)], torch.arange(8) % 3)
    assert len(spreads) == 9 + 4
    assert all(0.2 < spread < 2.0 for spread in spreads)
