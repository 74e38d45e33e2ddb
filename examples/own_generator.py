"""Audit a generator: a function of your own, and a checkpoint that privgen trained.

    python examples/own_generator.py FOLDER

FOLDER gets an archive of tiles and the training run.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import privgen

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
tiles = privgen.make_phantom(patients=6, tiles_per_patient=7, side=32, seed=1)

# 1. A function of n that returns n tiles, uint8 of shape (n, h, w, 3). It may wrap any model, which
#    was trained on the train tiles alone and never met a holdout patient.
split = privgen.split_by_patient(tiles, siblings=0, seed=0)
train, holdout = tiles.subset(split.train), tiles.subset(split.holdout)
shown = train.load()


def generate(n: int) -> NDArray[np.uint8]:
    """The mean of two training tiles: not a good generator, and not a private one."""
    pairs = np.random.default_rng(0).integers(len(shown), size=(2, n))
    return np.mean(shown[pairs], axis=0).astype(np.uint8)


by_function = privgen.audit(train=train, holdout=holdout, synthetic=generate, count=30)
print("function:", by_function.verdict.sentence)

# 2. A checkpoint of privgen's. Its ledger knows which tiles it was trained on and which patients
#    were kept for the audit, so nothing else is asked for. So short a run makes no tissue.
archive = folder / "tiles.npz"
patients = [record.patient for record in tiles.records]
np.savez(archive, images=tiles.load(), labels=tiles.labels, patients=patients)
short = {"resolution": 32, "batch": 8, "kimg": 0.1, "watch_kimg": 0.0}
checkpoint = privgen.train(archive, out=folder / "runs", config=short)
by_checkpoint = privgen.audit(generator=checkpoint, count=30)
print("checkpoint:", by_checkpoint.verdict.sentence)
