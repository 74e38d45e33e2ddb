"""Procedural H&E tiles of the nine NCT-CRC-HE classes, from patients that are known.

The embedded data set of `privgen demo` and the ground truth of the tests: no download, no patient,
any size. A tile always shows 112 micrometres of section, as a 224 px NCT-CRC-HE tile does, so
`side` sets micrometres per pixel (64 px: 1.75; 224 px: 0.5) and never what is in the tile: a 64 px
tile is the antialiased view of the same field, where a nucleus still spans 4 to 6 pixels.

A tile is painted as two stain maps (`phantom_tissue`), turned to light by Beer-Lambert with its
patient's stains (`phantom_patient`), blurred, sampled and given camera noise.

Randomness: a tile is a pure function of (label, patient, index, seed, side). Nothing else that is
drawn, before or beside it, changes a pixel of it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from privgen.data.images import write_png
from privgen.data.phantom_canvas import FIELD, Canvas
from privgen.data.phantom_patient import bounded_factor, draw_patient, tile_rng
from privgen.data.phantom_tissue import PAINTERS
from privgen.data.stain import rgb_from_density
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError
from privgen.files import empty_folder

CLASSES = tuple(PAINTERS)
"""ADI adipose, BACK background, DEB debris, LYM lymphocytes, MUC mucus, MUS smooth muscle, NORM
normal mucosa, STR stroma, TUM tumour epithelium."""

SIDES = (16, 512)
"""Smallest and largest side of a tile in pixels."""

_FINE = 128  # pixels per side at which small tiles are painted before they are averaged down
_CAMERA_NOISE = 0.012  # standard deviation of a white pixel, as a share of white


def render_tile(label: str, *, patient: int, index: int, seed: int, side: int) -> NDArray[np.uint8]:
    """One tile: a pure function of its arguments.

    Args:
      label: one of `CLASSES`.
      patient: number of the patient, from 0.
      index: number of the tile within its patient, from 0.
      seed: number of the whole phantom, from 0.
      side: pixels per side.

    Returns:
      uint8 RGB, shape (side, side, 3).

    Raises:
      ConfigError: an unknown class, a negative number, or a side out of `SIDES`.
    """
    _check(classes=(label,), side=side, patient=patient, index=index, seed=seed)
    person = draw_patient(seed, patient)
    rng = tile_rng(seed, patient, CLASSES.index(label), index)
    canvas = Canvas(side * -(-_FINE // side), rng)
    thickness = person.thickness * bounded_factor(rng, 0.17)
    haematoxylin = thickness * person.haematoxylin * bounded_factor(rng, 0.25)
    eosin = thickness * person.eosin * bounded_factor(rng, 0.25)
    focus = person.blur * bounded_factor(rng, 0.3)
    PAINTERS[label](canvas, person)

    dyes = np.stack([haematoxylin * person.stains[0], eosin * person.stains[1]]).astype(np.float32)
    absorbance = np.clip(canvas.haematoxylin, 0, None)[..., None] * dyes[0]
    absorbance += np.clip(canvas.eosin, 0, None)[..., None] * dyes[1]
    light = gaussian_filter(np.exp(-absorbance), (*(focus / canvas.pixel,) * 2, 0), truncate=3.0)
    factor = canvas.n // side
    light = light.reshape(side, factor, side, factor, 3).mean(axis=(1, 3))
    light *= np.exp(-person.lamp).astype(np.float32)
    grain = rng.standard_normal(light.shape, dtype=np.float32)
    light += np.float32(_CAMERA_NOISE) * np.sqrt(light) * grain
    return rgb_from_density(-np.log(np.clip(light, 1e-3, 1.0)))


def make_phantom(
    *,
    patients: int,
    tiles_per_patient: int,
    side: int = 64,
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
) -> TileSet:
    """A tile set in memory, balanced over classes within each patient.

    Tile i of patient p has class `classes[(i + p) % len(classes)]`, so few tiles per patient still
    cover all classes; it is the same tile however many tiles and patients are made.

    Args:
      patients: at least 1; named P000, P001, ...
      tiles_per_patient: at least 1.
      side: pixels per side.
      seed: number of the phantom.
      classes: which of `CLASSES`, each once.

    Returns:
      `patients * tiles_per_patient` tiles, patient by patient, with their mpp.

    Raises:
      ConfigError: a number is out of range, or a class is unknown or repeated.
    """
    for name, count in (("patients", patients), ("tiles_per_patient", tiles_per_patient)):
        if count < 1:
            raise ConfigError(f"{name} must be at least 1: got {count}. Ask for one or more.")
    _check(classes=classes, side=side, seed=seed)
    cast = [
        (p, i, classes[(i + p) % len(classes)])
        for p in range(patients)
        for i in range(tiles_per_patient)
    ]
    tiles = np.stack(
        [render_tile(label, patient=p, index=i, seed=seed, side=side) for p, i, label in cast]
    )
    tiles.setflags(write=False)
    made = TileSet.from_arrays(
        tiles,
        [label for _, _, label in cast],
        patients=[f"P{p:03d}" for p, _, _ in cast],
        layout=f"phantom (procedural H&E, seed {seed})",
    )
    mpp = round(FIELD / side, 4)
    return replace(made, records=tuple(replace(record, mpp=mpp) for record in made.records))


def write_phantom(folder: Path, tiles: TileSet) -> None:
    """Write a phantom as class folders of PNG and a manifest.csv that `open_tiles` reads back.

    Args:
      folder: created; must be empty when it exists.
      tiles: made by `make_phantom`, or a subset of it.

    Raises:
      OutputError, DiskFullError: the folder holds something or cannot be written.
    """
    empty_folder(folder)
    for record, tile in zip(tiles.records, tiles.load(), strict=True):
        path = folder / record.path
        path.parent.mkdir(exist_ok=True)
        write_png(path, tile)
    tiles.write_manifest(folder / "manifest.csv")


def _check(*, classes: Sequence[str], side: int, **numbers: int) -> None:
    unknown = [label for label in classes if label not in CLASSES]
    if unknown or not classes or len(set(classes)) < len(classes):
        raise ConfigError(
            f"phantom classes must be different ones of {', '.join(CLASSES)}: "
            f"got {', '.join(map(str, classes)) or 'none'}."
        )
    if not SIDES[0] <= side <= SIDES[1]:
        raise ConfigError(f"side must be {SIDES[0]} to {SIDES[1]} pixels: got {side}.")
    for name, number in numbers.items():
        if number < 0:
            raise ConfigError(f"{name} must be 0 or more: got {number}.")
