"""Losses against values worked out by hand and by brute force."""

from itertools import combinations

import pytest
import torch

from privgen.training import objectives


def test_hinge_losses_equal_values_by_hand() -> None:
    real, synthetic = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.0])
    # real: 0, .5, 2 -> mean 2.5/3; synthetic: 0, 1, 2 -> mean 1
    assert float(objectives.discriminator_hinge(real, synthetic)) == pytest.approx(2.5 / 3 + 1)
    assert float(objectives.generator_hinge(synthetic)) == pytest.approx(2 / 3)


def test_intra_class_distance_equals_brute_force_over_pairs() -> None:
    torch.manual_seed(0)
    features, labels = torch.randn(9, 2, 3, 3), torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 0])
    pairs = [(i, j) for i, j in combinations(range(9), 2) if labels[i] == labels[j]]
    expected = sum(float((features[i] - features[j]).norm()) for i, j in pairs) / len(pairs)
    found = float(objectives.intra_class_distance(features, labels))
    assert found == pytest.approx(expected, rel=1e-5)


def test_there_is_no_distance_without_two_tiles_of_a_class() -> None:
    assert float(objectives.intra_class_distance(torch.randn(3, 4), torch.arange(3))) == 0.0


def test_a_class_that_repeats_one_tile_falls_short_by_one() -> None:
    real = torch.randn(6, 4, 2, 2)
    same = torch.ones(6, 4, 2, 2)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    assert float(objectives.diversity_shortfall([real], [same], labels)) > 0.99
    assert objectives.diversity(real, same, labels) < 0.01


def test_more_diversity_than_the_real_tiles_have_is_not_rewarded() -> None:
    real, labels = torch.randn(6, 4, 2, 2), torch.tensor([0, 0, 0, 1, 1, 1])
    assert float(objectives.diversity_shortfall([real], [3 * real], labels)) == 0.0
    assert float(objectives.diversity_shortfall([real], [real / 2], labels)) == pytest.approx(0.5)
    assert objectives.diversity(real, real / 2, labels) == pytest.approx(0.5, rel=1e-3)


def test_the_shortfall_pulls_tiles_of_a_class_apart() -> None:
    real, labels = torch.randn(4, 3, 2, 2), torch.zeros(4, dtype=torch.long)
    close = (0.1 * torch.randn(4, 3, 2, 2)).requires_grad_()
    before = objectives.intra_class_distance(close, labels)
    objectives.diversity_shortfall([real], [close], labels).backward()
    after = objectives.intra_class_distance(close - 0.1 * close.grad, labels)
    assert float(after) > float(before)


def test_without_pairs_the_shortfall_is_zero_and_can_be_added_to_a_loss() -> None:
    maps = [torch.randn(3, 2, 2, 2)]
    assert float(objectives.diversity_shortfall(maps, maps, torch.arange(3))) == 0.0
