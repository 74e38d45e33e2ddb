"""Everything the battery knows of copies: scores gathered once, then every test on them.

One search of each role against the train tiles serves all copy tests, the averages beside them and
the power curve. Featureless tiles are left out: a blank tile resembles every blank tile.

Source: METHODS.md 1, 3.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audits.averages import authenticity, c_t, dcr_share
from audits.controls import power_curve
from audits.copying import (
    CopyScores,
    copy_scores,
    extraction_ratio,
    identical_tiles,
    own_copy_scores,
    tail_count,
)
from audits.errors import AuditInputError
from audits.family import CLASS_TEST
from audits.inputs import AuditData, Planted, Strings, Tiles
from audits.policy import Policy
from audits.results import AuditResult, Estimate, Harm, PowerPoint
from audits.tails import QUANTILES

SWAPPED = "control/roles_swapped"


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Copy scores of the tiles of one role that have texture.

    Attributes:
      scores: against the train tiles, shape (n,).
      labels, patients: of the same tiles, shape (n,).
    """

    scores: CopyScores
    labels: Strings
    patients: Strings


@dataclass(frozen=True, kw_only=True)
class CopyEvidence:
    """Scores of every role against the train tiles.

    Attributes:
      synthetic, holdout: tiles with texture.
      own: every train tile against the other train tiles, shape (t,).
      own_textured: which of them have texture, shape (t,).
    """

    synthetic: Scored
    holdout: Scored
    own: CopyScores
    own_textured: NDArray[np.bool_]


def textured(tiles: Tiles | Planted) -> NDArray[np.bool_]:
    """Which tiles have texture; all, where no fingerprints were taken. Shape (n,)."""
    if tiles.fingerprints is None:
        return np.ones(len(tiles.embeddings), dtype=np.bool_)
    rows: NDArray[np.bool_] = tiles.fingerprints != ""
    return rows


def gather(data: AuditData) -> CopyEvidence:
    """Search every role once.

    Raises:
      AuditInputError: a role has no tile with texture, or train is too small for the grid.
    """
    train = data.train.embeddings
    if len(train) <= len(QUANTILES):
        raise AuditInputError(
            f"the copy test needs more than {len(QUANTILES)} train tiles: got {len(train)}."
        )

    def scored(tiles: Tiles) -> Scored:
        rows = _some(tiles)
        return Scored(
            scores=copy_scores(tiles.embeddings[rows], train),
            labels=tiles.labels[rows],
            patients=tiles.patients[rows],
        )

    return CopyEvidence(
        synthetic=scored(data.synthetic),
        holdout=scored(data.holdout),
        own=own_copy_scores(train),
        own_textured=_some(data.train),
    )


def _some(tiles: Tiles) -> NDArray[np.bool_]:
    rows = textured(tiles)
    if not rows.any():
        raise AuditInputError(
            f"all {len(rows)} {tiles.name} tiles are featureless (blank): nothing can be audited."
        )
    return rows


def copy_tests(
    data: AuditData, evidence: CopyEvidence, classes: tuple[str, ...]
) -> list[AuditResult]:
    """`tail_count`, `tail_ratio`, and `tail_ratio` within each of the declared classes."""
    ours, others, own = evidence.synthetic, evidence.holdout, evidence.own_textured
    tests = [
        tail_count(
            name,
            getattr(ours.scores, form),
            getattr(others.scores, form),
            holdout_patients=others.patients,
            own=_own(getattr(evidence.own, form)[own]),
        )
        for name, form in (("tail_count", "nearest"), ("tail_ratio", "ratio"))
    ]
    return tests + [_class_test(data, evidence, label) for label in classes]


def _own(scores: NDArray[np.float64]) -> NDArray[np.float64] | None:
    return scores if len(scores) > len(QUANTILES) else None


