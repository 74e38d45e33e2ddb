"""DICOM slides for tests, written with pydicom: one file a level, JPEG frames, tiled full."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit, generate_uid

_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL whole slide microscopy


def write_series(
    folder: Path, pixels: NDArray[np.uint8], *, levels: int = 3, mpp: float = 0.5, stem: str = "DCM"
) -> str:
    """Write a slide of one series into a folder, `DCM_0.dcm` and so on; its SeriesInstanceUID."""
    series, study = generate_uid(), generate_uid()
    for level in range(levels):
        shown = pixels[:: 2**level, :: 2**level]
        _write(folder / f"{stem}_{level}.dcm", shown, mpp * 2**level, series, study, level == 0)
    return str(series)


def _write(
    path: Path, pixels: NDArray[np.uint8], mpp: float, series: str, study: str, original: bool
) -> None:
    side = 256
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = _CLASS
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    frames = [
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(pixels[y : y + side, x : x + side]), level=95, subsampling="422"
        )
        for y in range(0, pixels.shape[0], side)
        for x in range(0, pixels.shape[1], side)
    ]
    values: dict[str, Any] = {
        "SOPClassUID": _CLASS,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "SeriesInstanceUID": series,
        "StudyInstanceUID": study,
        "FrameOfReferenceUID": study,
        "Modality": "SM",
        "ImageType": ["ORIGINAL" if original else "DERIVED", "PRIMARY", "VOLUME", "NONE"],
        "PatientName": "X",
        "PatientID": "X",
        "ContainerIdentifier": "X",
        "Rows": side,
        "Columns": side,
        "TotalPixelMatrixColumns": pixels.shape[1],
        "TotalPixelMatrixRows": pixels.shape[0],
        "TotalPixelMatrixFocalPlanes": 1,
        "SamplesPerPixel": 3,
        "PlanarConfiguration": 0,
        "PhotometricInterpretation": "YBR_FULL_422",
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "ImagedVolumeWidth": pixels.shape[1] * mpp / 1000,
        "ImagedVolumeHeight": pixels.shape[0] * mpp / 1000,
        "DimensionOrganizationType": "TILED_FULL",
        "NumberOfOpticalPaths": 1,
        "NumberOfFrames": len(frames),
        "PixelData": encapsulate(frames, has_bot=True),
    }
    for name, value in values.items():
        setattr(data, name, value)
    light, measures, groups = Dataset(), Dataset(), Dataset()
    light.OpticalPathIdentifier, light.ObjectiveLensPower = "0", "20"
    measures.PixelSpacing, measures.SliceThickness = [mpp / 1000, mpp / 1000], 1
    groups.PixelMeasuresSequence = Sequence([measures])
    data.OpticalPathSequence = Sequence([light])
    data.SharedFunctionalGroupsSequence = Sequence([groups])
    data["PixelData"].is_undefined_length = True
    data.save_as(path, enforce_file_format=True)
