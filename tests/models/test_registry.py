"""The registry: a family of one's own is trained, loaded, sampled; the unknown is refused."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import privgen
from privgen.config import TrainConfig
from privgen.data.phantom import make_phantom
from privgen.errors import ConfigError, PrivgenError
from privgen.models import FAMILIES, Family, build_generator, family, register_family
from privgen.sampling import load_generator, sample


class Patches(nn.Module):
    """A generator in ten lines: one linear layer to 8x8 colours, enlarged."""

    z_dim = 4
    noise_shapes: tuple[tuple[int, int, int], ...] = ()

    def __init__(self, config: TrainConfig, classes: int) -> None:
        super().__init__()
        self.resolution = config.resolution
        self.colours = nn.Linear(4 + classes, 3 * 8 * 8)
        self.classes = classes

    def forward(self, z: Tensor, labels: Tensor, noise: Sequence[Tensor]) -> Tensor:
        given = torch.cat([z, F.one_hot(labels, self.classes).to(z.dtype)], dim=1)
        x = self.colours(given).reshape(-1, 3, 8, 8)
        return torch.tanh(F.interpolate(x, scale_factor=self.resolution / 8))


class Means(nn.Module):
    """A discriminator that looks at coarse colours, one linear layer per class."""

    def __init__(self, config: TrainConfig, classes: int) -> None:
        super().__init__()
        self.side = config.resolution
        self.logits = nn.Linear(3 * 4 * 4, classes)

    def features(self, x: Tensor) -> list[Tensor]:
        return [x]

    def judge(self, features: Sequence[Tensor], labels: Tensor) -> Tensor:
        coarse = F.adaptive_avg_pool2d(features[0], 4).flatten(1)
        return self.logits(coarse).gather(1, labels[:, None])


OWN = Family(generator=Patches, discriminator=Means, about="ours", discriminator_kind="own")
OPTIONS = {
    "family": "patches",
    "resolution": 32,
    "batch": 8,
    "kimg": 0.016,
    "watch_kimg": 0.0,
    "device": "cpu",
    "threads": 1,
}


@pytest.fixture
def registered() -> Iterator[None]:
    register_family("patches", OWN)
    yield
    FAMILIES.pop("patches", None)


@pytest.mark.usefixtures("registered")
def test_a_family_of_ones_own_is_trained_loaded_and_sampled(tmp_path: Path) -> None:
    tiles = make_phantom(patients=4, tiles_per_patient=18, side=32, seed=0)
    checkpoint = privgen.train(tiles, out=tmp_path / "runs", config=OPTIONS)
    assert checkpoint.name == "ckpt-00000002.pt"
    assert checkpoint.parent.parent.name == "00000-tiles-patches"
    shared = checkpoint.parent.parent / "generator.safetensors"
    private, public = load_generator(checkpoint), load_generator(shared)
    assert isinstance(private.network, Patches)
    made, labels = sample(private, 40, seed=2)
    again, _ = sample(public, 40, seed=2)
    assert (made.shape, made.dtype) == ((40, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(made, again)
    assert set(labels) <= set(tiles.classes)
    assert len(np.unique(made.reshape(40, -1), axis=0)) == 40
    del FAMILIES["patches"]
    for path in (checkpoint, shared):
        with pytest.raises(PrivgenError, match=r"unknown generator family 'patches'") as refused:
            load_generator(path)
        assert "\n" not in str(refused.value)
        assert refused.value.exit_code == 2
    with pytest.raises(ConfigError, match="unknown generator family 'patches'; known: cdcgan"):
        privgen.train(tiles, out=tmp_path / "more", config=OPTIONS)
    assert not (tmp_path / "more").exists()


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("name", ["patches", "cdcgan"])
def test_a_name_that_is_taken_is_refused_and_keeps_its_family(name: str) -> None:
    before = family(name)
    with pytest.raises(ConfigError, match=rf"family '{name}' is already registered; choose"):
        register_family(name, Family(generator=Patches, discriminator=Means, about="another"))
    assert family(name) is before


@pytest.mark.parametrize("name", ["cdcgan", "stylegan", "stylegan2", "pathologygan"])
def test_a_resolution_a_family_cannot_make_is_refused_with_those_it_can(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} makes tiles of 32, 64, 128, 256 px: got 224"):
        build_generator(TrainConfig(family=name, resolution=224), 2)


def test_a_refused_resolution_leaves_no_run_folder(tmp_path: Path) -> None:
    tiles = make_phantom(patients=4, tiles_per_patient=18, side=256, seed=0)
    options = {"resolution": 224, "kimg": 0.016, "device": "cpu", "threads": 1}
    with pytest.raises(ConfigError, match="cdcgan makes tiles of 32, 64, 128, 256 px"):
        privgen.train(tiles, out=tmp_path, config=options)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_family_is_refused_with_all_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'gan9'; known: cdcgan, cdcgan-2025, stylegan, "):
        family("gan9")


def test_the_published_family_offers_the_published_side() -> None:
    assert 224 in family("cdcgan-2025").resolutions
    made = build_generator(TrainConfig(family="cdcgan-2025", resolution=224, width=4), 2)
    assert made(torch.zeros(1, 1500), torch.zeros(1, dtype=torch.long), []).shape[-1] == 224
