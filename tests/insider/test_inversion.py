"""Inversion: closed forms on linear generators, and a generator that knows its tiles by heart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audits.attacks import full_black_box
from audits.permutation import auroc
from privgen.config import TrainConfig
from privgen.data.phantom import make_phantom
from privgen.errors import InputError
from privgen.insider.inversion import FULL_EFFORT_TILES, Effort, Inverter
from privgen.models import Generator, build_generator
from privgen.sampling import LoadedGenerator

Tiles = NDArray[np.uint8]
Labels = NDArray[np.intp]
SIDE = 32
QUICK = Effort(latents=64, starts=2, explore=10, steps=50, queries=200)


class Linear(nn.Module):
    """`scale Q z + offset of the class`, Q with orthonormal columns: its inversion is geometry."""

    noise_shapes = ((1, 4, 4),)
    z_dim = 6
    resolution = 8
    scale = 1.5

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        columns = np.linalg.qr(rng.normal(size=(192, self.z_dim)))[0]
        self.columns = torch.from_numpy(columns).float()
        self.offsets = torch.from_numpy(rng.normal(size=(2, 192)) * 0.2).float()
        self.noise_seen = 0.0

    def forward(self, z: Tensor, labels: Tensor, noise: Sequence[Tensor]) -> Tensor:
        self.noise_seen = max(self.noise_seen, float(noise[0].abs().max()))
        flat = self.scale * z @ self.columns.t() + self.offsets[labels]
        return flat.reshape(-1, 3, 8, 8)


@pytest.fixture
def linear() -> Linear:
    return Linear()


def random_tiles(count: int, seed: int, side: int = 8) -> Tiles:
    rng = np.random.default_rng(seed)
    return rng.integers(60, 196, (count, side, side, 3), dtype=np.uint8)


def closed_form(network: Linear, tiles: Tiles, labels: Labels) -> NDArray[np.float64]:
    """Smallest mean squared difference over `|z|^2 = dim`: project, then stretch to the radius."""
    x = (tiles.astype(np.float64) / 127.5 - 1).transpose(0, 3, 1, 2).reshape(len(tiles), -1)
    x -= network.offsets.numpy().astype(np.float64)[labels]
    inside = np.linalg.norm(x @ network.columns.numpy().astype(np.float64), axis=1)
    radius = network.scale * np.sqrt(network.z_dim)
    squared = (x**2).sum(axis=1) - inside**2 + (inside - radius) ** 2
    return np.asarray(squared / x.shape[1])


def test_gradients_find_the_closest_picture_a_linear_generator_can_make(linear: Linear) -> None:
    tiles, labels = random_tiles(6, 1), np.array([0, 1, 0, 1, 1, 0])
    scores = Inverter(linear, 2, seed=0, effort=QUICK).white_box(tiles, labels)
    np.testing.assert_allclose(-scores, closed_form(linear, tiles, labels), rtol=2e-3)


def test_queries_alone_come_close_to_it(linear: Linear) -> None:
    tiles, labels = random_tiles(6, 1), np.array([0, 1, 0, 1, 1, 0])
    best = closed_form(linear, tiles, labels)
    found = -Inverter(linear, 2, seed=0, effort=QUICK).partial_black_box(tiles, labels)
    assert (found >= best - 1e-5).all()
    np.testing.assert_allclose(found, best, rtol=0.02)
    few = Effort(latents=64, starts=2, explore=10, steps=50, queries=0)
    start = -Inverter(linear, 2, seed=0, effort=few).partial_black_box(tiles, labels)
    assert (start > 1.05 * best).any(), "the black-box neighbour alone is no inversion"


def test_a_free_label_is_the_best_of_all_classes(linear: Linear) -> None:
    tiles = random_tiles(6, 2)
    each = [closed_form(linear, tiles, np.full(6, number)) for number in (0, 1)]
    assert len({*np.argmin(each, axis=0)}) == 2, "both classes must win somewhere"
    scores = Inverter(linear, 2, seed=0, effort=QUICK).white_box(tiles, np.full(6, -1))
    np.testing.assert_allclose(-scores, np.min(each, axis=0), rtol=2e-3)


def test_the_generator_gets_no_noise(linear: Linear) -> None:
    attack = Inverter(linear, 2, seed=0, effort=QUICK)
    attack.white_box(random_tiles(2, 1), np.array([0, 1]))
    attack.partial_black_box(random_tiles(2, 1), np.array([0, 1]))
    assert linear.noise_seen == 0


def test_a_tile_is_scored_alone_whatever_stands_beside_it(linear: Linear) -> None:
    tiles, labels = random_tiles(5, 3), np.array([0, 1, 0, -1, 1])
    tiles[4], labels[4] = tiles[1], labels[1]
    attack = Inverter(linear, 2, seed=0, effort=QUICK)
    order = np.array([3, 1, 0, 4])
    for score in (attack.white_box, attack.partial_black_box):
        together = score(tiles, labels)
        assert together[4] == pytest.approx(together[1], rel=1e-4), "equal tiles score alike"
        np.testing.assert_allclose(score(tiles[order], labels[order]), together[order], rtol=1e-4)


def test_the_seed_fixes_the_draws(linear: Linear) -> None:
    tiles, labels = random_tiles(3, 4), np.array([0, 1, 0])
    few = Effort(latents=8, starts=1, explore=2, steps=2, queries=10)

    def scores(seed: int) -> NDArray[np.float64]:
        return Inverter(linear, 2, seed=seed, effort=few).partial_black_box(tiles, labels)

    np.testing.assert_array_equal(scores(1), scores(1))
    assert (scores(1) != scores(2)).all()


def test_tiles_of_another_size_or_class_are_refused(linear: Linear) -> None:
    attack = Inverter(linear, 2, seed=0, effort=QUICK)
    with pytest.raises(InputError, match="tiles of 8 px: got 16"):
        attack.white_box(random_tiles(1, 0, 16), np.array([0]))
    with pytest.raises(InputError, match=r"classes 0 to 1, or -1 .* got 2"):
        attack.partial_black_box(random_tiles(1, 0), np.array([2]))


def test_more_tiles_get_fewer_steps_each_but_never_none() -> None:
    full = Effort()
    assert Effort.for_tiles(1) == Effort.for_tiles(FULL_EFFORT_TILES) == full
    half = Effort.for_tiles(2 * FULL_EFFORT_TILES)
    assert (half.steps, half.queries) == (full.steps // 2, full.queries // 2)
    endless = Effort.for_tiles(10**9)
    assert min(endless.explore, endless.steps, endless.queries) >= 5


def test_a_generators_own_tiles_are_ten_times_closer_than_others() -> None:
    torch.manual_seed(0)
    network = build_generator(TrainConfig(resolution=SIDE, width=8), 3).eval()
    generator = LoadedGenerator(
        network=network.requires_grad_(False),
        family="cdcgan",
        classes=("a", "b", "c"),
        class_share=(0.4, 0.3, 0.3),
        resolution=SIDE,
    )
    labels = np.arange(12) % 3
    own = generator.generate(5, range(12), labels)
    others = make_phantom(patients=3, tiles_per_patient=4, side=SIDE, seed=1).load()
    attack = Inverter(network, 3, seed=0, effort=Effort(steps=80))
    near, far = (-np.median(attack.white_box(tiles, labels)) for tiles in (own, others))
    assert near < 0.1 * far


class Decoder(nn.Module):
    """A small generator that can learn 64 tiles by heart in seconds."""

    z_dim = 32
    resolution = SIDE
    noise_shapes: tuple[tuple[int, int, int], ...] = ()

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, 8)
        self.dense = nn.Sequential(
            nn.Linear(self.z_dim + 8, 128),
            nn.LeakyReLU(0.2),
            nn.Linear(128, 128),
            nn.LeakyReLU(0.2),
            nn.Linear(128, 48 * 64),
        )
        self.paint = nn.Sequential(
            nn.ConvTranspose2d(48, 24, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(24, 3, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor, labels: Tensor, noise: Sequence[Tensor]) -> Tensor:
        maps = self.dense(torch.cat([z, self.embedding(labels)], dim=1))
        return torch.as_tensor(self.paint(maps.reshape(-1, 48, 8, 8)))


@dataclass(frozen=True)
class Overfitted:
    """A generator, its 64 members, and two sets of 64 tiles of the same patients it never saw."""

    network: nn.Module
    tiles: Tiles
    labels: Labels

    def rows(self, part: int) -> tuple[Tiles, Labels]:
        mine = slice(64 * part, 64 * part + 64)
        return self.tiles[mine], self.labels[mine]

    def released(self, count: int) -> Tiles:
        """What a release would hold: `count` samples."""
        generator = LoadedGenerator(
            network=self.network,
            family="decoder",
            classes=("a", "b", "c"),
            class_share=(1 / 3, 1 / 3, 1 / 3),
            resolution=SIDE,
        )
        return generator.generate(11, range(count), np.arange(count) % 3)


@pytest.fixture(scope="module")
def overfitted() -> Overfitted:
    """Latents fixed, weights fitted to the pixels (Bojanowski et al. 2018), 200 steps."""
    made = make_phantom(
        patients=16, tiles_per_patient=12, side=SIDE, seed=1, classes=("TUM", "STR", "LYM")
    )
    order = np.random.default_rng(0).permutation(len(made))
    tiles = made.load()[order]
    labels = np.searchsorted(np.array(made.classes), made.labels)[order]
    torch.manual_seed(0)
    network = Decoder(3)
    assert isinstance(network, Generator)
    z = torch.randn(64, network.z_dim)
    target = torch.from_numpy(tiles[:64]).permute(0, 3, 1, 2).float() / 127.5 - 1
    own = torch.from_numpy(labels[:64])
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(200):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / 200)
        loss = (network(z, own, []) - target).square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return Overfitted(network.eval().requires_grad_(False), tiles, labels)


def half_width(members: int, others: int) -> float:
    """Two standard deviations of a blind score's AUROC (Mann-Whitney)."""
    return float(2 * np.sqrt((members + others + 1) / (12 * members * others)))


