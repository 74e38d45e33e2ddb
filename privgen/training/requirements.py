"""What must hold before the first step: of the tiles, and of a checkpoint to go on from."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from privgen import console
from privgen.checkpoints.ledger import (
    Ledger,
)
from privgen.checkpoints.state import (
    Checkpoint,
)
from privgen.config import TrainConfig
from privgen.data.canaries import Canaries
from privgen.data.tileset import TileSet
from privgen.errors import CheckpointError, ConfigError, LayoutError

_LISTED = 4


def training_arrays(
    tiles: TileSet, config: TrainConfig, canaries: Canaries | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Tiles at the training resolution, uint8 (n, r, r, 3), and their class numbers, shape (n,).

    Tiles of artificial canaries in training follow the real ones.

    A class with fewer tiles than a step shows is allowed and warned about: a generator that sees
    the same few tiles at every step learns them by heart first.

    Raises:
      LayoutError: a class has fewer than two tiles; tiles are smaller than the resolution; or they
        differ in shape.
    """
    labels = np.searchsorted(np.array(tiles.classes), tiles.labels)
    counts = dict(zip(tiles.classes, np.bincount(labels).tolist(), strict=True))
    for name, count in counts.items():
        if count < 2:
            raise LayoutError(
                f"every class needs two training tiles: {name} has {count}. "
                "Add tiles of it or leave the class out."
            )
    few = {name: count for name, count in counts.items() if count < config.batch}
    if few:
        listed = ", ".join(f"{name} {count}" for name, count in list(few.items())[:_LISTED])
        more = f" and {len(few) - _LISTED} more" if len(few) > _LISTED else ""
        console.warn(
            f"classes with fewer training tiles than the batch of {config.batch} are easily learnt "
            f"by heart: {listed}{more}. Add tiles, lower `batch`, or read the audit by class."
        )
    _require_one_shape(tiles, config.resolution)
    pixels = tiles.load(config.resolution)
    if canaries is None or canaries.kind == "real":
        return pixels, labels
    painted, theirs = canaries.training_tiles()
    return np.concatenate([pixels, painted]), np.concatenate([labels, theirs])


def _require_one_shape(tiles: TileSet, resolution: int) -> None:
    shapes: dict[tuple[int, int], str] = {}
    for record in tiles.records:
        width, height = record.width or resolution, record.height or resolution
        if min(width, height) < resolution:
            raise LayoutError(
                f"tiles must be at least as large as the resolution, {resolution} px: "
                f"{record.path} is {width}x{height}. Give a lower `resolution`."
            )
        shapes.setdefault((width, height), record.path)
    if len(shapes) > 1:
        (first, one), (second, other) = list(shapes.items())[:2]
        raise LayoutError(
            "tiles to train on must have one shape, or tissue would be scaled differently from "
            f"tile to tile: {one} is {first[0]}x{first[1]}, {other} is {second[0]}x{second[1]}. "
            "Tile again at one size, or train on each size apart."
        )


def same_run(
    checkpoint: Checkpoint, config: TrainConfig, tiles: TileSet, ledger: Ledger
) -> TrainConfig:
    """The configuration to go on with: the one given, with the run's own threads and precision.

    Raises:
      ConfigError: it differs from the checkpoint's; the keys are listed.
      CheckpointError: the checkpoint is of other classes, other tiles or another split.
    """
    if config.threads == 0:
        config = replace(config, threads=checkpoint.config.threads)
    if config.precision == "auto":
        config = replace(config, precision=checkpoint.config.precision)
    if checkpoint.config.family != config.family:
        raise CheckpointError(
            f"the checkpoint holds a {checkpoint.config.family} generator: got `family` "
            f"{config.family}. Leave `family` out, or start a new run."
        )
    changed = checkpoint.config.differences(config)
    if changed:
        raise ConfigError(
            f"a resumed run must keep its configuration; changed: {'; '.join(changed)}. "
            "Take these back, or start a new run."
        )
    if checkpoint.classes != tiles.classes:
        raise CheckpointError(
            f"the checkpoint was trained on classes {', '.join(checkpoint.classes)}, the tiles "
            f"have {', '.join(tiles.classes)}. Give the tiles it was trained on."
        )
    canaries = checkpoint.ledger.canaries
    if canaries is not None and canaries.kind == "artificial":
        if canaries.classes != tiles.classes:
            raise CheckpointError(
                f"the checkpoint's artificial patients are of classes {', '.join(canaries.classes)}"
                f", the tiles have {', '.join(tiles.classes)}. Give the tiles it was trained on."
            )
        if not canaries.as_painted:
            raise CheckpointError(
                "the checkpoint's artificial patients are painted otherwise here than where it was "
                "trained, by another version. Go on there, or start a new run."
            )
    if (checkpoint.ledger.entries, checkpoint.ledger.canaries) != (ledger.entries, ledger.canaries):
        raise CheckpointError(
            "the checkpoint was trained on other tiles than those given, or on another split. "
            "Give the tiles it was trained on, or start a new run."
        )
    return config
