"""A frozen recipe: everything that decides what a training makes, but its patients and its seed.

What is tried on random parts of the patients must be what the release was made with, so both are
held against each other key by key: the configuration with its kimg, and the code that trained.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from privgen.checkpoints.code import code_digest
from privgen.compute.devices import choose_device, decided_precision
from privgen.compute.processes import Processes
from privgen.config import RUNTIME_KEYS, TrainConfig
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError
from privgen.models.presets import configure
from privgen.training import dry_run

_DECIDES_NOTHING = RUNTIME_KEYS | {
    "seed",
    "threads",
    "compile",
    "deterministic",
    "log_steps",
    "grid_steps",
    "watch_kimg",
    "watch_count",
}
"""Keys in which a run of a recipe may differ from another; kimg is compared by itself."""


@dataclass(frozen=True, kw_only=True)
class FrozenRecipe:
    """What every run does alike.

    Attributes:
      config: with kimg and without minutes; its seed is that of the first run.
      code: digest of the code that trains.
    """

    config: TrainConfig
    code: str

    @property
    def keys(self) -> dict[str, object]:
        """What decides what a run makes, as plain values."""
        return decided(self.config, self.config.kimg or 0.0)

    @property
    def digest(self) -> str:
        """SHA-256, 64 hex digits, over configuration, kimg and code."""
        return recipe_digest(self.keys, self.code)

    def run_config(self, run: int) -> TrainConfig:
        """Configuration of one run; runs differ in their seed."""
        return replace(self.config, seed=self.config.seed + run)


def decided(config: TrainConfig, kimg: float) -> dict[str, object]:
    """The keys of a configuration that decide what is trained, and the kimg reached."""
    every = config.to_dict()
    return {key: every[key] for key in every if key not in _DECIDES_NOTHING} | {"kimg": kimg}


def recipe_digest(keys: Mapping[str, object], code: str) -> str:
    """Digest of a recipe; see `FrozenRecipe.digest`."""
    text = json.dumps({**keys, "code": code}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def freeze(options: Mapping[str, Any], tiles: TileSet) -> FrozenRecipe:
    """The recipe that these options of training ask for.

    A budget of minutes is turned into kimg once, by timing a few steps in one thread, because no
    two runs of so many minutes are the same.

    Args:
      options: fields of `TrainConfig`, over the family's preset.
      tiles: to time steps on.

    Raises:
      ConfigError: options that a repeated training cannot have.
    """
    config = configure(options)
    if config.select_by != "last":
        raise ConfigError(
            "runs of a recipe keep their last weights: got `select_by` "
            f"{config.select_by}. Leave it out."
        )
    if choose_device(config.device).type == "cpu":
        config = replace(config, threads=1)
    config = replace(
        config, precision=decided_precision(config, Processes()), watch_kimg=0.0, tensorboard=False
    )
    if config.kimg is None or config.minutes is not None:
        config = replace(config, kimg=dry_run.plan(tiles, config)["kimg"], minutes=None)
    config = replace(config, kimg=_reached(config))
    return FrozenRecipe(config=config, code=code_digest())


def _reached(config: TrainConfig) -> float:
    """The kimg of whole steps: what a training that was asked for this many says it reached."""
    return max(1.0, config.budget_steps) * config.batch / 1000
