"""What the tests of the whole battery share."""

from typing import Any, Protocol

import numpy as np

from audits import AuditData, AuditReport, AuditResult, Harm, HarmVerdict, Policy, Tiles

KINDS = ("symmetry", "odd_rotation", "stain")
QUICK = Policy(fractions=(0.01, 0.1))


class MakeData(Protocol):
    def __call__(self, seed: int, **settings: Any) -> AuditData: ...


def by_name(report: AuditReport) -> dict[str, AuditResult]:
    return {result.name: result for result in report.results}


def harms(report: AuditReport) -> dict[Harm, HarmVerdict]:
    return {verdict.harm: verdict for verdict in report.verdict.harms}


def shuffled(tiles: Tiles, rng: np.random.Generator) -> Tiles:
    rows = rng.permutation(len(tiles))
    return Tiles(
        tiles.name,
        tiles.embeddings[rows],
        labels=tiles.labels[rows],
        patients=tiles.patients[rows],
        slides=tiles.slides[rows],
        fingerprints=None if tiles.fingerprints is None else tiles.fingerprints[rows],
    )
