"""Everything the battery knows of copies: scores gathered once, then every test on them.

One search of each role against the train tiles serves all copy tests, the averages beside them, the
power curve, and whoever shows single tiles: which tiles lie where copies would is decided here and
nowhere else. Featureless tiles are left out: a blank tile resembles every blank tile.

Source: docs/methods.md#tail-count, docs/methods.md#proof-by-alignment, docs/methods.md#power.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audits.averages import authenticity, c_t, dcr_share
from audits.controls import PlantedScores, power_curve
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
from audits.inputs import Alignment, AuditData, Planted, Strings, Tiles
from audits.policy import Policy
from audits.proof import alike, proven_copies
from audits.results import AuditResult, Estimate, Harm, PowerPoint
from audits.tails import QUANTILES, below, tail_thresholds

SWAPPED = "control/roles_swapped"
ALIGNED = "aligned_copies"

MARKED = 0.1
"""Share of a tile that is set aside as marks from which the tile is counted: less happens where two
patients' tissue is alike at one place, in one tile of three."""


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

    def subset(self, rows: NDArray[np.bool_]) -> "Scored":
        """The marked tiles."""
        return Scored(
            scores=self.scores.subset(rows), labels=self.labels[rows], patients=self.patients[rows]
        )


@dataclass(frozen=True, kw_only=True)
class CopyScoring:
    """How close the tiles come to the train tiles, and which of the synthetic ones come too close.

    Attributes:
      scores: of every synthetic tile, shape (s,).
      textured: which synthetic tiles have texture, shape (s,); the others are in no tail.
      holdout: scores of the holdout tiles with texture, shape (h,): the control.
      in_tail: synthetic tiles below the widest threshold of any copy test, shape (s,).
      first: synthetic tiles closer than every tile of the control, shape (s,).
    """

    scores: CopyScores
    textured: NDArray[np.bool_]
    holdout: CopyScores
    in_tail: NDArray[np.bool_]
    first: NDArray[np.bool_]

    def as_given(self, synthetic: NDArray[np.intp], train: NDArray[np.intp]) -> "CopyScoring":
        """The same for tiles in the order that they were given in.

        Args:
          synthetic, train: rows as given of the tiles in the present order, shapes (s,) and (t,).
        """
        back = np.argsort(synthetic)
        scores = replace(self.scores.subset(back), source=train[self.scores.source[back]])
        holdout = replace(self.holdout, source=train[self.holdout.source])
        return CopyScoring(
            scores=scores,
            textured=self.textured[back],
            holdout=holdout,
            in_tail=self.in_tail[back],
            first=self.first[back],
        )


@dataclass(frozen=True, kw_only=True)
class CopyEvidence:
    """Scores of every role against the train tiles.

    Attributes:
      scoring: of the synthetic tiles and their control.
      synthetic, holdout: tiles with texture.
      matched: the same with equal class proportions, for tests over all tiles.
      own: every train tile against the other train tiles, shape (t,).
      own_textured: which of them have texture, shape (t,).
    """

    scoring: CopyScoring

    synthetic: Scored
    holdout: Scored
    matched: tuple[Scored, Scored]
    own: CopyScores
    own_textured: NDArray[np.bool_]


def gather(data: AuditData, rng: np.random.Generator) -> CopyEvidence:
    """Search every role once.

    Args:
      data: all roles.
      rng: which tiles are left out where class proportions differ.

    Raises:
      AuditInputError: a role has no tile with texture, or train too few for the grid.
    """
    train, textured_train = data.train.embeddings, _some(data.train)
    if textured_train.sum() <= len(QUANTILES):
        raise AuditInputError(
            f"the copy test needs more than {len(QUANTILES)} train tiles with texture: got "
            f"{textured_train.sum()}."
        )

    scoring = score_copies(data)
    seen = _some(data.synthetic)
    synthetic = _scored(data.synthetic, scoring.scores.subset(seen))
    holdout = _scored(data.holdout, scoring.holdout)
    return CopyEvidence(
        scoring=scoring,
        synthetic=synthetic,
        holdout=holdout,
        matched=match_classes(synthetic, holdout, rng),
        own=own_copy_scores(train),
        own_textured=textured_train,
    )


