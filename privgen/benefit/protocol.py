"""augment-bench: do synthetic tiles help a classifier of real ones?

Every model is trained in every arm (`arms`) with the same recipe and number of updates (`fitting`),
from the same initial weights for each seed, and tested once (`guard`) on patients that neither
training nor selection saw. What counts is the difference from the arm of real tiles alone, seed by
seed, tile by tile (`statistics`).

A gain can be an artefact of a baseline that did not converge. Beside every figure stand the
baseline's curve and training accuracy, arms that add no information (`oversampled`, `shuffled`),
and a logistic regression on colour histograms, which no network should lose to.

Source: docs/methods.md#classifier-benefit.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privgen.benefit.plan import BenchPlan
from privgen.benefit.regimes import Regime, check_parts
from privgen.benefit.results.assembly import Finished, Tested, assemble
from privgen.benefit.results.caveats import require_patients
from privgen.benefit.results.records import BenchReport
from privgen.benefit.trials.classifiers import uses_bfloat16
from privgen.benefit.trials.execution import Setting, default_jobs, histogram_name, run_cells
from privgen.benefit.trials.guard import TestGuard
from privgen.benefit.trials.histogram import colour_histograms, fit_histogram
from privgen.benefit.trials.material import (
    arithmetic,
    class_numbers,
    common_side,
    decided_by,
    put_material,
)
from privgen.benefit.trials.workspace import Workspace
from privgen.compute.devices import choose_device
from privgen.data.tileset import TileSet

__all__ = ["BenchReport", "augment_bench"]


def augment_bench(
    *,
    regimes: Sequence[Regime],
    validation: TileSet,
    test: TileSet,
    side: int | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    folder: Path | None = None,
    **options: Any,
) -> BenchReport:
    """Train every model in every arm and compare them on the test patients.

    Args:
      regimes: real training tiles, and synthetic ones by generators that saw no others.
      validation: real tiles of other patients, on which checkpoints are chosen.
      test: real tiles of further patients, read once by each trained classifier.
      side: pixels at which all tiles are seen; the training tiles' own when None.
      jobs: processes of this machine; one per core when None, and one on a GPU.
      scheduler: address of a Dask scheduler whose workers train instead; needs `folder`.
      folder: private; keeps each training's result, so that a run that was stopped can resume.
      options: which trainings: models, arms, ratios, seeds, updates, batch, evaluations, size,
        weights, device, seed, as `Plan.of`.

    Returns:
      The report. The same arguments give the same report on the same machine, whatever `jobs` is.

    Raises:
      ConfigError: an option is unknown or out of range.
      InputError: a class is missing, the test split has too few patients, or there are too few
        synthetic tiles.
      SplitError: two splits share a patient, a picture or pixels.
      NonFiniteLossError: a training diverged.

    Source: docs/methods.md#classifier-benefit.
    """
    finished = carry_out(
        BenchPlan.of(**options),
        regimes=regimes,
        validation=validation,
        test=test,
        side=side,
        jobs=jobs,
        scheduler=scheduler,
        folder=folder,
    )
    return finished.report


def carry_out(
    plan: BenchPlan,
    *,
    regimes: Sequence[Regime],
    validation: TileSet,
    test: TileSet,
    side: int | None,
    jobs: int | None,
    scheduler: str | None,
    folder: Path | None,
) -> Finished:
    """`augment_bench` with its options checked."""
    regimes = sorted(regimes, key=lambda regime: regime.share)
    device = choose_device(plan.device)
    check_parts(regimes, validation=validation, test=test)
    require_patients(test)
    side = common_side(regimes, side)
    classes = regimes[-1].train.classes
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="privgen-")))
        place = place.resolve()  # Dask workers may stand elsewhere
        workspace = Workspace(place)
        bfloat16 = frozenset(model for model in plan.models if uses_bfloat16(model, device))
        stack.enter_context(workspace.claim.held())
        workspace.claim.make(
            {
                **decided_by(plan, regimes, validation=validation, test=test, side=side),
                **arithmetic(device, bfloat16),
            }
        )
        stack.callback(workspace.end)
        setting = Setting(
            folder=place,
            plan=plan,
            generators=tuple((regime.share, len(regime.generators)) for regime in regimes),
            classes=len(classes),
            side=side,
            bfloat16=bfloat16,
            run=workspace.begin(),
        )
        kept = put_material(setting, regimes, validation=validation, test=test)
        results = run_cells(setting, jobs=jobs or _jobs(plan), scheduler=scheduler)
        guard = setting.guard(class_numbers(test, classes))
        colours = {
            regime.share: _test_histogram(workspace, guard, regime.share) for regime in regimes
        }
        labels = guard.labels()

    return assemble(
        plan,
        regimes,
        Tested(results=results, colours=colours, labels=labels, kept=kept),
        validation=validation,
        test=test,
        side=side,
    )


def _jobs(plan: BenchPlan) -> int:
    return default_jobs(choose_device(plan.device))


def _test_histogram(workspace: Workspace, guard: TestGuard, share: float) -> NDArray[np.float64]:
    """Probabilities of the colour histogram of one regime on the test tiles."""
    found = workspace.histogram(share)
    if found is not None:
        return found
    tiles, pool = workspace.get_pool(share, 0)
    fitted = fit_histogram(
        train=np.asarray(tiles[: len(pool.real)]),
        train_labels=pool.real,
        validation=workspace.get("validation"),
        validation_labels=np.array(workspace.get("validation-labels")),
    )
    probabilities = guard.test_pixels(
        histogram_name(share),
        lambda test: np.asarray(fitted.predict_proba(colour_histograms(test))),
        digest=hashlib.sha256(fitted.coef_.tobytes() + fitted.intercept_.tobytes()).hexdigest(),
    )
    workspace.save_histogram(share, probabilities)
    return probabilities
