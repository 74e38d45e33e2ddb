"""Who trains, who selects, who tests; and how much of the training tiles a regime may see.

Patients stand in one of three parts: `known`, whose tiles classifiers and generators are trained
on, validation and test. A regime is a share of the known tiles, and its generators are trained on
exactly those: a generator that saw more would carry real tiles into the classifier's training by
the back door.

A regime holds that share of every class, at least two tiles, from as few patients as have them: who
has a tenth of the labels has them from a few patients, not a tenth of everybody's. Patients come in
one random order for all regimes, so a smaller regime is a part of a larger one.

Source: docs/methods.md#classifier-benefit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privgen.checkpoints.roles import match
from privgen.data.splits import require_disjoint, split_by_patient
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError, InputError, SplitError
from privgen.sampling import LoadedGenerator

_TEST = 0.35  # share of the tiles
_VALIDATION = 0.2  # share of the others
_VALIDATION_OUTSIDE = 0.35  # share of the tiles a given generator was not trained on
_LEAST_TILES = 2  # of a class in a regime; the filter cannot judge by fewer
_SAME_SHARE = 0.2  # how far, relatively, a generator's training tiles may be from a regime's share


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneratorTiles:
    """Synthetic tiles of one generator.

    Attributes:
      name: as the report calls it.
      tiles: synthetic; every regime's own.
      checkpoint: of the generator, where there is one.
    """

    name: str
    tiles: TileSet
    checkpoint: Path | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Regime:
    """Real training tiles, and synthetic ones by generators that saw no others.

    Attributes:
      share: of the known tiles, in (0, 1].
      train: real tiles.
      generators: one or more.
    """

    share: float
    train: TileSet
    generators: tuple[GeneratorTiles, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """A split for a benchmark: no patient in two parts.

    Attributes:
      known: what regimes are cut from.
      validation: chooses checkpoints.
      test: read once.
    """

    known: TileSet
    validation: TileSet
    test: TileSet


def split(tiles: TileSet, *, seed: int) -> Parts:
    """Split by patient: about a third test, of the rest a fifth validation.

    Raises:
      SplitError: there are too few patients.
    """
    outer = split_by_patient(tiles, holdout=_TEST, siblings=0.0, seed=seed)
    known, validation = _favouring(tiles.subset(outer.train), _VALIDATION, seed)
    return Parts(known=known, validation=validation, test=tiles.subset(outer.holdout))


def _favouring(tiles: TileSet, share: float, seed: int) -> tuple[TileSet, TileSet]:
    """Split off `share` of the tiles, leaving every class behind that one patient alone has."""
    holders = [np.unique(tiles.alike[tiles.labels == label]) for label in tiles.classes]
    alone = [own[0] for own in holders if len(own) == 1]
    free = np.flatnonzero(~np.isin(tiles.alike, alone))
    rest = tiles.subset(free)
    if len(np.unique(rest.alike)) < 2:
        off = np.ones(len(free), dtype=bool)
    else:
        wanted = min(share * len(tiles) / len(free), 1 - share)
        inner = split_by_patient(rest, holdout=wanted, siblings=0.0, seed=seed)
        off = np.isin(np.arange(len(free)), inner.holdout)
    taken = np.isin(np.arange(len(tiles)), free[off])
    return tiles.subset(np.flatnonzero(~taken)), tiles.subset(np.flatnonzero(taken))


def cut(known: TileSet, shares: Sequence[float], *, seed: int) -> dict[float, TileSet]:
    """The real training tiles of each regime, smaller ones within larger ones.

    Args:
      known: what classifiers may be trained on.
      shares: in (0, 1], all different.
      seed: of the order of patients, and of tiles within them.

    Raises:
      ConfigError: a share is out of range or given twice.
    """
    told = {f"{share:g}" for share in shares}
    if not shares or len(told) < len(shares) or not all(0 < share <= 1 for share in shares):
        raise ConfigError(
            "regimes must be one or more different shares of the training tiles, above 0 and up "
            f"to 1: got {', '.join(f'{share:g}' for share in shares) or 'none'}."
        )
    rng = np.random.default_rng([seed, len(known)])
    _, patient = np.unique(known.alike, return_inverse=True)
    rank = rng.permutation(int(patient.max()) + 1)[patient]
    order = np.lexsort((rng.permutation(len(known)), rank))
    chosen: dict[float, TileSet] = {}
    for share in sorted(shares):
        rows = [
            own[: max(_LEAST_TILES, round(share * len(own)))]
            for own in (order[known.labels[order] == label] for label in known.classes)
        ]
        chosen[share] = known.subset(np.sort(np.concatenate(rows)))
    return chosen


def from_ledgers(
    tiles: TileSet,
    generators: Mapping[Path, LoadedGenerator],
    shares: Sequence[float],
    *,
    seed: int,
) -> tuple[Parts, dict[float, tuple[TileSet, tuple[Path, ...]]]]:
    """Parts and regimes as the generators' own ledgers have them.

    The generators with most training tiles are the largest regime, and what they were trained on is
    `known`; each smaller regime is what its generators were trained on. Test patients are those no
    generator was trained on or selected by.

    Args:
      tiles: the real set, as their ledgers recorded it (`roles.agreed`).
      generators: private checkpoints, by their path.
      shares: the regimes asked for.
      seed: of the split into validation and test.

    Returns:
      The parts; for each share its real training tiles and its generators.

    Raises:
      ConfigError: a regime has no generator, or a generator has no regime.
      InputError: a generator file has no ledger, or the tiles are not the ledger's.
      SplitError: a generator was trained on tiles of the test split.
    """
    roles = {path: _roles(path, loaded, tiles) for path, loaded in generators.items()}
    known = max((parts["train"] for parts in roles.values()), key=len)
    found: dict[float, tuple[TileSet, list[Path]]] = {}
    for path, parts in roles.items():
        strangers = np.setdiff1d(parts["train"].digests, known.digests)
        if len(strangers):
            raise SplitError(
                f"a generator may be trained on the training split alone: {path} was trained on "
                f"{len(strangers)} tiles outside it, which would be validation or test tiles here. "
                "Benchmark it by itself, or give `train_generator`."
            )
        share = _nearest(len(parts["train"]) / len(known), shares)
        if share is None:
            asked = ", ".join(f"{one:g}" for one in shares)
            raise ConfigError(
                f"a generator must be trained on a regime's own tiles: {path} was trained on "
                f"{len(parts['train'])} of {len(known)} known tiles "
                f"({len(parts['train']) / len(known):.2g}), and the regimes are {asked}. Correct "
                "`regimes`, or leave the generator out."
            )
        train, paths = found.setdefault(share, (parts["train"], []))
        if set(train.digests) != set(parts["train"].digests):
            raise ConfigError(
                f"the generators of one regime must share their training tiles: {path} and "
                f"{paths[0]} do not. Give one of them."
            )
        paths.append(path)
    missing = [f"{share:g}" for share in shares if share not in found]
    if missing:
        raise ConfigError(
            f"every regime needs a generator trained on its tiles alone: {', '.join(missing)} has "
            f"none, and a generator trained on more would carry real tiles in. Give one more "
            "`generators`, or `train_generator` FAMILY to train one for each regime."
        )
    seen = [
        parts[role] for parts in roles.values() for role in ("train", "siblings") if role in parts
    ]
    selected = [parts["reference"] for parts in roles.values() if "reference" in parts]
    outside = _without(tiles, seen)
    if selected:
        validation, test = _within(outside, selected), _without(outside, selected)
    else:
        test, validation = _favouring(outside, _VALIDATION_OUTSIDE, seed)
    return Parts(known=known, validation=validation, test=test), {
        share: (train, tuple(paths)) for share, (train, paths) in sorted(found.items())
    }


def _nearest(share: float, shares: Sequence[float]) -> float | None:
    best = min(shares, key=lambda asked: abs(asked - share))
    return best if abs(best - share) <= _SAME_SHARE * best else None


def _roles(path: Path, loaded: LoadedGenerator, tiles: TileSet) -> dict[str, TileSet]:
    if loaded.ledger is None:
        raise InputError(
            f"augment-bench needs private .pt checkpoints: {path} is a shareable generator file, "
            "which does not say which patients it was trained on."
        )
    return match(loaded.ledger, tiles).roles


def _patients(sets: Sequence[TileSet]) -> NDArray[np.str_]:
    return np.unique(np.concatenate([one.alike for one in sets]))


def _without(tiles: TileSet, sets: Sequence[TileSet]) -> TileSet:
    return tiles.subset(np.flatnonzero(~np.isin(tiles.alike, _patients(sets))))


def _within(tiles: TileSet, sets: Sequence[TileSet]) -> TileSet:
    return tiles.subset(np.flatnonzero(np.isin(tiles.alike, _patients(sets))))


def check_parts(regimes: Sequence[Regime], *, validation: TileSet, test: TileSet) -> None:
    """Refuse splits and synthetic tiles that would make the figures meaningless.

    Raises:
      InputError: a class is missing or unknown, or validation is empty.
      SplitError: parts share a patient, a picture or pixels, or synthetic tiles stand in one.
    """
    classes = regimes[-1].train.classes
    if len(classes) < 2:
        raise InputError(f"classifiers need 2 classes or more: the real tiles have {len(classes)}.")
    if len(validation) == 0:
        raise InputError("the validation split must hold tiles: got none. Split again.")
    for regime in regimes:
        where = f"training split of regime {regime.share:g}"
        _require_every_class(where, regime.train, classes, "Give a larger regime.")
        require_disjoint(train=regime.train, validation=validation, test=test)
        for source in regime.generators:
            _require_every_class(
                f"synthetic set {source.name}", source.tiles, classes, "Sample it, or leave it out."
            )
            _require_known(f"synthetic set {source.name}", source.tiles, classes)
            _require_apart(source, validation=validation, test=test)
        _require_different(regime)
    _require_every_class("test split", test, classes, "Split again, or leave the class out.")
    for name, tiles in (("validation split", validation), ("test split", test)):
        _require_known(name, tiles, classes)


def _require_every_class(name: str, tiles: TileSet, classes: Sequence[str], way: str) -> None:
    missing = sorted(set(classes) - set(tiles.classes))
    if missing:
        raise InputError(
            f"every class must be in the {name}: {', '.join(missing)} is missing. {way}"
        )


def _require_known(name: str, tiles: TileSet, classes: Sequence[str]) -> None:
    unknown = sorted(set(tiles.classes) - set(classes))
    if unknown:
        raise InputError(
            f"every class of the {name} must be among the training split's: {', '.join(unknown)} "
            f"is not ({', '.join(classes)} are). Correct the labels, or split again."
        )


def _require_different(regime: Regime) -> None:
    """Refuse one generator given twice: it would count as two that agree."""
    for first, second in combinations(regime.generators, 2):
        if np.array_equal(first.tiles.digests, second.tiles.digests):
            raise InputError(
                f"the generators of a regime must differ: {first.name} and {second.name} make the "
                "same tiles. Leave one out, or train one more with another seed."
            )


def _require_apart(source: GeneratorTiles, *, validation: TileSet, test: TileSet) -> None:
    for name, tiles in (("validation", validation), ("test", test)):
        told = tiles.digests[~tiles.featureless]  # blank glass is nobody's
        shared = np.intersect1d(source.tiles.digests, told)
        if len(shared):
            raise SplitError(
                f"synthetic tiles may not stand in the {name} split: {len(shared)} of "
                f"{source.name} do, pixel for pixel. The generator must be trained on the training "
                "split alone."
            )
