"""Planted copies as the audit needs them: embedded, and aligned, like synthetic tiles.

Source: METHODS.md 3.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from audits import Planted
from privgen import console
from privgen.data.balance import spread
from privgen.data.tileset import TileSet
from privgen.evidence.alignment import Alignments
from privgen.evidence.descriptors import describe
from privgen.evidence.encoders import Encoder
from privgen.evidence.fingerprints import Searched, as_aligned
from privgen.evidence.orbit import Whitening, embed_orbit, fingerprint
from privgen.evidence.plants import AUDITED_KINDS, plant

PLANTED_PER_KIND = 60
"""Most planted copies of each kind a policy asks for by default, half as many of the others; each
costs 8 embeddings, and a search where tiles are aligned."""

_PARTNERS = 60


def planted_copies(
    train: TileSet,
    means: NDArray[np.float32],
    fingerprints: NDArray[np.str_],
    *,
    encoder: Encoder,
    whitening: Whitening,
    side: int,
    kinds: Sequence[str],
    count: int,
    seed: int,
    search: Callable[[Searched], Alignments] | None,
) -> dict[str, Planted]:
    """Copies of the same train tiles by every kind; only altered pixels are embedded again.

    Args:
      train: n tiles.
      means: their orbit means before whitening, shape (n, d).
      fingerprints: theirs, shape (n,); "" for featureless tiles, which are not copied.
      encoder, whitening, side: of the audit.
      kinds: of `plants.KINDS`; which others there are changes nothing about a kind.
      count: most copies of each of `plants.AUDITED_KINDS`, half as many (at least 1) of the others;
        spread over the patients.
      seed: of sources and alterations.
      search: among the train tiles; None aligns nothing.
    """
    rng = np.random.default_rng(seed)
    textured = np.flatnonzero(fingerprints != "")
    drawn = spread(train.groups, textured, count, rng)
    tiles = train.subset(drawn).load(side)
    partners = train.subset(rng.permutation(textured)[:_PARTNERS]).load(side)
    planted = {}
    with console.progress() as bars:
        task = bars.add_task("planting copies", total=len(kinds))
        for kind in kinds:
            # Every second tile, as those of one patient may stand side by side.
            kept = slice(None, None, 1 if kind in AUDITED_KINDS else 2)
            sources, originals = drawn[kept], tiles[kept]
            stream = np.random.default_rng([seed, *kind.encode()])
            copies = plant(kind, originals, stream, partners=partners)
            altered = np.flatnonzero((copies != originals).any(axis=(1, 2, 3)))
            mean = means[sources]
            if len(altered):
                mean[altered] = embed_orbit(encoder, copies[altered]).mean
            embeddings = whitening.apply(mean)
            aligned = None
            if search is not None:
                ready = Searched(descriptors=describe(copies), embeddings=embeddings)
                aligned = as_aligned(search(ready))
            planted[kind] = Planted(
                embeddings=embeddings,
                sources=sources,
                fingerprints=np.array([fingerprint(tile) for tile in copies], dtype="<U64"),
                aligned=aligned,
            )
            bars.advance(task)
    return planted
