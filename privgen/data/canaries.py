"""Canaries: patients whose coins decide whether a generator is trained on them.

*Artificial* ones are phantom tissue (`privgen.data.phantom`) with a pattern of their own: a smooth
field that deepens and lightens the stain of all tiles of one canary alike, as no patient has it.
They stand out from the real tiles by design, and no real patient is in them. *Real* ones are
patients of the data, drawn from those who were to be held out.

Every tile of an artificial canary is a function of the record that the ledger keeps, so that no
pixel of it is stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from audits.sections import FEWEST_CANARIES
from privgen.choices import CanaryKind
from privgen.data.phantom import SIDES, render_tile
from privgen.data.stain import optical_density, rgb_from_density
from privgen.data.tileset import TileSet
from privgen.limits import CANARIES, CANARY_BYTES

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
      seed: of tissue and patterns; artificial ones only, as what follows.
      tiles: of each.
      side: of a tile, pixels.
      classes: of the data; a canary's tiles take them in turns.
      patients: names of real ones, in the order of `included`.

    Raises:
      ValueError: a value is not what its name says.
    """

    kind: CanaryKind
    included: tuple[bool, ...]
    seed: int = 0
    tiles: int = 0
    side: int = 0
    classes: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all(isinstance(one, bool) for one in self.included):
            raise ValueError("coins of canaries are true or false")
        if not FEWEST_CANARIES <= len(self.included) <= CANARIES:
            raise ValueError(
                f"canaries are {FEWEST_CANARIES} to {CANARIES}: got {len(self.included)}"
            )
        if self.kind == "real":
            if len(set(self.patients)) != len(self.included):
                raise ValueError("real canaries are patients, each once")
            return
        numbers = (("seed", 0, 2**63), ("tiles", 1, CANARY_BYTES), ("side", *SIDES))
        for name, low, high in numbers:
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{name} of canaries is {low} to {high}")
        size = self.count * self.tiles * self.side**2 * 3
        if size > CANARY_BYTES:
            raise ValueError(f"canaries take at most {CANARY_BYTES} bytes of pixels: got {size}")
        if self.kind != "artificial" or not self.classes:
            raise ValueError("canaries are artificial or real, and of some class")

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """From what JSON made of it.

        Raises:
          ValueError, TypeError: it is none.
        """
        lists = ("included", "classes", "patients")
        return cls(**{k: tuple(v) if k in lists else v for k, v in values.items()})  # type: ignore[arg-type]

    @property
    def count(self) -> int:
        return len(self.included)

    @cached_property
    def whose(self) -> NDArray[np.intp]:
        """Number of the canary of each artificial tile, shape (count * tiles,)."""
        return np.repeat(np.arange(self.count), self.tiles)

    @cached_property
    def labels(self) -> NDArray[np.intp]:
        """Class number of each artificial tile; canaries take the classes in turns."""
        place = np.tile(np.arange(self.tiles), self.count)
        return np.asarray((place + self.whose) % len(self.classes), dtype=np.intp)

    def painted(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Artificial tiles, uint8, shape (n, side, side, 3).

        Args:
          rows: which, 0 .. count * tiles - 1.
        """
        return np.stack([self._painted(int(row)) for row in rows])

    def _painted(self, row: int) -> NDArray[np.uint8]:
        number, index = divmod(row, self.tiles)
        tissue = _TISSUES[int(self.labels[row]) % len(_TISSUES)]
        tile = render_tile(
            tissue, patient=_FIRST + number, index=index, seed=self.seed, side=self.side
        )
        rng = np.random.default_rng(
            np.random.SeedSequence(self.seed, spawn_key=(_PATTERN, number, self.side))
        )
        field = gaussian_filter(
            rng.standard_normal((self.side, self.side)), self.side * _SMOOTH, mode="wrap"
        )
        deeper = np.exp(_DEPTH * field / field.std()).astype(np.float32)
        return rgb_from_density(optical_density(tile) * deeper[..., None])

    def training_tiles(self) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
        """Tiles and class numbers of the artificial canaries in training."""
        rows = np.flatnonzero(np.array(self.included)[self.whose])
        return self.painted(rows), self.labels[rows]

    def tile_set(self) -> TileSet:
        """Every artificial tile, of canaries in training and of those kept out."""
        every = np.arange(len(self.whose))
        return TileSet.from_arrays(
            self.painted(every),
            [self.classes[number] for number in self.labels],
            patients=[f"canary {number}" for number in self.whose],
            layout="artificial patients",
        )
