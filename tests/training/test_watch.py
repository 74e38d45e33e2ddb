"""The watch: known generators get the figures they deserve, the same ones every time."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from privgen.config import TrainConfig
from privgen.data import images
from privgen.data.phantom import make_phantom
from privgen.data.tileset import TileSet
from privgen.draws import Purpose, latents
from privgen.errors import ConfigError
from privgen.sampling import LoadedGenerator
from privgen.training.watch import CLASS_TILES, ENCODER, FD, Watch

COUNT = 48
CONFIG = TrainConfig(resolution=32, seed=3, watch_count=COUNT, device="cpu")
CLASSES = ("STR", "TUM")


class Repeats(torch.nn.Module):
    """A generator that knows tiles by heart: which of its class, the latent decides."""

    z_dim = 2
    noise_shapes = ()

    def __init__(self, tiles: TileSet, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        pixels = torch.from_numpy(tiles.load(CONFIG.resolution)).permute(0, 3, 1, 2)
        self.known = change(pixels.float() / 127.5 - 1)
        self.rows = [np.flatnonzero(tiles.labels == label) for label in tiles.classes]
        self.seen: list[torch.Tensor] = []

    def forward(self, z: torch.Tensor, labels: torch.Tensor, noise: list[Any]) -> torch.Tensor:
        self.seen.append(z)
        place = (z[:, 0].abs() * 1e5).long().tolist()
        own = [self.rows[number] for number in labels.tolist()]
        rows = [of[k % len(of)] for k, of in zip(place, own, strict=True)]
        return self.known[rows]


def _generator(
    tiles: TileSet, change: Callable[[torch.Tensor], torch.Tensor] = lambda x: x
) -> LoadedGenerator:
    return LoadedGenerator(
        network=Repeats(tiles, change).eval(),
        family="repeats",
        classes=tiles.classes,
        class_share=(0.5, 0.5),
        resolution=CONFIG.resolution,
    )


def _noise(tiles: torch.Tensor) -> torch.Tensor:
    return torch.rand(tiles.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def roles() -> tuple[TileSet, TileSet, TileSet]:
    """Train, held-out, and tiles of patients nobody has seen; 48 each, of 6 patients."""
    phantom = make_phantom(patients=18, tiles_per_patient=8, side=32, seed=5, classes=CLASSES)
    parts = np.split(np.arange(len(phantom)), 3)
    return phantom.subset(parts[0]), phantom.subset(parts[1]), phantom.subset(parts[2])


@pytest.fixture(scope="module")
def watch(roles: tuple[TileSet, TileSet, TileSet]) -> Watch:
    made = Watch.of(roles[0], roles[1], CONFIG)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def lines(watch: Watch, roles: tuple[TileSet, TileSet, TileSet]) -> dict[str, dict[str, Any]]:
    """What is measured of four generators."""
    train, held_out, fresh = roles
    return {
        "fresh": watch.measure(_generator(fresh)),
        "held-out": watch.measure(_generator(held_out)),
        "copies": watch.measure(_generator(train)),
        "noise": watch.measure(_generator(train, _noise)),
    }


def test_new_patients_tissue_comes_as_near_as_real_tissue_does(
    lines: dict[str, dict[str, Any]],
) -> None:
    floor = lines["fresh"][FD]["train_held_out"]
    assert lines["fresh"][FD]["synthetic_held_out"] < 1.4 * floor
    assert lines["held-out"][FD]["synthetic_held_out"] < 0.5 * floor
    assert lines["noise"][FD]["synthetic_held_out"] > 3 * floor
    assert all(line[FD]["train_held_out"] == floor for line in lines.values())


def test_copies_are_nearer_to_train_tiles_than_the_floor(
    lines: dict[str, dict[str, Any]],
) -> None:
    distances = lines["copies"][FD]
    assert distances["synthetic_train"] < 0.5 * distances["train_held_out"]


def test_every_class_with_enough_tiles_has_its_own_distances(
    lines: dict[str, dict[str, Any]], roles: tuple[TileSet, TileSet, TileSet]
) -> None:
    assert min(np.unique(roles[0].labels, return_counts=True)[1]) >= CLASS_TILES
    by_class = lines["copies"][f"{FD}/class"]
    assert tuple(by_class) == CLASSES
    for distances in by_class.values():
        assert distances["synthetic_train"] < distances["synthetic_held_out"]


def test_a_generator_of_train_tiles_fires_both_signals(lines: dict[str, dict[str, Any]]) -> None:
    copies, membership = lines["copies"]["copies"], lines["copies"]["membership"]
    assert copies["fires"]
    assert copies["share"] > 0.4  # 48 draws of 48 tiles show about 30 different ones
    assert membership["fires"]
    assert membership["auroc"] == 1.0
    assert (membership["members"], membership["nonmembers"]) == (6, 6)
    assert membership["unit"] == "patient"


@pytest.mark.parametrize("name", ["fresh", "held-out"])
def test_a_generator_without_train_tiles_fires_nothing(
    lines: dict[str, dict[str, Any]], name: str
) -> None:
    assert not lines[name]["copies"]["fires"]
    assert abs(lines[name]["copies"]["share"]) < 0.15
    assert not lines[name]["membership"]["fires"]


def test_a_tile_repeated_is_no_diversity_and_fresh_tissue_is(
    watch: Watch, lines: dict[str, dict[str, Any]], roles: tuple[TileSet, TileSet, TileSet]
) -> None:
    fresh = lines["fresh"]["diversity"]
    assert 0.7 < fresh["smallest"] == min(fresh["class"].values())
    train = roles[0]
    one = train.subset([int(np.flatnonzero(train.labels == label)[0]) for label in CLASSES])
    line = watch.measure(_generator(one))
    assert line["diversity"]["smallest"] == pytest.approx(0, abs=1e-6)
    # Two train tiles, however often: the train tiles' own distances do not confirm many copies.
    assert line["copies"]["share"] < 0.05
    assert line["copies"]["p"] < 0.01 < 0.05 < line["copies"]["own_p"]
    assert not line["copies"]["fires"]


def test_blank_tiles_are_measured_and_prove_no_copy(
    watch: Watch, roles: tuple[TileSet, TileSet, TileSet]
) -> None:
    line = watch.measure(_generator(roles[0], torch.zeros_like))
    assert line["copies"] is None
    assert line["diversity"]["smallest"] == 0


def test_the_same_weights_give_the_same_line_in_plain_json(
    watch: Watch,
    lines: dict[str, dict[str, Any]],
    roles: tuple[TileSet, TileSet, TileSet],
) -> None:
    again = watch.measure(_generator(roles[2]))
    assert again == lines["fresh"]
    written = json.dumps(again, allow_nan=False)
    assert json.loads(written) == again
    for tiles in roles:
        assert not any(group in written for group in tiles.groups)
        assert ".png" not in written


def test_tiles_stored_larger_go_through_the_resolution_of_the_run(
    lines: dict[str, dict[str, Any]], roles: tuple[TileSet, TileSet, TileSet]
) -> None:
    train, held_out, fresh = roles

    def larger(tiles: TileSet) -> TileSet:
        # Twice the side by repeating pixels: reduced again, not the tile itself but near it.
        big = tiles.load().repeat(2, axis=1).repeat(2, axis=2)
        return TileSet.from_arrays(big, tiles.labels, patients=tiles.groups)

    def reduced(tiles: TileSet) -> TileSet:
        small = images.resize(larger(tiles).load(), CONFIG.resolution)
        return TileSet.from_arrays(small, tiles.labels, patients=tiles.groups)

    stored, small = (
        Watch.of(change(train), change(held_out), CONFIG) for change in (larger, reduced)
    )
    assert stored is not None
    assert small is not None
    assert stored.measure(_generator(fresh)) == small.measure(_generator(fresh))


def test_measuring_changes_nothing_around_it(
    watch: Watch, roles: tuple[TileSet, TileSet, TileSet]
) -> None:
    generator = _generator(roles[2])
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    watch.measure(generator)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == 1
    assert torch.is_grad_enabled()
    assert generator.network.anchor.grad is None


def test_the_watch_draws_a_sample_of_its_own(
    watch: Watch, roles: tuple[TileSet, TileSet, TileSet]
) -> None:
    generator = _generator(roles[2])
    watch.measure(generator)
    released, _ = latents(CONFIG.seed, range(32), Purpose.SAMPLE, z_dim=2, noise_shapes=())
    assert not torch.isclose(generator.network.seen[0], torch.from_numpy(released)).any()


def _line(distance: float, *, copies: bool, membership: bool) -> dict[str, Any]:
    return {
        FD: {"synthetic_held_out": distance},
        "copies": {"fires": copies},
        "membership": {"fires": membership},
    }


@pytest.mark.parametrize(
    ("select_by", "copies", "membership", "expected"),
    [
        ("last", False, False, None),
        ("fd", True, True, 50.0),
        ("fd,leak", False, False, 50.0),
        ("fd,leak", True, False, None),
        ("fd,leak", False, True, None),
    ],
)
def test_merit_is_the_distance_to_held_out_tiles_unless_a_leak_forbids_it(
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    select_by: Any,
    copies: bool,
    membership: bool,
    expected: float | None,
) -> None:
    monkeypatch.setattr(watch, "_config", replace(CONFIG, select_by=select_by))
    assert watch.merit(_line(50.0, copies=copies, membership=membership)) == expected


def test_what_could_not_be_measured_does_not_fire(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_config", replace(CONFIG, select_by="fd,leak"))
    line = {**_line(50.0, copies=False, membership=False), "copies": None, "membership": None}
    assert watch.merit(line) == 50.0


def test_without_tiles_or_occasion_there_is_no_watch(
    roles: tuple[TileSet, TileSet, TileSet],
) -> None:
    train, held_out, _ = roles
    assert Watch.of(train, None, CONFIG) is None
    assert Watch.of(train, held_out.subset([]), CONFIG) is None
    assert Watch.of(train, held_out, replace(CONFIG, watch_kimg=0.0)) is None


@pytest.mark.parametrize("select_by", ["fd", "fd,leak"])
def test_selection_without_anything_to_measure_is_one_clear_line(
    roles: tuple[TileSet, TileSet, TileSet], select_by: Any
) -> None:
    train, held_out, _ = roles
    config = replace(CONFIG, select_by=select_by)
    tumour = train.subset(np.flatnonzero(train.labels == "TUM"))
    stroma = held_out.subset(np.flatnonzero(held_out.labels == "STR"))
    for given, held, options in (
        (train, None, config),
        (train, held_out.subset([0, 1]), config),
        (tumour, stroma, config),
        (train, held_out, replace(config, watch_kimg=0.0)),
    ):
        with pytest.raises(ConfigError, match="or select_by last") as caught:
            Watch.of(given, held, options)
        assert "\n" not in str(caught.value)


def test_one_held_out_patient_gives_no_membership_figure(
    roles: tuple[TileSet, TileSet, TileSet],
) -> None:
    train, held_out, fresh = roles
    alone = held_out.subset(np.flatnonzero(held_out.groups == held_out.groups[0]))
    found = Watch.of(train, alone, replace(CONFIG, watch_count=16))
    assert found is not None
    assert found.measure(_generator(fresh))["membership"] is None


def test_the_judge_is_not_the_network_that_trains() -> None:
    assert ENCODER != "effnet_lite0"
