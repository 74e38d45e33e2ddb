"""Resampling by other operations: against PyTorch's, who decides, and what a step then consists of.

The tests run on a CPU; what CUDA would refuse is told by the names of the operations.
"""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from privgen.models import FAMILIES, resampling
from privgen.models.presets import configure
from privgen.models.resampling import (
    bilinear_weights,
    resize,
    resize_by_products,
    sample_affine,
    sample_affine_by_gathers,
)
from privgen.training.augment import DRAWS, augment
from privgen.training.engine import Engine

REFUSED = {
    "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward",
    "_ctc_loss_backward",
    "_embedding_bag_backward",
    "_upsample_bicubic2d_aa_backward",
    "_upsample_bilinear2d_aa_backward",
    "adaptive_max_pool2d_backward",
    "avg_pool3d_backward",
    "bincount",
    "fractional_max_pool2d_backward",
    "fractional_max_pool3d_backward",
    "grid_sampler_2d_backward",
    "grid_sampler_3d_backward",
    "histc",
    "kthvalue",
    "max_unpool2d",
    "max_unpool3d",
    "median",
    "nll_loss2d_forward",
    "nll_loss_forward",
    "put",
    "put_",
    "reflection_pad1d_backward",
    "reflection_pad2d_backward",
    "reflection_pad3d_backward",
    "scatter_reduce",
    "upsample_bicubic2d_backward",
    "upsample_bilinear2d_backward",
    "upsample_linear1d_backward",
    "upsample_trilinear3d_backward",
}
"""Operations that `torch.use_deterministic_algorithms` lists as raising on CUDA."""


def _maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def _assert_same(first: Tensor, second: Tensor, x: Tensor, tolerance: float) -> None:
    """Values alike, and the gradients of a random weighting of them."""
    assert first.shape == second.shape
    weights = torch.randn(first.shape, generator=torch.Generator().manual_seed(9))
    gradients = [torch.autograd.grad((out * weights).sum(), x)[0] for out in (first, second)]
    torch.testing.assert_close(first, second, rtol=0, atol=tolerance)
    torch.testing.assert_close(*gradients, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("length", "side"),
    [(16, 16), (16, 24), (7, 16), (3, 5), (1, 4), (1, 1), (16, 8), (16, 11), (33, 32), (32, 3)],
)
def test_two_products_are_pytorchs_interpolation(length: int, side: int) -> None:
    x = _maps(2, 3, length, length)
    expected = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
    _assert_same(resize_by_products(x, side), expected, x, 1e-5)
    if side >= length:
        expected = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
        _assert_same(resize_by_products(x, side), expected, x, 1e-5)
    assert torch.equal(resize(x, side), expected)


def test_weights_of_a_doubling_and_of_a_halving_are_those_by_hand() -> None:
    doubled = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    torch.testing.assert_close(bilinear_weights(2, 4), torch.tensor(doubled, dtype=torch.double))
    # Distances .5 and 1.5 from the centre of two pixels, over 2: 3/4, 3/4, 1/4 of 7/4.
    halved = torch.tensor([[3, 3, 1, 0], [0, 1, 3, 3]], dtype=torch.double) / 7
    torch.testing.assert_close(bilinear_weights(4, 2), halved)


def test_products_keep_the_type_and_compute_in_float32_under_autocast() -> None:
    x = _maps(1, 2, 7, 7).detach()
    with torch.autocast("cpu", torch.bfloat16):
        kept = resize_by_products(x, 16)
    torch.testing.assert_close(kept, resize_by_products(x, 16), rtol=0, atol=0)
    low = resize_by_products(x.bfloat16(), 16)
    assert low.dtype == torch.bfloat16
    expected = F.interpolate(x.bfloat16(), size=(16, 16), mode="bilinear")
    torch.testing.assert_close(low, expected, rtol=0.01, atol=0.01)
    assert resize_by_products(x.double(), 16).dtype == torch.float64


@pytest.mark.parametrize("size", [(16, 16), (9, 14)])
@pytest.mark.parametrize("side", [16, 11, 24])
@pytest.mark.parametrize("reach", [0.0, 0.3, 4.0])  # 4: mirrored several times over
def test_four_gathers_are_pytorchs_grid_sample(
    size: tuple[int, int], side: int, reach: float
) -> None:
    x = _maps(5, 3, *size)
    turns = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(1))
    theta = torch.eye(2, 3) + reach * turns
    grid = F.affine_grid(theta, [5, 1, side, side], align_corners=False)
    expected = F.grid_sample(
        x, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    _assert_same(sample_affine_by_gathers(x, theta, side), expected, x, 1e-4)
    assert torch.equal(sample_affine(x, theta, side), expected)


def test_the_symmetries_of_the_square_are_sampled_exactly() -> None:
    x = _maps(1, 3, 8, 8).detach()
    for theta, expected in (
        ([[1, 0, 0], [0, 1, 0]], x),
        ([[-1, 0, 0], [0, 1, 0]], x.flip(3)),
        ([[0, 1, 0], [1, 0, 0]], x.transpose(2, 3)),
        ([[0, -1, 0], [1, 0, 0]], torch.rot90(x, 1, (2, 3))),
        ([[1, 0, 0.25], [0, 1, 0]], torch.cat([x[..., 1:], x[..., 7:]], dim=3)),
    ):
        found = sample_affine_by_gathers(x, torch.tensor([theta], dtype=torch.float32), 8)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cuda", [False, True])
@pytest.mark.parametrize("asked", [False, True])
def test_the_plain_calls_are_left_only_on_cuda_and_only_where_determinism_is_asked_for(
    cuda: bool, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: asked)
    tensor = cast(Tensor, SimpleNamespace(is_cuda=cuda))
    assert resampling._order_matters(tensor) is (cuda and asked)


@pytest.mark.parametrize("side", [8, 16, 24])
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_augmented_tiles_and_their_gradients_are_the_same_either_way(
    side: int, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = _maps(6, 3, 16, 16)
    draws = np.random.default_rng(0).random((6, DRAWS), dtype=np.float32)
    found = []
    for careful in (False, True):
        monkeypatch.setattr(resampling, "_order_matters", lambda _x, on=careful: on)
        found.append(augment(x.tanh(), draws, strength=strength, side=side, probability=0.9))
    _assert_same(found[0], found[1], x, 1e-4)


class _Operations(TorchDispatchMode):
    """Names of all operations that run, forwards and backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def _operations_of_a_step(family: str, discriminator: str) -> set[str]:
    options = {"resolution": 32, "width": 8, "head_width": 8, "style_dim": 8, "batch": 4}
    options |= {"feature_side": 24, "device": "cpu", "precision": "float32", "diversity": 0.5}
    named = {"family": family, "discriminator": discriminator, **options}
    engine = Engine(configure(named), 2)
    engine.adaptive.probability = 0.8
    tiles = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    with _Operations() as seen:
        engine.step(tiles, np.array([0, 0, 1, 1]), 0)  # the first step takes every penalty
    return seen.names


@pytest.mark.parametrize(
    ("family", "discriminator"), [*((name, "own") for name in FAMILIES), ("cdcgan", "projected")]
)
def test_a_deterministic_step_has_no_operation_that_cuda_refuses(
    family: str, discriminator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "_order_matters", lambda _x: True)
    assert not _operations_of_a_step(family, discriminator) & REFUSED


def test_a_plain_step_has_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "_order_matters", lambda _x: False)
    assert _operations_of_a_step("cdcgan", "projected") & REFUSED == {
        "grid_sampler_2d_backward",
        "upsample_bilinear2d_backward",
        "_upsample_bilinear2d_aa_backward",
    }
