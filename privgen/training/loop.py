"""Training, top to bottom: check the tiles, build or resume, step until the budget is used, save.

A run folder holds config.json; log.jsonl (what was computed) and timing.jsonl (how long it took);
fakes/ (synthetic tiles only); watch.jsonl and progress.png (quality and leakage against kimg);
checkpoints/ (private) and, at the end, generator.safetensors (to share).

Everything but timing.jsonl depends on the configuration, the tiles and the step alone, so that a
run killed at any moment and resumed leaves the same files as one that was not.
"""

from dataclasses import replace
from pathlib import Path

from privgen.checkpoints import state
from privgen.checkpoints.ledger import (
    Ledger,
)
from privgen.compute.devices import (
    decided_precision,
    deterministic,
    keep_freed_memory,
    quickest_threads,
    threads,
)
from privgen.compute.processes import Processes
from privgen.config import TrainConfig
from privgen.data.tileset import TileSet
from privgen.draws import batch_rows
from privgen.errors import Interrupted
from privgen.phases import phase
from privgen.training.requirements import same_run, training_arrays
from privgen.training.run import Run
from privgen.training.signals import stop_on_signal


def train(
    tiles: TileSet,
    config: TrainConfig,
    *,
    run_folder: Path,
    ledger: Ledger,
    held_out: TileSet | None = None,
    resume: Path | None = None,
    processes: Processes | None = None,
) -> Path:
    """Train a generator on `tiles` until the budget of `config` is used.

    Args:
      tiles: the train role only.
      config: what to do.
      run_folder: an existing folder; of the run to go on with, when resuming.
      ledger: who is in training and who is held out; kept in every checkpoint.
      held_out: tiles of other patients, to watch quality and leakage against; None watches nothing.
      resume: a checkpoint, or the run folder itself for its newest one.
      processes: that train together; each calls this function.

    Returns:
      Path of the last checkpoint, or of the one selected.

    Raises:
      LayoutError: a class has fewer than two tiles, tiles are smaller than the resolution, or they
        differ in shape.
      ConfigError: the run to resume had another configuration; the differing keys are listed.
      CheckpointError: the checkpoint cannot be read, or is of other tiles or another family.
      NonFiniteLossError: a loss became NaN or infinite; no parameter was changed by it.
      DiskFullError: a checkpoint did not fit; the one before it is still there.
      Interrupted: Ctrl-C, SIGTERM or SIGUSR1; a checkpoint was saved first.
    """
    together = processes or Processes()
    started_from = None if resume is None else state.load_checkpoint(resume)
    if started_from is not None:
        config = same_run(started_from, config, tiles, ledger)
    with phase("loading tiles to train on"):
        pixels, labels = training_arrays(tiles, config, ledger.canaries)
        config = replace(
            config,
            threads=config.threads or together.told(quickest_threads()),
            precision=decided_precision(config, together),
        )

    keep_freed_memory()
    with threads(config.threads), deterministic(config.deterministic), stop_on_signal() as stop:
        run = Run(tiles, labels, config, run_folder, ledger, held_out, together, started_from)
        with run:
            while run.step < config.budget_steps and together.told(
                run.seconds < config.budget_seconds
            ):
                rows = batch_rows(
                    labels,
                    seed=config.seed,
                    step=run.step,
                    batch=config.batch,
                    balance=config.class_balance,
                )
                figures = run.engine.step(pixels[rows], labels[rows], run.step)
                run.record(figures)
                if run.step % config.grid_steps == 0:
                    run.grid()
                if run.watch_is_due:
                    run.watch()
                if together.any(stop.is_set()):
                    path = run.save()
                    raise Interrupted(
                        f"stopped after step {run.step}; saved {path}. "
                        f"Go on with: privgen train --resume {run_folder}"
                    )
                if run.save_is_due:
                    run.save()
            return run.finish()