def test_members_of_an_overfitted_generator_are_found(overfitted: Overfitted) -> None:
    attack = Inverter(overfitted.network, 3, seed=0, effort=Effort())
    members, others, control = (attack.white_box(*overfitted.rows(part)) for part in range(3))
    found = auroc(members, others)
    released = overfitted.released(1000).reshape(1000, -1).astype(np.float32)
    pixels = [
        full_black_box(overfitted.rows(part)[0].reshape(64, -1).astype(np.float32), released)
        for part in (0, 1)
    ]
    assert found >= 0.9
    assert found >= auroc(*pixels)
    assert abs(auroc(control, others) - 0.5) <= half_width(64, 64)


def test_queries_find_them_too(overfitted: Overfitted) -> None:
    attack = Inverter(overfitted.network, 3, seed=0, effort=Effort())
    scores = [attack.partial_black_box(*overfitted.rows(part)) for part in range(3)]
    assert auroc(scores[0], scores[1]) >= 0.9
    assert abs(auroc(scores[2], scores[1]) - 0.5) <= half_width(64, 64)


def test_a_member_under_any_label_is_found_with_the_label_free(overfitted: Overfitted) -> None:
    attack = Inverter(overfitted.network, 3, seed=0, effort=Effort())
    tiles = np.concatenate([overfitted.rows(part)[0][:24] for part in (0, 1)])
    scores = attack.white_box(tiles, np.full(48, -1))
    assert auroc(scores[:24], scores[24:]) >= 0.85
