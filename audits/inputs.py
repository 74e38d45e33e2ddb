"""What an audit is given: embeddings with labels and patients, checked once, here.

Roles: `train` tiles were seen by the generator; `siblings` are tiles of the same slides and
patients held back from it; `holdout` tiles belong to patients it never met; `reference` tiles to
further patients it never met, used only by calibrated attacks; `synthetic` tiles are what is to be
released.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audits.errors import AuditInputError

Strings = NDArray[np.str_]
Floats = NDArray[np.float64]


def _strings(values: ArrayLike | None, count: int, name: str, default: str) -> Strings:
    if values is None:
        return np.full(count, default)
    array = np.asarray(values).astype(np.str_)
    if array.shape != (count,):
        raise AuditInputError(
            f"{name} must hold one entry a tile: got shape {array.shape} for {count} tiles."
        )
    return array


class Tiles:
    """Embedded tiles of one role.

    Args:
      name: role, used in error messages.
      embeddings: shape (n, d), finite; any float type that does not overflow; kept as float32.
      labels: class of each tile, shape (n,); one class when None.
      patients: patient of each tile, shape (n,); every tile its own patient when None.
      slides: slide of each tile, shape (n,); the patient when None.
      fingerprints: digest of each tile's pixels, the same for all 8 symmetries, shape (n,); an
        empty string marks a tile too featureless to prove anything. None when not computed.
      ids: distinct name of each tile, by which scores from outside are joined, shape (n,); the role
        and row when None. Never part of a report.

    Raises:
      AuditInputError: no tiles, wrong shapes, an embedding that is no finite number, or an id that
        occurs twice.
    """

    def __init__(
        self,
        name: str,
        embeddings: ArrayLike,
        *,
        labels: ArrayLike | None = None,
        patients: ArrayLike | None = None,
        slides: ArrayLike | None = None,
        fingerprints: ArrayLike | None = None,
        ids: ArrayLike | None = None,
    ) -> None:
        array = np.asarray(embeddings)
        if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] == 0:
            raise AuditInputError(
                f"{name} embeddings must have shape (tiles, features), both at least 1: "
                f"got {array.shape}."
            )
        if array.dtype.kind not in "fiu":
            raise AuditInputError(
                f"{name} embeddings must be real numbers: got an array of {array.dtype}."
            )
        if not np.isfinite(array).all():
            bad = int((~np.isfinite(array).all(axis=1)).sum())
            raise AuditInputError(
                f"{name} embeddings must be finite: {bad} of {len(array)} rows hold NaN or "
                "infinity "
                "(float16 overflow is the usual cause: embed in float32)."
            )
        count = len(array)
        self.name = name
        with np.errstate(over="ignore"):
            self.embeddings: NDArray[np.float32] = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(self.embeddings).all():
            raise AuditInputError(f"{name} embeddings overflow float32: rescale them.")
        self.labels = _strings(labels, count, f"{name} labels", "all")
        own = np.char.add(f"{name}-", np.arange(count).astype(np.str_))
        self.patients = (
            own if patients is None else _strings(patients, count, f"{name} patients", "")
        )
        self.patients_known = patients is not None
        self.slides = (
            self.patients if slides is None else _strings(slides, count, f"{name} slides", "")
        )
        self.fingerprints = (
            None
            if fingerprints is None
            else _strings(fingerprints, count, f"{name} fingerprints", "")
        )
        self.ids = own if ids is None else _strings(ids, count, f"{name} ids", "")
        distinct, times = np.unique(self.ids, return_counts=True)
        if len(distinct) < count:
            raise AuditInputError(
                f"{name} ids must be distinct: {distinct[times.argmax()]!r} stands {times.max()} "
                "times. Name every tile."
            )

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def patient_count(self) -> int:
        return len(np.unique(self.patients))


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Copies of train tiles made by one kind of transformation, embedded like the synthetic tiles.

    Attributes:
      embeddings: shape (m, d).
      sources: index of the copied train tile, shape (m,).
      fingerprints: as in `Tiles`, shape (m,), or None.
    """

    embeddings: NDArray[np.float32]
    sources: NDArray[np.intp]
    fingerprints: Strings | None = None


