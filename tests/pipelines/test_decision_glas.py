"""On real tiles: another file format is no leak, and harmonising does not hide one."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import privgen
from audits import Harm, HarmVerdict, Outcome
from privgen.data.images import encode_jpeg, write_png
from privgen.data.layouts import open_tiles
from privgen.data.tileset import TileSet

SIDE = 64
PER_PATIENT = 16
TRAIN, HOLDOUT = ("P10", "P02", "P09", "P05"), ("P07", "P04", "P11", "P06")
THIRD = ("P01", "P03")


@pytest.fixture(scope="module")
def glas(real_data: Callable[[str], Path]) -> TileSet:
    return open_tiles(real_data("glas"))


def of(glas: TileSet, patients: Sequence[str], per_patient: int = PER_PATIENT) -> TileSet:
    """Random tiles of some patients."""
    rng = random.Random(0)
    chosen: list[int] = []
    for patient in patients:
        rows = [int(row) for row in np.flatnonzero(glas.groups == patient)]
        rng.shuffle(rows)
        chosen += rows[:per_patient]
    return glas.subset(chosen)


def stored(folder: Path, tiles: TileSet, quality: int | None) -> Path:
    """Tiles at 64 pixels with their manifest: JPEG of a quality, or PNG."""
    suffix = "png" if quality is None else "jpg"
    lines = ["path,label,patient,slide"]
    for row, (tile, record) in enumerate(zip(tiles.load(SIDE), tiles.records, strict=True)):
        file = folder / record.label / f"{row:04d}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        if quality is None:
            write_png(file, tile)
        else:
            file.write_bytes(encode_jpeg(tile, quality))
        lines.append(f"{record.label}/{file.name},{record.label},{record.patient},{record.slide}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def patients(result: privgen.Audit) -> HarmVerdict:
    harms = {each.harm: each for each in result.verdict.harms}
    return harms[Harm.PATIENT_MEMBERSHIP]


@pytest.mark.parametrize("quality", [30, 75])
def test_jpeg_beside_png_is_no_leak_of_patients(
    glas: TileSet, tmp_path: Path, quality: int
) -> None:
    result = privgen.audit(
        train=stored(tmp_path / "train", of(glas, TRAIN), quality),
        holdout=stored(tmp_path / "holdout", of(glas, HOLDOUT), None),
        synthetic=stored(tmp_path / "synthetic", of(glas, THIRD, 32), quality),
        encoder="colour",
        align=False,
    )
    found = next(r for r in result.report.results if r.name == "patient_membership")
    assert patients(result).outcome is not Outcome.LEAK
    assert found.p_value is not None
    assert found.p_value > 0.05
    assert 0.2 < found.statistic.value < 0.8
