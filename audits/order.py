"""One order for the tiles of an audit, whatever order and names they came in.

Much in an audit is drawn at random, by row: which tiles are left out where classes differ, which
are swapped, subsampled, clustered. Files that are renamed or shuffled would draw others, and a
p-value of .67 could be had as .40. So before anything is drawn or summed, tiles are put in an order
that follows from what they are, and patients and slides are replaced by codes that follow from
their tiles. The result then depends on no order and on no name, bit for bit.

A tile is told from others by its `content` (a digest of its pixels), or where none is given by its
embedding; then by its class, and by all else that is known of it. Tiles that agree in everything
may stand either way: nothing can depend on which is which.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from audits.attacks import OutsideScores
from audits.inputs import Aligned, AuditData, Planted, Strings, Tiles

Features = Mapping[str, Mapping[str, NDArray[np.float32]]]
Rows = NDArray[np.intp]
Column = NDArray[Any]
Arrays = TypeVar("Arrays", Aligned, Planted)

_BYTES = 16
_MADE = "synthetic"


@dataclass(frozen=True, kw_only=True)
class Ordered:
    """An audit in the order of its content.

    Attributes:
      data, features, outside: as `in_order` was given them, in order.
      rows: for each role, the rows as given of the tiles in order, shape (n,).
    """

    data: AuditData
    features: Mapping[str, Mapping[str, NDArray[np.float32]]]
    outside: tuple[OutsideScores, ...]
    rows: Mapping[str, NDArray[np.intp]]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the tiles of one role are known by, shape (n,) each.

    Attributes:
      content: equal for equal pixels only.
      labels: class.
      rest: all else, where content and class agree. It counts last because an embedding's last bits
        may differ between machines, and need not change the order of tiles whose pixels differ.
      patients, slides: names; patients of one name are one, in every role but the synthetic one.
    """

    content: Column
    labels: Strings
    rest: Column
    patients: Strings
    slides: Strings


@dataclass(frozen=True, kw_only=True)
class Places:
    """The order of one role.

    Attributes:
      rows: of the tiles as given, in order, shape (n,).
      patients, slides: number of each of these, in order, shape (n,); the same for the same patient
        in all real roles.
      equals: number of each of these, the same for tiles that agree in everything but their
        patient, shape (n,).
    """

    rows: Rows
    patients: Rows
    slides: Rows
    equals: Rows


def places(roles: Mapping[str, Known]) -> dict[str, Places]:
    """The order of every role, and numbers for patients and slides.

    Patients are numbered in the order of what they consist of: their slides with the tiles of each,
    by role. Two that consist of the same may change places. Synthetic tiles have patients of their
    own, whatever these are called.

    Args:
      roles: by name; "synthetic" is the one whose patients are nobody.
    """
    slides: dict[tuple[bool, str, str], list[tuple[bytes, bytes]]] = {}
    owners: dict[str, list[tuple[bool, str, str]]] = {}
    for role, known in roles.items():
        names = zip(known.patients.tolist(), known.slides.tolist(), strict=True)
        owners[role] = [(role == _MADE, patient, slide) for patient, slide in names]
        content, labels, rest = known.content.tolist(), known.labels.tolist(), known.rest.tolist()
        for owner, first, label, last in zip(owners[role], content, labels, rest, strict=True):
            key = _digest((role.encode(), str(first).encode(), label.encode()))
            slides.setdefault(owner, []).append((key, str(last).encode()))
    marks = {owner: _mark(tiles) for owner, tiles in slides.items()}
    patients: dict[tuple[bool, str], list[tuple[bytes, bytes]]] = {}
    for owner, mark in marks.items():
        patients.setdefault(owner[:2], []).append(mark)
    of_patient = {owner: _mark(found) for owner, found in patients.items()}
    ranked = sorted(patients, key=lambda owner: of_patient[owner])
    patient = {owner: place for place, owner in enumerate(ranked)}
    order = sorted(marks, key=lambda owner: (patient[owner[:2]], marks[owner]))
    slide = {owner: place for place, owner in enumerate(order)}
    return {
        role: _placed(
            known,
            np.array([patient[owner[:2]] for owner in owners[role]], dtype=np.intp),
            np.array([slide[owner] for owner in owners[role]], dtype=np.intp),
        )
        for role, known in roles.items()
    }


def _placed(known: Known, patients: Rows, slides: Rows) -> Places:
    keys = (known.content, known.labels, known.rest)
    rows = np.lexsort((slides, patients, *keys[::-1]))
    new = np.zeros(len(rows), dtype=np.bool_)
    for key in keys:
        new[1:] |= key[rows][1:] != key[rows][:-1]
    return Places(
        rows=rows,
        patients=patients[rows],
        slides=slides[rows],
        equals=np.cumsum(new, dtype=np.intp),
    )


