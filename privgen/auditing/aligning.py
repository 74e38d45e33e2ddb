"""How an audit's copy search is run: not at all, here, approximately, or by Dask workers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from privgen.auditing.requests import AuditOptions
from privgen.compute.dask import connect
from privgen.copysearch import distributed, searching
from privgen.copysearch.searching import NULL_TILES, Search
from privgen.data.tileset import TileSet
from privgen.evidence.copy_kinds import AUDITED_KINDS, KINDS
from privgen.evidence.planted_copies import PLANTED_PER_KIND

MOST_PAIRS = 5_000_000
"""Query tiles times tiles searched in, up to which an audit aligns unasked: about 5 minutes on two
cores."""

LEFT_OUT = (
    "Single copies were not looked for by key points, because that takes long with so many tiles: "
    "turned, cropped or blended copies may be missed. Ask for it with `align`, or `approximate`."
)


SAME_PATIENTS = (
    "No patients are known, so chance alignments are learned from tiles of the same patients too: "
    "they ask for better ones than they should, and copies may be missed. Name the patients."
)


def pairs(roles: Mapping[str, TileSet], synthetic: TileSet) -> int:
    """Query tiles times tiles searched in, over an audit's synthetic, planted and null tiles."""
    real = sum(len(tiles) for role, tiles in roles.items() if role != "reference")
    planted = PLANTED_PER_KIND * (len(KINDS) + 3 * len(AUDITED_KINDS)) // 4
    return (len(synthetic) + planted) * len(roles["train"]) + min(real, NULL_TILES) * real


@contextmanager
def opened_search(how: AuditOptions) -> Iterator[Search | None]:
    """The search to use, as long as it may be used; None where nothing is aligned.

    Args:
      how: with `align` decided.

    Raises:
      ConfigError: the scheduler cannot be used.
    """
    if not how.align:
        yield None
    elif how.scheduler is None:
        yield partial(searching.search, approximate=how.approximate)
    else:
        with connect(how.scheduler) as client:
            yield partial(distributed.search, client=client)
