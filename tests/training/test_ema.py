"""The averaged generator."""

import pytest
import torch

from privgen.training import ema


def test_after_one_half_life_the_old_average_counts_half() -> None:
    factor = ema.decay(batch=50, images_seen=10**9, half_life_kimg=1.0)
    assert factor**20 == pytest.approx(0.5)


def test_early_on_the_half_life_is_a_twentieth_of_the_images_seen() -> None:
    assert ema.decay(batch=5, images_seen=100, half_life_kimg=1.0) == pytest.approx(0.5)


def test_update_moves_parameters_part_of_the_way_and_copies_buffers() -> None:
    network = torch.nn.BatchNorm1d(2)
    average = ema.average_of(network)
    with torch.no_grad():
        network.weight.fill_(3.0)
        network.running_mean.fill_(5.0)  # type: ignore[union-attr]
    ema.update(average, network, 0.75)
    assert average.weight.tolist() == [1.5, 1.5]  # .75 * 1 + .25 * 3
    assert average.running_mean.tolist() == [5.0, 5.0]
    assert not average.training
    assert not any(p.requires_grad for p in average.parameters())
    assert network.weight.tolist() == [3.0, 3.0]
