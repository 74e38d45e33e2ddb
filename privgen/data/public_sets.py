"""Published data sets, known by the names of their folders and tiles.

- NCT-CRC-HE-100K and CRC-VAL-HE-7K (Kather et al. 2019): classes ADI .. TUM, tiles
  `ADI-AAAMHQMK.tif` and `ADI-TCGA-AAICEQFN.tif`. The names hold no patient.
- Kather-2016 (Kather et al. 2016, "Multi-class texture analysis in colorectal cancer histology"):
  classes `01_TUMOR` .. `08_EMPTY`, tiles `10009_CRC-Prim-HE-03_009.tif_Row_301_Col_151.tif`. What
  stands before `.tif_Row` is the image the tile was cut from: the slide. Its number
  (`CRC-Prim-HE-03`) is one of ten tissue slides and is taken as the patient, because two images of
  one tissue slide must never stand on both sides of a split. Row and Col count from 1.
- TCGA: tiles whose slides are barcodes, and whose patients nobody names: the barcode's participant.
- LC25000 (Borkowski et al. 2019): classes `colon_aca`, `lung_n`, ..., tiles `colonca123.jpeg`, each
  a rotated or flipped copy of one of 250 source images a class.
"""

import re
from dataclasses import replace
from pathlib import PurePosixPath

from audits.patients import participant
from privgen.data.tileset import TileRecord

NCT_CLASSES = ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")
"""Classes of NCT-CRC-HE-100K, in PathMNIST's order."""

_NCT_NAME = re.compile(r"[A-Z]+-(TCGA-)?[A-Z]{8}\.\w+")
_KATHER_CLASS = re.compile(r"0[1-8]_[A-Z]+")
_KATHER_NAME = re.compile(
    r"[0-9A-F]+_(?P<slide>(?P<patient>CRC-Prim-HE-\d+)\w*)\.tif"
    r"_Row_(?P<row>\d{1,9})_Col_(?P<col>\d{1,9})\.\w+"
)
_LC25000_CLASSES = frozenset({"colon_aca", "colon_n", "lung_aca", "lung_n", "lung_scc"})
_LC25000_NAME = re.compile(r"(colonca|colonn|lungaca|lungn|lungscc)\d+\.jpe?g")


def recognise(
    records: tuple[TileRecord, ...],
) -> tuple[tuple[TileRecord, ...], str]:
    """Name the published data set the tiles come from, and read what their names tell.

    Returns:
      The records, with the blanks filled in where names say more, and the data set in words; ""
      for any other data.
    """
    names = [PurePosixPath(record.path).name for record in records]
    labels = {record.label for record in records}
    if labels <= _LC25000_CLASSES and all(map(_LC25000_NAME.fullmatch, names)):
        return records, (
            "LC25000 (made by rotating and flipping few source images: a split by tile is void, "
            "only one by source_image holds)"
        )
    if labels <= set(NCT_CLASSES) and all(map(_NCT_NAME.fullmatch, names)):
        validation = all("-TCGA-" in name for name in names)
        return records, "CRC-VAL-HE-7K" if validation else "NCT-CRC-HE-100K"
    found = [match for match in map(_KATHER_NAME.fullmatch, names) if match]
    if len(found) == len(names) and all(map(_KATHER_CLASS.fullmatch, labels)):
        filled = tuple(
            replace(
                record,
                patient=record.patient or match["patient"],
                slide=record.slide or match["slide"],
                x=int(match["col"]) - 1 if record.x is None else record.x,
                y=int(match["row"]) - 1 if record.y is None else record.y,
            )
            for record, match in zip(records, found, strict=True)
        )
        return filled, "Kather-2016 (tissue slide CRC-Prim-HE-NN taken as the patient)"
    people = [participant(record.slide or "") for record in records]
    if all(people) and not any(record.patient for record in records):
        return tuple(
            replace(record, patient=person) for record, person in zip(records, people, strict=True)
        ), "patients taken from the slides' TCGA barcodes"
    return records, ""
