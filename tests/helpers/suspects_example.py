"""Two suspects made by hand: a tile turned over, known pixel by pixel, and one that fits none."""

from typing import Any

import numpy as np

from audits import AuditResult, Estimate, Harm
from privgen.data.phantom import make_phantom
from privgen.data.tileset import TileSet
from privgen.evidence.suspects import Reason, Suspect, Suspects

SIDE = 64
HOSTILE = '<img src=x onerror="alert(1)">&\''
"""A class or patient name that would break out of careless HTML."""


def suspects(*, proven: bool = True) -> tuple[Suspects, dict[str, Any]]:
    """What `render` takes; synthetic tile 1 is train tile 2 turned over left to right.

    Args:
      proven: whether a proof was possible.
    """
    tiles = make_phantom(patients=1, tiles_per_patient=6, side=SIDE, classes=("TUM", "STR")).load()
    train = TileSet.from_arrays(
        tiles[:4], ["tumour", HOSTILE, "tumour", "stroma"], patients=["P1", "P2", HOSTILE, "P3"]
    )
    synthetic = TileSet.from_arrays(np.stack([tiles[5], tiles[2, :, ::-1]]), ["stroma", HOSTILE])
    rng = np.random.default_rng(0)
    points = rng.uniform(4, SIDE - 5, (40, 2))
    nothing = {"points": np.empty((0, 2)), "targets": np.empty((0, 2))}
    chosen = (
        Suspect(
            synthetic=1,
            train=2,
            reasons=(Reason.ALIGNED if proven else Reason.CLOSE_FIT, Reason.TAIL),
            inliers=40,
            agreement=0.97,
            strength=14.2,
            score=80.8,
            transform=np.array([[-1.0, 0.0, SIDE - 1.0], [0.0, 1.0, 0.0]]),
            mirrored=True,
            rotation=0.0,
            scale=1.0,
            overlap=1.0,
            points=points,
            targets=np.stack([SIDE - 1 - points[:, 0], points[:, 1]], axis=1),
            distance=0.2,
            nearest=2,
            ratio=0.1,
            beaten=250,
            ratio_beaten=249,
            phantoms=0,
            chance=1e-5 if proven else None,
        ),
        Suspect(
            synthetic=0,
            train=1,
            reasons=(Reason.NEXT,),
            inliers=0,
            agreement=0.0,
            strength=0.0,
            score=0.0,
            transform=np.full((2, 3), np.nan),
            mirrored=False,
            rotation=np.nan,
            scale=np.nan,
            overlap=0.0,
            **nothing,
            distance=1.4,
            nearest=1,
            ratio=0.9,
            beaten=120,
            ratio_beaten=100,
            phantoms=120,
            chance=None,
        ),
    )
    counts = {Reason.ALIGNED: int(proven), Reason.EQUAL: 0, Reason.CLOSE_FIT: int(not proven)}
    proof = AuditResult(
        name="aligned_copies",
        harm=Harm.COPYING,
        statistic=Estimate(value=0.5, low=0.01, high=0.99, n=2, unit="tile"),
        rejected=True if proven else None,
        details={"needed_score": 11.5},
        note="" if proven else "Only a count, no proof: 40 null scores are too few (100 needed).",
    )
    found = Suspects(
        chosen=chosen,
        counts={**counts, Reason.TAIL: 1},
        holdout=rng.uniform(0.8, 2.0, 250),
        null_tiles=120,
        proof=proof,
    )
    context = {"synthetic": synthetic, "train": train, "side": SIDE}
    return found, {**context, "created": "2026-01-02T03:04:05+00:00"}
