"""Audit synthetic tiles that are arrays in memory.

    python examples/audit_arrays.py [FOLDER]

The real tiles are procedural tissue of 9 patients. The "generator" has memorised: every fourth
of its tiles is a training tile, turned by 90 degrees. The audit ends in LEAK. With FOLDER it also
writes report.html and report.json there.
"""

import sys
from pathlib import Path

import numpy as np

import privgen

tiles = privgen.make_phantom(patients=9, tiles_per_patient=8, side=32, seed=1)
split = privgen.split_by_patient(tiles, seed=0)  # no patient stands on two sides
train, siblings, holdout = (
    tiles.subset(rows) for rows in (split.train, split.siblings, split.holdout)
)

# Anybody's synthetic tiles: uint8, shape (n, h, w, 3). Here: new patients, and ten copies.
fresh = privgen.make_phantom(patients=5, tiles_per_patient=8, side=32, seed=2)
synthetic = fresh.load()
synthetic[::4] = np.rot90(train.load()[:10], axes=(1, 2))

result = privgen.audit(
    train=train,
    siblings=siblings,
    holdout=holdout,
    synthetic=privgen.TileSet.from_arrays(synthetic, fresh.labels),  # or the array alone
    out=Path(sys.argv[1]) if len(sys.argv) > 1 else None,
)
print(result.verdict.sentence)
for verdict in result.verdict.harms:
    print(f"- {verdict.harm.value}: {verdict.outcome.value}. {verdict.reason}")
