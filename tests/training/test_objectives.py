"""Losses against values worked out by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from privgen.training import objectives

REAL, SYNTHETIC = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.0])


def test_hinge_losses_equal_values_by_hand() -> None:
    # real: 0, .5, 2 -> mean 2.5/3; synthetic: 0, 1, 2 -> mean 1
    found = objectives.discriminator_loss("hinge", REAL, SYNTHETIC)
    assert float(found) == pytest.approx(2.5 / 3 + 1)
    assert float(objectives.generator_loss("hinge", REAL, SYNTHETIC)) == pytest.approx(2 / 3)


def test_logistic_losses_equal_binary_cross_entropy() -> None:
    expected = -np.log(1 / (1 + np.exp(-REAL.numpy()))).mean()
    expected -= np.log(1 - 1 / (1 + np.exp(-SYNTHETIC.numpy()))).mean()
    found = objectives.discriminator_loss("logistic", REAL, SYNTHETIC)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    fooling = -np.log(1 / (1 + np.exp(-SYNTHETIC.numpy()))).mean()
    found = objectives.generator_loss("logistic", REAL, SYNTHETIC)
    assert float(found) == pytest.approx(fooling, rel=1e-5)


def test_relativistic_average_losses_equal_values_by_hand() -> None:
    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    real, synthetic = REAL.numpy(), SYNTHETIC.numpy()  # means .5 and -2/3
    over, under = sigmoid(real + 2 / 3), sigmoid(synthetic - 0.5)
    expected = -np.log(over).mean() - np.log(1 - under).mean()
    found = objectives.discriminator_loss("relativistic", REAL, SYNTHETIC)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    expected = -np.log(1 - over).mean() - np.log(under).mean()
    found = objectives.generator_loss("relativistic", REAL, SYNTHETIC)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_relativistic_means_are_taken_over_all_processes() -> None:
    whole = objectives.discriminator_loss("relativistic", REAL, SYNTHETIC)
    halves = [
        objectives.discriminator_loss(
            "relativistic",
            REAL[part],
            SYNTHETIC[part],
            lambda own: own.new_tensor([float(REAL.sum()), float(SYNTHETIC.sum()), 3.0]),
        )
        for part in (slice(0, 1), slice(1, 3))
    ]
    assert float((halves[0] + 2 * halves[1]) / 3) == pytest.approx(float(whole), rel=1e-6)


def test_r1_of_a_linear_discriminator_is_half_its_squared_weight() -> None:
    weight = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)

    def judge(maps: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        return (maps[0].mean(dim=(2, 3)) @ weight)[:, None]

    penalty = objectives.r1_penalty(judge, [torch.randn(4, 3, 2, 2)], torch.zeros(4))
    # d logit / d pixel = weight / 4 at each of 4 places
    assert float(penalty.detach()) == pytest.approx(float((weight**2).sum().detach()) / 4 / 2)
    penalty.backward()
    torch.testing.assert_close(weight.grad, weight.detach() / 4)


def test_path_lengths_of_a_linear_generator_are_those_of_its_jacobian() -> None:
    torch.manual_seed(0)
    jacobian = torch.randn(3 * 2 * 2, 2 * 5)
    styles = torch.randn(4, 2, 5, requires_grad=True)
    tiles = (styles.flatten(1) @ jacobian.t()).reshape(4, 3, 2, 2)
    directions = torch.randn(4, 3, 2, 2)
    found = objectives.path_lengths(tiles, styles, directions)
    pulled = (directions.flatten(1) / 2) @ jacobian  # r = 2
    expected = pulled.reshape(4, 2, 5).square().sum(2).mean(1).sqrt()
    torch.testing.assert_close(found.detach(), expected)


def test_orthogonality_counts_inner_products_of_different_filters_only() -> None:
    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 5.0]]))
    assert float(objectives.orthogonality(layer).detach()) == pytest.approx(2 * 3.0**2)


def test_pair_distance_averages_neighbours_of_one_class() -> None:
    features = torch.tensor(
        [[0.0, 0.0], [3.0, 4.0], [1.0, 1.0], [9.0, 9.0], [2.0, 0.0], [2.0, 1.0]]
    )
    labels = torch.tensor([0, 0, 0, 1, 1, 1])  # the middle pair is of two classes
    assert float(objectives.pair_distance(features, labels)) == pytest.approx((5 + 1) / 2)


def test_there_is_no_distance_without_a_pair_of_one_class() -> None:
    maps = torch.randn(4, 3, 2, 2)
    assert float(objectives.pair_distance(maps, torch.arange(4))) == 0.0
    assert objectives.diversity(maps, maps, torch.arange(4), places=1) == 0.0


def test_a_class_that_repeats_one_tile_falls_short_by_one() -> None:
    real, same = torch.randn(6, 4, 2, 2), torch.ones(6, 4, 2, 2)
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    assert float(objectives.diversity_shortfall([real], [same], labels)) > 0.99
    assert objectives.diversity(real, same, labels, places=1) < 0.01


def test_more_diversity_than_the_real_tiles_have_is_not_rewarded() -> None:
    real, labels = torch.randn(6, 4, 2, 2), torch.tensor([0, 0, 0, 0, 1, 1])
    assert float(objectives.diversity_shortfall([real], [3 * real], labels)) == 0.0
    half = float(objectives.diversity_shortfall([real], [real / 2], labels))
    assert half == pytest.approx(0.5, rel=1e-3)
    assert objectives.diversity(real, real / 2, labels, places=1) == pytest.approx(0.5, rel=1e-3)


def test_the_shortfall_pulls_tiles_of_a_class_apart() -> None:
    real, labels = torch.randn(4, 3, 2, 2), torch.zeros(4, dtype=torch.long)
    close = (0.1 * torch.randn(4, 3, 2, 2)).requires_grad_()
    before = objectives.pair_distance(close, labels)
    objectives.diversity_shortfall([real], [close], labels).backward()
    after = objectives.pair_distance(close - 0.1 * close.grad, labels)
    assert float(after.detach()) > float(before.detach())
