"""Training, top to bottom: check the tiles, build or resume, step until the budget is used, save.

A run folder holds config.json, log.jsonl, fakes/ (synthetic tiles only), checkpoints/ (private)
and, at the end, generator.safetensors (to share).
"""

import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from privgen import console
from privgen.config import TrainConfig
from privgen.data.tileset import TileSet
from privgen.errors import CheckpointError, ConfigError, Interrupted, LayoutError
from privgen.files import sweep_partial_files, write_json
from privgen.sampling import LoadedGenerator
from privgen.training import state
from privgen.training.draws import batch_rows
from privgen.training.engine import Engine
from privgen.training.journal import Journal
from privgen.training.state import Checkpoint, GeneratorState, Ledger

_TRIAL_LAYERS = 100

KEPT_CHECKPOINTS = 2
"""How many checkpoints of a run stay on disk: the newest and one before it."""


def train(
    tiles: TileSet,
    config: TrainConfig,
    *,
    run_folder: Path,
    ledger: Ledger,
    resume: Path | None = None,
) -> Path:
    """Train a generator on `tiles` until the budget of `config` is used.

    Args:
      tiles: the train role only.
      config: what to do.
      run_folder: an existing folder; of the run to go on with, when resuming.
      ledger: who is in training and who is held out; kept in every checkpoint.
      resume: a checkpoint, or the run folder itself for its newest one.

    Returns:
      Path of the last checkpoint.

    Raises:
      LayoutError: a class has fewer than two tiles, or tiles are smaller than the resolution.
      ConfigError: the run to resume had another configuration; the differing keys are listed.
      CheckpointError: the checkpoint cannot be read, or is of other tiles.
      NonFiniteLossError: a loss became NaN or infinite; no parameter was changed by it.
      Interrupted: Ctrl-C or SIGTERM; a checkpoint was saved first.
    """
    started_from = None if resume is None else state.load_checkpoint(resume)
    pixels, labels = training_arrays(tiles, config)
    shares = tuple(float(share) for share in np.bincount(labels) / len(labels))
    if started_from is not None:
        _require_same_run(started_from, config, tiles, ledger)

    with _threads(config.threads), _stop_on_signal() as stop:
        engine = Engine(config, len(tiles.classes))
        step, used, running = 0, 0.0, {}
        if started_from is not None:
            engine.restore(started_from)
            step, used, running = started_from.step, started_from.seconds, started_from.running
        checkpoints = _prepare(run_folder, config)
        preview = LoadedGenerator(
            network=engine.average,
            family=config.family,
            classes=tiles.classes,
            class_share=shares,
            resolution=config.resolution,
        )

        def save() -> Path:
            path = state.checkpoint_path(checkpoints, step)
            checkpoint = Checkpoint(
                config=config,
                classes=tiles.classes,
                class_share=shares,
                step=step,
                seconds=used,
                running=journal.running,
                ledger=ledger,
                **engine.state(),
            )
            state.save_checkpoint(path, checkpoint)
            for old in sorted(checkpoints.glob("ckpt-*.pt"))[:-KEPT_CHECKPOINTS]:
                old.unlink()
            return path

        with Journal(run_folder, config, running) as journal:
            journal.rewind(step)
            journal.begin(step, used)
            clock, saved = time.monotonic() - used, used
            while step < config.budget_steps and used < config.budget_seconds:
                rows = batch_rows(
                    labels,
                    seed=config.seed,
                    step=step,
                    batch=config.batch,
                    balance=config.class_balance,
                )
                figures = engine.step(pixels[rows], labels[rows], step)
                step, used = step + 1, time.monotonic() - clock
                journal.record(step, used, figures)
                journal.show(step, used)
                if step % config.grid_steps == 0:
                    journal.grid(step, preview)
                if stop.is_set():
                    path = save()
                    raise Interrupted(
                        f"stopped after step {step}; saved {path}. "
                        f"Go on with: privgen train --resume {run_folder}"
                    )
                if used - saved >= 60 * config.checkpoint_minutes:
                    save()
                    saved = used
            journal.grid(step, preview)
            path = save()
    state.save_generator(
        run_folder / "generator.safetensors",
        GeneratorState(
            config=config,
            classes=tiles.classes,
            class_share=shares,
            tensors=engine.state()["average"],
            kimg=step * config.batch / 1000,
        ),
    )
    return path


