"""From tiles to what the audit is given.

Every role is brought to one side, embedded the same way (orbit mean, whitened by one fit on all
roles together) and fingerprinted; known copies of train tiles are planted beside them. Tiles are
read in blocks, so memory holds embeddings, never all pixels.

The plain embedding, which the Frechet distance needs, falls out of the same pass: no tile is
embedded twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from audits import Alignment, AuditData, Tiles
from privgen.choices import Harmonise
from privgen.copysearch.descriptors import Descriptors, concatenate, describe
from privgen.copysearch.marks import SAMPLE, Marks
from privgen.copysearch.searching import Search, Searched, join, verify
from privgen.data.balance import spread
from privgen.data.blocks import in_blocks, native_side
from privgen.data.owners import GROUP_UNITS
from privgen.data.tileset import TileSet
from privgen.encoders.cache import EmbeddingCache, embed_cached
from privgen.encoders.loading import Encoder
from privgen.encoders.orbit import Whitening, fingerprint
from privgen.errors import InputError
from privgen.evidence.copy_kinds import AUDITED_KINDS, KINDS
from privgen.evidence.planted_copies import PLANTED_PER_KIND, AuditLook, CopySources, planted_copies
from privgen.phases import phase
from privgen.pipelines.decision import Pipeline, inspect

REQUIRED, OPTIONAL = ("train", "holdout", "synthetic"), ("siblings", "reference")
"""Roles of an audit."""

FIDELITY_ROLES = ("train", "holdout", "synthetic")
"""Roles a fidelity metric compares."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything `audits.audit` needs.

    Attributes:
      data: whitened orbit-mean embeddings, fingerprints and planted copies.
      features: the encoder's name, and for each role its plain outputs, shape (n, d).
      side: pixels per side at which every role was looked at.
      pipeline: by which ways the roles became pixels, and what was done about it.
      look: how every tile was looked at.
      searched: the roles as they were aligned, for pictures of single pairs; empty where none were.
    """

    data: AuditData
    features: Mapping[str, Mapping[str, NDArray[np.float32]]]
    side: int
    pipeline: Pipeline
    look: AuditLook
    searched: Mapping[str, Searched] = field(default_factory=dict)

    def harmonised(self, tiles: TileSet) -> TileSet:
        """The same tiles as they were embedded, for whatever else compares roles by their looks."""
        return _through(tiles, self.pipeline)


@dataclass(frozen=True)
class _Embedded:
    """One role, row by row: plain and orbit-mean embeddings, fingerprints, key points in blocks."""

    plain: NDArray[np.float32]
    mean: NDArray[np.float32]
    fingerprints: NDArray[np.str_]
    descriptors: list[Descriptors]


def collect(
    *,
    encoder: Encoder,
    seed: int,
    side: int | None = None,
    search: Search | None = None,
    cache: EmbeddingCache | None = None,
    planted_per_kind: int = PLANTED_PER_KIND,
    harmonise: Harmonise = "auto",
    **given: TileSet | None,
) -> Evidence:
    """Gather the evidence of one audit.

    Roles whose files went through different codings or scalings are brought to one pipeline before
    they are embedded (`pipeline.py`). Fingerprints and key points are taken from the tiles as they
    are: what is equal or aligned is a copy, whatever became of it.

    Roles of different resolution are made comparable by scaling all of them to one side, since
    sharpness alone would tell them apart. Scaling is a function of a tile's pixels, so a synthetic
    tile equal to a train tile at its own size is still equal after it. A turned one is, too, as
    long as the synthetic tiles need no scaling: the rounding is not the same along rows and
    columns.

    Args:
      encoder: embeds every tile.
      seed: of the planted copies.
      side: pixels per side; None takes the smallest tile there is.
      search: align tiles with the candidates this finds, so that single copies can be proven, and
        plant every kind of copy; this costs more than embedding does. None aligns nothing.
      cache: keeps embeddings for the next audit, and takes from there what it has.
      planted_per_kind: most planted copies of each kind, spread over the train patients.
      harmonise: "auto", or "off" to embed the tiles as they are and say where that misleads.
      given: tiles by role: train, holdout and synthetic, and where there are any siblings and
        reference; an empty one of these two counts as absent.

    Raises:
      InputError: a required role is empty, or the tiles cannot be embedded.
      audits.AuditInputError: train shares a patient or a tile with holdout or reference.

    Source: docs/methods.md#symmetries-and-whitening, docs/methods.md#power.
    """
    roles = _present(given)
    side = side or min(native_side(tiles) for tiles in roles.values())
    with phase("looking for traces of files and scaling"):
        pipeline = inspect(roles, side=side, harmonise=harmonise)
    embedded = {
        role: _embed(
            encoder,
            cache,
            tiles,
            _through(tiles, pipeline),
            side,
            role,
            describing=search is not None and role != "reference",
        )
        for role, tiles in roles.items()
    }
    with phase("whitening"):
        whitening = Whitening.fit(np.concatenate([found.mean for found in embedded.values()]))
    judged = {role: _tiles(role, tiles, embedded[role], whitening) for role, tiles in roles.items()}
    searched = _searched(embedded, judged, seed) if search else {}
    look = AuditLook(encoder=encoder, whitening=whitening, side=side, step=pipeline.step)
    planted = planted_copies(
        CopySources(
            tiles=roles["train"],
            means=embedded["train"].mean,
            fingerprints=embedded["train"].fingerprints,
        ),
        roles["holdout"],
        look,
        kinds=KINDS if search else AUDITED_KINDS,
        count=planted_per_kind,
        seed=seed,
        search=partial(search, base=searched["train"]) if search else None,
    )
    data = AuditData(
        train=judged["train"],
        holdout=judged["holdout"],
        synthetic=judged["synthetic"],
        siblings=judged.get("siblings"),
        reference=judged.get("reference"),
        planted=planted,
        alignment=_verified(searched, judged, seed, search) if search else None,
        encoder=encoder.name,
        group_unit=_weakest_unit(roles),
        pipeline=pipeline.measured,
        confounded=pipeline.confounded,
    )
    features = {role: found.plain for role, found in embedded.items()}
    return Evidence(
        data=data,
        features={encoder.name: features},
        side=side,
        pipeline=pipeline,
        look=look,
        searched=searched,
    )


def _tiles(role: str, tiles: TileSet, embedded: "_Embedded", whitening: Whitening) -> Tiles:
    """One role as `audits` takes it."""
    alone = tiles.group_unit == "tile"
    return Tiles(
        role,
        whitening.apply(embedded.mean),
        labels=tiles.labels,
        patients=None if alone else tiles.groups,
        slides=None if alone else tiles.slides,
        fingerprints=embedded.fingerprints,
        barcodes=tiles.group_unit == "patient",
        content=tiles.digests,
    )


def _present(given: Mapping[str, TileSet | None]) -> dict[str, TileSet]:
    """The roles that hold tiles, in their order.

    Raises:
      InputError: a required one is missing or empty.
    """
    roles: dict[str, TileSet] = {}
    for role in REQUIRED:
        tiles = given.get(role)
        if tiles is None or not len(tiles):
            raise InputError(f"an audit needs {role} tiles: got none. Add some.")
        roles[role] = tiles
    for role in OPTIONAL:
        tiles = given.get(role)
        if tiles is not None and len(tiles):
            roles[role] = tiles
    if unknown := given.keys() - {*REQUIRED, *OPTIONAL}:
        raise InputError(f"an audit has no role {', '.join(sorted(unknown))}.")
    return roles


def _through(tiles: TileSet, pipeline: Pipeline) -> TileSet:
    return tiles if pipeline.step is None else replace(tiles, through=pipeline.step)


def _searched(
    embedded: Mapping[str, "_Embedded"], judged: Mapping[str, Tiles], seed: int
) -> dict[str, Searched]:
    """Every role ready for the fingerprint search, and marks to be told among the train tiles."""
    searched = {
        role: Searched(
            descriptors=concatenate(found.descriptors),
            embeddings=judged[role].embeddings,
            groups=None if role == "synthetic" else judged[role].patients,
        )
        for role, found in embedded.items()
        if found.descriptors
    }
    real = join([found for role, found in searched.items() if role != "synthetic"])
    assert real.groups is not None
    rng = np.random.default_rng([seed, 2])
    shown = spread(real.groups, np.arange(len(real)), SAMPLE, rng)
    marks = Marks(real.descriptors.patches[shown], real.groups[shown])
    return searched | {"train": replace(searched["train"], marks=marks)}


def _verified(
    searched: Mapping[str, Searched], judged: Mapping[str, Tiles], seed: int, search: Search
) -> Alignment:
    real = [role for role in ("train", "siblings", "holdout") if role in searched]
    prints = [judged[role].fingerprints for role in real]
    return verify(
        synthetic=searched["synthetic"],
        train=searched["train"],
        real=join([searched[role] for role in real]),
        real_fingerprints=np.concatenate([marks for marks in prints if marks is not None]),
        rng=np.random.default_rng([seed, 1]),
        search=search,
    )


def plain_features(
    encoder: Encoder, roles: Mapping[str, TileSet], synthetic: TileSet, *, side: int
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """A further encoder's plain outputs, for fidelity alone: no symmetries, no whitening.

    Args:
      encoder: usually `inception_fid`.
      roles: the real roles; only those in `FIDELITY_ROLES` are embedded.
      synthetic: the synthetic tiles.
      side: the audit's side, so that every encoder sees the same tiles.

    Returns:
      Its name, and for each role an array of shape (n, d).
    """
    every = {**roles, "synthetic": synthetic}
    features = {}
    for role in FIDELITY_ROLES:
        tiles = every[role]
        features[role] = np.empty((len(tiles), encoder.width), dtype=np.float32)

        def keep(rows: slice, pixels: NDArray[np.uint8], role: str = role) -> None:
            features[role][rows] = encoder.embed(pixels)

        in_blocks(tiles, side, f"{encoder.name}: {role}", keep)
    return {encoder.name: features}


def _embed(
    encoder: Encoder,
    cache: EmbeddingCache | None,
    tiles: TileSet,
    harmonised: TileSet,
    side: int,
    role: str,
    *,
    describing: bool,
) -> _Embedded:
    """One role: embedded as harmonised, fingerprinted and described as it is."""
    plain = np.empty((len(tiles), encoder.width), dtype=np.float32)
    mean = np.empty_like(plain)
    fingerprints = np.zeros(len(tiles), dtype="<U64")
    descriptors: list[Descriptors] = []

    def keep(rows: slice, pixels: NDArray[np.uint8]) -> None:
        changed = pixels
        if harmonised is not tiles:
            changed = harmonised.subset(np.arange(rows.start, rows.stop)).load(side)
        found = embed_cached(encoder, changed, orbit=True, cache=cache)
        plain[rows], mean[rows] = found.plain, found.mean
        fingerprints[rows] = [fingerprint(tile) for tile in pixels]
        if describing:
            descriptors.append(describe(pixels))

    in_blocks(tiles, side, f"embedding {role}", keep)
    return _Embedded(plain, mean, fingerprints, descriptors)


def _weakest_unit(roles: Mapping[str, TileSet]) -> str:
    """The weakest grouping among the real roles: a tile where any of them names no patients."""
    units = [tiles.group_unit for role, tiles in roles.items() if role != "synthetic"]
    return max(units, key=GROUP_UNITS.index)
