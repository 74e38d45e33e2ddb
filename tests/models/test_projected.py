"""The projected discriminator: its fast frozen part against the plain one, its heads by hand."""

import pytest
import torch

from privgen.config import TrainConfig
from privgen.models import Discriminator, build_discriminator
from privgen.models.effnet_lite import PYRAMID_CHANNELS, load_effnet_lite0, normalise
from privgen.models.projected import FrozenConv, FrozenPyramid, pair_spread


@pytest.fixture(scope="module")
def discriminator() -> torch.nn.Module:
    torch.manual_seed(0)
    config = TrainConfig(resolution=32, head_width=8)
    return build_discriminator(config, 3, frozen_type=torch.float32)


@pytest.mark.parametrize(
    ("kernel", "stride", "groups", "side"),
    [
        (1, 1, 1, 7),
        (3, 1, 6, 7),
        (5, 1, 6, 8),
        (3, 2, 6, 8),
        (5, 2, 6, 7),
        (3, 2, 1, 9),
        (5, 2, 6, 8),
    ],
)
def test_a_frozen_convolution_has_the_gradient_autograd_finds(
    kernel: int, stride: int, groups: int, side: int
) -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(6, 12 if groups == 1 else 6, kernel, stride, groups=groups).double()
    frozen = FrozenConv(conv).double()
    x = torch.randn(2, 6, side, side, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(frozen, (x,))
    assert frozen(x).shape[-1] == -(-side // stride)


def test_the_folded_pyramid_equals_the_network_it_was_made_from() -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plain_x, frozen_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    plain = load_effnet_lite0().pyramid(normalise((plain_x + 1) * 127.5))
    frozen = FrozenPyramid()(frozen_x)
    assert tuple(m.shape[1] for m in frozen) == PYRAMID_CHANNELS
    for a, b in zip(plain, frozen, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    sum(m.square().mean() for m in plain).backward()
    sum(m.square().mean() for m in frozen).backward()
    assert plain_x.grad is not None
    scale = float(plain_x.grad.abs().max())
    torch.testing.assert_close(plain_x.grad, frozen_x.grad, rtol=1e-3, atol=1e-4 * scale)


def test_only_the_heads_learn_and_published_weights_are_in_no_state_file(
    discriminator: torch.nn.Module,
) -> None:
    names = {name for name, _ in discriminator.named_parameters()}
    assert names
    assert all(name.startswith("heads.") for name in names)
    kept = {name.split(".")[0] for name in discriminator.state_dict()}
    assert kept == {"heads", "across", "down"}  # the mixing is drawn, so it must be kept


def test_a_loaded_discriminator_mixes_as_the_saved_one_did(
    discriminator: torch.nn.Module,
) -> None:
    torch.manual_seed(99)
    config = TrainConfig(resolution=32, head_width=8)
    other = build_discriminator(config, 3, frozen_type=torch.float32)
    tiles = torch.rand(4, 3, 64, 64) * 2 - 1
    expected = discriminator.features(tiles)
    assert not torch.equal(other.features(tiles)[0], expected[0])
    other.load_state_dict(discriminator.state_dict())
    for found, wanted in zip(other.features(tiles), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_it_keeps_the_discriminator_protocol(discriminator: torch.nn.Module) -> None:
    assert isinstance(discriminator, Discriminator)


def test_every_scale_gives_a_map_of_logits(discriminator: torch.nn.Module) -> None:
    x = torch.rand(4, 3, 64, 64) * 2 - 1
    maps = discriminator.features(x)
    assert [m.shape[-1] for m in maps] == [16, 8, 4, 2]
    logits = discriminator.judge(maps, torch.tensor([0, 1, 2, 0]))
    assert logits.shape == (4, 4 * 4 + 4 * 4 + 4 * 4 + 2 * 2)
    assert logits.dtype == torch.float32


def test_mixed_maps_of_tissue_like_tiles_have_a_spread_of_order_one(
    discriminator: torch.nn.Module,
) -> None:
    rng = torch.Generator().manual_seed(3)
    coarse = torch.rand(4, 3, 16, 16, generator=rng) * 2 - 1
    maps = discriminator.features(torch.nn.functional.interpolate(coarse, size=64))
    assert all(0.2 < float(m.std()) < 5 for m in maps)


def test_the_label_changes_the_logits(discriminator: torch.nn.Module) -> None:
    maps = discriminator.features(torch.rand(2, 3, 64, 64) * 2 - 1)
    first = discriminator.judge(maps, torch.tensor([0, 0]))
    second = discriminator.judge(maps, torch.tensor([1, 1]))
    assert not torch.allclose(first, second)


def test_pair_spread_is_half_the_difference_of_neighbours() -> None:
    h = torch.tensor([[1.0, 0.0], [3.0, 4.0], [5.0, 5.0], [5.0, 5.0]]).reshape(4, 2, 1, 1)
    assert pair_spread(h).flatten().tolist() == [1.5, 1.5, 0.0, 0.0]  # (2 + 4) / 2 channels / 2


def test_repeating_one_tile_changes_the_logits_through_the_comparison(
    discriminator: torch.nn.Module,
) -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    labels = torch.tensor([0, 0])
    apart = discriminator.judge(discriminator.features(x), labels)
    repeated = discriminator.judge(discriminator.features(x[[0, 0]]), labels)
    assert not torch.allclose(apart[0], repeated[0])