def _mark(parts: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """What a slide or patient is known by: first by content alone, then by everything."""
    ordered = sorted(parts)
    return _digest(first for first, _ in ordered), _digest(last for _, last in ordered)


def _digest(parts: Iterable[bytes]) -> bytes:
    """Of some byte strings, told apart."""
    state = blake2b(digest_size=_BYTES)
    for part in parts:
        state.update(len(part).to_bytes(8, "little") + part)
    return state.digest()


def digests(columns: Sequence[Column]) -> Strings:
    """A digest of each row over all columns, shape (n,)."""
    ready = [np.ascontiguousarray(column) for column in columns]
    return np.array(
        [_digest(column[row].tobytes() for column in ready).hex() for row in range(len(ready[0]))],
        dtype=np.str_,
    )


def in_order(
    data: AuditData, features: Features | None = None, outside: Sequence[OutsideScores] = ()
) -> Ordered:
    """The same audit with its rows in the order of their content, and codes in place of names.

    Args:
      data: the tiles of every role.
      features: as given to `audits.audit`; rows of a role go with its tiles.
      outside: as given to `audits.audit`; put in the order of their names.
    """
    given = {name: dict(by_role) for name, by_role in (features or {}).items()}
    attacks = tuple(sorted(outside, key=lambda scores: scores.name))
    roles = data.roles()
    place = places(
        {role: _known(data, role, tiles, given, attacks) for role, tiles in roles.items()}
    )
    moved = {
        role: tiles.rearranged(
            place[role].rows,
            patients=_named(place[role].patients),
            slides=_named(place[role].slides),
        )
        for role, tiles in roles.items()
    }
    for by_role in given.values():
        for role in by_role.keys() & place.keys():
            # Rows that do not fit are refused later, in words of their own.
            if len(by_role[role]) == len(roles[role]):
                by_role[role] = _taken(by_role[role], place[role].rows)
    alignment = data.alignment
    if alignment is not None:
        alignment = replace(alignment, synthetic=_moved(alignment.synthetic, place[_MADE].rows))
    pipeline = data.pipeline
    if pipeline is not None:
        train, holdout = pipeline
        pipeline = (_measured(train), _measured(holdout))
    ordered = replace(
        data,
        train=moved["train"],
        holdout=moved["holdout"],
        synthetic=moved[_MADE],
        siblings=moved.get("siblings"),
        reference=moved.get("reference"),
        planted={kind: _planted(copies, place["train"]) for kind, copies in data.planted.items()},
        alignment=alignment,
        pipeline=pipeline,
    )
    return Ordered(
        data=ordered,
        features=given,
        outside=attacks,
        rows={role: found.rows for role, found in place.items()},
    )


def _measured(tiles: Tiles) -> Tiles:
    """Measured tiles patient by patient, who are known by all of theirs."""
    content = digests([tiles.embeddings])
    marks = {
        owner: _digest(sorted(mark.encode() for mark in content[tiles.patients == owner].tolist()))
        for owner in np.unique(tiles.patients).tolist()
    }
    code = {owner: place for place, owner in enumerate(sorted(marks, key=lambda o: marks[o]))}
    codes = np.array([code[owner] for owner in tiles.patients.tolist()], dtype=np.intp)
    rows = np.lexsort((content, codes))
    names = _named(codes[rows])
    return tiles.rearranged(rows, patients=names, slides=names)


def _taken(array: NDArray[np.float32], rows: Rows) -> NDArray[np.float32]:
    """These rows; the array itself where they are all in order already."""
    return array if (rows == np.arange(len(array))).all() else array[rows]


def _known(
    data: AuditData, role: str, tiles: Tiles, features: Features, outside: Sequence[OutsideScores]
) -> Known:
    rest: list[Column] = [tiles.embeddings]
    if tiles.fingerprints is not None:
        rest.append(tiles.fingerprints)
    if role == _MADE and data.alignment is not None:
        rest += _arrays(data.alignment.synthetic)
    for by_role in features.values():
        if role in by_role and len(by_role[role]) == len(tiles):
            rest.append(by_role[role])
    for scores in outside:
        found = dict(zip(scores.ids.tolist(), scores.scores.tolist(), strict=True))
        rest.append(np.array([found.get(name, np.nan) for name in tiles.ids.tolist()]))
    everything = digests(rest)
    return Known(
        content=digests([tiles.embeddings]) if tiles.content is None else tiles.content,
        labels=tiles.labels,
        rest=everything,
        patients=tiles.patients,
        slides=tiles.slides,
    )


def _named(codes: Rows) -> Strings:
    """Codes as names that sort as the numbers do."""
    return np.char.zfill(codes.astype(np.str_), 9)


def _arrays(of: Aligned | Planted) -> list[Column]:
    values = [getattr(of, field.name) for field in fields(of) if field.name != "sources"]
    return [value for value in values if isinstance(value, np.ndarray)]


def _moved(of: Arrays, rows: Rows) -> Arrays:
    """The same with every array's rows in this order."""
    values = {field.name: getattr(of, field.name) for field in fields(of)}
    arrays: dict[str, Any] = {
        name: a[rows] for name, a in values.items() if isinstance(a, np.ndarray)
    }
    return replace(of, **arrays)


def _planted(copies: Planted, train: Places) -> Planted:
    """Planted copies in the order of their sources, which go with the train tiles."""
    place = np.empty(len(train.rows), dtype=np.intp)
    place[train.rows] = np.arange(len(train.rows))
    sources = place[copies.sources]
    columns = (
        _arrays(copies) if copies.aligned is None else _arrays(copies) + _arrays(copies.aligned)
    )
    rows = np.lexsort((sources, digests(columns), train.equals[sources]))
    ordered = _moved(replace(copies, sources=sources), rows)
    if ordered.aligned is None:
        return ordered
    return replace(ordered, aligned=_moved(ordered.aligned, rows))
