"""From what the runs left to what `audits` judges: one whitening over everything, looks beside it.

Featureless tiles are everybody's and are scored for nobody.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.coins import Coins
from audits.recipe_scores import Look, RecipeData
from privgen.encoders.loading import load_encoder
from privgen.encoders.orbit import Whitening
from privgen.recipe.runs import COLOUR, JUDGE, MAIN, NORMALISED, QUALITY, WHITE_BOX, Setting
from privgen.recipe.workspace import REAL, run_name


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Everything `audits.recipe.judge_recipe` needs, and how long the runs trained together."""

    data: RecipeData
    seconds: float


def gathered(setting: Setting, coins: Coins) -> Gathered:
    """Read what all runs left.

    Raises:
      OutputError: a file is damaged.
    """
    patients, workspace = setting.patients, setting.workspace
    real, _ = workspace.load(REAL)
    runs = [workspace.load(run_name(run)) for run in range(len(setting.included))]
    seen = ~patients.tiles.featureless
    looks = {
        name: (real[name][seen], [looks[name] for looks, _ in runs])
        for name in (MAIN, COLOUR, NORMALISED, QUALITY)
    }
    return Gathered(
        data=RecipeData(
            coins=coins,
            look=_whitened(*looks[MAIN]),
            patients=patients.unit[seen],
            held_back=patients.held_back[seen],
            strata=patients.strata,
            others={
                COLOUR: _scaled(*looks[COLOUR]),
                NORMALISED: _whitened(*looks[NORMALISED]),
            },
            outside={
                name: [looks[name][seen] for looks, _ in runs]
                for name in (WHITE_BOX,)
                if setting.effort is not None
            },
            quality=(Look(real=looks[QUALITY][0], synthetic=looks[QUALITY][1]), JUDGE),
            encoder=load_encoder(setting.encoder).name,
            group_unit=patients.tiles.group_unit,
            shared_coins=patients.shared_coins,
        ),
        seconds=sum(seconds for _, seconds in runs),
    )


def _whitened(real: NDArray[np.float32], runs: list[NDArray[np.float32]]) -> Look:
    whitening = Whitening.fit(np.concatenate([real, *runs]))
    return Look(real=whitening.apply(real), synthetic=[whitening.apply(tiles) for tiles in runs])


def _scaled(real: NDArray[np.float32], runs: list[NDArray[np.float32]]) -> Look:
    """Every column over its spread: six numbers are too few to whiten."""
    every = np.concatenate([real, *runs])
    centre, spread = every.mean(axis=0), np.maximum(every.std(axis=0), 1e-6)
    return Look(
        real=(real - centre) / spread, synthetic=[(tiles - centre) / spread for tiles in runs]
    )