@dataclass(frozen=True, kw_only=True)
class AuditData:
    """All tiles of one audit.

    Attributes:
      train, holdout, synthetic: required.
      siblings, reference: optional, see the top of this module.
      planted: known copies by kind, for the power curve; exact copies are always planted.
      encoder: name of the embedding.
      group_unit: what `patients` really holds: "patient", "slide", "source_image" or "tile".

    Raises:
      AuditInputError: feature counts differ, two of train, holdout and reference share patients, a
        sibling's patient is not in train, embeddings of train or holdout are constant, a
        fingerprint stands in both train and holdout, or planted copies do not fit.
    """

    train: Tiles
    holdout: Tiles
    synthetic: Tiles
    siblings: Tiles | None = None
    reference: Tiles | None = None
    planted: Mapping[str, Planted] = field(default_factory=dict)
    encoder: str = "unnamed"
    group_unit: str = "patient"

    def __post_init__(self) -> None:
        width = self.train.embeddings.shape[1]
        for tiles in self.roles().values():
            if tiles.embeddings.shape[1] != width:
                raise AuditInputError(
                    f"all roles must be embedded alike: train has {width} features, "
                    f"{tiles.name} {tiles.embeddings.shape[1]}."
                )
        for tiles in (self.train, self.holdout):
            if (tiles.embeddings == tiles.embeddings[0]).all():
                raise AuditInputError(
                    f"{tiles.name} embeddings are constant ({len(tiles)} equal rows): nothing can "
                    "be told apart. Check the encoder and the images."
                )
        self._refuse_shared("patients", self.train.patients)
        if self.reference is not None:
            shared = np.intersect1d(self.holdout.patients, self.reference.patients)
            if len(shared):
                raise AuditInputError(
                    f"holdout and reference must share no patients: {len(shared)} in both (first: "
                    f"{shared[0]}). Split again by patient."
                )
        if self.train.fingerprints is not None:
            self._refuse_shared(
                "fingerprints", self.train.fingerprints[self.train.fingerprints != ""]
            )
        if self.siblings is not None:
            strange = np.setdiff1d(self.siblings.patients, self.train.patients)
            if len(strange):
                raise AuditInputError(
                    f"siblings must be tiles of training patients: {len(strange)} of their "
                    f"patients are not in train (first: {strange[0]}). Move them to holdout."
                )
        for kind, planted in self.planted.items():
            self._check_planted(kind, planted, width)

    def _check_planted(self, kind: str, planted: Planted, width: int) -> None:
        count = len(planted.sources)
        if planted.embeddings.shape != (count, width):
            raise AuditInputError(
                f"planted {kind} copies must have shape ({count}, {width}): "
                f"got {planted.embeddings.shape}."
            )
        if not np.isfinite(planted.embeddings).all():
            raise AuditInputError(f"planted {kind} copies must be finite: got NaN or infinity.")
        if planted.fingerprints is not None and len(planted.fingerprints) != count:
            raise AuditInputError(
                f"planted {kind} copies must have one fingerprint each: got "
                f"{len(planted.fingerprints)} for {count}."
            )
        if not np.isin(planted.sources, np.arange(len(self.train))).all():
            raise AuditInputError(
                f"planted {kind} sources must be rows of train, 0 to {len(self.train) - 1}: got "
                f"{np.min(planted.sources)} to {np.max(planted.sources)}."
            )

    def _refuse_shared(self, what: str, members: Strings) -> None:
        for tiles in (self.holdout, self.reference):
            values = getattr(tiles, what, None)
            if tiles is None or values is None:
                continue
            shared = np.intersect1d(members, values)
            if len(shared):
                raise AuditInputError(
                    f"train and {tiles.name} must share no {what}: {len(shared)} in both "
                    f"(first: {shared[0]}). Split again by patient."
                )

    def roles(self) -> dict[str, Tiles]:
        """The roles that are present, by name."""
        every = {
            "train": self.train,
            "siblings": self.siblings,
            "holdout": self.holdout,
            "reference": self.reference,
            "synthetic": self.synthetic,
        }
        return {name: tiles for name, tiles in every.items() if tiles is not None}
