"""Insider attacks: which tile gets which score, and that each is judged alone."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audits import AuditResult, Estimate
from audits.results import Harm
from privgen.config import DiscriminatorKind, TrainConfig
from privgen.data.tileset import TileSet
from privgen.insider.attacks import (
    class_numbers,
    discriminator_scores,
    insider_scores,
    with_knowledge,
)
from privgen.insider.inversion import Effort, Inverter
from privgen.models import FAMILIES, build_discriminator, build_generator
from privgen.sampling import LoadedGenerator

Tiles = NDArray[np.uint8]
TINY = Effort(latents=8, starts=1, explore=1, steps=2, queries=2)


class Brightness(nn.Module):
    """Mean of the tile, 10 more a class number, and far off when four neighbours differ."""

    side = 16

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def features(self, x: Tensor) -> list[Tensor]:
        assert x.shape[2:] == (self.side, self.side)
        return [x]

    def judge(self, features: Sequence[Tensor], labels: Tensor) -> Tensor:
        means = features[0].mean(dim=(1, 2, 3)) + 10 * labels + self.bias
        fours = features[0].reshape(-1, 4, *features[0].shape[1:])
        apart = (fours - fours[:, :1]).abs().sum(dim=(1, 2, 3, 4))
        return torch.stack([means, means + 1000 * apart.repeat_interleave(4)], dim=1)


def flat_tiles(values: Sequence[int], side: int = 32) -> Tiles:
    return np.stack([np.full((side, side, 3), value, dtype=np.uint8) for value in values])


def loaded(classes: tuple[str, ...] = ("a", "b")) -> LoadedGenerator:
    torch.manual_seed(0)
    network = build_generator(TrainConfig(resolution=32, width=4), len(classes))
    return LoadedGenerator(
        network=network.eval().requires_grad_(False),
        family="cdcgan",
        classes=classes,
        class_share=(0.5, 0.5),
        resolution=32,
    )


def random_set(count: int, seed: int) -> TileSet:
    tiles = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return TileSet.from_arrays(tiles, [("a", "b", "new")[row % 3] for row in range(count)])


def test_a_tile_is_judged_among_its_own_copies_and_by_its_class() -> None:
    tiles = flat_tiles([0, 255, 51])
    scores = discriminator_scores(Brightness(), tiles, np.array([0, 0, 1]), 3)
    np.testing.assert_allclose(scores, [-1, 1, 9.4], atol=1e-5)


def test_an_unknown_class_takes_the_highest_of_all() -> None:
    scores = discriminator_scores(Brightness(), flat_tiles([0, 255]), np.array([-1, 1]), 3)
    np.testing.assert_allclose(scores, [19, 11], atol=1e-5)


@pytest.mark.parametrize(
    ("family", "kind"), [("cdcgan", "projected"), *((name, "own") for name in FAMILIES)]
)
def test_a_score_depends_neither_on_neighbours_nor_on_how_many_are_scored(
    family: str, kind: DiscriminatorKind
) -> None:
    torch.manual_seed(0)
    config = TrainConfig(family=family, discriminator=kind, resolution=32, width=8, head_width=8)
    network = build_discriminator(config, 2, frozen_type=torch.float32)
    network.eval().requires_grad_(False)
    tiles, labels = random_set(5, 1).load(), np.array([0, 1, 1, 0, 1])
    together = discriminator_scores(network, tiles, labels, 2)
    assert len({*np.round(together, 6)}) == 5
    for rows in ([2], [0, 4], [4, 3, 2], [3, 1, 0, 2]):
        found = discriminator_scores(network, tiles[rows], labels[rows], 2)
        np.testing.assert_allclose(found, together[rows], rtol=1e-4, atol=1e-5)


def test_every_tile_gets_its_own_score_under_its_own_id() -> None:
    generator, roles = loaded(), {"train": random_set(35, 2), "holdout": random_set(4, 3)}
    ids = {"train": np.array([f"t{n}" for n in range(35)]), "holdout": np.array(list("abcd"))}
    found = insider_scores(generator, Brightness(), roles, ids=ids, seed=0, effort=TINY)
    assert [scores.name for scores in found] == ["white_box", "partial_black_box", "discriminator"]
    tiles = roles["train"].subset([34, 1]).load()
    numbers = class_numbers(roles["train"].labels[[34, 1]], generator.classes)
    inverter = Inverter(generator.network, 2, seed=0, effort=TINY)
    expected = [
        inverter.white_box(tiles, numbers),
        inverter.partial_black_box(tiles, numbers),
        discriminator_scores(Brightness(), tiles, numbers, 2),
    ]
    for scores, mine in zip(found, expected, strict=True):
        np.testing.assert_allclose(scores.for_tiles(["t34", "t1"]), mine, rtol=1e-4)
        assert len(scores.ids) == 39


def test_members_and_others_are_treated_alike() -> None:
    tiles = random_set(4, 5)
    ids = {"train": np.array(list("abcd")), "holdout": np.array(list("wxyz"))}
    roles = {"train": tiles, "holdout": tiles.subset([3, 2, 1, 0])}
    for scores in insider_scores(loaded(), None, roles, ids=ids, seed=0, effort=TINY):
        ours, theirs = scores.for_tiles(list("abcd")), scores.for_tiles(list("zyxw"))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_classes_go_by_name() -> None:
    numbers = class_numbers(np.array(["b", "new", "a"]), ("a", "b"))
    assert numbers.tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tile_membership/white_box", "holds the generator's weights; 15 gradient steps per tile"),
        ("patient_membership/partial_black_box", "not see its weights; 7 queries per tile"),
        ("tile_membership/discriminator", "discriminator, which no generator file contains."),
    ],
)
def test_a_result_says_what_the_attacker_holds(name: str, expected: str) -> None:
    effort = Effort(starts=2, explore=4, steps=3, queries=7)
    estimate = Estimate(value=0.5, low=0.4, high=0.6, confidence=0.95, n=9, unit="patient")
    result = AuditResult(
        name=name, harm=Harm.TILE_MEMBERSHIP, statistic=estimate, note="Kept.", details={"k": 1}
    )
    (told,) = with_knowledge([result], effort)
    assert told.note.startswith("Kept. The attacker ")
    assert expected in told.note
    assert told.details["k"] == 1


def test_other_results_stay_as_they_are() -> None:
    estimate = Estimate(value=0.5, low=0.4, high=0.6, confidence=0.95, n=9, unit="patient")
    plain = [
        AuditResult(name=name, harm=Harm.TILE_MEMBERSHIP, statistic=estimate)
        for name in ("tile_membership", "tile_membership/shadow")
    ]
    assert with_knowledge(plain, TINY) == tuple(plain)
