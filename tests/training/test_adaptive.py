"""The controls: when the probability of augmentation moves, how far, and where it stops."""

import pytest

from privgen.training.adaptive import MOST, Adaptive


def _after(signs: list[float], start: float = 0.0) -> Adaptive:
    controls = Adaptive(probability=start)
    for sign in signs:
        controls.observe(sign, batch=10, target=0.6, kimg=1.0)
    return controls


def test_the_probability_moves_at_every_fourth_step_by_the_images_seen() -> None:
    assert _after([1.0] * 3).probability == 0.0
    assert _after([1.0] * 4).probability == pytest.approx(0.04)  # 40 of 1,000 images
    assert _after([1.0] * 7).probability == pytest.approx(0.04)
    assert _after([1.0] * 8).probability == pytest.approx(0.08)


def test_it_falls_where_the_discriminator_is_less_sure_than_the_target() -> None:
    assert _after([0.5] * 4, start=0.3).probability == pytest.approx(0.26)
    assert _after([0.0, 0.0, 1.0, 1.0], start=0.3).probability == pytest.approx(0.26)
    assert _after([0.7, 0.7, 0.7, 0.4], start=0.3).probability == pytest.approx(0.34)


def test_it_stays_between_nothing_and_the_most() -> None:
    assert _after([0.0] * 8, start=0.01).probability == 0.0
    assert _after([1.0] * 8, start=MOST - 0.01).probability == MOST == 0.8


def test_a_change_starts_a_new_mean() -> None:
    controls = _after([1.0] * 4 + [-1.0])
    assert (controls.signs, controls.seen) == (-1.0, 1)


def test_the_mean_path_length_takes_in_a_hundredth_of_a_step() -> None:
    controls = Adaptive(path_mean=2.0)
    controls.lengthened(4.0)
    assert controls.path_mean == pytest.approx(2.02)


def test_plain_values_bring_the_controls_back() -> None:
    controls = _after([1.0] * 6)
    controls.lengthened(3.0)
    again = Adaptive(**controls.to_dict())  # type: ignore[arg-type]
    assert again == controls
    for each in (controls, again):
        for _ in range(2):
            each.observe(1.0, batch=10, target=0.6, kimg=1.0)
    assert again == controls
    assert again.probability == pytest.approx(0.08)
