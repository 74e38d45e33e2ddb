"""What an audit is given: embeddings with labels and patients, checked once, here.

Roles: `train` tiles were seen by the generator; `siblings` are tiles of the same slides and
patients held back from it; `holdout` tiles belong to patients it never met; `reference` tiles to
further patients it never met, used only by calibrated attacks; `synthetic` tiles are what is to be
released.
"""

import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audits.errors import AuditInputError
from audits.patients import alike, read_id, read_patient
from audits.results import Estimate, Harm

_WORD = re.compile(r"[a-z][a-z_ ]{0,17}([0-9]?[a-z_ ]{1,18})?(_[0-9]{2})?")

Strings = NDArray[np.str_]
Floats = NDArray[np.float64]


def _strings(values: ArrayLike | None, count: int, name: str, default: str) -> Strings:
    if values is None:
        return np.full(count, default)
    given = np.asarray(values)
    # A column of numbers with a gap turns into floats, and "3.0" is not "3".
    if given.dtype.kind in "fc" or any(isinstance(value, float) for value in given.flat):
        raise AuditInputError(
            f"{name} must be text or whole numbers: got decimal numbers. Read the column as text."
        )
    array = given.astype(np.str_)
    if array.shape != (count,):
        raise AuditInputError(
            f"{name} must hold one entry per tile: got shape {array.shape} for {count} tiles."
        )
    return array


def _owners(values: ArrayLike, count: int, name: str, *, barcodes: bool) -> Strings:
    """Ids of patients or slides, one way to write each (`audits.patients`), shape (count,)."""
    read = read_patient if barcodes else read_id
    written, at = np.unique(_strings(values, count, name, ""), return_inverse=True)
    try:
        ids = [read(one) for one in written.tolist()]
    except AuditInputError as error:
        raise AuditInputError(f"{name}: {error}") from error
    unknown = np.array([one is None for one in ids])
    if unknown.any():
        raise AuditInputError(
            f"{name} must be known for every tile, or not be given: {int(unknown[at].sum())} of "
            f"{count} are missing (such as {str(written[unknown][0])!r}). Fill them in, or leave "
            f"{name} out."
        )
    return np.array([one or "" for one in ids], dtype=np.str_)[at]


def _textured(fingerprints: Strings | None, count: int) -> NDArray[np.bool_]:
    if fingerprints is None:
        return np.ones(count, dtype=np.bool_)
    rows: NDArray[np.bool_] = fingerprints != ""
    return rows