def plan(tiles: TileSet, config: TrainConfig) -> dict[str, Any]:
    """What `train` would do, from a few timed steps; writes nothing.

    Returns:
      Plain values: tiles, classes, parameters, speed, memory, checkpoint size, steps, minutes.

    Raises:
      As `train`.
    """
    pixels, labels = training_arrays(tiles, config)
    with _threads(config.threads):
        engine = Engine(config, len(tiles.classes))
        times = []
        for step in range(3):
            rows = batch_rows(
                labels, seed=config.seed, step=step, batch=config.batch, balance="preserve"
            )
            began = time.perf_counter()
            engine.step(pixels[rows], labels[rows], step)
            times.append(time.perf_counter() - began)
    learned = {
        name: sum(p.numel() for p in network.parameters())
        for name, network in (("generator", engine.generator), ("heads", engine.discriminator))
    }
    # A checkpoint holds the weights and two moments of each, and the generator's average.
    steps_per_second = 1 / min(times[1:])
    steps = min(config.budget_steps, config.budget_seconds * steps_per_second)
    return {
        "family": config.family,
        "resolution": config.resolution,
        "tiles": len(tiles),
        "classes": {
            name: int(n) for name, n in zip(tiles.classes, np.bincount(labels), strict=True)
        },
        "parameters": learned,
        "device": str(engine.device),
        "precision": "bfloat16" if engine.low_precision else "float32",
        "steps_per_second": steps_per_second,
        "images_per_second": steps_per_second * config.batch,
        "memory_mib": _peak_memory(engine.device) / 2**20,
        "checkpoint_mib": (16 * learned["generator"] + 12 * learned["heads"]) / 2**20,
        "steps": int(steps),
        "kimg": steps * config.batch / 1000,
        "minutes": steps / steps_per_second / 60,
    }


def training_arrays(
    tiles: TileSet, config: TrainConfig
) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Tiles at the training resolution, uint8 (n, r, r, 3), and their class numbers, shape (n,).

    Raises:
      LayoutError: a class has fewer than two tiles, or a tile is smaller than the resolution.
    """
    labels = np.searchsorted(np.array(tiles.classes), tiles.labels)
    for name, count in zip(tiles.classes, np.bincount(labels), strict=True):
        if count < 2:
            raise LayoutError(
                f"every class needs two training tiles: {name} has {count}. "
                "Add tiles of it or leave the class out."
            )
    for record in tiles.records:
        if min(record.width or config.resolution, record.height or config.resolution) < (
            config.resolution
        ):
            raise LayoutError(
                f"tiles must be at least as large as the resolution, {config.resolution} px: "
                f"{record.path} is {record.width}x{record.height}. Give a lower --resolution."
            )
    return tiles.load(config.resolution), labels


def _require_same_run(
    checkpoint: Checkpoint, config: TrainConfig, tiles: TileSet, ledger: Ledger
) -> None:
    changed = checkpoint.config.differences(config)
    if changed:
        raise ConfigError(
            f"a resumed run must keep its configuration; changed: {'; '.join(changed)}. "
            "Take these back, or start a new run."
        )
    if checkpoint.classes != tiles.classes:
        raise CheckpointError(
            f"the checkpoint was trained on classes {', '.join(checkpoint.classes)}, the tiles "
            f"have {', '.join(tiles.classes)}. Give the tiles it was trained on."
        )
    if checkpoint.ledger.entries != ledger.entries:
        raise CheckpointError(
            "the checkpoint was trained on other tiles than those given, or on another split. "
            "Give the tiles it was trained on, or start a new run."
        )


def _prepare(run_folder: Path, config: TrainConfig) -> Path:
    """Make the run's folders, write its configuration, and give the folder of checkpoints."""
    checkpoints = run_folder / "checkpoints"
    for folder in (checkpoints, run_folder / "fakes"):
        folder.mkdir(parents=True, exist_ok=True)
        sweep_partial_files(folder)
    write_json(run_folder / "config.json", config.to_dict())
    return checkpoints


def _peak_memory(device: torch.device) -> int:
    """Most bytes used so far: on the device, or by the process for the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Run with `count` CPU threads; 0 takes PyTorch's default, or 1 where that is quicker now."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or _quickest_threads(before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _quickest_threads(default: int) -> int:
    """`default` or 1, by the time of a few small convolutions.

    Every layer ends with all its threads waiting for the slowest; on cores shared with other work
    two threads can take ten times as long as one.
    """
    layer = torch.nn.Conv2d(64, 64, 3, padding=1)
    tiles = torch.zeros(16, 64, 32, 32)
    seconds = {}
    for threads in (default, 1):
        torch.set_num_threads(threads)
        with torch.inference_mode():
            layer(tiles)
            began = time.perf_counter()
            for _ in range(_TRIAL_LAYERS):
                layer(tiles)
        seconds[threads] = time.perf_counter() - began
    return min(seconds, key=lambda threads: seconds[threads])


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second signal acts at once.

    Signals reach the main thread only, so a run started from another one goes on until its budget.
    """
    stop = threading.Event()
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, frame: FrameType | None) -> None:
        console.note("finishing this step and saving a checkpoint; once more to stop at once")
        stop.set()
        restore()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()
