"""Before the first step: tiles and checkpoints that cannot be used, told in one line."""

from dataclasses import replace

import numpy as np
import pytest

from privgen import console
from privgen.checkpoints.ledger import (
    Ledger,
    LedgerEntry,
)
from privgen.checkpoints.state import (
    Checkpoint,
)
from privgen.config import TrainConfig
from privgen.data.tileset import TileSet
from privgen.errors import CheckpointError, ConfigError, LayoutError
from privgen.training.requirements import same_run, training_arrays

CONFIG = TrainConfig(resolution=32, batch=8, threads=2)


def _tiles(*labels: str, side: int = 32) -> TileSet:
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), side, side, 3))
    return TileSet.from_arrays(pixels.astype(np.uint8), labels)


def _ledger(*roles: str) -> Ledger:
    entries = tuple(
        LedgerEntry(role=role, path=f"{k}.png", sha256="", label="a", group=f"p{k}")
        for k, role in enumerate(roles)
    )
    return Ledger(root=None, layout="arrays", group_unit="tile", split={}, entries=entries)


def _checkpoint(config: TrainConfig = CONFIG, classes: tuple[str, ...] = ("a", "b")) -> Checkpoint:
    return Checkpoint(
        config=config,
        classes=classes,
        class_share=(0.5, 0.5),
        step=3,
        seconds=1.0,
        processes=1,
        running={},
        selected={},
        generator={},
        average={},
        discriminator={},
        generator_optimizer={},
        discriminator_optimizer={},
        scaler={},
        adaptive={},
        ledger=_ledger("train", "holdout"),
    )


def test_classes_with_fewer_tiles_than_a_step_shows_are_warned_of_by_name_and_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(console, "warn", said.append)
    training_arrays(_tiles(*["STR"] * 8, *["TUM"] * 8), CONFIG)
    assert said == []
    pixels, labels = training_arrays(_tiles(*["STR"] * 8, *["TUM"] * 3, *["LYM"] * 7), CONFIG)
    assert len(said) == 1
    assert "fewer training tiles than the batch of 8" in said[0]
    assert "LYM 7, TUM 3." in said[0]
    assert "STR" not in said[0]
    assert "\n" not in said[0]
    assert pixels.shape == (18, 32, 32, 3)
    assert np.bincount(labels).tolist() == [7, 8, 3]  # classes in the order of their names


def test_larger_tiles_are_reduced_to_the_resolution() -> None:
    pixels, _ = training_arrays(_tiles(*["a", "b"] * 8, side=48), CONFIG)
    assert pixels.shape == (16, 32, 32, 3)


def test_tiles_of_two_sizes_are_refused_with_both_sizes_and_both_paths() -> None:
    small, large = _tiles("a", "b", side=32), _tiles("a", "b", side=40)
    records = (
        *small.records,
        *(replace(record, path=f"more/{record.path}") for record in large.records),
    )
    mixed = replace(small, records=records)
    with pytest.raises(
        LayoutError,
        match=r"one shape.*: a/000000\.png is 32x32, more/a/000000\.png is 40x40\. Tile again",
    ) as refused:
        training_arrays(mixed, CONFIG)
    assert "\n" not in str(refused.value)


def test_tiles_that_are_not_square_are_measured_by_their_shorter_side() -> None:
    pixels = np.zeros((4, 24, 48, 3), dtype=np.uint8)
    tiles = TileSet.from_arrays(pixels, ["a", "a", "b", "b"])
    with pytest.raises(LayoutError, match=r"resolution, 32 px: .*png is 48x24\. Give a lower"):
        training_arrays(tiles, CONFIG)


def test_the_thread_count_of_a_run_is_its_own_unless_asked_otherwise() -> None:
    tiles, ledger = _tiles("a", "a", "b", "b"), _ledger("train", "holdout")
    assert same_run(_checkpoint(), replace(CONFIG, threads=0), tiles, ledger) == CONFIG
    with pytest.raises(ConfigError, match=r"changed: threads: 2 -> 1\. Take these back"):
        same_run(_checkpoint(), replace(CONFIG, threads=1), tiles, ledger)


def test_every_changed_key_is_listed_and_those_of_the_budget_may_change() -> None:
    tiles, ledger = _tiles("a", "a", "b", "b"), _ledger("train", "holdout")
    other = replace(CONFIG, kimg=9.0, minutes=3.0, checkpoint_minutes=7.0, keep_checkpoints=9)
    assert same_run(_checkpoint(), other, tiles, ledger) == other
    changed = replace(other, loss="logistic", r1_gamma=1.0, augment=0.5)
    listed = r"loss: hinge -> logistic; r1_gamma: 0\.0 -> 1\.0; augment: 1\.0 -> 0\.5\. Take"
    with pytest.raises(ConfigError, match=listed):
        same_run(_checkpoint(), changed, tiles, ledger)


def test_another_family_is_refused_with_both_names() -> None:
    tiles, ledger = _tiles("a", "a", "b", "b"), _ledger("train", "holdout")
    with pytest.raises(
        CheckpointError, match=r"holds a cdcgan generator: got `family` stylegan2\. Leave `family`"
    ):
        same_run(_checkpoint(), replace(CONFIG, family="stylegan2"), tiles, ledger)


def test_other_classes_and_another_split_are_refused() -> None:
    tiles, ledger = _tiles("a", "a", "b", "b"), _ledger("train", "holdout")
    with pytest.raises(CheckpointError, match="trained on classes a, c, the tiles have a, b"):
        same_run(_checkpoint(classes=("a", "c")), CONFIG, tiles, ledger)
    with pytest.raises(CheckpointError, match="on another split"):
        same_run(_checkpoint(), CONFIG, tiles, _ledger("holdout", "train"))
