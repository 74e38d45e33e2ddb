"""Sampling: image i depends on (generator, seed, i, label) alone.

Not on how many are asked for, in which order, or in which batch: each image draws its own latent
and noise (`privgen.draws`), and the network always runs on chunks of the same size with
image i at the same place, so that even rounding is the same. On one machine with one number of
threads tiles are equal bit for bit.

Truncation psi trades diversity for typical tiles (Karras et al. 2019, "A style-based generator
architecture for generative adversarial networks", section 2.1): psi 1 leaves the generator as it
was trained, psi 0 gives the mean of a class. It makes no leak smaller, and an audit speaks only of
tiles drawn with the psi it was given.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from privgen.checkpoints.ledger import (
    Ledger,
)
from privgen.checkpoints.seal import weights_digest
from privgen.checkpoints.state import (
    GeneratorState,
    load_generator_state,
)
from privgen.choices import Balance
from privgen.draws import Purpose, latents
from privgen.errors import CheckpointError, ConfigError, RuntimeFailure
from privgen.limits import shown, told
from privgen.models import SHIPPED, Generator, StyleGenerator, build_generator

CHUNK = 32
"""Images the network runs on at a time; image i stands at place i % CHUNK."""

MEAN_LATENTS = 4096
"""Latents the mean style of a class is averaged over."""


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
      artificial: artificial patients it was trained on, which its tiles may show.
    """

    network: torch.nn.Module
    family: str
    classes: tuple[str, ...]
    class_share: tuple[float, ...]
    resolution: int
    kimg: float = 0.0
    ledger: Ledger | None = None
    artificial: int = 0

    def generate(
        self,
        seed: int,
        indices: Sequence[int] | NDArray[np.intp],
        labels: Sequence[int] | NDArray[np.intp],
        *,
        truncation: float = 1.0,
        purpose: Purpose = Purpose.SAMPLE,
    ) -> NDArray[np.uint8]:
        """The images at `indices`, each of the class asked for.

        Args:
          seed: of the sample.
          indices: which images of it, 0 or more, in any order, repeated or not; shape (n,).
          labels: class numbers, shape (n,).
          truncation: psi in [0, 1]. Styles w become mean + psi (w - mean), with the mean of the
            class; a generator without styles has its latent scaled by psi instead. Noise maps are
            left alone.
          purpose: which family of draws; anything but the default is for the training loop.

        Returns:
          uint8, shape (n, resolution, resolution, 3).

        Raises:
          ConfigError: psi is not in [0, 1].
          RuntimeFailure: the network's output is not finite.
        """
        require_truncation(truncation)
        tiles = np.empty((len(indices), self.resolution, self.resolution, 3), dtype=np.uint8)
        for rows in self._chunks(indices):
            places = np.array([int(indices[row]) % CHUNK for row in rows])
            asked = [int(indices[row]) for row in rows]
            chunk_labels = np.zeros(CHUNK, dtype=np.int64)
            chunk_labels[places] = [int(labels[row]) for row in rows]
            made = self._run(seed, asked, places, chunk_labels, truncation, purpose)
            tiles[rows] = made[places]
        return tiles

    @cached_property
    def digest(self) -> str:
        """SHA-256, 64 hex digits, over all that decides a sample: weights, classes and shares.

        The same for a checkpoint and for the generator file made from it.
        """
        return weights_digest(
            family=self.family,
            resolution=self.resolution,
            classes=self.classes,
            class_share=self.class_share,
            tensors=self.network.state_dict(),
        )

    @cached_property
    def mean_styles(self) -> torch.Tensor:
        """Mean style of each class over `MEAN_LATENTS` latents that are always the same.

        Shape (classes, style_count, d). For generators with styles only. Kept once computed: the
        weights must not change afterwards.
        """
        network = cast(StyleGenerator, self.network)
        device = next(self.network.parameters()).device
        drawn, _ = latents(
            0, range(MEAN_LATENTS), Purpose.MEAN_STYLE, z_dim=network.z_dim, noise_shapes=()
        )
        z = torch.from_numpy(drawn).to(device)
        means = []
        with torch.no_grad():
            for label in range(len(self.classes)):
                styles = network.styles(z, torch.full((len(z),), label, device=device))
                means.append(styles.mean(0, dtype=torch.float64).float())
        return torch.stack(means)

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
        truncation: float,
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
        z, classes = z.to(device), torch.from_numpy(labels).to(device)
        noise = [maps.to(device) for maps in noise]
        if truncation == 1:
            tiles = network(z, classes, noise)
        elif isinstance(network, StyleGenerator):
            mean = self.mean_styles[classes]
            styles = mean + truncation * (network.styles(z, classes) - mean)
            tiles = network.synthesis(styles, noise)
        else:
            tiles = network(truncation * z, classes, noise)
        if not torch.isfinite(tiles).all():
            raise RuntimeFailure(
                "the generator makes values that are no numbers (NaN or infinite). Give an earlier "
                "checkpoint."
            )
        scaled = ((tiles.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return np.asarray(scaled.permute(0, 2, 3, 1).cpu().numpy())


def require_truncation(truncation: float) -> None:
    """ConfigError unless psi is in [0, 1]."""
    if not 0 <= truncation <= 1:
        raise ConfigError(
            f"truncation must be in [0, 1]: got {truncation:g}. 1 leaves the generator as it was "
            "trained."
        )


def load_generator(path: Path | str, *, device: str = "cpu") -> LoadedGenerator:
    """Read a checkpoint, a run folder or a generator file, told by content, not by name.

    Raises:
      CheckpointError: none of them, damaged, of another version, or of an unknown family.
    """
    return loaded(load_generator_state(Path(path)), source=Path(path), device=device)


def loaded(state: GeneratorState, *, source: Path, device: str = "cpu") -> LoadedGenerator:
    """The generator of a state; `source` is what an error names.

    Raises:
      CheckpointError: the family is unknown, the weights do not fit it, or are not finite.
    """
    broken = [
        name
        for name, tensor in state.tensors.items()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    if broken:
        raise CheckpointError(
            f"weights must be numbers: {len(broken)} of {len(state.tensors)} tensors in {source} "
            f"hold NaN or infinite values (first: {shown(broken[0])}). Give an earlier checkpoint."
        )
    try:
        _require_fitting(state)
        network = build_generator(state.config, len(state.classes))
        network.load_state_dict(state.tensors)
    except (ConfigError, RuntimeError) as error:
        reason = told(str(error).split("\n", maxsplit=1)[0])
        raise CheckpointError(
            f"{source} does not fit generator family {shown(state.config.family)}: {reason}"
        ) from error
    return LoadedGenerator(
        network=network.eval().requires_grad_(False).to(device),
        family=state.config.family,
        classes=state.classes,
        class_share=state.class_share,
        resolution=state.config.resolution,
        kimg=state.kimg,
        ledger=state.ledger,
        artificial=state.artificial,
    )


def _require_fitting(state: GeneratorState) -> None:
    """Hold the weights' shapes against the family's before memory is asked for the network.

    A few kilobytes can name a network of gigabytes. A family of one's own that cannot be laid out
    without memory is built as it is: its code is the user's.

    Raises:
      ConfigError: the family is unknown, or cannot make the resolution.
      RuntimeError: the weights are of another network.
    """
    try:
        with torch.device("meta"):
            wanted = build_generator(state.config, len(state.classes)).state_dict()
    except (RuntimeError, TypeError):  # what PyTorch raises where a step needs real memory
        if state.config.family in SHIPPED:
            raise
        return
    shapes = {name: tuple(tensor.shape) for name, tensor in state.tensors.items()}
    for name, tensor in wanted.items():
        if shapes.get(name) != tuple(tensor.shape):
            got = f"of shape {shapes[name]}" if name in shapes else "missing"
            raise RuntimeError(f"{name} is {got}, its network has {tuple(tensor.shape)}")


def label_numbers(
    generator: LoadedGenerator, indices: Sequence[int] | NDArray[np.intp], *, balance: Balance
) -> NDArray[np.intp]:
    """Class number of each image, a function of its index alone, shape (n,).

    "uniform" takes the classes in turns. "preserve" follows the golden-ratio sequence through the
    classes' shares, so that the counts of any first n images stay within a few of the exact shares.

    Raises:
      ConfigError: an unknown balance.
    """
    numbers = np.asarray(indices, dtype=np.uint64)
    classes = len(generator.classes)
    if balance == "uniform":
        return (numbers % np.uint64(classes)).astype(np.intp)
    if balance != "preserve":
        raise ConfigError(f"balance must be preserve or uniform: got {balance!r}")
    golden = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio; multiplication wraps around
    place = (numbers * golden).astype(np.float64) / 2.0**64
    edges = np.cumsum(generator.class_share)[:-1]
    return np.searchsorted(edges, place, side="right").astype(np.intp)


def iterate(
    generator: LoadedGenerator,
    count: int,
    *,
    seed: int,
    balance: Balance = "preserve",
    truncation: float = 1.0,
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
        yield generator.generate(seed, indices, labels, truncation=truncation), names[labels]


def sample(
    generator: LoadedGenerator,
    count: int,
    *,
    seed: int,
    balance: Balance = "preserve",
    truncation: float = 1.0,
) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """The first `count` images of the sample `seed`.

    Args:
      generator: any.
      count: images.
      seed: of the sample.
      balance: as `label_numbers`.
      truncation: psi in [0, 1], as `LoadedGenerator.generate`.

    Returns:
      tiles, uint8 (n, r, r, 3), and their class names, shape (n,).

    Raises:
      ConfigError: an unknown balance, or psi is out of range.
    """
    tiles = np.empty((count, generator.resolution, generator.resolution, 3), dtype=np.uint8)
    labels = np.empty(count, dtype=np.array(generator.classes).dtype)
    done = 0
    blocks = iterate(generator, count, seed=seed, balance=balance, truncation=truncation)
    for block_tiles, block_labels in blocks:
        tiles[done : done + len(block_tiles)] = block_tiles
        labels[done : done + len(block_tiles)] = block_labels
        done += len(block_tiles)
    return tiles, labels