def _embeddings(name: str, given: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(given)
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
    with np.errstate(over="ignore"):
        found: NDArray[np.float32] = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(found).all():
        raise AuditInputError(f"{name} embeddings overflow float32: rescale them.")
    return found


class Columns(TypedDict, total=False):
    """What may be known of each tile, see `Tiles`; shape (n,) each."""

    labels: ArrayLike | None
    patients: ArrayLike | None
    slides: ArrayLike | None
    fingerprints: ArrayLike | None
    ids: ArrayLike | None
    content: ArrayLike | None
    barcodes: bool


class Tiles:
    """Embedded tiles of one role.

    Args:
      name: role, used in error messages.
      embeddings: shape (n, d), finite; any float type that does not overflow; kept as float32.
      labels: class of each tile, shape (n,); one class when None.
      patients: patient of each tile, shape (n,); every tile its own patient when None. Read as
        `audits.patients.read_patient` does: nobody is called "nan".
      slides: slide of each tile, shape (n,); the patient when None.
      fingerprints: digest of each tile's pixels, the same for all 8 symmetries, shape (n,); an
        empty string marks per tile too featureless to prove anything. None when not computed.
      ids: distinct name of each tile, by which scores from outside are joined, shape (n,); the role
        and row when None. Never part of a report.
      barcodes: whether a TCGA barcode in `patients` means its participant; False where `patients`
        really holds slides.
      content: digest of each tile's pixels, by which `audits.order` puts the tiles in order before
        anything is drawn, shape (n,); of its embedding when None. Never part of a report.

    Raises:
      AuditInputError: no tiles, wrong shapes, an embedding that is no finite number, an id that
        occurs twice, or a patient or slide that is missing for some tiles.
    """

    def __init__(self, name: str, embeddings: ArrayLike, **columns: Unpack[Columns]) -> None:
        if unknown := columns.keys() - Columns.__annotations__.keys():
            raise TypeError(f"Tiles has no column {min(unknown)!r}")
        self.name = name
        self.embeddings = _embeddings(name, embeddings)
        count = len(self.embeddings)

        def column(key: str) -> Strings | None:
            values = columns.get(key)
            return None if values is None else _strings(values, count, f"{name} {key}", "")  # type: ignore[arg-type]

        def owners(key: str, *, barcodes: bool) -> Strings | None:
            values = columns.get(key)
            if values is None:
                return None
            return _owners(values, count, f"{name} {key}", barcodes=barcodes)  # type: ignore[arg-type]

        own = np.char.add(f"{name}-", np.arange(count).astype(np.str_))
        patients = owners("patients", barcodes=columns.get("barcodes", True))
        slides, ids = owners("slides", barcodes=False), column("ids")
        self.labels = _strings(columns.get("labels"), count, f"{name} labels", "all")
        self.patients_known = patients is not None
        self.patients = own if patients is None else patients
        self.slides = self.patients if slides is None else slides
        self.fingerprints, self.content = column("fingerprints"), column("content")
        self.ids = own if ids is None else ids
        distinct, times = np.unique(self.ids, return_counts=True)
        if len(distinct) < count:
            raise AuditInputError(
                f"{name} ids must be distinct: {distinct[times.argmax()]!r} stands {times.max()} "
                "times. Name every tile."
            )

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def textured(self) -> NDArray[np.bool_]:
        """Which tiles have texture; all, where no fingerprints were taken. Shape (n,)."""
        return _textured(self.fingerprints, len(self))

    def subset(self, rows: NDArray[np.bool_]) -> "Tiles":
        """The marked tiles, with everything known of them.

        Raises:
          AuditInputError: none is marked.
        """
        part = Tiles(
            self.name,
            self.embeddings[rows],
            labels=self.labels[rows],
            patients=self.patients[rows],
            slides=self.slides[rows],
            fingerprints=None if self.fingerprints is None else self.fingerprints[rows],
            ids=self.ids[rows],
            barcodes=False,  # read already
            content=None if self.content is None else self.content[rows],
        )
        part.patients_known = self.patients_known
        return part

    def rearranged(self, rows: NDArray[np.intp], *, patients: Strings, slides: Strings) -> "Tiles":
        """All tiles in another order, under other names of patients and slides.

        Args:
          rows: of the tiles, each once, shape (n,).
          patients, slides: of the tiles in the new order, shape (n,).
        """
        moved = copy(self)
        if (rows != np.arange(len(self))).any():
            moved.embeddings = self.embeddings[rows]
        moved.labels, moved.ids = self.labels[rows], self.ids[rows]
        moved.fingerprints = None if self.fingerprints is None else self.fingerprints[rows]
        moved.content = None if self.content is None else self.content[rows]
        moved.patients, moved.slides = patients, slides
        return moved

    @property
    def patient_count(self) -> int:
        return len(np.unique(self.patients))


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """How well each of some tiles aligns with its best candidate.

    Attributes:
      inliers: key points that agree on one transform, 0 where nothing aligned, shape (n,).
      strength: standard deviations of chance by which the tissue agrees, 0 where nothing aligned,
        shape (n,).
      marked: share of each tile set aside as marks that recur in other patients, shape (n,).
      featureless: tiles with hardly any key points, which cannot be cleared, shape (n,).
    """

    inliers: NDArray[np.intp]
    strength: Floats
    marked: Floats
    featureless: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Geometric verification: what `proof.proven_copies` judges.

    Attributes:
      synthetic: every synthetic tile against the train tiles.
      null: real tiles against tiles of *other* patients, searched the same way, shape (m,).
      null_duplicates: null tiles known to stand in the data twice, shape (m,).
      recall: how often the list of candidates held the exact search's first one, where an
        approximate search made it.
    """

    synthetic: Aligned
    null: Aligned
    null_duplicates: NDArray[np.bool_]
    recall: Estimate | None = None


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Copies of train tiles made by one kind of transformation, embedded like the synthetic tiles.

    Attributes:
      embeddings: shape (m, d); None where only alignment can find them.
      sources: index of the copied train tile, shape (m,).
      fingerprints: as in `Tiles`, shape (m,), or None.
      aligned: each copy against the train tiles, or None.
    """

    embeddings: NDArray[np.float32] | None
    sources: NDArray[np.intp]
    fingerprints: Strings | None = None
    aligned: Aligned | None = None

    @property
    def textured(self) -> NDArray[np.bool_]:
        """As of `Tiles`, shape (m,)."""
        return _textured(self.fingerprints, len(self.sources))


@dataclass(frozen=True, kw_only=True)
class AuditData:
    """All tiles of one audit.

    Attributes:
      train, holdout, synthetic: required.
      siblings, reference: optional, see the top of this module.
      planted: known copies by kind, for the power curve; exact copies are always planted.
      alignment: geometric verification of the synthetic tiles, or None where it was not done.
      encoder: name of the embedding.
      group_unit: what `patients` really holds: "patient", "slide", "source_image" or "tile".
      pipeline: train and holdout tiles, or a sample of them, with measurements of how they became
        pixels in place of embeddings; None where nothing was measured.
      confounded: for a harm whose roles differ for another reason than training, a sentence.

    Raises:
      AuditInputError: feature counts differ, two of train, holdout and reference share patients or
        hold patients whose names are alike (`audits.patients`), a sibling's patient is not in
        train, embeddings of train or holdout are constant, a fingerprint stands in both train and
        holdout, or planted copies or alignments do not fit.
    """

    train: Tiles
    holdout: Tiles
    synthetic: Tiles
    siblings: Tiles | None = None
    reference: Tiles | None = None
    planted: Mapping[str, Planted] = field(default_factory=dict)
    alignment: Alignment | None = None
    encoder: str = "unnamed"
    group_unit: str = "patient"
    pipeline: tuple[Tiles, Tiles] | None = None
    confounded: Mapping[Harm, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (self.group_unit, *self.planted):
            if not _WORD.fullmatch(name):
                raise AuditInputError(
                    "the group unit and kinds of planted copies must be lower-case words: got "
                    f"{name!r}."
                )
        width = self.train.embeddings.shape[1]
        for tiles in self.roles().values():
            if tiles.embeddings.shape[1] != width:
                raise AuditInputError(
                    f"all roles must be embedded alike: train has {width} features, "
                    f"{tiles.name} {tiles.embeddings.shape[1]}."
                )
        for tiles in (self.train, self.holdout):
            # One row always equals itself: the tests then say that there are too few.
            if len(tiles) > 1 and (tiles.embeddings == tiles.embeddings[0]).all():
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
        self._refuse_alike()
        if self.train.fingerprints is not None:
            self._refuse_shared(
                "fingerprints", self.train.fingerprints[self.train.fingerprints != ""]
            )
        self._check_siblings()
        for kind, planted in self.planted.items():
            self._check_planted(kind, planted, width)
        if self.alignment is not None:
            aligned = len(self.alignment.synthetic.inliers)
            if aligned != len(self.synthetic):
                raise AuditInputError(
                    "alignment must have one entry per synthetic tile: got "
                    f"{aligned} for {len(self.synthetic)}."
                )

    def _check_siblings(self) -> None:
        siblings = self.siblings
        if siblings is None:
            return
        if self.train.fingerprints is not None and siblings.fingerprints is not None:
            own = self.train.fingerprints[self.train.fingerprints != ""]
            shared = np.intersect1d(own, siblings.fingerprints)
            if len(shared):
                raise AuditInputError(
                    f"siblings must be tiles the generator did not see: {len(shared)} equal train "
                    "tiles. Hold other tiles back, before training."
                )
        if not (self.train.patients_known and siblings.patients_known):
            raise AuditInputError(
                "siblings need patients, in train as well: got none. Say which tiles are of "
                "one patient."
            )
        strange = np.setdiff1d(siblings.patients, self.train.patients)
        if len(strange):
            raise AuditInputError(
                f"siblings must be tiles of training patients: {len(strange)} of their "
                f"patients are not in train (first: {strange[0]}). Move them to holdout."
            )

    def _check_planted(self, kind: str, planted: Planted, width: int) -> None:
        count = len(planted.sources)
        given = planted.embeddings
        if given is not None and given.shape != (count, width):
            raise AuditInputError(
                f"planted {kind} copies must have shape ({count}, {width}): got {given.shape}."
            )
        if given is not None and not np.isfinite(given).all():
            raise AuditInputError(f"planted {kind} copies must be finite: got NaN or infinity.")
        if planted.fingerprints is not None and len(planted.fingerprints) != count:
            raise AuditInputError(
                f"planted {kind} copies must have one fingerprint each: got "
                f"{len(planted.fingerprints)} for {count}."
            )
        if planted.aligned is not None and len(planted.aligned.inliers) != count:
            raise AuditInputError(
                f"planted {kind} copies must have one alignment each: got "
                f"{len(planted.aligned.inliers)} for {count}."
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

    def _refuse_alike(self) -> None:
        """Refuse roles whose patients may be the same, written differently."""
        for first, second in (
            (self.train, self.holdout),
            (self.train, self.reference),
            (self.siblings, self.holdout),
            (self.siblings, self.reference),
            (self.holdout, self.reference),
        ):
            if first is None or second is None:
                continue
            if not (first.patients_known and second.patients_known):
                continue
            pairs = alike(np.unique(first.patients), np.unique(second.patients))
            if pairs:
                raise AuditInputError(
                    f"{first.name} and {second.name} may not hold patients whose names differ only "
                    f"in case, leading zeros or signs: {len(pairs)} do (first: "
                    f"{' / '.join(pairs[0])}). Write one person one way; if they are different "
                    "people, rename one."
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


def textured_only(data: AuditData) -> AuditData:
    """The same roles without featureless tiles, for whatever blank glass would mislead.

    A blank tile is near every blank tile, so a few of them would fill a patient's highest scores.
    Planted copies and alignments, which go by row, are left behind.

    Raises:
      AuditInputError: train, holdout or synthetic has no tile with texture.
    """
    roles: dict[str, Tiles] = {}
    for name, tiles in data.roles().items():
        rows = tiles.textured
        if name == "siblings" and "train" in roles:
            rows = rows & np.isin(tiles.patients, roles["train"].patients)
        if rows.any():
            roles[name] = tiles if rows.all() else tiles.subset(rows)
        elif name in ("train", "holdout", "synthetic"):
            raise AuditInputError(
                f"all {len(rows)} {name} tiles are featureless (blank): nothing can be audited."
            )
    return AuditData(
        train=roles["train"],
        holdout=roles["holdout"],
        synthetic=roles["synthetic"],
        siblings=roles.get("siblings"),
        reference=roles.get("reference"),
        encoder=data.encoder,
        group_unit=data.group_unit,
    )