def _class_test(data: AuditData, evidence: CopyEvidence, label: str) -> AuditResult:
    """`tail_ratio` within one class, as declared; p = 1 when too few tiles turn out textured."""
    ours, others = evidence.synthetic, evidence.holdout
    inside, outside = ours.labels == label, others.labels == label
    own = evidence.own_textured & (data.train.labels == label)
    name = CLASS_TEST + label
    if not inside.any() or outside.sum() <= len(QUANTILES):
        return AuditResult(
            name=name,
            harm=Harm.COPYING,
            statistic=Estimate(value=0.0, low=-1.0, high=1.0, n=int(inside.sum()), unit="tile"),
            p_value=1.0,
            note="Too few tiles of this class have texture: nothing could be seen.",
        )
    return tail_count(
        name,
        ours.scores.ratio[inside],
        others.scores.ratio[outside],
        holdout_patients=others.patients[outside],
        own=_own(evidence.own.ratio[own]),
    )


def proofs(data: AuditData) -> list[AuditResult]:
    """Equal pixels, where fingerprints were taken."""
    if data.train.fingerprints is None or data.synthetic.fingerprints is None:
        return []
    return [identical_tiles(data.synthetic.fingerprints, data.train.fingerprints)]


def roles_swapped(data: AuditData) -> list[AuditResult]:
    """`tail_ratio` with train and holdout exchanged: do synthetic tiles copy the *holdout*?

    A rejection means that the generator saw the holdout, most often because the two were swapped.
    """
    holdout = data.holdout.embeddings
    if min(len(holdout), len(data.train)) <= len(QUANTILES):
        return []
    ours, others = textured(data.synthetic), textured(data.train)
    result = tail_count(
        SWAPPED,
        copy_scores(data.synthetic.embeddings[ours], holdout).ratio,
        copy_scores(data.train.embeddings[others], holdout).ratio,
        holdout_patients=data.train.patients[others],
        own=own_copy_scores(holdout).ratio,
    )
    return [replace(result, harm=None)]


def copy_averages(
    data: AuditData, evidence: CopyEvidence, rng: np.random.Generator
) -> list[AuditResult]:
    """C_T, authenticity, DCR share and Carlini's ratio: context, never the verdict."""
    ours, others = evidence.synthetic.scores, evidence.holdout.scores
    patients = evidence.holdout.patients
    results = []
    if min(data.train.patient_count, data.holdout.patient_count) >= 2:
        cells, pairs = rng.spawn(2)
        results.append(c_t(data.train, data.holdout, data.synthetic, cells))
        results.append(dcr_share(data.train, data.holdout, data.synthetic, pairs))
    return [
        *results,
        authenticity(ours, others, evidence.own, holdout_patients=patients),
        extraction_ratio(ours.extraction, others.extraction, holdout_patients=patients),
    ]


def planted_power(
    data: AuditData,
    evidence: CopyEvidence,
    policy: Policy,
    level: float,
    rng: np.random.Generator,
) -> tuple[PowerPoint, ...]:
    """Power for every planted kind; exact copies are the train tiles themselves.

    Args:
      data: its planted copies.
      evidence: of the same data.
      policy: shares to plant.
      level: of `tail_ratio` at Holm's first step.
      rng: draws.
    """
    train = data.train
    kinds = dict(data.planted)
    if "exact" not in kinds:
        kinds["exact"] = Planted(
            embeddings=train.embeddings,
            sources=np.arange(len(train)),
            fingerprints=train.fingerprints,
        )
    ratios, proven, patients = {}, {}, {}
    for kind, copies in kinds.items():
        keep = textured(copies)
        if not keep.any():
            continue
        ratios[kind] = copy_scores(copies.embeddings[keep], train.embeddings).ratio
        patients[kind] = train.patients[copies.sources[keep]]
        proven[kind] = np.zeros(int(keep.sum()), dtype=np.bool_)
        if copies.fingerprints is not None and train.fingerprints is not None:
            proven[kind] = np.isin(copies.fingerprints[keep], train.fingerprints)
    return power_curve(
        evidence.synthetic.scores.ratio,
        evidence.holdout.scores.ratio,
        evidence.own.ratio[evidence.own_textured],
        ratios,
        proven=proven,
        source_patients=patients,
        fractions=policy.fractions,
        significance=level,
        rng=rng,
    )
