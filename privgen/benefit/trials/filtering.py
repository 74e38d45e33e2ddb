"""Which synthetic tiles are worth training on, decided by the real training tiles alone.

A generator makes tiles that do not look like the class it was asked for, and tiles that look like
nothing. Both are found by holding every synthetic tile to what real tiles themselves reach:

1. *Confidence*: logistic regressions on embeddings, each fitted without a fifth of the patients,
   must be as sure of the tile's class, on average, as they are of nine in ten real tiles of that
   class whose patient they were not shown.
2. *Distance*: the nearest real training tile of its class must be no farther than it is from 19 in
   20 real tiles to the nearest of another patient.

So of fresh real tiles about 85 % would be kept, more where the two rules agree. Limits and
classifier are fitted on the training tiles of the regime and on nothing else: not on validation or
test tiles, which the benchmark judges by, nor on the synthetic tiles, so that whether one is kept
does not depend on the others. The filter looks for no copies: an exact copy of a training tile
passes, which is for the audit of what is kept to find.

Conventions: classes are numbers 0..c-1; embeddings are rows, distances Euclidean. Nothing is random
but the start of the principal component search, which is fixed.

Sources: docs/methods.md#classifier-benefit; DeVries, Drozdzal & Taylor 2020, arXiv:2007.15255, who
choose real instances by their place in an embedding; Ravuri & Vinyals 2019, arXiv:1905.10887, on
how little synthetic images of a class may teach a classifier.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from audits.neighbors import group_distances, nearest, nearest_others
from privgen.errors import InputError

Indices = NDArray[np.intp]
Floats = NDArray[np.float64]
Embeddings = NDArray[np.floating]

CONFIDENCE_QUANTILE = 0.10
"""Share of the real tiles of a class that are less sure than the limit, out of fold."""

DISTANCE_QUANTILE = 0.95
"""Share of the real tiles of a class that have a neighbour within the limit."""

FEWEST_TILES = 2
"""Real training tiles of each class: one to learn from and one to try on."""

_FOLDS = 5
_DIMS = 64
_STRENGTH = 1.0  # inverse regularisation of embeddings with mean squared length 1
_QUANTILE: Final = "weibull"
"""Of n values, rank q (n + 1): a fresh value of the same law exceeds it with probability 1 - q
as long as that rank exists; where n is too small for it the extreme value is the limit."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """What the filter did. Every synthetic tile is kept or counted as dropped, once.

    Attributes:
      kept: which synthetic tiles, shape (s,).
      dropped_confidence: tiles whose class the classifier doubts.
      dropped_distance: tiles it does not, but with no real tile of their class near them.
      classes_lost: classes of which no synthetic tile is left.
      judged_by_tile: classes with too few patients to hold some of them out; their limits come from
        other tiles of the same patients, which are nearer and surer, so more tiles are dropped.
    """

    kept: NDArray[np.bool_]
    dropped_confidence: int
    dropped_distance: int
    classes_lost: tuple[int, ...]
    judged_by_tile: tuple[int, ...]

    def __post_init__(self) -> None:
        total = int(self.kept.sum()) + self.dropped_confidence + self.dropped_distance
        assert total == len(self.kept), "every synthetic tile is counted once"


def choose_synthetic(
    *,
    train_embeddings: Embeddings,
    train_labels: Indices,
    train_groups: NDArray[np.str_],
    synthetic_embeddings: Embeddings,
    synthetic_labels: Indices,
) -> Kept:
    """Which synthetic tiles reach what real training tiles reach.

    Args:
      train_embeddings: of the real training tiles, shape (r, d).
      train_labels: their classes, 0..c-1, each at least `FEWEST_TILES` times, shape (r,).
      train_groups: their patients, shape (r,).
      synthetic_embeddings: by the same encoder, shape (s, d).
      synthetic_labels: the class each was made as, shape (s,).

    Raises:
      InputError: fewer than two classes, too few real tiles of one, a synthetic tile of another
        class, no synthetic tile, or real embeddings that are all equal.
    """
    _require_usable(train_labels, synthetic_labels)
    centre = train_embeddings.mean(axis=0, dtype=np.float64)
    real = train_embeddings - centre
    length = float(np.sqrt(np.mean(np.sum(real**2, axis=1))))
    if length == 0:
        raise InputError(
            "filtering needs real tiles that differ: all embeddings are equal. Check the images."
        )
    real /= length
    made = (synthetic_embeddings - centre) / length
    _, patients = np.unique(train_groups, return_inverse=True)
    folds, by_tile = _folds(train_labels, patients)

    reached, confidence = _confidences(real, train_labels, folds, made, synthetic_labels)
    sure = np.zeros(len(made), dtype=np.bool_)
    near = np.zeros(len(made), dtype=np.bool_)
    for number in np.unique(synthetic_labels):
        own, asked = train_labels == number, synthetic_labels == number
        limit = np.quantile(reached[own], CONFIDENCE_QUANTILE, method=_QUANTILE)
        sure[asked] = confidence[asked] >= limit
        apart = _to_other_patients(real[own], patients[own])
        reach = np.quantile(apart, DISTANCE_QUANTILE, method=_QUANTILE)
        found = nearest(made[asked].astype(np.float32), real[own].astype(np.float32), k=1)
        near[asked] = found.distances[:, 0] <= reach
    kept = sure & near
    classes = range(int(train_labels.max()) + 1)
    return Kept(
        kept=kept,
        dropped_confidence=int((~sure).sum()),
        dropped_distance=int((sure & ~near).sum()),
        classes_lost=tuple(c for c in classes if not kept[synthetic_labels == c].any()),
        judged_by_tile=by_tile,
    )


def _require_usable(train_labels: Indices, synthetic_labels: Indices) -> None:
    tiles = np.bincount(train_labels)
    if len(tiles) < 2:
        raise InputError(
            "filtering by a classifier needs 2 classes or more: got 1. Leave the filtered arm out."
        )
    if tiles.min() < FEWEST_TILES:
        raise InputError(
            f"filtering needs {FEWEST_TILES} real training tiles of every class: class "
            f"{int(tiles.argmin())} has {int(tiles.min())}. Take a larger share of the tiles, or "
            "leave the filtered arm out."
        )
    if len(synthetic_labels) == 0:
        raise InputError("filtering needs synthetic tiles: got none. Draw some first.")
    if synthetic_labels.min() < 0 or synthetic_labels.max() >= len(tiles):
        raise InputError(
            f"synthetic tiles must be of the classes of the real ones, 0 to {len(tiles) - 1}: got "
            f"{int(synthetic_labels.min())} to {int(synthetic_labels.max())}. Relabel them."
        )


def _folds(labels: Indices, patients: Indices) -> tuple[Indices, tuple[int, ...]]:
    """Fold of each tile, by patient; no class lies in one fold alone.

    The patients of the rarest class (in patients) are dealt out first, each to the fold that has
    fewest tiles of the class. A class all of whose tiles end in one fold, because it has one
    patient or because its patients were needed elsewhere, is dealt out tile by tile.

    Returns:
      Folds, shape (r,), and the classes dealt out tile by tile.
    """
    tiles = np.zeros((patients.max() + 1, labels.max() + 1), dtype=np.intp)
    np.add.at(tiles, (patients, labels), 1)
    fold_of = np.full(len(tiles), -1, dtype=np.intp)
    load = np.zeros((_FOLDS, tiles.shape[1]), dtype=np.intp)
    for number in np.argsort((tiles > 0).sum(axis=0), kind="stable"):
        waiting = np.flatnonzero((fold_of < 0) & (tiles[:, number] > 0))
        for patient in waiting[np.argsort(-tiles[waiting, number], kind="stable")]:
            fold = np.lexsort((load.sum(axis=1), load[:, number]))[0]
            fold_of[patient] = fold
            load[fold] += tiles[patient]
    folds = fold_of[patients]
    by_tile = []
    for number in range(tiles.shape[1]):
        rows = np.flatnonzero(labels == number)
        if len(np.unique(folds[rows])) == 1:
            by_tile.append(number)
            folds[rows] = np.arange(len(rows)) % _FOLDS
    return folds, tuple(by_tile)


def _classifier(embeddings: Floats, labels: Indices) -> Pipeline:
    dims = min(_DIMS, len(embeddings) - 1, embeddings.shape[1])
    return make_pipeline(
        PCA(dims, svd_solver="randomized", random_state=0),
        LogisticRegression(C=_STRENGTH, max_iter=2000),
    ).fit(embeddings, labels)


def _confidences(
    real: Floats, labels: Indices, folds: Indices, made: Floats, asked: Indices
) -> tuple[Floats, Floats]:
    """Confidence in each tile's own class, of real tiles out of fold and of synthetic tiles.

    Synthetic tiles are judged by the classifiers of all folds together: a classifier fitted on all
    real tiles would be surer of everything than those the limit comes from.

    Returns:
      Probabilities, shape (r,) and (s,).
    """
    out_of_fold = np.empty(len(labels))
    used = np.unique(folds)
    confidence = np.zeros(len(asked))
    for fold in used:
        held = folds == fold
        classifier = _classifier(real[~held], labels[~held])
        out_of_fold[held] = _own(classifier.predict_proba(real[held]), labels[held])
        confidence += _own(classifier.predict_proba(made), asked) / len(used)
    return out_of_fold, confidence


def _own(probabilities: Floats, labels: Indices) -> Floats:
    return np.asarray(probabilities[np.arange(len(labels)), labels])


def _to_other_patients(embeddings: Floats, patients: Indices) -> Floats:
    """Distance of each tile to the nearest of another patient, or to the nearest other tile where
    there is one patient alone; shape (n,)."""
    tiles = embeddings.astype(np.float32)
    _, owner = np.unique(patients, return_inverse=True)
    if owner.max() == 0:
        return nearest_others(tiles, k=1).distances[:, 0]
    distances = group_distances(tiles, tiles, owner)
    distances[np.arange(len(tiles)), owner] = np.inf
    return np.asarray(distances.min(axis=1), dtype=np.float64)
