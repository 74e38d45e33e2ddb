"""The exact search dealt to Dask workers: the same bits as from one process.

Each tile is searched for itself, so the queries are cut into blocks, and every worker has the whole
base. Searches use all cores of a worker, so one thread per worker is best. What workers are sent is
as private as the tiles: embeddings, key points and small density pictures. Keep them inside the
house.

Source: docs/methods.md#exact-search, docs/methods.md#alignment.
"""

from dataclasses import fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from privgen.compute.dask import Deal
from privgen.copysearch import searching
from privgen.copysearch.alignment import Alignments
from privgen.copysearch.searching import Searched

if TYPE_CHECKING:
    from distributed import Client

_TILES = 64


def search(
    queries: Searched, base: Searched, *, other_groups: bool = False, client: "Client"
) -> Alignments:
    """The exact `searching.search`, to the bit, by the workers of `client`.

    Args:
      queries: n tiles.
      base: tiles searched in; each worker holds all of them.
      other_groups: leave tiles of the query's own group out, as for the null.
      client: from `compute.dask.connect`.

    Raises:
      RuntimeFailure: workers were lost and none came in their place.
    """
    queries = replace(queries, marks=None)  # those of the base count, and are not sent twice
    parts = Deal(
        work=_search_tiles,
        base=(base, other_groups),
        blocks=_cut(len(queries), -(-len(queries) // _TILES)),
        queries=lambda rows: queries.subset(np.arange(rows.start, rows.stop)),
    ).results(client)
    arrays: dict[str, Any] = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Alignments)
        if field.name != "recall"  # of approximate searches alone
    }
    return Alignments(**arrays)


def _search_tiles(queries: Searched, base: tuple[Searched, bool]) -> Alignments:
    return searching.search(queries, base[0], other_groups=base[1])


def _cut(rows: int, count: int) -> list[slice]:
    """`count` pieces of nearly equal length, one empty piece where count is 0."""
    ends = [rows * piece // (count or 1) for piece in range((count or 1) + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]
