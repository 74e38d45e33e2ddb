"""Sampling: image i depends on (seed, i, label) alone."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from privgen.checkpoints import state
from privgen.checkpoints.state import GeneratorState
from privgen.config import TrainConfig
from privgen.draws import Purpose, stream
from privgen.errors import CheckpointError, ConfigError
from privgen.models import StyleGenerator, build_generator
from privgen.sampling import (
    CHUNK,
    MEAN_LATENTS,
    LoadedGenerator,
    iterate,
    label_numbers,
    load_generator,
    sample,
)

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
    labels = label_numbers(generator, range(10_000), balance="preserve")
    for count in (50, 333, 10_000):
        found = np.bincount(labels[:count], minlength=3)
        assert np.abs(found - count * np.array(SHARES)).max() <= 4


def test_labels_of_distant_images_need_no_counting_up_to_them(generator: LoadedGenerator) -> None:
    far = label_numbers(generator, [10**12, 10**12 + 1], balance="preserve")
    assert set(far) <= {0, 1, 2}


def test_an_unknown_balance_is_refused(generator: LoadedGenerator) -> None:
    with pytest.raises(ConfigError, match="must be preserve or uniform: got 'equal'"):
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


class Flat(nn.Module):
    """A generator with styles whose tiles can be worked out by hand.

    Its style is (first entry of z, class); a tile is grey, of value tanh(style 0 / 4 + class / 8)
    plus a little noise.
    """

    z_dim = 2
    style_count = 3
    resolution = 32
    noise_shapes = ((1, 32, 32),)

    def __init__(self, noise_weight: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(noise_weight), requires_grad=False)

    def styles(self, z: Tensor, labels: Tensor) -> Tensor:
        w = torch.stack([z[:, 0] + labels, labels.float()], dim=1)
        return w[:, None].expand(-1, self.style_count, -1)

    def synthesis(self, styles: Tensor, noise: Sequence[Tensor]) -> Tensor:
        grey = torch.tanh(styles[:, -1, 0] / 4 + styles[:, 0, 1] / 8)
        return (grey[:, None, None, None] + self.weight * noise[0]).expand(-1, 3, 32, 32)

    def forward(self, z: Tensor, labels: Tensor, noise: Sequence[Tensor]) -> Tensor:
        return self.synthesis(self.styles(z, labels), noise)


def styled(noise_weight: float = 0.0) -> LoadedGenerator:
    network = Flat(noise_weight)
    assert isinstance(network, StyleGenerator)
    return LoadedGenerator(
        network=network,
        family="flat",
        classes=("a", "b"),
        class_share=(0.5, 0.5),
        resolution=32,
    )


def grey(value: float) -> int:
    return round((np.tanh(value) + 1) * 127.5)


@cache
def mean_latent() -> float:
    """Mean of the first latent entry over the draws the mean style is made of."""
    draws = [
        stream(0, index, Purpose.MEAN_STYLE).standard_normal(dtype=np.float32, size=2)[0]
        for index in range(MEAN_LATENTS)
    ]
    return float(np.mean(draws, dtype=np.float64))


def test_the_mean_style_of_a_class_is_the_average_over_its_latents() -> None:
    means = styled().mean_styles
    assert means.shape == (2, 3, 2)
    centre = mean_latent()
    assert abs(centre) < 4 / np.sqrt(MEAN_LATENTS)
    for label in (0, 1):
        expected = torch.tensor([centre + label, float(label)]).expand(3, 2)
        torch.testing.assert_close(means[label], expected)


@pytest.mark.parametrize("psi", [0.0, 0.3, 0.9])
def test_truncation_moves_styles_towards_the_mean_of_their_class(psi: float) -> None:
    indices, labels = [0, 1, 2, 40], [0, 1, 1, 0]
    tiles = styled().generate(5, indices, labels, truncation=psi)
    centre = mean_latent()
    for tile, index, label in zip(tiles, indices, labels, strict=True):
        z = stream(5, index, Purpose.SAMPLE).standard_normal(dtype=np.float32, size=2 + 32**2)[0]
        moved = centre + psi * (float(z) - centre) + label
        assert np.all(tile == tile[0, 0, 0])
        assert abs(int(tile[0, 0, 0]) - grey(moved / 4 + label / 8)) <= 1


def test_truncation_0_gives_one_tile_a_class() -> None:
    tiles, names = sample(styled(), 20, seed=1, truncation=0.0)
    distinct = {(str(name), tile.tobytes()) for tile, name in zip(tiles, names, strict=True)}
    assert len(distinct) == 2


def test_truncation_leaves_noise_maps_alone() -> None:
    noisy = styled(noise_weight=0.05)
    tiles = noisy.generate(1, [0, 1], [0, 0], truncation=0.0)
    assert not np.array_equal(tiles[0], tiles[1])


def test_truncation_scales_the_latent_of_a_generator_without_styles(
    generator: LoadedGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Watched(nn.Module):
        z_dim = generator.network.z_dim
        noise_shapes = generator.network.noise_shapes

        def __init__(self) -> None:
            super().__init__()
            self.inner = generator.network

        def forward(self, z: Tensor, labels: Tensor, noise: list[Tensor]) -> Tensor:
            seen.append((z, noise))
            return self.inner(z, labels, noise)

    watched = replace(generator, network=Watched())
    for psi in (1.0, 0.25):
        watched.generate(3, range(CHUNK), [0] * CHUNK, truncation=psi)
    (whole, noise), (scaled, same_noise) = seen
    torch.testing.assert_close(scaled, 0.25 * whole)
    assert all(torch.equal(a, b) for a, b in zip(noise, same_noise, strict=True))


def test_truncation_1_is_the_generator_as_trained_bit_for_bit(generator: LoadedGenerator) -> None:
    for each in (generator, styled(noise_weight=0.1)):
        plain, _ = sample(each, 40, seed=4)
        np.testing.assert_array_equal(sample(each, 40, seed=4, truncation=1.0)[0], plain)
    assert "mean_styles" not in vars(each)  # not even computed


@pytest.mark.parametrize("psi", [-0.1, 1.5, float("nan")])
def test_a_truncation_out_of_range_is_refused(generator: LoadedGenerator, psi: float) -> None:
    with pytest.raises(ConfigError, match=r"truncation must be in \[0, 1\]: got"):
        generator.generate(0, [0], [0], truncation=psi)


def test_truncated_blocks_join_to_the_truncated_sample(generator: LoadedGenerator) -> None:
    whole, _ = sample(generator, 40, seed=2, truncation=0.5)
    parts = iterate(generator, 40, seed=2, truncation=0.5, block=32)
    np.testing.assert_array_equal(np.concatenate([tiles for tiles, _ in parts]), whole)
    assert not np.array_equal(whole, sample(generator, 40, seed=2)[0])


def test_the_digest_is_that_of_the_weights_wherever_they_are_kept(
    generator: LoadedGenerator, tmp_path: Path
) -> None:
    path = _saved(tmp_path / "g.safetensors", CONFIG, generator.network.state_dict())
    assert load_generator(str(path)).digest == generator.digest
    assert len(generator.digest) == 64
    other = {name: value.clone() for name, value in generator.network.state_dict().items()}
    other["to_rgb.bias"][0] += 1e-7
    changed = _saved(tmp_path / "h.safetensors", CONFIG, other)
    assert load_generator(changed).digest != generator.digest
    assert replace(generator, class_share=(0.5, 0.2, 0.3)).digest != generator.digest
