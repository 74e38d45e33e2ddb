"""The tiles of an audit: of a generator and its ledger, of folders, of arrays, of a function."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from privgen.auditing.requests import DEFAULT_COUNT, AuditSubject, TilesAudit
from privgen.auditing.sampler import drawn
from privgen.checkpoints.roles import compare_given, match, opened_by
from privgen.data.blocks import in_blocks, native_side
from privgen.data.constant import Constants
from privgen.data.sources import open_source
from privgen.data.tileset import TileSet
from privgen.errors import InputError
from privgen.sampling import LoadedGenerator


def from_ledger(
    generator: LoadedGenerator, data: Path | str | None
) -> tuple[dict[str, TileSet], list[str]]:
    """The real tiles that a generator's ledger names, and what limits them, in sentences.

    Args:
      generator: from a private checkpoint.
      data: where the training data are now, when they have moved.

    Raises:
      InputError: there is no ledger, or the data are not those it names.
      SplitError: the data set by now puts a patient on both sides.
    """
    if generator.ledger is None:
        raise InputError(
            "a shareable generator file does not say what it was trained on: give `train` and "
            "`holdout`, or the private .pt checkpoint."
        )
    opened = opened_by(generator.ledger, None if data is None else Path(data))
    found = match(generator.ledger, opened)
    found.require_disjoint_today()
    unlisted = [f"{found.unlisted} They were not audited."] if found.unlisted else []
    return found.roles, [*found.differences, *unlisted]


def given_tiles(
    request: AuditSubject, generator: LoadedGenerator | None
) -> tuple[dict[str, TileSet], list[str]]:
    """The real tiles given role by role, and what limits them, in sentences.

    Args:
      request: names them.
      generator: that is audited; its ledger, if it has one, must not contradict the roles.

    Raises:
      InputError: a source cannot be read, or the ledger says otherwise.
    """
    roles = {
        role: open_source(
            source,
            role,
            group_by=request.group_by,
            on_bad_tile=request.on_bad_tile,
            icc=request.icc,
        )
        for role, source in request.roles.items()
        if source is not None
    }
    ledger = None if generator is None else generator.ledger
    return roles, [] if ledger is None else compare_given(ledger, roles)


@contextmanager
def synthetic_tiles(request: TilesAudit, seed: int) -> Iterator[TileSet]:
    """Anybody's synthetic tiles, as long as they are needed: a sampler's are removed afterwards.

    Args:
      request: names any `data.sources.Source`, a function of n that makes an array, or a sampler.
      seed: for a sampler.

    Raises:
      InputError: they cannot be read, or a function or sampler makes another number of tiles.
    """
    source = request.synthetic
    count = DEFAULT_COUNT if request.count is None else request.count
    if request.sampler is not None:
        program = drawn(
            request.sampler,
            count=count,
            seed=seed,
            on_bad_tile=request.on_bad_tile,
            icc=request.icc,
        )
        with program as tiles:
            yield tiles
    elif callable(source) and not hasattr(source, "__len__"):
        yield _made(source, count)
    else:
        yield open_source(
            source, "synthetic", on_bad_tile=request.on_bad_tile, flat=True, icc=request.icc
        )


def _made(source: Callable[[int], Any], count: int) -> TileSet:
    made = source(count)
    if not hasattr(made, "shape"):
        raise InputError(
            f"a function of n must return an array of n tiles: got {type(made).__name__}. Return "
            "uint8 of shape (n, h, w, 3)."
        )
    if len(made) != count:
        raise InputError(
            f"a function of n must return n tiles: asked for {count:,}, got {len(made):,}. Return "
            "as many, or ask for as many with `count`."
        )
    return open_source(made, "synthetic")


def constants_of(tiles: TileSet) -> list[str]:
    """Look for constant tiles among synthetic ones; a sentence for the report where there are any.

    Raises:
      InputError: a class is constant, so that nothing could be said of it.
    """
    if not len(tiles):
        return []
    found = Constants()
    in_blocks(
        tiles,
        native_side(tiles),
        "looking at synthetic tiles",
        lambda rows, pixels: found.add(pixels, tiles.labels[rows]),
    )
    found.refuse()
    return [found.sentence()] if found.count else []
