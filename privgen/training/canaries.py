"""Drawing the canaries of a training, and tossing their coins.

Coins, tissue and patterns follow from the seed and from the data, so that two data sets with one
seed do not share them.
"""

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audits.canary_results import toss
from privgen.choices import CanaryKind
from privgen.config import TrainConfig
from privgen.data.canaries import TILES, Canaries, size_of
from privgen.data.splits import Indices, Split, units
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError, InputError
from privgen.limits import CANARY_BYTES, MIB

_LEFT = 2


def with_canaries(
    tiles: TileSet, split: Split, *, count: int, kind: CanaryKind, config: TrainConfig
) -> tuple[Split, Canaries]:
    """The canaries of a training, and its split with real ones where their coins put them.

    Args:
      tiles: the whole set.
      split: its roles; real canaries are drawn from the holdout and those in training leave it.
      count: canaries.
      kind: artificial or real.
      config: of the training.

    Raises:
      ConfigError: artificial ones would take too much memory.
      InputError: there are too few patients to draw real ones from, or the tiles name none.
    """
    digest = hashlib.sha256("".join(np.sort(tiles.digests)).encode()).digest()
    rng = np.random.default_rng([config.seed, *digest])
    coins = toss(count, rng)
    if kind == "artificial":
        return split, _artificial(tiles.subset(split.train), coins, config, rng)
    return _real(tiles, split, coins, rng)


def _artificial(
    train: TileSet, coins: NDArray[np.bool_], config: TrainConfig, rng: np.random.Generator
) -> Canaries:
    size = size_of(len(coins), config.resolution)
    if size > CANARY_BYTES:
        raise ConfigError(
            f"pixels of canaries take at most {CANARY_BYTES // MIB} MiB: got `canaries` "
            f"{len(coins)} at {config.resolution} px, {size // MIB} MiB. Give fewer."
        )
    # As frequent as among the real tiles, spread over the canaries.
    numbers = np.searchsorted(np.array(train.classes), train.labels)
    places = (np.arange(TILES * len(coins)) + rng.random()) / (TILES * len(coins))
    labels = np.sort(numbers)[(places * len(numbers)).astype(np.intp)]
    return Canaries(
        kind="artificial",
        included=tuple(bool(coin) for coin in coins),
        seed=int(rng.integers(2**62)),
        side=config.resolution,
        classes=train.classes,
        labels=tuple(int(label) for label in labels.reshape(TILES, -1).T.ravel()),
    ).with_digest()


def _real(
    tiles: TileSet, split: Split, coins: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Split, Canaries]:
    if tiles.group_unit == "tile":
        raise InputError(
            "real canaries are patients: these tiles name none. Give a manifest with a patient "
            "column, or `canaries_from` artificial."
        )
    unit_of, groups = units(tiles), tiles.groups
    held = np.unique(unit_of[split.holdout])
    free = _free(tiles, split.holdout, unit_of)
    if len(coins) > min(len(free), len(held) - _LEFT):
        raise InputError(
            f"real canaries are drawn from the {tiles.group_unit.replace('_', ' ')}s held out, of "
            f"whom {_LEFT} stay: got {len(coins)} for {len(held)}, of whom {len(free)} share "
            "nothing with others, have tissue, and are not the last of their class. Give fewer "
            "`canaries`, or a larger `holdout`."
        )
    chosen = np.sort(rng.choice(free, len(coins), replace=False))
    moved = split.holdout[np.isin(unit_of[split.holdout], chosen[coins])]
    names = [str(groups[unit_of == unit][0]) for unit in chosen]
    return (
        replace(
            split,
            train=np.sort(np.concatenate([split.train, moved])),
            holdout=np.setdiff1d(split.holdout, moved),
        ),
        Canaries(kind="real", included=tuple(bool(coin) for coin in coins), patients=tuple(names)),
    )


def _free(tiles: TileSet, holdout: Indices, unit_of: Indices) -> list[int]:
    """Units of the holdout that may leave it: one patient each, with tissue, no class's last."""
    mine, labels = unit_of[holdout], tiles.labels[holdout]
    bearers = {name: np.unique(mine[labels == name]) for name in np.unique(labels)}
    # A class keeps its first bearer, whoever else leaves.
    kept = {int(whose[0]) for whose in bearers.values()}
    return [
        int(unit)
        for unit in np.unique(mine)
        if unit not in kept
        and len(np.unique(tiles.groups[unit_of == unit])) == 1
        and not tiles.featureless[unit_of == unit].all()
    ]
