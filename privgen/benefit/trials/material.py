"""From tile sets to the arrays that classifiers are trained and tested on."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray

from privgen import console
from privgen.benefit.arms import Pool, require_enough
from privgen.benefit.plan import BenchPlan
from privgen.benefit.regimes import Regime
from privgen.benefit.trials.classifiers import SMALLEST_SIDE
from privgen.benefit.trials.execution import VIEWS, Setting
from privgen.benefit.trials.filtering import Kept, choose_synthetic
from privgen.benefit.trials.stress import STRESSES
from privgen.data.tileset import TileSet
from privgen.encoders.loading import load_encoder
from privgen.errors import InputError

_FILTER_ENCODER = "effnet_lite0"


def common_side(regimes: Sequence[Regime], side: int | None) -> int:
    """Pixels a side at which all tiles are seen.

    When None the smaller of real and synthetic tiles' own: enlarged tiles are told from the others
    by their blur.

    Raises:
      InputError: the tiles are not square, or smaller than classifiers need.
    """
    sides = [
        require_square(tiles, side)
        for regime in regimes
        for tiles in (regime.train, *(source.tiles for source in regime.generators))
    ]
    return min(sides)


def require_square(tiles: TileSet, side: int | None) -> int:
    """Pixels a side of tiles scaled to `side`, or as they are.

    Raises:
      InputError: they are not square, or smaller than classifiers need.
    """
    height, width = tiles.subset([0]).load(side).shape[1:3]
    if height != width or width < SMALLEST_SIDE:
        raise InputError(
            f"classifiers need square tiles of {SMALLEST_SIDE} px or more: got {width}x{height} "
            "px. Give a larger `resolution`, or cut the tiles square."
        )
    return int(width)


def enlarged(regimes: Sequence[Regime], side: int) -> list[str]:
    """A warning for each generator whose tiles are smaller than classifiers see them."""
    return [
        f"regime {regime.share:g}: tiles of {source.name} are enlarged from {own} to {side} px, so "
        "that their blur tells them from real ones. Give a smaller `resolution`."
        for regime in regimes
        for source in regime.generators
        if (own := require_square(source.tiles, None)) < side
    ]


def class_numbers(tiles: TileSet, classes: Sequence[str]) -> NDArray[np.intp]:
    """Class number of each tile, shape (n,)."""
    return np.searchsorted(np.array(classes), tiles.labels)


def decided_by(
    plan: BenchPlan,
    regimes: Sequence[Regime],
    *,
    validation: TileSet,
    test: TileSet,
    side: int,
) -> dict[str, object]:
    """Everything the numbers of a benchmark depend on: options, and tiles by digest."""
    sets = {"validation": validation, "test": test}
    for regime in regimes:
        sets[f"training tiles of regime {regime.share:g}"] = regime.train
        for source in regime.generators:
            sets[f"synthetic tiles of regime {regime.share:g}, {source.name}"] = source.tiles
    return {
        **plan.to_dict(),
        "resolution": side,
        **{name: _digest(tiles) for name, tiles in sets.items()},
    }


def arithmetic(device: torch.device, bfloat16: frozenset[str]) -> dict[str, object]:
    """How a run computes, which decides the last digits of everything it trains."""
    return {
        "computes on": device.type,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": sorted(bfloat16),
        **{name: version(name) for name in ("privgen", "torch", "torchvision", "scikit-learn")},
    }


def _digest(tiles: TileSet) -> str:
    """Of pixels, classes and patients, in their order."""
    facts = [tiles.digests.tolist(), tiles.labels.tolist(), tiles.groups.tolist()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def put_material(
    setting: Setting, regimes: Sequence[Regime], *, validation: TileSet, test: TileSet
) -> dict[tuple[float, int], Kept]:
    """Write what the trainings read, and filter the synthetic tiles where the plan asks for it.

    Returns:
      What the filter kept, by regime and generator.

    Raises:
      InputError: a generator has too few tiles for the ratios.
    """
    plan, workspace, side = setting.plan, setting.workspace, setting.side
    classes = regimes[-1].train.classes
    encoder = load_encoder(_FILTER_ENCODER) if plan.filters else None
    kept: dict[tuple[float, int], Kept] = {}
    for regime in regimes:
        real, labels = regime.train.load(side), class_numbers(regime.train, classes)
        embeddings = None if encoder is None else encoder.embed(real)
        for number, source in enumerate(regime.generators):
            made, made_labels = source.tiles.load(side), class_numbers(source.tiles, classes)
            require_enough(Pool(real=labels, synthetic=made_labels), max(plan.ratios))
            if encoder is not None and embeddings is not None:
                console.note(
                    f"filtering {len(made)} tiles of {source.name}, regime {regime.share:g}"
                )
                kept[regime.share, number] = choose_synthetic(
                    train_embeddings=embeddings,
                    train_labels=labels,
                    train_groups=regime.train.groups,
                    synthetic_embeddings=encoder.embed(made),
                    synthetic_labels=made_labels,
                )
            found = kept.get((regime.share, number))
            workspace.put_pool(
                regime.share,
                number,
                np.concatenate([real, made]),
                Pool(
                    real=labels,
                    synthetic=made_labels,
                    kept=None if found is None else found.kept,
                ),
            )
    workspace.put("validation", validation.load(side))
    workspace.put("validation-labels", class_numbers(validation, classes))
    tiles = test.load(side)
    seen = {name: STRESSES[name](tiles) for name in VIEWS if name in STRESSES}
    workspace.put("test", np.stack([seen.get(name, tiles) for name in VIEWS]))
    return kept
