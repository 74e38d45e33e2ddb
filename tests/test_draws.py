"""Random draws as a pure function of seed and position."""

import numpy as np
import pytest

from privgen.draws import Purpose, batch_rows, latents, stream

SHAPES = ((1, 2, 2), (1, 4, 4))


def test_an_images_latent_does_not_depend_on_what_else_is_drawn() -> None:
    z, noise = latents(5, [3, 9, 4], Purpose.SAMPLE, z_dim=6, noise_shapes=SHAPES)
    alone, alone_noise = latents(5, [9], Purpose.SAMPLE, z_dim=6, noise_shapes=SHAPES)
    assert z.shape == (3, 6)
    assert [m.shape for m in noise] == [(3, 1, 2, 2), (3, 1, 4, 4)]
    np.testing.assert_array_equal(z[1:2], alone)
    np.testing.assert_array_equal(noise[1][1:2], alone_noise[1])


def test_seed_index_and_purpose_each_give_another_stream() -> None:
    draws = [
        stream(seed, index, purpose).random()
        for seed in (0, 1)
        for index in (0, 1)
        for purpose in Purpose
    ]
    assert len(set(draws)) == len(draws)


def test_latents_are_standard_normal() -> None:
    z, _ = latents(0, np.arange(2000), Purpose.SAMPLE, z_dim=10, noise_shapes=())
    assert abs(float(z.mean())) < 0.03
    assert abs(float(z.std()) - 1) < 0.03
    assert float(np.abs(np.corrcoef(z.T) - np.eye(10)).max()) < 0.1


def test_preserve_shows_every_tile_once_an_epoch() -> None:
    labels = np.array([0] * 7 + [1] * 3)
    rows = np.concatenate(
        [batch_rows(labels, seed=1, step=s, batch=5, balance="preserve") for s in range(4)]
    )
    assert sorted(rows[:10]) == list(range(10))
    assert sorted(rows[10:]) == list(range(10))
    assert list(rows[:10]) != list(rows[10:])


def test_uniform_shows_every_class_equally_often() -> None:
    labels = np.array([0] * 17 + [1] * 3 + [2] * 5)
    rows = np.concatenate(
        [batch_rows(labels, seed=1, step=s, batch=6, balance="uniform") for s in range(10)]
    )
    assert list(np.bincount(labels[rows])) == [20, 20, 20]
    counts = np.bincount(rows, minlength=25)
    assert counts[17:20].max() - counts[17:20].min() <= 1  # the rare class is walked through too


@pytest.mark.parametrize("balance", ["preserve", "uniform"])
def test_a_step_does_not_depend_on_the_steps_before(balance: str) -> None:
    labels = np.arange(20) % 3
    first = batch_rows(labels, seed=2, step=7, batch=5, balance=balance)  # type: ignore[arg-type]
    again = batch_rows(labels, seed=2, step=7, batch=5, balance=balance)  # type: ignore[arg-type]
    other = batch_rows(labels, seed=3, step=7, batch=5, balance=balance)  # type: ignore[arg-type]
    assert list(first) == list(again)
    assert list(first) != list(other)


@pytest.mark.parametrize("balance", ["preserve", "uniform"])
def test_tiles_of_a_class_stand_side_by_side(balance: str) -> None:
    labels = np.arange(30) % 3
    rows = batch_rows(labels, seed=2, step=1, batch=12, balance=balance)  # type: ignore[arg-type]
    assert list(labels[rows]) == sorted(labels[rows])
