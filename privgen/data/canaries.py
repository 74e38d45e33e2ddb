"""Canaries: patients whose coins decide whether a generator is trained on them.

*Artificial* ones are phantom tissue (`privgen.data.phantom`) with a pattern of their own: a smooth
field that deepens and lightens the stain of all tiles of one canary alike, as no patient has it.
They stand out from the real tiles by design, and no real patient is in them. *Real* ones are
patients of the data, drawn from those who were to be held out.

Every tile of an artificial canary is a function of the record that the ledger keeps, so that no
pixel of it is stored; a digest tells where another version of this program paints it otherwise.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from audits.sections import FEWEST_A_SIDE, FEWEST_CANARIES
from privgen.choices import CanaryKind
from privgen.data.phantom import CLASSES, SIDES, render_tile
from privgen.data.stain import optical_density, rgb_from_density
from privgen.data.tileset import TileSet
from privgen.limits import CANARIES, CANARY_BYTES
from privgen.phases import phase

TILES = 8
"""Tiles of an artificial canary."""

_TISSUES = ("TUM", "STR", "LYM", "NORM", "MUS", "DEB")  # stained all over, as patterns need
_FIRST = 1_000_000  # phantom patients from here on are canaries
_PATTERN = 2  # first word of the key of the random stream of patterns
_SMOOTH, _DEPTH = 1 / 12, 0.4


@dataclass(frozen=True, kw_only=True)
class Canaries:
    """The canaries of one training.

    Attributes:
      kind: artificial or real.
      included: who is in training.
      patients: names of real ones, in the order of `included`.
      seed: of tissue and patterns; of artificial ones, as what follows.
      side: of a tile, pixels.
      classes: of the data.
      labels: class number of every tile, canary by canary.
      digest: SHA-256 over all tiles, 64 hex digits; "" before they are painted.

    Raises:
      ValueError: a value is not what its name says.
    """

    kind: CanaryKind
    included: tuple[bool, ...]
    patients: tuple[str, ...] = ()
    seed: int = 0
    side: int = 0
    classes: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    digest: str = ""

    def __post_init__(self) -> None:
        if not all(isinstance(one, bool) for one in self.included):
            raise ValueError("coins of canaries are true or false")
        if not FEWEST_CANARIES <= self.count <= CANARIES:
            raise ValueError(f"canaries are {FEWEST_CANARIES} to {CANARIES}: got {self.count}")
        if not FEWEST_A_SIDE <= sum(self.included) <= self.count - FEWEST_A_SIDE:
            raise ValueError(f"{FEWEST_A_SIDE} canaries at least are on either side")
        if not all(isinstance(name, str) for name in (*self.patients, *self.classes, self.digest)):
            raise ValueError("names and digests of canaries are texts")
        if self.kind == "real":
            if not len(set(self.patients)) == len(self.patients) == self.count:
                raise ValueError("real canaries are patients, each once")
        elif self.kind == "artificial":
            self._check_painting()
        else:
            raise ValueError("canaries are artificial or real")

    def _check_painting(self) -> None:
        for name, low, high in (("seed", 0, 2**63), ("side", *SIDES)):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{name} of canaries is {low} to {high}")
        if len(self.labels) not in range(self.count, TILES * self.count + 1, self.count):
            raise ValueError(f"canaries have 1 to {TILES} tiles, one as many as another")
        if not set(self.labels) <= set(range(len(self.classes))):
            raise ValueError("tiles of canaries are of classes of the data")
        if size_of(self.count, self.side) > CANARY_BYTES:
            raise ValueError(f"pixels of canaries take at most {CANARY_BYTES} bytes")

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """From what JSON made of it.

        Raises:
          ValueError, TypeError: it is none.
        """
        lists = ("included", "patients", "classes", "labels")
        return cls(**{k: tuple(v) if k in lists else v for k, v in values.items()})  # type: ignore[arg-type]

    @property
    def count(self) -> int:
        return len(self.included)

    @property
    def tiles(self) -> int:
        """Tiles of each artificial canary."""
        return len(self.labels) // self.count

    @cached_property
    def whose(self) -> NDArray[np.intp]:
        """Number of the canary of each artificial tile, shape (count * tiles,)."""
        return np.repeat(np.arange(self.count), self.tiles)

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """Every artificial tile, uint8, shape (count * tiles, side, side, 3)."""
        every = np.empty((len(self.labels), self.side, self.side, 3), dtype=np.uint8)
        with phase("painting artificial patients", total=self.count) as painting:
            for number in range(self.count):
                deeper = self._pattern(number)
                for row in range(number * self.tiles, (number + 1) * self.tiles):
                    tile = render_tile(
                        self._tissue(self.labels[row]),
                        patient=_FIRST + number,
                        index=row % self.tiles,
                        seed=self.seed,
                        side=self.side,
                    )
                    every[row] = rgb_from_density(optical_density(tile) * deeper)
                painting.advance()
        every.setflags(write=False)
        return every

    def _tissue(self, label: int) -> str:
        """The phantom's own tissue where the class is called as it is there, else any other."""
        name = self.classes[label]
        return name if name in CLASSES else _TISSUES[label % len(_TISSUES)]

    def _pattern(self, number: int) -> NDArray[np.float32]:
        key = (_PATTERN, number, self.side)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
        field = gaussian_filter(
            rng.standard_normal((self.side, self.side)), self.side * _SMOOTH, mode="wrap"
        )
        deeper: NDArray[np.float32] = np.exp(_DEPTH * field / field.std()).astype(np.float32)
        return deeper[..., None]

    @property
    def painted_digest(self) -> str:
        """Digest of the tiles as they are painted here."""
        return hashlib.sha256(self.pixels.tobytes()).hexdigest()

    def with_digest(self) -> Self:
        """The same, its tiles painted and their digest written down."""
        found = replace(self, digest=self.painted_digest)
        found.__dict__["pixels"] = self.pixels  # painting is slow: once is enough
        return found

    @property
    def as_painted(self) -> bool:
        """Whether its tiles are painted here as they were for training."""
        return self.digest == self.painted_digest

    def training_tiles(self) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
        """Tiles and class numbers of the artificial canaries in training."""
        rows = np.array(self.included)[self.whose]
        return self.pixels[rows], np.array(self.labels, dtype=np.intp)[rows]

    def tile_set(self) -> TileSet:
        """Every artificial tile, of canaries in training and of those kept out."""
        return TileSet.from_arrays(
            self.pixels,
            [self.classes[number] for number in self.labels],
            patients=[f"canary {number}" for number in self.whose],
            layout="artificial patients",
        )


def size_of(count: int, side: int) -> int:
    """Bytes of the pixels of so many artificial canaries, at most."""
    return count * TILES * side**2 * 3
