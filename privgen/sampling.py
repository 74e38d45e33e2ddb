"""Sampling: image i depends on (generator, seed, i, label) alone.

Not on how many are asked for, in which order, or in which batch: each image draws its own latent
and noise (`privgen.training.draws`), and the network always runs on chunks of the same size with
image i at the same place, so that even rounding is the same. On one machine with one number of
threads tiles are equal bit for bit.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from privgen.data.images import write_png
from privgen.errors import CheckpointError, ConfigError
from privgen.files import empty_folder
from privgen.models import Generator, build_generator
from privgen.training.draws import Purpose, latents
from privgen.training.state import Ledger, load_generator_state

CHUNK = 32
"""Images the network runs on at a time; image i stands at place i % CHUNK."""

Balance = Literal["as-trained", "uniform"]


@dataclass(frozen=True, kw_only=True)
class LoadedGenerator:
    """A trained generator, ready to sample.

    Attributes:
      network: keeps the `Generator` protocol; in eval mode, float32.
      family: its name in `privgen.models.FAMILIES`.
      classes: names, in the order of the class numbers.
      class_share: share of each class as trained, adds up to 1.
      resolution: side of the tiles, pixels.
      kimg: thousand real tiles it was trained for.
      ledger: who was in training; None for a generator file.
    """

    network: torch.nn.Module
    family: str
    classes: tuple[str, ...]
    class_share: tuple[float, ...]
    resolution: int
    kimg: float = 0.0
    ledger: Ledger | None = None

    def generate(
        self,
        seed: int,
        indices: Sequence[int] | NDArray[np.intp],
        labels: Sequence[int] | NDArray[np.intp],
        *,
        purpose: Purpose = Purpose.SAMPLE,
    ) -> NDArray[np.uint8]:
        """The images at `indices`, each of the class asked for.

        Args:
          seed: of the sample.
          indices: which images of it, 0 or more, in any order, repeated or not; shape (n,).
          labels: class numbers, shape (n,).
          purpose: which family of draws; anything but the default is for the training loop.

        Returns:
          uint8, shape (n, resolution, resolution, 3).
        """
        tiles = np.empty((len(indices), self.resolution, self.resolution, 3), dtype=np.uint8)
        for rows in self._chunks(indices):
            places = np.array([int(indices[row]) % CHUNK for row in rows])
            asked = [int(indices[row]) for row in rows]
            chunk_labels = np.zeros(CHUNK, dtype=np.int64)
            chunk_labels[places] = [int(labels[row]) for row in rows]
            tiles[rows] = self._run(seed, asked, places, chunk_labels, purpose)[places]
        return tiles

    def _chunks(self, indices: Sequence[int] | NDArray[np.intp]) -> list[list[int]]:
        """Rows that run together: one chunk of the index line, each index at most once."""
        seen: dict[int, int] = defaultdict(int)
        chunks: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, index in enumerate(indices):
            chunks[int(index) // CHUNK, seen[int(index)]].append(row)
            seen[int(index)] += 1
        return list(chunks.values())

    @torch.no_grad()
    def _run(
        self,
        seed: int,
        indices: list[int],
        places: NDArray[np.intp],
        labels: NDArray[np.int64],
        purpose: Purpose,
    ) -> NDArray[np.uint8]:
        network = cast(Generator, self.network)
        device = next(self.network.parameters()).device
        drawn_z, drawn_noise = latents(
            seed, indices, purpose, z_dim=network.z_dim, noise_shapes=network.noise_shapes
        )
        z = torch.zeros(CHUNK, network.z_dim)
        z[places] = torch.from_numpy(drawn_z)
        noise = [torch.zeros(CHUNK, *shape) for shape in network.noise_shapes]
        for whole, part in zip(noise, drawn_noise, strict=True):
            whole[places] = torch.from_numpy(part)
        tiles = network(
            z.to(device), torch.from_numpy(labels).to(device), [m.to(device) for m in noise]
        )
        scaled = ((tiles.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return np.asarray(scaled.permute(0, 2, 3, 1).cpu().numpy())


def load_generator(path: Path, *, device: str = "cpu") -> LoadedGenerator:
    """Read a checkpoint, a run folder or a generator file, told by content, not by name.

    Raises:
      CheckpointError: none of them, damaged, of another version, or of an unknown family.
    """
    state = load_generator_state(path)
    try:
        network = build_generator(state.config, len(state.classes))
        network.load_state_dict(state.tensors)
    except (ConfigError, RuntimeError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise CheckpointError(
            f"{path} does not fit generator family {state.config.family!r}: {reason}"
        ) from error
    return LoadedGenerator(
        network=network.eval().requires_grad_(False).to(device),
        family=state.config.family,
        classes=state.classes,
        class_share=state.class_share,
        resolution=state.config.resolution,
        kimg=state.kimg,
        ledger=state.ledger,
    )


def label_numbers(
    generator: LoadedGenerator, indices: Sequence[int] | NDArray[np.intp], *, balance: Balance
) -> NDArray[np.intp]:
    """Class number of each image, a function of its index alone, shape (n,).

    "uniform" takes the classes in turns. "as-trained" follows the golden-ratio sequence through the
    classes' shares, so that the counts of any first n images stay within a few of the exact shares.

    Raises:
      ConfigError: an unknown balance.
    """
    numbers = np.asarray(indices, dtype=np.uint64)
    classes = len(generator.classes)
    if balance == "uniform":
        return (numbers % np.uint64(classes)).astype(np.intp)
    if balance != "as-trained":
        raise ConfigError(f"balance must be as-trained or uniform: got {balance!r}")
    golden = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio; multiplication wraps around
    place = (numbers * golden).astype(np.float64) / 2.0**64
    edges = np.cumsum(generator.class_share)[:-1]
    return np.searchsorted(edges, place, side="right").astype(np.intp)


def iterate(
    generator: LoadedGenerator,
    count: int,
    *,
    seed: int,
    balance: Balance = "as-trained",
    start: int = 0,
    block: int = 16 * CHUNK,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.str_]]]:
    """Images `start` .. `start + count - 1` of a sample, a block at a time, in bounded memory.

    Yields:
      tiles, uint8 (b, r, r, 3), and their class names, shape (b,).
    """
    names = np.array(generator.classes)
    for first in range(start, start + count, block):
        indices = np.arange(first, min(first + block, start + count))
        labels = label_numbers(generator, indices, balance=balance)
        yield generator.generate(seed, indices, labels), names[labels]


def sample(
    generator: LoadedGenerator, count: int, *, seed: int, balance: Balance = "as-trained"
) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """The first `count` images of the sample `seed`.

    Returns:
      tiles, uint8 (n, r, r, 3), and their class names, shape (n,).
    """
    tiles = np.empty((count, generator.resolution, generator.resolution, 3), dtype=np.uint8)
    labels = np.empty(count, dtype=np.array(generator.classes).dtype)
    done = 0
    for block_tiles, block_labels in iterate(generator, count, seed=seed, balance=balance):
        tiles[done : done + len(block_tiles)] = block_tiles
        labels[done : done + len(block_tiles)] = block_labels
        done += len(block_tiles)
    return tiles, labels


def write_samples(
    generator: LoadedGenerator,
    folder: Path,
    *,
    count: int,
    seed: int,
    balance: Balance = "as-trained",
) -> dict[str, int]:
    """Write a sample as PNG in class folders: `folder/TUM/000123.png` is image 123.

    Args:
      generator: any.
      folder: empty or new.
      count: images, 1 or more.
      seed, balance: as `sample`.

    Returns:
      How many of each class.

    Raises:
      OutputError: `folder` is not empty or cannot be written.
      DiskFullError: no space is left.
    """
    empty_folder(folder)
    made = dict.fromkeys(generator.classes, 0)
    for label in made:
        (folder / label).mkdir()
    index = 0
    for tiles, labels in iterate(generator, count, seed=seed, balance=balance):
        for tile, label in zip(tiles, labels, strict=True):
            write_png(folder / str(label) / f"{index:06d}.png", tile)
            made[str(label)] += 1
            index += 1
    for label, tiles_made in made.items():
        if tiles_made == 0:
            (folder / label).rmdir()
    return made
