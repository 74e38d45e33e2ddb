"""What a run would do, from a few timed steps."""

import resource
import sys
import time
from typing import Any

import numpy as np
import torch

from privgen.config import TrainConfig
from privgen.data.tileset import TileSet
from privgen.training.checks import training_arrays
from privgen.training.devices import quickest_threads, threads
from privgen.training.draws import batch_rows
from privgen.training.engine import Engine


def plan(tiles: TileSet, config: TrainConfig) -> dict[str, Any]:
    """What training would do; writes nothing.

    Args:
      tiles: the train role only.
      config: of the run.

    Returns:
      Plain values: tiles, classes, parameters, speed, memory, checkpoint size, steps, minutes.

    Raises:
      LayoutError, ConfigError: as `training.loop.train`.
    """
    pixels, labels = training_arrays(tiles, config)
    with threads(config.threads or quickest_threads()):
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
        for name, network in (
            ("generator", engine.generator),
            ("discriminator", engine.discriminator),
        )
    }
    # A checkpoint holds the weights and two moments of each, and the generator's average.
    checkpoint = 16 * learned["generator"] + 12 * learned["discriminator"]
    steps_per_second = 1 / min(times[1:])
    steps = min(config.budget_steps, config.budget_seconds * steps_per_second)
    return {
        "family": config.family,
        "discriminator": config.discriminator,
        "resolution": config.resolution,
        "tiles": len(tiles),
        "classes": {
            name: int(n) for name, n in zip(tiles.classes, np.bincount(labels), strict=True)
        },
        "parameters": learned,
        "device": str(engine.device),
        "precision": str(engine.dtype).removeprefix("torch."),
        "steps_per_second": steps_per_second,
        "images_per_second": steps_per_second * config.batch,
        "memory_mib": _peak_memory(engine.device) / 2**20,
        "checkpoint_mib": checkpoint / 2**20,
        "steps": int(steps),
        "kimg": steps * config.batch / 1000,
        "minutes": steps / steps_per_second / 60,
    }


def _peak_memory(device: torch.device) -> int:
    """Most bytes used so far: on the device, or by the process for the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
