"""LPIPS diversity: the package's network on a given backbone, and what its distances become."""

from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray

from privgen.checkpoints.state import load_weights
from privgen.data.tileset import TileSet
from privgen.encoders import weights
from privgen.errors import WeightsError
from privgen.evidence import perceptual
from privgen.evidence.perceptual import (
    diversity,
    load_lpips,
    lpips_network,
    perceptual_diversity,
)
from privgen.files import sha256_file

Tiles = NDArray[np.uint8]


@pytest.fixture(scope="module")
def backbone() -> dict[str, torch.Tensor]:
    """AlexNet's convolutions with random weights."""
    torch.manual_seed(0)
    state = torchvision.models.alexnet(weights=None).state_dict()
    return {name: value for name, value in state.items() if name.startswith("features.")}


def grey(values: NDArray[np.int64], labels: list[str]) -> TileSet:
    """Tiles of one grey level each."""
    tiles = np.empty((len(values), 64, 64, 3), dtype=np.uint8)
    tiles[:] = np.asarray(values, dtype=np.uint8)[:, None, None, None]
    return TileSet.from_arrays(tiles, labels)


def mean_difference(first: Tiles, second: Tiles) -> NDArray[np.float64]:
    difference = first.astype(float) - second
    return np.asarray(np.abs(difference).mean(axis=(1, 2, 3)))


def test_the_network_is_the_packages_with_our_backbone(
    backbone: dict[str, torch.Tensor], crops: Tiles
) -> None:
    network = lpips_network(backbone)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)][:5]
    given = [value for name, value in backbone.items() if name.endswith("weight")]
    for layer, weight in zip(convolutions, given, strict=True):
        torch.testing.assert_close(layer.weight, weight)
    heads = load_weights(Path(lpips.__file__).parent / "weights/v0.1/alex.pth")
    torch.testing.assert_close(
        network.state_dict()["lin2.model.1.weight"], heads["lin2.model.1.weight"]
    )


def test_identical_tiles_have_distance_0_and_others_do_not(
    backbone: dict[str, torch.Tensor],
    crops: Tiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "alexnet.pth"
    torch.save(backbone, file)
    monkeypatch.setattr(perceptual, "_ALEXNET_SHA256", sha256_file(file))
    distance = load_lpips(file)
    np.testing.assert_allclose(distance(crops[:3], crops[:3]), 0, atol=1e-7)
    first = distance(crops[:3], crops[3:6])
    assert first.shape == (3,)
    assert (first > 1e-4).all()
    np.testing.assert_allclose(distance(crops[3:6], crops[:3]), first, rtol=1e-4)


def test_a_backbone_of_another_shape_is_one_clear_line() -> None:
    with pytest.raises(WeightsError, match="AlexNet's 10 convolution tensors: got 1"):
        lpips_network({"features.0.weight": torch.zeros(1)})


def test_without_a_network_lpips_says_within_seconds_what_to_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crops: Tiles
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_HOME", raising=False)

    waits: list[float] = []

    def unreachable(url: str, *, timeout: float) -> None:
        waits.append(timeout)
        raise OSError("no network")

    monkeypatch.setattr(weights, "urlopen", unreachable)
    tiles = TileSet.from_arrays(crops, ["a"] * len(crops))
    with pytest.raises(WeightsError, match=r"alexnet-owt-7be5be79\.pth") as caught:
        perceptual_diversity(tiles, tiles, seed=0)
    assert waits == [weights.PATIENCE]
    assert "\n" not in str(caught.value)
    assert "`lpips_weights`" in str(caught.value)


def test_diversity_is_the_mean_over_pairs_of_a_class() -> None:
    values = np.array([10, 10, 30, 30, 100, 100, 100, 100])
    labels = ["a"] * 4 + ["b"] * 4
    results = {
        r.name: r.statistic
        for r in diversity(mean_difference, grey(values, labels), grey(values, labels), seed=0)
    }
    assert results["lpips_diversity/synthetic/b"].value == 0
    assert results["lpips_diversity/synthetic/a"].value in (0, 20)  # two pairs: apart or alike
    both = results["lpips_diversity/synthetic/a"].value + 0
    assert results["lpips_diversity/synthetic"].value == both / 2
    assert results["lpips_diversity/synthetic/a"].n == 2


def test_a_generator_that_repeats_itself_falls_below_the_holdout() -> None:
    rng = np.random.default_rng(0)
    repeated = grey(rng.integers(100, 104, 80), ["a"] * 80)
    real = grey(rng.integers(0, 256, 80), ["a"] * 80)
    overall = {r.name: r.statistic for r in diversity(mean_difference, repeated, real, seed=1)}
    synthetic = overall["lpips_diversity/synthetic"]
    holdout = overall["lpips_diversity/holdout"]
    assert synthetic.high is not None
    assert holdout.low is not None
    assert synthetic.high < holdout.low
    assert holdout.n == 40


def test_the_interval_covers_the_true_mean() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for seed in range(100):
        tiles = grey(rng.integers(0, 256, 60), ["a"] * 60)
        low_high = diversity(mean_difference, tiles, tiles, seed=seed)[0].statistic
        assert low_high.low is not None
        assert low_high.high is not None
        inside += low_high.low <= (256**2 - 1) / (3 * 256) <= low_high.high
    assert 86 <= inside <= 100


def test_unlabelled_synthetic_tiles_are_compared_as_one_class() -> None:
    synthetic = grey(np.arange(10) * 20, ["all"] * 10)
    holdout = grey(np.arange(12) * 20, ["a", "b"] * 6)
    names = {r.name for r in diversity(mean_difference, synthetic, holdout, seed=0)}
    assert names == {
        "lpips_diversity/synthetic",
        "lpips_diversity/holdout",
        "lpips_diversity/synthetic/all",
        "lpips_diversity/holdout/all",
    }


def test_classes_too_small_for_two_pairs_are_left_out() -> None:
    few = grey(np.arange(3) * 20, ["a"] * 3)
    assert diversity(mean_difference, few, few, seed=0) == ()
