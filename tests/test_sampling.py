"""Sampling: image i depends on (seed, i, label) alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from privgen.config import TrainConfig
from privgen.errors import CheckpointError, ConfigError
from privgen.models import build_generator
from privgen.sampling import CHUNK, LoadedGenerator, iterate, label_numbers, load_generator, sample
from privgen.training import state
from privgen.training.state import GeneratorState

CONFIG = TrainConfig(resolution=32, width=8)
SHARES = (0.5, 0.3, 0.2)


@pytest.fixture(scope="module")
def generator() -> LoadedGenerator:
    torch.manual_seed(0)
    return LoadedGenerator(
        network=build_generator(CONFIG, 3).eval().requires_grad_(False),
        family="cdcgan",
        classes=("a", "b", "c"),
        class_share=SHARES,
        resolution=32,
    )


def test_the_first_tiles_are_the_same_however_many_are_asked_for(
    generator: LoadedGenerator,
) -> None:
    few, few_labels = sample(generator, 5, seed=3)
    many, many_labels = sample(generator, CHUNK + 9, seed=3)
    assert few.shape == (5, 32, 32, 3)
    assert few.dtype == np.uint8
    np.testing.assert_array_equal(few, many[:5])
    np.testing.assert_array_equal(few_labels, many_labels[:5])


def test_order_and_repetition_do_not_matter(generator: LoadedGenerator) -> None:
    indices = [40, 3, 3, CHUNK + 3, 0]
    labels = [1, 2, 0, 2, 1]
    together = generator.generate(9, indices, labels)
    for row, (index, label) in enumerate(zip(indices, labels, strict=True)):
        np.testing.assert_array_equal(together[row], generator.generate(9, [index], [label])[0])


def test_seed_index_and_label_each_change_the_tile(generator: LoadedGenerator) -> None:
    base = generator.generate(1, [5], [0])
    for other in ((2, [5], [0]), (1, [6], [0]), (1, [5], [1])):
        assert not np.array_equal(base, generator.generate(*other))


def test_blocks_join_to_the_whole_sample(generator: LoadedGenerator) -> None:
    whole, names = sample(generator, 70, seed=2, balance="uniform")
    parts = list(iterate(generator, 70, seed=2, balance="uniform", block=32))
    assert [len(tiles) for tiles, _ in parts] == [32, 32, 6]
    np.testing.assert_array_equal(np.concatenate([tiles for tiles, _ in parts]), whole)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in parts]), names)
    later = next(iterate(generator, 6, seed=2, balance="uniform", start=64))
    np.testing.assert_array_equal(later[0], whole[64:])


def test_nothing_asked_for_gives_nothing(generator: LoadedGenerator) -> None:
    tiles, labels = sample(generator, 0, seed=0)
    assert tiles.shape == (0, 32, 32, 3)
    assert labels.shape == (0,)


def test_uniform_labels_take_the_classes_in_turns(generator: LoadedGenerator) -> None:
    assert list(label_numbers(generator, range(7), balance="uniform")) == [0, 1, 2, 0, 1, 2, 0]


def test_as_trained_labels_follow_the_shares_closely_at_any_count(
    generator: LoadedGenerator,
) -> None:
    labels = label_numbers(generator, range(10_000), balance="as-trained")
    for count in (50, 333, 10_000):
        found = np.bincount(labels[:count], minlength=3)
        assert np.abs(found - count * np.array(SHARES)).max() <= 4


def test_labels_of_distant_images_need_no_counting_up_to_them(generator: LoadedGenerator) -> None:
    far = label_numbers(generator, [10**12, 10**12 + 1], balance="as-trained")
    assert set(far) <= {0, 1, 2}


def test_an_unknown_balance_is_refused(generator: LoadedGenerator) -> None:
    with pytest.raises(ConfigError, match="must be as-trained or uniform: got 'equal'"):
        sample(generator, 1, seed=0, balance="equal")  # type: ignore[arg-type]


def _saved(path: Path, config: TrainConfig, tensors: dict[str, torch.Tensor]) -> Path:
    kept = GeneratorState(
        config=config, classes=("a", "b", "c"), class_share=SHARES, tensors=tensors
    )
    state.save_generator(path, kept)
    return path


def test_a_saved_generator_samples_the_same_tiles(
    generator: LoadedGenerator, tmp_path: Path
) -> None:
    path = _saved(tmp_path / "g.safetensors", CONFIG, generator.network.state_dict())
    np.testing.assert_array_equal(
        sample(load_generator(path), 4, seed=1)[0], sample(generator, 4, seed=1)[0]
    )


def test_a_generator_of_another_family_is_refused_by_name(
    generator: LoadedGenerator, tmp_path: Path
) -> None:
    tensors = generator.network.state_dict()
    path = _saved(tmp_path / "g", TrainConfig(family="biggan"), tensors)
    with pytest.raises(CheckpointError, match="unknown generator family 'biggan'"):
        load_generator(path)


def test_weights_that_do_not_fit_the_family_are_refused(
    generator: LoadedGenerator, tmp_path: Path
) -> None:
    path = _saved(tmp_path / "g", TrainConfig(width=16), generator.network.state_dict())
    with pytest.raises(CheckpointError, match="does not fit generator family 'cdcgan'"):
        load_generator(path)
