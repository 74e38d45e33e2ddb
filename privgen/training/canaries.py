"""Drawing the canaries of a training, and tossing their coins."""

from dataclasses import replace

import numpy as np

from audits.canary_results import toss
from privgen.choices import CanaryKind
from privgen.config import TrainConfig
from privgen.data.canaries import TILES, Canaries
from privgen.data.splits import Split, units
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError, InputError

_LEFT = 2
_STREAM = 1


def with_canaries(
    tiles: TileSet, split: Split, *, count: int, kind: CanaryKind, config: TrainConfig
) -> tuple[Split, Canaries]:
    """The canaries of a training, and its split with real ones where their coins put them.

    Args:
      tiles: the whole set.
      split: its roles; real canaries are drawn from the holdout and those in training leave it.
      count: canaries.
      kind: artificial or real.
      config: of the training; its seed decides the coins.

    Raises:
      ConfigError: artificial ones would take too much memory.
      InputError: there are too few patients to draw real ones from, or the tiles name none.
    """
    rng = np.random.default_rng([config.seed, _STREAM])
    coins = toss(count, rng)
    included = tuple(bool(coin) for coin in coins)
    if kind == "artificial":
        try:
            return split, Canaries(
                kind=kind,
                included=included,
                seed=config.seed,
                tiles=TILES,
                side=config.resolution,
                classes=tiles.classes,
            )
        except ValueError as error:
            raise ConfigError(f"{error}. Give fewer `canaries`.") from error
    if tiles.group_unit == "tile":
        raise InputError(
            "real canaries are patients: these tiles name none. Give a manifest with a patient "
            "column, or `canaries_from` artificial."
        )
    unit_of, groups = units(tiles), tiles.groups
    held = np.unique(unit_of[split.holdout])
    lone = [unit for unit in held if len(np.unique(groups[unit_of == unit])) == 1]
    if count > len(held) - _LEFT or count > len(lone):
        raise InputError(
            f"real canaries are drawn from the patients held out, of whom {_LEFT} stay: got "
            f"{count} for {len(held)}, of whom {len(held) - len(lone)} share pictures or pixels "
            "with others. Give fewer `canaries`, or a larger `holdout`."
        )
    chosen = np.sort(rng.choice(lone, count, replace=False))
    moved = split.holdout[np.isin(unit_of[split.holdout], chosen[coins])]
    names = [str(groups[unit_of == unit][0]) for unit in chosen]
    return (
        replace(
            split,
            train=np.sort(np.concatenate([split.train, moved])),
            holdout=np.setdiff1d(split.holdout, moved),
        ),
        Canaries(kind=kind, included=included, patients=tuple(names)),
    )
