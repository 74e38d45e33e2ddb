"""Slides to tiles, as a library call: what is asked for in plain values, put together and run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from privgen.compute.cores import cores
from privgen.files import private_beside
from privgen.requests import made
from privgen.tiling.coordinates import opened
from privgen.tiling.labels import open_labels
from privgen.tiling.lanes import Progress
from privgen.tiling.names import patient_pattern as compiled
from privgen.tiling.names import read_slide_table
from privgen.tiling.requests import TilingRequest
from privgen.tiling.run import Hands, OutputPlaces, Sources, Tiled, run
from privgen.tiling.settings import settings_of


def tile_slides(
    slides: Sequence[str | Path],
    out: str | Path,
    request: TilingRequest | None = None,
    /,
    *,
    progress: Progress = lambda done: None,
    **options: Any,
) -> Tiled:
    """Cut whole slides into tiles under pseudonyms; the same call again resumes.

    Args:
      slides: files of any format OpenSlide reads, or folders of DICOM series; the files of a series
        are one slide. One that cannot be used costs itself alone.
      out: new or empty folder, or that of the same run.
      request: what is asked for; or give its fields as options.
      progress: called with the number of slides done, fractions included.
      options: fields of `TilingRequest`; None is a value that was not given.

    Returns:
      Counts, the manifest, and which slides gave no tile.

    Raises:
      ConfigError: options that contradict each other or the folder's.
      OutputError, DiskFullError: the output cannot be used.
    """
    asked = made(TilingRequest, options) if request is None else request
    out = Path(out).resolve()
    hidden = private_beside(out) if asked.private is None else Path(asked.private)
    count = asked.workers or 1
    target = None if asked.stain_target is None else Path(asked.stain_target)
    return run(
        [Path(slide) for slide in slides],
        settings_of(asked),
        Sources(
            labels=open_labels(None if asked.labels is None else Path(asked.labels)),
            patients=None
            if asked.patients is None
            else read_slide_table(Path(asked.patients), "patient"),
            pattern=None if asked.patient_pattern is None else compiled(asked.patient_pattern),
            micrometres=asked.micrometres,
            coordinates=None if asked.coordinates is None else opened(Path(asked.coordinates)),
        ),
        OutputPlaces(
            out=out, private=hidden, key=hidden / "key" if asked.key is None else Path(asked.key)
        ),
        stain=None if asked.stain is None or target is None else (asked.stain, target),
        hands=Hands(
            workers=count,
            threads=1 if asked.scheduler else max(1, cores() // count),
            scheduler=asked.scheduler,
        ),
        progress=progress,
    )