def score_copies(data: AuditData) -> CopyScoring:
    """Score the synthetic tiles and their control, the holdout tiles with texture.

    Args:
      data: all roles.

    Raises:
      AuditInputError: no holdout tile has texture.

    Source: docs/methods.md#tail-count.
    """
    train = data.train.embeddings
    scores = copy_scores(data.synthetic.embeddings, train)
    control = copy_scores(data.holdout.embeddings[_some(data.holdout)], train)
    in_tail, first = (
        below(scores.nearest, nearest) | below(scores.ratio, ratio)
        for nearest, ratio in (
            (_widest(control.nearest), _widest(control.ratio)),
            (control.nearest.min(), control.ratio.min()),
        )
    )
    textured = data.synthetic.textured
    return CopyScoring(
        scores=scores,
        textured=textured,
        holdout=control,
        in_tail=in_tail & textured,
        first=first & textured,
    )


def _widest(control: NDArray[np.float64]) -> float:
    return float(tail_thresholds(control)[-1])


def _scored(tiles: Tiles, scores: CopyScores) -> Scored:
    rows = tiles.textured
    return Scored(scores=scores, labels=tiles.labels[rows], patients=tiles.patients[rows])


def _some(tiles: Tiles) -> NDArray[np.bool_]:
    if not tiles.textured.any():
        raise AuditInputError(
            f"all {len(tiles)} {tiles.name} tiles are featureless (blank): nothing can be audited."
        )
    return tiles.textured


def match_classes(
    synthetic: Scored, holdout: Scored, rng: np.random.Generator
) -> tuple[Scored, Scored]:
    """Both sides with the same class proportions, as many tiles as that leaves.

    A class whose tissue varies in fewer ways has a heavier low tail even in the scale-free ratio:
    over-represented among the synthetic tiles (10 % made 50 %) it rejected in every data set,
    without any copy. Decided by counts alone; without shared classes nothing is left out.

    Args:
      synthetic, holdout: tiles with texture.
      rng: which tiles stay.
    """
    shared = np.intersect1d(synthetic.labels, holdout.labels)
    if len(shared) == 0:
        return synthetic, holdout
    s, h = (
        np.array([(side.labels == label).sum() for label in shared], dtype=np.float64)
        for side in (synthetic, holdout)
    )
    best, kept = 0.0, (s, h)
    for ratio in np.unique(s / h):
        left = np.minimum(s, np.floor(ratio * h + 1e-9)), np.minimum(h, np.floor(s / ratio + 1e-9))
        effective = 1 / (1 / max(left[0].sum(), 1e-9) + 1 / max(left[1].sum(), 1e-9))
        if effective > best and left[1].sum() > len(QUANTILES):
            best, kept = effective, left

    def part(side: Scored, counts: NDArray[np.float64]) -> Scored:
        rows = np.zeros(len(side.labels), dtype=np.bool_)
        for label, count in zip(shared, counts, strict=True):
            inside = np.flatnonzero(side.labels == label)
            rows[rng.permutation(inside)[: int(count)]] = True
        return side.subset(rows)

    return part(synthetic, kept[0]), part(holdout, kept[1])


