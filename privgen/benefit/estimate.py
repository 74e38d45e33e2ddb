"""How long a benchmark will take, measured from a few updates of each model."""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import numpy as np
from numpy.typing import NDArray

from privgen.benefit.arms import Composition
from privgen.benefit.plan import BenchPlan, Cell
from privgen.benefit.trials.classifiers import build, uses_bfloat16
from privgen.benefit.trials.execution import VIEWS, default_jobs
from privgen.benefit.trials.fitting import Trial, fit, predict
from privgen.benefit.trials.material import require_square
from privgen.compute.devices import choose_device, threads
from privgen.data.tileset import TileSet
from privgen.phases import phase
from privgen.reporting.bench_sections import ArmCost, EstimatedTrainings, TimedModel

_TRIAL_UPDATES = 4


def estimate(
    plan: BenchPlan,
    generators: Mapping[float, int],
    *,
    train: TileSet,
    validation: int,
    test: int,
    side: int | None,
    jobs: int | None,
) -> EstimatedTrainings:
    """Trainings of a benchmark and about how long they take on this machine, as busy as it is.

    Args:
      plan: the options.
      generators: how many each regime has.
      train: real training tiles, of which some are trained on for a moment.
      validation, test: tiles in these splits.
      side: pixels per side.
      jobs: processes of this machine.

    Returns:
      "models": of each the trainings and seconds of each; "arms": of each the trainings per model;
      "trainings", "minutes" of all.
    """
    side = require_square(train, side)
    tiles = train.subset(np.arange(min(len(train), plan.recipe.batch))).load(side)
    cells = plan.cells(generators)
    looks = plan.recipe.evaluations * validation + len(VIEWS) * test
    models: dict[str, TimedModel] = {}
    with phase("timing a few updates", total=len(plan.models)) as timing:
        for model in plan.models:
            update, look = _measured(plan, model, tiles, len(train.classes))
            models[model] = {
                "trainings": sum(cell.model == model for cell in cells),
                "seconds_each": plan.recipe.updates * update + looks * look,
            }
            timing.advance()
    total = sum(one["trainings"] * one["seconds_each"] for one in models.values())
    at_once = jobs or default_jobs(choose_device(plan.device))
    return {
        "models": models,
        "arms": [_arm_row(name, plan, cells) for name in plan.arms],
        "trainings": len(cells),
        "minutes": total / at_once / 60,
    }


def _arm_row(name: str, plan: BenchPlan, cells: Sequence[Cell]) -> ArmCost:
    """How often each model is trained in an arm, over regimes, ratios, generators and seeds."""
    own = [cell for cell in cells if cell.arm == name and cell.model == plan.models[0]]
    ratios = dict.fromkeys(cell.ratio for cell in own if cell.ratio is not None)
    return {
        "arm": name,
        "ratios": ", ".join(f"{ratio:g}" for ratio in ratios),
        "trainings": len(own),
    }


def _measured(
    plan: BenchPlan, model: str, tiles: NDArray[np.uint8], classes: int
) -> tuple[float, float]:
    """Seconds of an update, and of predicting one tile."""
    device = choose_device(plan.device)
    rows = np.resize(np.arange(len(tiles)), plan.recipe.batch)
    labels = np.resize(np.arange(classes), len(rows))
    network = build(
        model,
        classes=classes,
        side=tiles.shape[1],
        seed=0,
        size=plan.size,
        weights=plan.weights_of(model),
    )
    moments: list[float] = []
    with threads(1) if device.type == "cpu" else nullcontext():
        fit(
            network,
            Trial(
                recipe=plan.recipe.short(_TRIAL_UPDATES),
                seed=0,
                augment=False,
                bfloat16=uses_bfloat16(model, device),
                device=device,
            ),
            tiles=tiles,
            composition=Composition(rows=rows, labels=labels),
            validation=tiles[:1],
            validation_labels=labels[:1],
            on_update=lambda: moments.append(time.perf_counter()),
        )
        start = time.perf_counter()
        predict(network, tiles[rows])
    return float(np.diff(moments).min()), (time.perf_counter() - start) / len(rows)
