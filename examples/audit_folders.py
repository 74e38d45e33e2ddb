"""Audit folders of images, whatever tool made them.

    python examples/audit_folders.py FOLDER

FOLDER gets three folders of tiles, as a stand-in for yours, and the report. The same audit from the
command line:

    privgen audit --train train --holdout holdout --synthetic synthetic --out report
"""

import sys
from pathlib import Path

from PIL import Image

import privgen

folder = Path(sys.argv[1])


def write(tiles: privgen.TileSet, place: Path, *, patients: bool = True) -> None:
    """PNG files in class folders, and a manifest that says whose each tile is."""
    rows = ["path,label,patient" if patients else "path,label"]
    for number, (record, pixels) in enumerate(zip(tiles.records, tiles.load(), strict=True)):
        path = f"{record.label}/{number:05}.png"
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / path)
        rows.append(f"{path},{record.label}" + (f",{record.patient}" if patients else ""))
    (place / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


real = privgen.make_phantom(patients=8, tiles_per_patient=8, side=32, seed=1)
split = privgen.split_by_patient(real, siblings=0, seed=0)
write(real.subset(split.train), folder / "train")
write(real.subset(split.holdout), folder / "holdout")
fresh = privgen.make_phantom(patients=5, tiles_per_patient=8, side=32, seed=2)
write(fresh, folder / "synthetic", patients=False)

result = privgen.audit(
    train=folder / "train",
    holdout=folder / "holdout",
    synthetic=folder / "synthetic",
    out=folder / "report",
)
print(result.verdict.sentence)
print(f"The report is {folder / 'report' / 'report.html'}.")
