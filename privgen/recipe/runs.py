"""One run of a recipe: train on its patients, draw tiles, keep how they look, forget the rest.

A run is a function of the recipe, the coins and its number alone, computed by one thread where it
runs on a CPU, so that neither the number of jobs nor a kill changes a bit of what it leaves.
"""

import threading
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from privgen.checkpoints.roles import ledger_of
from privgen.checkpoints.state import GENERATOR, load_checkpoint
from privgen.compute.devices import choose_device, threads
from privgen.data.blocks import in_blocks
from privgen.data.stain import density_moments, normalised
from privgen.encoders.loading import Encoder, load_encoder
from privgen.encoders.orbit import embed_orbit
from privgen.errors import NonFiniteLossError, RuntimeFailure
from privgen.files import locked
from privgen.insider.attacks import class_numbers
from privgen.insider.inversion import Effort, Inverter
from privgen.recipe.frozen import FrozenRecipe
from privgen.recipe.opening import Patients
from privgen.recipe.workspace import REAL, Looks, Workspace, run_name
from privgen.sampling import CHUNK, LoadedGenerator, load_generator
from privgen.training.session import Session

MAIN, COLOUR, NORMALISED, QUALITY = "main", "colour", "stain_normalised", "quality"
"""Looks at a tile: the encoder's, colour alone, the encoder's without stain, the judge's."""

WHITE_BOX = "white_box"
"""What an insider's inversion of a run scores every real tile."""

JUDGE = "effnet_lite2"
"""Encoder that says how good tiles are; projected generators are trained in effnet_lite0."""

_BLOCK = 4 * CHUNK
_one_at_a_time = threading.Lock()  # PyTorch's random state and threads are those of a process


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """What all runs share; it travels to the workers.

    Attributes:
      folder: of the workspace.
      recipe: frozen.
      patients: whose tiles are shown.
      included: the coins, shape (K, P).
      count: synthetic tiles a run.
      encoder: specification of the embedding.
      effort: how hard every run's generator is searched for each tile; None does not.
    """

    folder: Path
    recipe: FrozenRecipe
    patients: Patients
    included: NDArray[np.bool_]
    count: int
    encoder: str
    effort: Effort | None = None

    @property
    def workspace(self) -> Workspace:
        """The private folder."""
        return Workspace(self.folder)

    @property
    def pieces(self) -> list[int | None]:
        """Every piece of work: None for the real tiles, else the number of a run."""
        return [None, *range(len(self.included))]

    def synthetic_labels(self) -> NDArray[np.intp]:
        """Class numbers of a run's tiles: as often as in all the data, the same for every run.

        A run's own shares would say which of its classes' patients it had.
        """
        tiles = self.patients.tiles
        shares = np.array([(tiles.labels == name).mean() for name in tiles.classes])
        edges = np.cumsum(shares)[:-1]
        place = (np.arange(self.count) + 0.5) / self.count
        return np.searchsorted(edges, place, side="right").astype(np.intp)


def name_of(piece: int | None) -> str:
    """A piece of work as the workspace and messages know it."""
    return REAL if piece is None else run_name(piece)


def carry_out_piece(setting: Setting, piece: int | None) -> None:
    """Do one piece of work, unless its result is there.

    Raises:
      RuntimeFailure: the training diverged, or anything else that training raises.
    """
    with _one_at_a_time:
        if setting.workspace.done(name_of(piece)):
            return
        cpu = choose_device(setting.recipe.config.device).type == "cpu"
        with threads(1) if cpu else nullcontext():
            if piece is None:
                _look_at_real(setting)
            else:
                _train_and_look(setting, piece)


def _look_at_real(setting: Setting) -> None:
    tiles, eyes = setting.patients.tiles, _Eyes.of(setting)
    blocks: list[Looks] = []
    in_blocks(
        tiles,
        setting.recipe.config.resolution,
        "looking at the real tiles",
        lambda rows, pixels: blocks.append(eyes.looks(pixels)),
    )
    setting.workspace.save(REAL, _joined(blocks), 0.0)


def _train_and_look(setting: Setting, run: int) -> None:
    place = setting.workspace.run_folder(run)
    # A worker of a cluster may still be at it for a command that was stopped.
    with locked(place, purpose="training", name=".run", wait=True):
        if not setting.workspace.done(run_name(run)):
            _trained_and_looked_at(setting, run, place)
    setting.workspace.forget(run)


def _trained_and_looked_at(setting: Setting, run: int, place: Path) -> None:
    try:
        folder = _trained(setting, run, place)
    except NonFiniteLossError as error:
        raise RuntimeFailure(
            f"run {run + 1} of {len(setting.included)} diverged: {error} Runs that are finished "
            "are kept; a recipe that diverges on some of the patients cannot be audited by this. "
            "Lower its learning rates, and give a new `out`."
        ) from error
    generator, seconds = load_generator(folder), load_checkpoint(folder).seconds
    labels, eyes = setting.synthetic_labels(), _Eyes.of(setting)
    seed = setting.recipe.run_config(run).seed
    blocks = [
        eyes.looks(generator.generate(seed, rows, labels[rows]))
        for rows in np.array_split(np.arange(setting.count), -(-setting.count // _BLOCK))
    ]
    looks = _joined(blocks)
    if setting.effort is not None:
        looks[WHITE_BOX] = _inverted(setting, generator, setting.effort, seed)
    setting.workspace.save(run_name(run), looks, seconds)


def _inverted(
    setting: Setting, generator: LoadedGenerator, effort: Effort, seed: int
) -> NDArray[np.float64]:
    """How closely a run's generator can repeat each real tile, shape (n,)."""
    tiles = setting.patients.tiles
    numbers = class_numbers(tiles.labels, generator.classes)
    inverter = Inverter(generator.network, len(generator.classes), seed=seed, effort=effort)
    found: list[NDArray[np.float64]] = []
    in_blocks(
        tiles,
        generator.resolution,
        "inverting a run",
        lambda rows, pixels: found.append(inverter.white_box(pixels, numbers[rows])),
    )
    return np.concatenate(found)


def _trained(setting: Setting, run: int, place: Path) -> Path:
    """The run folder of a finished training, begun or gone on with."""
    begun = max((one for one in place.iterdir() if one.is_dir()), default=None)
    if begun and not any(begun.glob("checkpoints/ckpt-*.pt")):
        begun = None
    if begun and (begun / GENERATOR).exists():
        return begun
    patients = setting.patients
    split = patients.split(setting.included[run])
    session = Session(
        config=setting.recipe.run_config(run),
        roles={
            role: patients.tiles.subset(rows) for role, rows in split.roles().items() if len(rows)
        },
        ledger=ledger_of(patients.tiles, split, parameters={"seed": setting.recipe.config.seed}),
        name=run_name(run),
        resume=begun,
    )
    return session.run(place).parent.parent


@dataclass(frozen=True, kw_only=True)
class _Eyes:
    """The encoders that look at tiles."""

    encoder: Encoder
    judge: Encoder

    @classmethod
    def of(cls, setting: Setting) -> Self:
        return cls(encoder=load_encoder(setting.encoder), judge=load_encoder(JUDGE))

    def looks(self, pixels: NDArray[np.uint8]) -> Looks:
        return {
            MAIN: embed_orbit(self.encoder, pixels).mean,
            COLOUR: density_moments(pixels),
            NORMALISED: self.encoder.embed(normalised(pixels)),
            QUALITY: self.judge.embed(pixels),
        }


def _joined(blocks: list[Looks]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
