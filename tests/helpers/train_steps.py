"""Trains a few steps in however many processes `torchrun` started; the first saves the weights.

Arguments: steps, file, and one or more of family:discriminator.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from privgen.compute.processes import join
from privgen.draws import batch_rows
from privgen.models.presets import configure
from privgen.training.engine import Engine


def run(family: str, discriminator: str, steps: int) -> dict[str, torch.Tensor]:
    """Weights after `steps` steps on random tiles."""
    torch.set_num_threads(1)
    config = configure(
        {
            "family": family,
            "discriminator": discriminator,
            "resolution": 32,
            "batch": 8,
            "width": 8,
            "head_width": 8,
            "style_dim": 16,
            "feature_side": 32,
            "precision": "float64",
            "device": "cpu",
        }
    )
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 32, 32, 3)).astype(np.uint8)
    labels = np.repeat([0, 1], 12)
    engine = Engine(config, 2, processes=join("cpu"))
    for step in range(steps):
        rows = batch_rows(labels, seed=0, step=step, batch=8, balance="uniform")
        engine.step(pixels[rows], labels[rows], step)
    state = engine.state()
    return {
        f"{part}.{name}": tensor.contiguous()
        for part in ("generator", "average", "discriminator")
        for name, tensor in state[part].items()
    }


def run_all(pairs: list[str], steps: int) -> dict[str, torch.Tensor]:
    """Weights of each family:discriminator, one after the other."""
    weights = {}
    for pair in pairs:
        for name, tensor in run(*pair.split(":"), steps).items():
            weights[f"{pair}.{name}"] = tensor
    return weights


if __name__ == "__main__":
    trained = run_all(sys.argv[3:], int(sys.argv[1]))
    if join("cpu").first:
        save_file(trained, Path(sys.argv[2]))
