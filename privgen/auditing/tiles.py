"""The tiles of an audit: of a generator and its ledger, of folders, of arrays, of a function."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from privgen.checkpoints.roles import compare_given, match, opened_by
from privgen.data.blocks import in_blocks, native_side
from privgen.data.colour import Icc
from privgen.data.constant import Constants
from privgen.data.layouts import open_tiles
from privgen.data.tileset import TileSet
from privgen.errors import InputError
from privgen.sampling import LoadedGenerator

Pixels = NDArray[np.uint8]
RealSource = TileSet | Path | str
SyntheticSource = RealSource | Pixels | Callable[[int], Pixels]
OnBadTile = Literal["error", "skip"]


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
            "a shareable generator file does not say what it was trained on: give --train and "
            "--holdout, or the private .pt checkpoint."
        )
    opened = opened_by(generator.ledger, None if data is None else Path(data))
    found = match(generator.ledger, opened)
    found.require_disjoint_today()
    unlisted = [f"{found.unlisted} They were not audited."] if found.unlisted else []
    return found.roles, [*found.differences, *unlisted]


def given_tiles(
    sources: Mapping[str, RealSource | None],
    generator: LoadedGenerator | None,
    *,
    group_by: str | None,
    on_bad_tile: OnBadTile,
    icc: Icc,
) -> tuple[dict[str, TileSet], list[str]]:
    """The real tiles given role by role, and what limits them, in sentences.

    Args:
      sources: by role; None for a role that was not given.
      generator: that is audited; its ledger, if it has one, must not contradict the roles.
      group_by, on_bad_tile, icc: as `open_tiles`.

    Raises:
      InputError: train or holdout is missing, cannot be read, or the ledger says otherwise.
    """
    roles = {
        role: real_tiles(source, group_by, on_bad_tile, icc)
        for role, source in sources.items()
        if source is not None
    }
    for role in ("train", "holdout"):
        if role not in roles:
            raise InputError(f"an audit needs both --train and --holdout: --{role} is missing.")
    ledger = None if generator is None else generator.ledger
    return roles, [] if ledger is None else compare_given(ledger, roles)


def real_tiles(
    source: RealSource, group_by: str | None, on_bad_tile: OnBadTile, icc: Icc
) -> TileSet:
    if isinstance(source, TileSet):
        return source
    return open_tiles(
        Path(source), group_by=group_by, on_bad_tile=on_bad_tile, min_classes=1, icc=icc
    )


def synthetic_tiles(
    source: SyntheticSource, count: int, on_bad_tile: OnBadTile, icc: Icc = "ignore"
) -> TileSet:
    """Anybody's synthetic tiles.

    Args:
      source: a folder, a tile set, an array uint8 (n, h, w, 3), or a function of n that makes one.
      count: n, for a function.
      on_bad_tile, icc: as `open_tiles`.

    Raises:
      InputError: it cannot be read, or a function makes more or fewer tiles than it was asked for.
    """
    if isinstance(source, TileSet):
        return source
    if isinstance(source, str | Path):
        return open_tiles(Path(source), on_bad_tile=on_bad_tile, flat=True, icc=icc)
    if isinstance(source, np.ndarray):
        return TileSet.from_arrays(source, ["all"] * len(source))
    tiles = source(count)
    if not isinstance(tiles, np.ndarray):
        raise InputError(
            f"a function of n must return an array of n tiles: got {type(tiles).__name__}. Return "
            "uint8 of shape (n, h, w, 3)."
        )
    if len(tiles) != count:
        raise InputError(
            f"a function of n must return n tiles: asked for {count:,}, got {len(tiles):,}. Return "
            "as many, or ask for as many with count."
        )
    return TileSet.from_arrays(tiles, ["all"] * count)


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
