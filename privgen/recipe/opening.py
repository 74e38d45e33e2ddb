"""The tiles a recipe is tried on: who its patients are, which tiles nobody trains on, whose coins.

A patient here is what no split may part (`data.splits.units`): patients who share pictures or
pixels, or whose names are alike, have one coin between them. A class that one patient alone has
cannot be in both a run and its partner; its tiles are left out, which is said.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from audits.coins import Coins, Design
from audits.recipe_scores import enough
from audits.recipe_sections import FEWEST_PATIENTS
from privgen import console
from privgen.data.remarks import cautions
from privgen.data.sources import open_source
from privgen.data.splits import Split, hold_back, units
from privgen.data.tileset import TileSet
from privgen.errors import InputError
from privgen.recipe.requests import RecipeRequest

_FEWEST_CLASSES = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Patients:
    """Real tiles, and the patients whose coins are tossed.

    Attributes:
      tiles: all that are used, in the order of their pixels.
      unit: patient of each tile, numbered from 0, shape (n,).
      held_back: tiles that no run is given, shape (n,).
      remarks: what was left out or joined, sentences for the report.
      digest: of these tiles, as `data_digest`: a release must be made from the very same.
    """

    tiles: TileSet
    unit: NDArray[np.intp]
    held_back: NDArray[np.bool_]
    remarks: tuple[str, ...]
    digest: str

    @property
    def count(self) -> int:
        return int(self.unit.max()) + 1

    @cached_property
    def shared_coins(self) -> int:
        """Coins that several patients have between them."""
        pairs = {*zip(self.unit.tolist(), self.tiles.groups.tolist(), strict=True)}
        return int((np.bincount([unit for unit, _ in pairs]) > 1).sum())

    @cached_property
    def parts(self) -> str:
        """SHA-256 over whose each tile is and which are held back, in the order of the tiles.

        Coins belong to patients by number: other names may number them otherwise.
        """
        return sha256(self.unit.tobytes() + self.held_back.tobytes()).hexdigest()

    @cached_property
    def class_tiles(self) -> NDArray[np.int64]:
        """Tiles to train on of each patient and class, shape (P, C)."""
        return self._counted(~self.held_back)

    @cached_property
    def strata(self) -> NDArray[np.intp]:
        """The class of which each patient has most tiles, shape (P,)."""
        every = np.ones(len(self.tiles), dtype=np.bool_)
        return np.asarray(self._counted(every).argmax(axis=1), dtype=np.intp)

    def _counted(self, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        classes = np.searchsorted(np.array(self.tiles.classes), self.tiles.labels)
        counts = np.zeros((self.count, len(self.tiles.classes)), dtype=np.int64)
        np.add.at(counts, (self.unit[rows], classes[rows]), 1)
        return counts

    def design(self, request: RecipeRequest) -> Design:
        """How their coins are tossed.

        Raises:
          AuditInputError: there are too few patients, or hardly any toss can be trained on.
        """
        return Design(scheme=request.coins, runs=request.runs, class_tiles=self.class_tiles)

    def toss(self, request: RecipeRequest, seed: int) -> Coins:
        """The coins, which the seed decides."""
        return self.design(request).toss(np.random.default_rng([seed, _COINS]))

    def split(self, included: NDArray[np.bool_]) -> Split:
        """Roles of one run: its patients' tiles to train on, and everything else held out.

        Args:
          included: who is in training, shape (P,).
        """
        inside = included[self.unit]
        return Split(
            train=np.flatnonzero(inside & ~self.held_back),
            siblings=np.flatnonzero(inside & self.held_back),
            holdout=np.flatnonzero(~inside),
            reference=np.empty(0, dtype=np.intp),
        )


_COINS, _HELD_BACK = 1, 2


def data_digest(digests: NDArray[np.str_], groups: NDArray[np.generic]) -> str:
    """SHA-256, 64 hex digits, over pixels and grouping; neither order nor names matter.

    Args:
      digests: of each tile's pixels, shape (n,).
      groups: whose it is, shape (n,).
    """
    _, owner = np.unique(groups, return_inverse=True)
    patients = sorted(
        "".join(sorted(digests[owner == number].tolist())) for number in range(owner.max() + 1)
    )
    return sha256("\n".join(patients).encode()).hexdigest()


def open_patients(request: RecipeRequest, *, seed: int) -> Patients:
    """Open the tiles of a recipe's audit.

    Args:
      request: names them.
      seed: of the tiles that are held back.

    Raises:
      InputError: they cannot be read, name no patients, or too few are left.
    """
    tiles = open_source(
        request.data,
        "data",
        group_by=request.group_by,
        on_bad_tile=request.on_bad_tile,
        icc=request.icc,
        min_classes=_FEWEST_CLASSES,
    )
    if tiles.group_unit == "tile":
        raise InputError(
            "the audit of a recipe tosses a coin for every patient: these tiles name none. Give a "
            "manifest with a patient column, or folders named by patient."
        )
    for remark in cautions(tiles):
        console.warn(f"{remark}.")
    tiles = tiles.subset(np.argsort(tiles.digests, kind="stable"))
    remarks = [f"{remark.what}." for remark in cautions(tiles)]  # examples are names
    if tiles.group_unit != "patient":
        unit = tiles.group_unit.replace("_", " ")
        remarks.append(
            f"The data name no patients: coins were tossed by {unit}. If one patient gave several, "
            "she may stand on both sides, and leaks look smaller than they are."
        )
    tiles, unit_of, left = _without_lone_classes(tiles)
    remarks += left
    groups = len(np.unique(tiles.groups))
    if (joined := groups - int(unit_of.max()) - 1) > 0:
        remarks.append(
            f"{joined} of {groups} patients share pictures, pixels or a name with another, and "
            "share that one's coin."
        )
    count = int(unit_of.max()) + 1
    if count < FEWEST_PATIENTS:
        raise InputError(
            f"the audit of a recipe needs {FEWEST_PATIENTS} patients at least: got {count}. Add "
            "patients; with so few no arrangement of coins is rare enough to mean anything."
        )
    held = hold_back(tiles, request.siblings, seed=seed + _HELD_BACK)
    measured = len(np.unique(unit_of[held & ~tiles.featureless]))
    _require_held_back(measured, count, request.siblings)
    return Patients(
        tiles=tiles,
        unit=unit_of,
        held_back=held,
        remarks=tuple(remarks),
        digest=data_digest(tiles.digests, tiles.groups),
    )


def _require_held_back(measured: int, count: int, share: float) -> None:
    """InputError where too few of the patients have tiles that were held back."""
    if share and not enough(measured, count):
        raise InputError(
            f"tiles of four patients in five must be held back: `siblings` {share:g} holds some of "
            f"{measured} of {count} patients back. Give more, or tiles that do not share pixels; 0 "
            "holds none back, and tells patients by the tiles trained on."
        )


def _without_lone_classes(tiles: TileSet) -> tuple[TileSet, NDArray[np.intp], list[str]]:
    """Tiles of classes that at least two patients have, their patients, and what was left out."""
    unit_of, left, keep = units(tiles), list[str](), np.ones(len(tiles), dtype=np.bool_)
    for name in tiles.classes:
        mine = tiles.labels == name
        if len(np.unique(unit_of[mine])) < 2:
            keep &= ~mine
            left.append(
                f"Class {name} is left out: only one patient has it, so that it cannot be in every "
                "run. A release that rests on this audit must leave it out too."
            )
    if len(np.unique(tiles.labels[keep])) < _FEWEST_CLASSES:
        raise InputError(
            "a recipe needs two classes that two patients or more have: got "
            f"{len(np.unique(tiles.labels[keep]))}. Join classes, or add patients."
        )
    for sentence in left:
        console.warn(sentence)
    if not left:
        return tiles, unit_of, left
    kept = replace(tiles.subset(np.flatnonzero(keep)), remarks=tiles.remarks)
    return kept, units(kept), left
