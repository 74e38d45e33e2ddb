"""Losses against values worked out by hand."""

import pytest
import torch

from privgen.training import objectives


def test_hinge_losses_equal_values_by_hand() -> None:
    real, synthetic = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.0])
    # real: 0, .5, 2 -> mean 2.5/3; synthetic: 0, 1, 2 -> mean 1
    assert float(objectives.discriminator_hinge(real, synthetic)) == pytest.approx(2.5 / 3 + 1)
    assert float(objectives.generator_hinge(synthetic)) == pytest.approx(2 / 3)


def test_pair_distance_averages_neighbours_of_one_class() -> None:
    features = torch.tensor(
        [[0.0, 0.0], [3.0, 4.0], [1.0, 1.0], [9.0, 9.0], [2.0, 0.0], [2.0, 1.0]]
    )
    labels = torch.tensor([0, 0, 0, 1, 1, 1])  # the middle pair is of two classes
    assert float(objectives.pair_distance(features, labels)) == pytest.approx((5 + 1) / 2)


def test_there_is_no_distance_without_a_pair_of_one_class() -> None:
    maps = torch.randn(4, 3, 2, 2)
    assert float(objectives.pair_distance(maps, torch.arange(4))) == 0.0
    assert objectives.diversity(maps, maps, torch.arange(4)) == 0.0


def test_a_class_that_repeats_one_tile_falls_short_by_one() -> None:
    real, same = torch.randn(6, 4, 2, 2), torch.ones(6, 4, 2, 2)
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    assert float(objectives.diversity_shortfall([real], [same], labels)) > 0.99
    assert objectives.diversity(real, same, labels) < 0.01


def test_more_diversity_than_the_real_tiles_have_is_not_rewarded() -> None:
    real, labels = torch.randn(6, 4, 2, 2), torch.tensor([0, 0, 0, 0, 1, 1])
    assert float(objectives.diversity_shortfall([real], [3 * real], labels)) == 0.0
    half = float(objectives.diversity_shortfall([real], [real / 2], labels))
    assert half == pytest.approx(0.5, rel=1e-3)
    assert objectives.diversity(real, real / 2, labels) == pytest.approx(0.5, rel=1e-3)


def test_the_shortfall_pulls_tiles_of_a_class_apart() -> None:
    real, labels = torch.randn(4, 3, 2, 2), torch.zeros(4, dtype=torch.long)
    close = (0.1 * torch.randn(4, 3, 2, 2)).requires_grad_()
    before = objectives.pair_distance(close, labels)
    objectives.diversity_shortfall([real], [close], labels).backward()
    after = objectives.pair_distance(close - 0.1 * close.grad, labels)
    assert float(after.detach()) > float(before.detach())
