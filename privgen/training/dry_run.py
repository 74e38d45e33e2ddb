"""What a run would do, from a few timed steps."""

import resource
import sys
import time
from collections.abc import Mapping
from typing import TypedDict

import numpy as np
import torch

from privgen.compute.devices import keep_freed_memory, quickest_threads, threads
from privgen.config import TrainConfig
from privgen.data.tileset import TileSet
from privgen.draws import batch_rows
from privgen.phases import phase
from privgen.training.engine import Engine
from privgen.training.requirements import training_arrays


class Learned(TypedDict):
    """Numbers of parameters."""

    generator: int
    discriminator: int


class Estimated(TypedDict):
    """What a run would do."""

    family: str
    discriminator: str
    resolution: int
    tiles: int
    classes: Mapping[str, int]
    parameters: Learned
    device: str
    precision: str
    steps_per_second: float
    images_per_second: float
    memory_mib: float
    checkpoint_mib: float
    steps: int
    kimg: float
    minutes: float


def plan(tiles: TileSet, config: TrainConfig) -> Estimated:
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
    keep_freed_memory()
    with phase("timing a few steps"), threads(config.threads or quickest_threads()):
        engine = Engine(config, len(tiles.classes))

        def seconds(step: int) -> float:
            rows = batch_rows(
                labels,
                seed=config.seed,
                step=step,
                batch=config.batch,
                balance=config.class_balance,
            )
            began = time.perf_counter()
            engine.step(pixels[rows], labels[rows], step)
            return time.perf_counter() - began

        seconds(0)
        plain = min(seconds(1), seconds(3))
        lazy = [config.r1_every] * (config.r1_gamma > 0) + [config.path_every] * (
            config.path_weight > 0
        )
        # Step 0 applies every penalty there is; each is paid once in its interval.
        whole = plain + max(seconds(0) - plain, 0.0) / min(lazy) if lazy else plain
    learned: Learned = {
        "generator": sum(p.numel() for p in engine.generator.parameters()),
        "discriminator": sum(p.numel() for p in engine.discriminator.parameters()),
    }
    # A checkpoint holds the weights and two moments of each, and the generator's average.
    checkpoint = 16 * learned["generator"] + 12 * learned["discriminator"]
    steps_per_second = 1 / whole
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
