"""Repeated training without trainings: embeddings of patients, and runs that leak them or not."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from audits.coins import Coins, Design
from audits.recipe_scores import Look, RecipeData

FEATURES = 32


def design(
    patients: int = 16, runs: int = 8, scheme: Any = "complementary", classes: int = 2
) -> Design:
    """Coins of patients who have twenty tiles of one class each."""
    tiles = np.zeros((patients, classes), dtype=np.int64)
    tiles[np.arange(patients), strata(patients, classes)] = 20
    return Design(scheme=scheme, runs=runs, class_tiles=tiles)


def strata(patients: int, classes: int = 2) -> NDArray[np.intp]:
    return np.arange(patients) % classes


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def experiment(
    *,
    leak: float = 0.0,
    copied: float = 0.0,
    given_away: int | None = None,
    patients: int = 16,
    runs: int = 8,
    tiles: int = 12,
    synthetic: int = 120,
    held_back: int = 4,
    scheme: Any = "complementary",
    seed: int = 0,
) -> RecipeData:
    """Runs of a generator of fresh patients, some of whose tiles are its own patients'.

    Args:
      leak: share of a run's tiles that look like new tiles of its own patients.
      copied: share that are copies of its own patients' training tiles.
      given_away: only the first so many patients are ever leaked; all when None.
    """
    rng = np.random.default_rng(seed)
    coins: Coins = design(patients, runs, scheme).toss(rng)
    centres = rng.normal(size=(patients, FEATURES))
    owner = np.repeat(np.arange(patients), tiles)
    held = np.tile(np.arange(tiles) < held_back, patients)

    def fresh(middle: NDArray[np.float64]) -> NDArray[np.float64]:
        return middle + rng.normal(size=(len(middle), FEATURES))

    real = fresh(centres[owner])
    made = []
    for included in coins.included:
        known = np.flatnonzero(included & (np.arange(patients) < (given_away or patients)))
        rows = fresh(rng.normal(size=(synthetic, FEATURES)))
        leaked, copies = round(leak * synthetic), round(copied * synthetic)
        if len(known):
            rows[:leaked] = fresh(centres[rng.choice(known, leaked)])
            own = np.flatnonzero(np.isin(owner, known) & ~held)
            rows[leaked : leaked + copies] = real[rng.choice(own, copies)]
        made.append(unit(rows))
    return RecipeData(
        coins=coins,
        look=Look(real=unit(real), synthetic=made),
        patients=owner,
        held_back=held,
        strata=strata(patients),
    )


SMALL = {
    "family": "cdcgan",
    "discriminator": "own",
    "resolution": 32,
    "kimg": 0.024,
    "batch": 8,
    "width": 4,
    "head_width": 4,
    "device": "cpu",
}
"""A training of less than a second."""

QUICK = {"runs": 4, "count": 32, "encoder": "pixels", "jobs": 1}
"""How its audit is asked for."""