def copy_tests(
    data: AuditData, evidence: CopyEvidence, classes: tuple[str, ...]
) -> list[AuditResult]:
    """`tail_count`, `tail_ratio`, and `tail_ratio` within each of the declared classes."""
    (ours, others), own = evidence.matched, evidence.own_textured
    tests = [
        tail_count(
            name,
            getattr(ours.scores, form),
            getattr(others.scores, form),
            holdout_patients=others.patients,
            own=getattr(evidence.own, form)[own],
            sources=ours.scores.source,
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
        sources=ours.scores.source[inside],
    )


def proofs(data: AuditData, rng: np.random.Generator) -> list[AuditResult]:
    """Equal pixels, where fingerprints were taken; alignments, where tiles were aligned.

    Args:
      data: all roles.
      rng: goodness of fit of the alignments' null.
    """
    results = []
    if data.train.fingerprints is not None and data.synthetic.fingerprints is not None:
        results.append(identical_tiles(data.synthetic.fingerprints, data.train.fingerprints))
    if data.alignment is not None:
        results.append(aligned_copies(data.alignment, rng))
    return results


def aligned_copies(alignment: Alignment, rng: np.random.Generator) -> AuditResult:
    """`proof.proven_copies` of an alignment; null tiles without key points take no part.

    Args:
      alignment: synthetic and null tiles.
      rng: goodness of fit of the null.

    Returns:
      As `proof.proven_copies`; `details["marked"]` and `details["null_marked"]` count the synthetic
      and the null tiles of which more than a tenth was set aside as marks.
    """
    ours, null, recall = alignment.synthetic, alignment.null, alignment.recall
    searched = ~null.featureless
    proof = proven_copies(
        inliers=ours.inliers,
        strength=ours.strength,
        featureless=ours.featureless,
        null_inliers=null.inliers[searched],
        null_strength=null.strength[searched],
        null_duplicates=alignment.null_duplicates[searched],
        rng=rng,
    )
    known: dict[str, object] = {
        "marked": int((ours.marked > MARKED).sum()),
        "null_marked": int((null.marked > MARKED).sum()),
    }
    if recall is not None:
        known |= {"shortlist_recall": recall.value, "shortlist_recall_low": recall.low}
    return replace(proof, details={**proof.details, **known})


def roles_swapped(data: AuditData, rng: np.random.Generator) -> list[AuditResult]:
    """`tail_ratio` with train and holdout exchanged: do synthetic tiles copy the *holdout*?

    A rejection means that the generator saw the holdout, most often because the two were swapped.

    Args:
      data: all roles.
      rng: which tiles are left out where class proportions differ.
    """
    holdout = data.holdout.embeddings
    if min(len(holdout), len(data.train)) <= len(QUANTILES):
        return []
    ours, others = (
        Scored(
            scores=copy_scores(tiles.embeddings[tiles.textured], holdout),
            labels=tiles.labels[tiles.textured],
            patients=tiles.patients[tiles.textured],
        )
        for tiles in (data.synthetic, data.train)
    )
    ours, others = match_classes(ours, others, rng)
    if len(others.labels) <= len(QUANTILES):
        return []
    result = tail_count(
        SWAPPED,
        ours.scores.ratio,
        others.scores.ratio,
        holdout_patients=others.patients,
        own=_own(own_copy_scores(holdout).ratio[data.holdout.textured]),
        sources=ours.scores.source,
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
    *,
    proven_by: Sequence[AuditResult] = (),
) -> tuple[PowerPoint, ...]:
    """Power for every planted kind; exact copies are the train tiles themselves.

    Args:
      data: its planted copies.
      evidence: of the same data.
      policy: shares to plant.
      level: of `tail_ratio` at Holm's first step.
      rng: draws.
      proven_by: `proofs` of the same data; a planted copy is held to the same thresholds.
    """
    alignment = next((r for r in proven_by if r.name == ALIGNED), None)
    train = data.train
    kinds = dict(data.planted)
    if "exact" not in kinds:
        exact = Planted(
            embeddings=train.embeddings,
            sources=np.arange(len(train)),
            fingerprints=train.fingerprints,
        )
        kinds = {"exact": exact, **kinds}
    return power_curve(
        evidence.matched[0].scores.ratio,
        evidence.matched[1].scores.ratio,
        evidence.own.ratio[evidence.own_textured],
        {
            kind: _planted_scores(copies, train, alignment)
            for kind, copies in kinds.items()
            if copies.textured.any()
        },
        fractions=policy.fractions,
        significance=level,
        rng=rng,
    )


def _planted_scores(copies: Planted, train: Tiles, alignment: AuditResult | None) -> PlantedScores:
    keep = copies.textured
    if copies.embeddings is None:  # no count can see them
        ratio, sources = np.full(int(keep.sum()), np.inf), copies.sources[keep]
    else:
        scores = copy_scores(copies.embeddings[keep], train.embeddings)
        ratio, sources = scores.ratio, scores.source
    proven = np.zeros(int(keep.sum()), dtype=np.bool_)
    if copies.fingerprints is not None and train.fingerprints is not None:
        proven = np.isin(copies.fingerprints[keep], train.fingerprints)
    if copies.aligned is not None and alignment is not None and alignment.rejected is not None:
        proven |= alike(
            copies.aligned.inliers,
            copies.aligned.strength,
            needed=alignment.details["needed_score"],
        )[keep]
    return PlantedScores(
        ratio=ratio,
        sources=sources,
        proven=proven,
        patients=train.patients[copies.sources[keep]],
    )
