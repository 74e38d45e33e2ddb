"""Slides to tiles, as a library call: what is asked for in plain values, put together and run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from privgen.compute.cores import cores
from privgen.errors import ConfigError
from privgen.files import private_beside
from privgen.tiling.coordinates import opened
from privgen.tiling.frames import AnnotationFrame
from privgen.tiling.labels import open_labels
from privgen.tiling.lanes import Progress
from privgen.tiling.names import patient_pattern as compiled
from privgen.tiling.names import read_slide_table
from privgen.tiling.run import Sources, Tiled, run
from privgen.tiling.settings import Output, settings_of


def tile_slides(
    slides: Sequence[str | Path],
    out: str | Path,
    *,
    size: int | None = None,
    mpp: float | None = None,
    stride: int | None = None,
    preset: str | None = None,
    min_tissue: float | None = None,
    min_share: float | None = None,
    layout: Output | None = None,
    coordinates: str | Path | None = None,
    labels: str | Path | None = None,
    annotation_frame: AnnotationFrame | None = None,
    patients: str | Path | None = None,
    patient_pattern: str | None = None,
    mpp_override: Mapping[str, float] | None = None,
    stain: Literal["macenko", "reinhard"] | None = None,
    stain_target: str | Path | None = None,
    private: str | Path | None = None,
    key: str | Path | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress = lambda done: None,
) -> Tiled:
    """Cut whole slides into tiles under pseudonyms; the same call again goes on.

    Args:
      slides: files of any format OpenSlide reads, or folders of DICOM series; the files of a series
        are one slide. One that cannot be used costs itself alone.
      out: new or empty folder, or that of the same run.
      size: side of a tile, px; default 256.
      mpp: micrometres a pixel of the tiles; default .5.
      stride: pixels from one tile to the next; default `size`, below it tiles overlap.
      preset: `deepfakes-2020`; what is given beside it wins.
      min_tissue: least share of a tile on the tissue mask; default .5.
      min_share: least share of a tile in a region that gives it its class; default .75.
      layout: "folders" (default) or "tar".
      coordinates: folder of STEM_patches.h5 (TRIDENT) or STEM.h5 (CLAM): tiles are cut there, at
        the scale the files say, and `mpp`, `stride` and `preset` are left out.
      labels: CSV with the columns slide and label, or folder of STEM.geojson.
      annotation_frame: where the coordinates of regions count from, on slides whose scanned area
        does not start in the corner of level 0: "bounds" (its corner, QuPath's default),
        "level-0", or "auto" (default): told by where the regions fit.
      patients: CSV with the columns slide and patient.
      patient_pattern: regular expression with one group, searched in the stems.
      mpp_override: micrometres a level-0 pixel by the start of a stem, or shell pattern; "" fits
        any.
      stain, stain_target: method of stain normalisation, and the tile to normalise to.
      private: folder of thumbnails and summary; default `out` + "-private".
      key: file of the pseudonyms' key, made where it is missing; default `private`/key.
      workers: slides at a time on this machine; default 1, whose tiles are cut by all cores.
      scheduler: address of a Dask scheduler whose workers see the same folders.
      progress: called with the number of slides done, fractions included.

    Returns:
      Counts, the manifest, and which slides gave no tile.

    Raises:
      ConfigError: options that contradict each other or the folder's.
      OutputError, DiskFullError: the output cannot be used.
    """
    if (stain is None) != (stain_target is None):
        raise ConfigError("--stain and --stain-target go together: give both or neither.")
    if scheduler is not None and workers is not None:
        raise ConfigError("--workers is of this machine and --scheduler of others: give one.")
    asked: dict[str, Any] = {
        "size": size,
        "mpp": mpp,
        "stride": stride,
        "min_tissue": min_tissue,
        "min_share": min_share,
        "output": layout,
        "annotation_frame": annotation_frame,
    }
    out = Path(out).resolve()
    hidden = private_beside(out) if private is None else Path(private)
    count = workers or 1
    return run(
        [Path(slide) for slide in slides],
        out,
        settings_of(preset, asked, coordinates=coordinates is not None),
        Sources(
            labels=open_labels(None if labels is None else Path(labels)),
            patients=None if patients is None else read_slide_table(Path(patients), "patient"),
            pattern=None if patient_pattern is None else compiled(patient_pattern),
            micrometres=dict(mpp_override or {}),
            coordinates=None if coordinates is None else opened(Path(coordinates)),
        ),
        private=hidden,
        key=hidden / "key" if key is None else Path(key),
        stain=None if stain is None or stain_target is None else (stain, Path(stain_target)),
        workers=count,
        threads=1 if scheduler else max(1, cores() // count),
        scheduler=scheduler,
        progress=progress,
    )
