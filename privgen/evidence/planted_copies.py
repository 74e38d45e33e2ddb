"""Planted copies as the audit needs them: embedded, and aligned, like synthetic tiles.

Source: docs/methods.md#power.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audits import Aligned, Planted
from privgen.copysearch.alignment import Alignments
from privgen.copysearch.descriptors import Descriptors, concatenate, describe
from privgen.copysearch.searching import Searched, as_aligned
from privgen.data.balance import spread
from privgen.data.tileset import TileSet
from privgen.encoders.loading import Encoder
from privgen.encoders.orbit import Whitening, embed_orbit, fingerprint
from privgen.evidence.copy_kinds import AUDITED_KINDS, plant
from privgen.phases import phase
from privgen.pipelines.harmonise import Step

PLANTED_PER_KIND = 60
"""Most planted copies of each kind a policy asks for by default, a quarter of the others; each
costs 8 embeddings, and a search where tiles are aligned."""

_PARTNERS = 60


@dataclass(frozen=True, kw_only=True)
class AuditLook:
    """How the tiles of an audit are looked at.

    Attributes:
      encoder, whitening: that embed them.
      side: pixels per side.
      step: what all tiles went through before they were embedded.
    """

    encoder: Encoder
    whitening: Whitening
    side: int
    step: Step | None


@dataclass(frozen=True, kw_only=True, eq=False)
class CopySources:
    """Train tiles to make copies of.

    Attributes:
      tiles: n tiles.
      means: their orbit means before whitening, shape (n, d).
      fingerprints: theirs, shape (n,); "" for featureless tiles, which are not copied.
    """

    tiles: TileSet
    means: NDArray[np.float32]
    fingerprints: NDArray[np.str_]


def planted_copies(
    train: CopySources,
    partners: TileSet,
    look: AuditLook,
    *,
    kinds: Sequence[str],
    count: int,
    seed: int,
    search: Callable[[Searched], Alignments] | None,
) -> dict[str, Planted]:
    """Copies of the same train tiles by every kind; only altered pixels are embedded again.

    Where tiles are aligned, only `plants.AUDITED_KINDS` are embedded: the others are for alignment
    to find, and eight embeddings per copy would tell little more. Their power is then at least what
    the report says.

    Args:
      train: what is copied.
      partners: what blends are blended with, tiles of other patients: with a train tile for the
        other half, either half would prove a copy.
      look: how the audit looks at tiles.
      kinds: of `plants.KINDS`; which others there are changes nothing about a kind.
      count: most copies of each of `plants.AUDITED_KINDS`, a quarter (at least 1) of the others;
        spread over the patients.
      seed: of sources and alterations.
      search: among the train tiles; None aligns nothing.
    """
    side, step, whitening = look.side, look.step, look.whitening
    rng = np.random.default_rng(seed)
    means = train.means
    textured = np.flatnonzero(train.fingerprints != "")
    drawn = spread(train.tiles.groups, textured, count, rng)
    tiles = train.tiles.subset(drawn).load(side)
    others = partners.subset(np.sort(rng.permutation(len(partners))[:_PARTNERS])).load(side)
    planted, described = {}, []
    with phase("planting copies", total=len(kinds)) as planting:
        for kind in kinds:
            # Every fourth tile, as those of one patient may stand side by side.
            kept = slice(None, None, 1 if kind in AUDITED_KINDS else 4)
            sources, originals = drawn[kept], tiles[kept]
            stream = np.random.default_rng([seed, *kind.encode()])
            copies = plant(kind, originals, stream, partners=others)
            embeddings = None
            if search is None or kind in AUDITED_KINDS:
                altered = np.flatnonzero((copies != originals).any(axis=(1, 2, 3)))
                mean = means[sources]
                if len(altered):
                    looked = copies[altered] if step is None else step.apply(copies[altered])
                    mean[altered] = embed_orbit(look.encoder, looked).mean
                embeddings = whitening.apply(mean)
            planted[kind] = Planted(
                embeddings=embeddings,
                sources=sources,
                fingerprints=np.array([fingerprint(tile) for tile in copies], dtype="<U64"),
            )
            if search is not None:
                described.append(describe(copies))
            planting.advance()
    width = whitening.apply(means[:1]).shape[1]
    return planted if search is None else _aligned(planted, described, search, width)


def _aligned(
    planted: Mapping[str, Planted],
    described: Sequence[Descriptors],
    search: Callable[[Searched], Alignments],
    width: int,
) -> dict[str, Planted]:
    """The same, aligned: all kinds in one search, whose base is made ready once."""
    unknown = np.zeros((1, width), dtype=np.float32)
    embeddings = np.concatenate(
        [
            np.repeat(unknown, len(copies.sources), axis=0)
            if copies.embeddings is None
            else copies.embeddings
            for copies in planted.values()
        ]
    )
    found = as_aligned(search(Searched(descriptors=concatenate(described), embeddings=embeddings)))
    ends = np.cumsum([len(each) for each in described])
    parts = (
        np.split(values, ends)
        for values in (found.inliers, found.strength, found.marked, found.featureless)
    )
    return {
        kind: replace(copies, aligned=Aligned(inliers=i, strength=s, marked=m, featureless=f))
        for (kind, copies), i, s, m, f in zip(planted.items(), *parts, strict=False)
    }
