"""The layers of the style-based families against hand computation and explicit forms."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradgradcheck
from torch.nn import functional as F

from privgen.models.style_layers import (
    Blur,
    EqualConv2d,
    EqualLinear,
    Mapping,
    ModulatedConv2d,
    NoiseInput,
    ProjectionHead,
    adain,
    minibatch_stddev,
)

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8


def test_equalised_layers_scale_unit_weights_by_the_inverse_root_of_their_inputs() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 12)
    dense = EqualLinear(12, 5, gain=3.0)
    torch.testing.assert_close(dense(x), x @ dense.weight.t() * 3.0 / math.sqrt(12))
    maps = torch.randn(2, 3, 6, 6)
    conv = EqualConv2d(3, 4, 3, gain=2.0)
    expected = F.conv2d(maps, conv.weight * 2.0 / math.sqrt(27), padding=1)
    torch.testing.assert_close(conv(maps), expected)


def test_equalised_weights_are_drawn_alike_whatever_the_layers_size() -> None:
    torch.manual_seed(0)
    for layer in (EqualLinear(400, 50), EqualLinear(50, 400), EqualConv2d(40, 60, 3)):
        assert float(layer.weight.detach().std()) == pytest.approx(1.0, rel=0.03)


def test_a_slow_layer_starts_as_any_other_and_takes_steps_of_its_rate() -> None:
    torch.manual_seed(0)
    x = torch.randn(4000, 64)
    moved = []
    for rate in (1.0, 0.01):
        layer = EqualLinear(64, 64, start=0.5, rate=rate)
        before = layer(x).detach()
        assert float(before.std()) == pytest.approx(1.0, rel=0.05)
        torch.testing.assert_close(layer(torch.zeros(1, 64)), torch.full((1, 64), 0.5))
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        for parameter in layer.parameters():  # the steps of Adam: one size, whatever the gradient
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        moved.append(layer(x).detach() - before)
    torch.testing.assert_close(moved[1], moved[0] * 0.01, rtol=1e-3, atol=1e-4)


def test_the_blur_of_a_pixel_is_the_outer_product_of_one_three_three_one() -> None:
    x = torch.zeros(1, 1, 7, 7)
    x[0, 0, 3, 3] = 1.0
    out = Blur(padding=2)(x)
    assert out.shape == (1, 1, 8, 8)
    torch.testing.assert_close(out[0, 0, 2:6, 2:6], torch.outer(TAPS, TAPS))
    assert float(out.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("blur", "side"),
    [
        (Blur(padding=2), 13),
        (Blur(padding=1, stride=2), 6),
        (Blur(padding=1, gain=4.0, stride=2, up=True), 24),
    ],
    ids=["same", "down", "up"],
)
def test_a_constant_stays_constant_away_from_the_border(blur: Blur, side: int) -> None:
    constant = torch.tensor([2.0, -0.5])[None, :, None, None].expand(2, 2, 12, 12)
    out = blur(constant)
    assert out.shape == (2, 2, side, side)
    inner = out[:, :, 2:-2, 2:-2]
    torch.testing.assert_close(inner, constant[:, :, :1, :1].expand_as(inner))
    assert float(out[0, 0, 0, 0]) < 2.0  # zeros beyond the border


def test_doubling_interpolates_a_quarter_of_the_way_between_pixels() -> None:
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    out = Blur(padding=1, gain=4.0, stride=2, up=True)(ramp)[0, 0, 8]
    expected = torch.arange(16.0) / 2 - 0.25
    torch.testing.assert_close(out[1:-1], expected[1:-1])


def _weights_of_each_tile(layer: ModulatedConv2d, w: Tensor) -> Tensor:
    """Weights made for each tile, shape (n, c_out, c_in, k, k): equations 1 and 3."""
    scaled = layer.conv.weight * layer.conv.scale * layer.style(w)[:, None, :, None, None]
    if not layer.demodulate:
        return scaled
    norm = (scaled.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).sqrt()
    return scaled / norm * layer.gain


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [False, True])
def test_modulation_equals_a_grouped_convolution_by_weights_made_for_each_tile(
    up: bool, demodulate: bool
) -> None:
    torch.manual_seed(1)
    layer = ModulatedConv2d(6, 4, 3, 5, up=up, demodulate=demodulate, gain=1.7)
    nn.init.normal_(layer.bias)
    x, w = torch.randn(3, 6, 8, 8), torch.randn(3, 5)
    weight, joined = _weights_of_each_tile(layer, w), x.reshape(1, 18, 8, 8)
    if up:
        kernels = weight.transpose(1, 2).reshape(18, 4, 3, 3)
        expected = F.conv_transpose2d(joined, kernels, stride=2, groups=3).reshape(3, 4, 17, 17)
        kernel = torch.outer(TAPS, TAPS).expand(4, 1, 4, 4) * 4
        expected = F.conv2d(expected, kernel, padding=1, groups=4)
    else:
        expected = F.conv2d(joined, weight.reshape(12, 6, 3, 3), padding=1, groups=3)
        expected = expected.reshape(3, 4, 8, 8)
    expected = expected + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, w), expected, rtol=1e-4, atol=1e-5)


def test_demodulated_weights_read_off_from_single_pixels_have_unit_norm() -> None:
    torch.manual_seed(2)
    layer = ModulatedConv2d(6, 4, 3, 5)
    styles = 3 * torch.randn(2, 5)
    for style in styles:
        pixels = torch.zeros(6, 6, 5, 5)
        pixels[range(6), range(6), 2, 2] = 1.0  # tile i shows channel i alone
        kernels = layer(pixels, style.expand(6, 5)).detach()
        torch.testing.assert_close(kernels.square().sum(dim=(0, 2, 3)), torch.ones(4))


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_without_effect_until_its_strength_is_learned(channels: int) -> None:
    torch.manual_seed(3)
    layer = NoiseInput(channels, 16)
    x, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 1, 4, 4)
    torch.testing.assert_close(layer(x, noise), x, rtol=0, atol=0)
    layer(x, noise).square().sum().backward()
    assert bool((layer.strength.grad != 0).all())
    with torch.no_grad():
        layer.strength.copy_(torch.arange(1.0, channels + 1))
    strength = torch.arange(1.0, 4) if channels == 3 else torch.ones(3)
    torch.testing.assert_close(layer(x, noise), x + strength[:, None, None] * noise)


def test_noise_counts_from_the_first_step_on_the_coarsest_maps_alone() -> None:
    starts = {side: float(NoiseInput(1, side).strength.detach()) for side in (4, 8, 16, 64)}
    assert starts == {4: 1.0, 8: 1.0, 16: 0.0, 64: 0.0}


def test_adain_gives_every_map_the_mean_and_spread_asked_for() -> None:
    torch.manual_seed(4)
    x = torch.randn(3, 5, 8, 8) * torch.rand(3, 5, 1, 1) * 9 + torch.randn(3, 5, 1, 1)
    scale, shift = torch.randn(3, 5), torch.randn(3, 5)
    out = adain(x, scale, shift)
    torch.testing.assert_close(out.mean(dim=(2, 3)), shift, rtol=1e-4, atol=1e-5)
    spread = out.std(dim=(2, 3), correction=0)
    torch.testing.assert_close(spread, scale.abs(), rtol=1e-4, atol=1e-5)
    one = x[1, 2].double().numpy()
    by_hand = (one - one.mean()) / one.std() * float(scale[1, 2]) + float(shift[1, 2])
    np.testing.assert_allclose(out[1, 2].numpy(), by_hand, rtol=1e-4, atol=1e-4)


def test_minibatch_statistics_equal_the_hand_computation() -> None:
    # Two groups of four tiles of one pixel and one channel, then a group of equal tiles.
    x = torch.tensor([1.0, 3.0, 1.0, 3.0, 0.0, 0.0, 4.0, 4.0, 5.0, 5.0, 5.0, 5.0])
    x = x.reshape(12, 1, 1, 1)
    out = minibatch_stddev(x)
    torch.testing.assert_close(out[:, :1], x, rtol=0, atol=0)
    expected = torch.tensor([1.0] * 4 + [2.0] * 4 + [1e-4] * 4)
    torch.testing.assert_close(out[:, 1, 0, 0], expected)


def test_minibatch_statistics_average_the_spread_over_channels_and_places() -> None:
    x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    out = minibatch_stddev(x)
    groups = x.double().numpy().reshape(2, 4, -1)
    expected = groups.std(axis=1).mean(axis=1)
    assert out.shape == (8, 4, 4, 4)
    for tile in range(8):
        np.testing.assert_allclose(out[tile, 3].numpy(), expected[tile // 4], rtol=1e-5)


def test_minibatch_statistics_do_not_change_when_the_batch_is_split_in_fours() -> None:
    x = torch.randn(16, 3, 4, 4, generator=torch.Generator().manual_seed(6))
    parts = torch.cat([minibatch_stddev(part) for part in x.split((8, 4, 4))])
    torch.testing.assert_close(minibatch_stddev(x), parts, rtol=0, atol=0)


@pytest.mark.parametrize(("batch", "size"), [(4, 4), (6, 3), (10, 2), (5, 1)])
def test_groups_take_the_largest_size_up_to_four_that_divides_the_batch(
    batch: int, size: int
) -> None:
    x = torch.randn(batch, 2, 4, 4, generator=torch.Generator().manual_seed(7))
    column = minibatch_stddev(x)[:, 2, 0, 0]
    expected = x.numpy().reshape(batch // size, size, -1).std(axis=1).mean(axis=1)
    np.testing.assert_allclose(column.numpy(), expected.repeat(size), rtol=1e-4, atol=2e-4)


def test_the_mapping_sees_the_direction_of_z_and_the_class_and_no_other_tile() -> None:
    torch.manual_seed(8)
    mapping = Mapping(6, 3, 7)
    z, labels = torch.randn(3, 6), torch.tensor([0, 1, 2])
    w = mapping(z, labels)
    assert w.shape == (3, 7)
    torch.testing.assert_close(mapping(5 * z, labels), w)
    torch.testing.assert_close(mapping(z[1:2], labels[1:2]), w[1:2])
    for other in (mapping(z, labels.flip(0))[0], mapping(-z, labels)[0]):
        assert not torch.allclose(other, w[0], atol=1e-2)


def test_the_class_adds_the_projection_on_its_direction_to_the_logit() -> None:
    torch.manual_seed(9)
    head = ProjectionHead(5, 3)
    seen: list[Tensor] = []
    head.dense.register_forward_hook(lambda _m, _i, out: seen.append(F.leaky_relu(out, 0.2)))
    x = torch.randn(4, 5, 4, 4)
    first, second = head(x, torch.full((4,), 0)), head(x, torch.full((4,), 2))
    assert first.shape == (4, 1)
    difference = head.embedding.weight[2] - head.embedding.weight[0]
    torch.testing.assert_close(second - first, (seen[0] @ difference / math.sqrt(5))[:, None])


def _second_derivatives(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    def tensor(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, requires_grad=True)

    maps, style = tensor(2, 2, 4, 4), tensor(2, 3)
    made: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {
        "blur": (Blur(padding=2), (maps,)),
        "blur-down": (Blur(padding=1, stride=2), (maps,)),
        "blur-up": (Blur(padding=1, gain=4.0, stride=2, up=True), (maps,)),
        "conv-down": (EqualConv2d(2, 2, 3, resample="down"), (maps,)),
        "modulated": (ModulatedConv2d(2, 2, 3, 3), (maps, style)),
        "modulated-up": (ModulatedConv2d(2, 2, 3, 3, up=True), (maps, style)),
    }
    return made[name]


@pytest.mark.parametrize(
    "name", ["blur", "blur-down", "blur-up", "conv-down", "modulated", "modulated-up"]
)
def test_layers_can_be_differentiated_twice(name: str) -> None:
    torch.manual_seed(10)
    layer, inputs = _second_derivatives(name)
    assert gradgradcheck(layer.double(), inputs)


def test_statistics_can_be_differentiated_twice() -> None:
    torch.manual_seed(11)
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    scale, shift = torch.randn(2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(adain, (x, scale, shift))
    assert gradgradcheck(minibatch_stddev, (x,))
