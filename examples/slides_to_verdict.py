"""From whole slides to a verdict: cut tiles, train on some patients, audit with the others.

    pip install tifffile
    python examples/slides_to_verdict.py FOLDER

FOLDER gets six small slides of procedural tissue, as a stand-in for yours, and everything made of
them. docs/how-to/slides-to-verdict.md has the same steps for the command line.
"""

import sys
from pathlib import Path

import numpy as np
import tifffile

import privgen

PATIENTS = 6


def write_slide(path: Path, patient: int) -> str:
    """A tiled TIFF of half a micrometre per pixel, one tissue on it. Returns its class."""
    label = ("TUM", "STR")[patient % 2]
    made = privgen.make_phantom(
        patients=PATIENTS, tiles_per_patient=3, side=64, seed=3, classes=[label]
    )
    pixels = np.concatenate(made.load()[3 * patient : 3 * patient + 3], axis=1)
    per_cm = (20_000, 20_000)
    tifffile.imwrite(path, pixels, tile=(64, 64), resolution=per_cm, resolutionunit="CENTIMETER")
    return label


def main(folder: Path) -> None:
    """Everything, in order."""
    slides = folder / "slides"
    slides.mkdir(parents=True)
    classes, owners = ["slide,label"], ["slide,patient"]
    for patient in range(PATIENTS):
        name = f"case-{patient}.tif"
        classes.append(f"{name},{write_slide(slides / name, patient)}")
        owners.append(f"{name},Patient {patient}")
    (folder / "slides.csv").write_text("\n".join(classes) + "\n", encoding="utf-8")
    (folder / "patients.csv").write_text("\n".join(owners) + "\n", encoding="utf-8")

    # Tiles get pseudonyms. Their key, and a thumbnail of every slide, stay in tiles-private.
    tiled = privgen.tile_slides(
        sorted(slides.glob("*.tif")),
        folder / "tiles",
        size=32,
        mpp=0.5,
        labels=folder / "slides.csv",
        patients=folder / "patients.csv",
    )
    print(f"{tiled.document['tiles']} tiles of {tiled.document['patients']} patients")

    # So short a run makes no tissue: give minutes, not kimg, and a resolution of 64 or more.
    short = {"resolution": 32, "batch": 8, "kimg": 0.1, "watch_kimg": 0.0}
    checkpoint = privgen.train(folder / "tiles", out=folder / "runs", config=short)
    result = privgen.audit(generator=checkpoint, count=40, out=folder / "report")
    print(result.verdict.sentence)
    print(f"The report is {folder / 'report' / 'report.html'}.")


if __name__ == "__main__":  # slides are cut by processes of their own, which read this file again
    main(Path(sys.argv[1]))
