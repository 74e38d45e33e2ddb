"""Carrying out the trainings of a benchmark: by processes of this machine, or by Dask workers.

A training is a function of its cell, the plan and the material alone, computed by one thread where
it runs on a CPU, so that neither the number of jobs nor their order changes a figure. Its result is
a file, written when it has been tested: a run that was stopped does the trainings that are left.

Dask workers must see the private folder under the same path.
"""

import threading
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from privgen import console
from privgen.benefit.arms import ARMS
from privgen.benefit.plan import BenchPlan, Cell
from privgen.benefit.results.records import CellResult
from privgen.benefit.trials import histogram
from privgen.benefit.trials.classifiers import build
from privgen.benefit.trials.fitting import Trial, fit, predict
from privgen.benefit.trials.guard import CLEAN, TestGuard
from privgen.benefit.trials.stress import STRESSES
from privgen.benefit.trials.workspace import Workspace
from privgen.compute.cores import cores
from privgen.compute.devices import choose_device, threads
from privgen.compute.jobs import carry_out, carry_out_on_dask, stopped
from privgen.errors import Interrupted
from privgen.phases import phase

VIEWS = (CLEAN, *STRESSES)
"""How test tiles are seen: as they are, and stressed."""

_one_at_a_time = threading.Lock()  # PyTorch's random state and threads are those of a process


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What every training of a run shares; small, so that it travels to the workers.

    Attributes:
      folder: of the workspace.
      plan: the options.
      generators: how many each regime has: pairs of share and count.
      classes: how many.
      side: of the tiles, pixels.
      bfloat16: models that are trained in it, decided once for all workers.
      run: a token of this run; a worker that is left over from another one stops.
    """

    folder: Path
    plan: BenchPlan
    generators: tuple[tuple[float, int], ...]
    classes: int
    side: int
    bfloat16: frozenset[str]
    run: str

    @property
    def workspace(self) -> Workspace:
        """The private folder."""
        return Workspace(self.folder)

    def cells(self) -> list[Cell]:
        """Every training."""
        return self.plan.cells(dict(self.generators))

    def guard(self, labels: NDArray[np.intp] | None = None) -> TestGuard:
        """The guard of the test split, in this process."""
        views = self.workspace.get("test")
        histograms = [histogram_name(share) for share, _ in self.generators]
        return TestGuard(
            dict(zip(VIEWS, views, strict=True)),
            notes=self.workspace.notes,
            announced=[*(cell.name for cell in self.cells()), *histograms],
            labels=labels,
        )


def histogram_name(share: float) -> str:
    """The colour histogram of a regime, as the guard knows it."""
    return f"{histogram.NAME}, regime {share:g}"


def run_cells(setting: Setting, *, jobs: int, scheduler: str | None) -> list[CellResult]:
    """Train and test every cell that has no result yet; results of all, in the plan's order.

    Args:
      setting: of the run; its material is written.
      jobs: processes of this machine.
      scheduler: address of a Dask scheduler whose workers train instead.

    Raises:
      Interrupted: Ctrl-C; what is finished is kept.
      RuntimeFailure: a process died, or a training met a loss that is not finite.
    """
    cells = setting.cells()
    _guard.cache_clear()  # of a run that was stopped in this process
    left = [cell for cell in cells if not setting.workspace.done(cell)]
    if left and len(left) < len(cells):
        console.note(f"{len(cells) - len(left)} of {len(cells)} trainings were done before.")
    with phase("classifiers", total=len(cells), done=len(cells) - len(left)) as training:
        finished = (
            carry_out_on_dask(
                run_cell,
                setting,
                left,
                scheduler=scheduler,
                folder=setting.folder,
                called=lambda cell: cell.name,
            )
            if scheduler
            else carry_out(run_cell, setting, left, jobs=jobs)
        )
        with closing(finished):  # whatever happens here, the workers end before the material goes
            for cell in finished:
                training.call(f"classifiers: {cell.model}, {cell.label}")
                training.advance()
    return [setting.workspace.load(cell) for cell in cells]


def run_cell(setting: Setting, cell: Cell) -> None:
    """Train one classifier, choose its checkpoint on the validation split, test it once.

    Initial weights, batch order and the draw of synthetic tiles depend on the plan's seed and the
    cell's seed only, so that arms, models and regimes differ in nothing else.
    """
    with _one_at_a_time:
        if not setting.workspace.done(cell):
            _train_and_test(setting, cell)


def _train_and_test(setting: Setting, cell: Cell) -> None:
    plan, workspace = setting.plan, setting.workspace
    device = choose_device(plan.device)
    weights, order, draw = np.random.SeedSequence([plan.seed, cell.seed]).spawn(3)
    tiles, pool = workspace.get_pool(cell.regime, cell.generator or 0)
    arm = ARMS[cell.arm]
    composition = arm.compose(pool, cell.ratio or 0.0, np.random.default_rng(draw))
    with threads(1) if device.type == "cpu" else nullcontext():
        fitted = fit(
            build(
                cell.model,
                classes=setting.classes,
                side=setting.side,
                seed=int(weights.generate_state(1)[0]),
                size=plan.size,
                weights=plan.weights_of(cell.model),
            ),
            Trial(
                recipe=plan.recipe,
                seed=int(order.generate_state(1)[0]),
                augment=arm.augment,
                bfloat16=cell.model in setting.bfloat16,
                device=device,
            ),
            tiles=tiles,
            composition=composition,
            validation=workspace.get("validation"),
            validation_labels=workspace.get("validation-labels"),
            on_update=lambda: _stay(setting),
        )
        views = _guard(setting).test(cell.name, fitted.model, predict)
    workspace.save(
        CellResult(
            cell=cell,
            train_tiles=len(composition),
            updates=fitted.updates,
            chosen=fitted.chosen,
            curve=fitted.curve,
            train_accuracy=fitted.train_accuracy,
            probabilities=views.pop(CLEAN),
            stressed=views,
        )
    )


@lru_cache(maxsize=1)
def _guard(setting: Setting) -> TestGuard:
    """One guard a process, so that no classifier is tested twice in it."""
    return setting.guard()


def _stay(setting: Setting) -> None:
    """Between updates: end where the run was stopped."""
    if stopped() or setting.workspace.running() != setting.run:
        raise Interrupted("the benchmark was stopped. Run the same command again to go on.")


def default_jobs(device: torch.device) -> int:
    """Processes of this machine that train at a time: one per core, or one on a GPU."""
    if device.type != "cpu":
        return 1
    return cores()
