"""One slide, from file to tiles: the unit of work, of failure and of resuming.

A job holds pseudonyms beside the two paths it must know, and its repr shows neither path, so that
schedulers may log it. Whatever goes wrong with a slide ends in its outcome; nothing is raised but
what concerns every slide alike: a full disk, an output that cannot be written, an interruption.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from privgen.data import images
from privgen.data.class_names import FLAT_CLASS
from privgen.data.slides import Overview, Slide, overview
from privgen.data.tissue import quality, tissue_mask
from privgen.errors import SlideError, SlideReadError
from privgen.files import PRIVATE, atomic_write, locked, sha256_file
from privgen.tiling.annotated import Annotated
from privgen.tiling.coordinates import read_coordinates
from privgen.tiling.cut import Tile, read_tiles
from privgen.tiling.frames import frame_of
from privgen.tiling.labels import read_regions
from privgen.tiling.listed import plan_listed
from privgen.tiling.normalise import load_normaliser
from privgen.tiling.output import TileOutput
from privgen.tiling.parts import COLUMNS, FOLDER, Row, SlidePart, made_by, read_part
from privgen.tiling.pictures import draw_kept
from privgen.tiling.plan import TilePlan, plan_tiles
from privgen.tiling.settings import TilingSettings

THUMBNAILS = "thumbnails"

_MEMORY = (
    "asked for more memory than one slide may have. Copy or export it again, or give a smaller "
    "`size`; other slides are not affected."
)
_OFTEN = 256  # tiles between signs of life

Stain = tuple[Literal["macenko", "reinhard"], Path]
"""Method and target tile of stain normalisation."""

Kept = tuple[Row, bytes]
"""A manifest row and the encoded tile, empty where it has been written."""

Tick = Callable[[int, int], None]
"""Called with tiles read so far and tiles planned, by any thread; may raise to stop the job.

It is the job's sign of life, too: called after every read."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done with one slide.

    Attributes:
      path: of the slide.
      files: all that it is made of, where that is more than `path`: those of a DICOM series.
      slide: its pseudonym.
      patient: the patient's, or None.
      label: class of every tile; None takes it from `regions`.
      regions: GeoJSON of classes.
      coordinates: `.h5` of places; None cuts a grid.
      classes: of the whole run where they are known, so that a class has one colour.
      mpp: micrometres per pixel of level 0, where given.
      settings: of the run.
      stain: method and target tile of stain normalisation.
      out: folder of the tiles.
      private: folder of the thumbnails.
      threads: to read and encode with.
    """

    path: Path = field(repr=False)
    files: tuple[Path, ...] = field(repr=False, default=())
    slide: str
    patient: str | None
    label: str | None
    regions: Path | None = field(repr=False, default=None)
    coordinates: Path | None = field(repr=False, default=None)
    classes: tuple[str, ...] = ()
    mpp: float | None = None
    settings: TilingSettings
    stain: Stain | None = field(repr=False, default=None)
    out: Path = field(repr=False)
    private: Path = field(repr=False)
    threads: int = 1

    @property
    def size(self) -> int:
        """Bytes of the slide's files; 0 for what cannot be looked at."""
        return sum(_stamp(path)[0] for path in self.files or (self.path,))

    def decided_by(self) -> str:
        """Digest of what decides the tiles; pseudonyms and contents, no path.

        Of the slide's file its size and time stand for its content, with those of the files in the
        folder that some formats keep beside it.

        Raises:
          SlideError: the regions or coordinates cannot be read.
        """
        regions = _digest(self.path, self.regions, "its GeoJSON", "labels")
        coordinates = _digest(self.path, self.coordinates, "its .h5", "coordinates")
        beside = self.path.with_suffix("")
        inside = sorted(beside.iterdir()) if beside.is_dir() and not self.files else ()
        files = [*(self.files or (self.path,)), *inside]
        return made_by(
            {
                "settings": self.settings.as_dict(),
                "slide": self.slide,
                "patient": self.patient,
                "label": self.label,
                "regions": regions,
                "coordinates": coordinates,
                "mpp": self.mpp,
                "stain": None
                if self.stain is None
                else [self.stain[0], sha256_file(self.stain[1])],
                "files": [_stamp(file) for file in files],
            }
        )


def _digest(slide: Path, file: Path | None, what: str, where: str) -> str | None:
    try:
        return None if file is None else sha256_file(file)
    except OSError as error:
        raise SlideError(
            str(slide), f"{what} cannot be read. Check the folder of {where}."
        ) from error


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
        return status.st_size, status.st_mtime_ns
    except OSError:
        return 0, 0


@dataclass(frozen=True, kw_only=True)
class SlideOutcome:
    """How a job ended.

    Attributes:
      slide: pseudonym.
      tiles: how many were kept.
      candidates: how many the grid has.
      rule: what went wrong, without a name; None if nothing did.
      exit_code: of a run with this slide alone.
      fresh: cut now, not by an earlier run.
    """

    slide: str
    tiles: int = 0
    candidates: int = 0
    rule: str | None = None
    exit_code: int = 0
    fresh: bool = True


def tile_slide(job: Job, tick: Tick) -> SlideOutcome:
    """Cut one slide, unless its part says that this was done.

    What an earlier run cut goes only when the slide has been opened and its new tiles are placed.
    One process works on a slide at a time; a second one waits, and finds it done.

    Raises:
      DiskFullError, OutputError: as `privgen.files.atomic_write`.
    """
    try:
        (job.out / FOLDER).mkdir(exist_ok=True)
        with locked(job.out / FOLDER, purpose="tiling", name=f"{job.slide}.lock", wait=True):
            return _tiled(job, tick)
    except (SlideError, SlideReadError) as error:
        return SlideOutcome(slide=job.slide, rule=error.rule, exit_code=error.exit_code)
    except MemoryError:
        return SlideOutcome(slide=job.slide, rule=_MEMORY, exit_code=3)
    except cv2.error as error:
        if error.code != cv2.Error.StsNoMem:
            raise
        return SlideOutcome(slide=job.slide, rule=_MEMORY, exit_code=3)


def _tiled(job: Job, tick: Tick) -> SlideOutcome:
    decided_by = job.decided_by()
    before = read_part(job.out, job.slide)
    if before is not None and before.made_by == decided_by and before.complete(job.out):
        return SlideOutcome(
            slide=job.slide, tiles=len(before), candidates=before.candidates, fresh=False
        )
    with Slide(job.path, mpp=job.mpp) as slide:
        seen = overview(slide, beat=lambda: tick(0, 0))
        plan, listed = _planned(job, slide, seen)
        plan, labels, annotated = _labelled(job, slide, plan, tick)
        tick(0, len(plan))
        if before is not None:
            before.withdraw(job.out)
        cutter = _Cutter(job, slide, plan, labels, tick)
        rows = cutter.cut()
        _draw(job, seen, plan, rows)
        part = SlidePart(
            slide=job.slide,
            made_by=decided_by,
            candidates=plan.candidates,
            micrometres=slide.mpp,
            unstained=0 if cutter.normalise is None else cutter.normalise.failed,
            columns={column: [getattr(row, column) for row in rows] for column in COLUMNS},
            annotated=annotated,
            listed=listed,
            unseen=slide.unseen,
        )
    part.write(job.out)
    return SlideOutcome(slide=job.slide, tiles=len(part), candidates=part.candidates)


def _planned(job: Job, slide: Slide, seen: Overview) -> tuple[TilePlan, Mapping[str, int] | None]:
    """The tiles, and what became of listed places where there is a list."""
    name, mask = str(job.path), tissue_mask(seen.pixels)
    if job.coordinates is None:
        return plan_tiles(name, slide, job.settings, seen, mask), None
    coordinates = read_coordinates(job.coordinates, slide)
    found = plan_listed(name, slide, job.settings, coordinates, seen, mask)
    return found.plan, found.counts


def _labelled(
    job: Job, slide: Slide, plan: TilePlan, tick: Tick
) -> tuple[TilePlan, list[str], Annotated | None]:
    """The tiles that have a class, it, and what became of the annotations."""
    if job.regions is None:
        return plan, [job.label or FLAT_CLASS] * len(plan), None
    regions = read_regions(job.regions)
    frame = frame_of(str(job.path), slide, regions, job.settings.annotation_frame)
    side, least = plan.size * plan.level_0_pixels, job.settings.min_share
    left, top = (axis * plan.level_0_pixels for axis in (plan.x, plan.y))
    found = []
    for x, y in zip(left, top, strict=True):
        found.append(regions.choose(x - frame.x, y - frame.y, side, side, minimum=least))
        if len(found) % _OFTEN == 0:
            tick(0, len(plan))
    tied = sum(one.tied for one in found)
    labels = [one.label for one in found if one.label is not None]
    if not labels:
        ties = f", and {tied} lie equally in two classes" if tied else ""
        raise SlideError(
            str(job.path),
            f"no region covers {least:g} of any of its {len(plan)} tiles{ties}. Check the "
            "regions, or give a smaller `min_share`.",
        )
    annotated = Annotated(
        frame=frame.name,
        assumed=frame.assumed,
        tied=tied,
        outside=len(found) - len(labels) - tied,
        aside=regions.aside,
    )
    return plan.only([one.label is not None for one in found]), labels, annotated


class _Cutter:
    """Reads the blocks of a plan with several threads and keeps them in order."""

    def __init__(
        self, job: Job, slide: Slide, plan: TilePlan, labels: list[str], tick: Tick
    ) -> None:
        self.job, self.slide, self.plan, self.labels, self.tick = job, slide, plan, labels, tick
        self.normalise = None if job.stain is None else load_normaliser(*job.stain)
        self.output = TileOutput(job.out, job.slide, set(labels), job.settings.output)
        self.read = 0

    def cut(self) -> list[Row]:
        """Write every tile; the manifest's rows, in reading order.

        Raises:
          SlideError: no tile is large enough as a PNG.
          SlideReadError: the slide broke.
          DiskFullError, OutputError: as `privgen.files.atomic_write`.
        """
        rows = []
        with self.output as output:
            for block in self._blocks():
                for row, encoded in block:
                    rows.append(row if row.path else replace(row, path=_put(output, row, encoded)))
            if not rows:
                raise SlideError(
                    str(self.job.path),
                    f"none of its {len(self.plan)} tiles has {self.job.settings.min_bytes} bytes "
                    "as a PNG: there is too little in them. Leave the slide out.",
                )
        self.tick(len(self.plan), len(self.plan))
        return sorted(rows, key=lambda row: (row.y, row.x))

    def _blocks(self) -> Iterator[list[Kept]]:
        """Rows and encoded tiles of each block.

        At most two blocks a thread are under way, so memory does not grow with the slide.
        """
        waiting: deque[Future[list[Kept]]] = deque()
        with ThreadPoolExecutor(self.job.threads) as pool:
            try:
                for first, last in pairwise(self.plan.blocks.tolist()):
                    waiting.append(pool.submit(self._block, first, last))
                    if len(waiting) >= 2 * self.job.threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for left in waiting:
                    left.cancel()

    def _block(self, first: int, last: int) -> list[Kept]:
        tiles = read_tiles(self.slide, self.plan, first, last)
        return [
            kept
            for number, tile in enumerate(tiles, first)
            if (kept := self._kept(number, tile)) is not None
        ]

    def _kept(self, number: int, tile: Tile) -> Kept | None:
        plan, settings = self.plan, self.job.settings
        self.read += 1  # for the eye: threads may now and then miss one
        self.tick(self.read, len(plan))
        x, y, label = int(plan.x[number]), int(plan.y[number]), self.labels[number]
        scores = quality(tile)
        if self.normalise is not None:
            tile = self.normalise(tile)
        encoded = images.encode_png(tile, thorough=settings.min_bytes > 0)
        if len(encoded) < settings.min_bytes:
            return None
        path = self.output.place(x, y, label, encoded)
        row = Row(
            path=path,
            label=label,
            patient=self.job.patient or "",
            slide=self.job.slide,
            x=x,
            y=y,
            level=plan.level,
            mpp=plan.mpp,
            tissue=round(float(plan.tissue[number]), 4),
            white=round(scores.white, 4),
            sharpness=round(scores.sharpness, 2),
            pen=round(scores.pen, 4),
            fold=round(scores.fold, 4),
            sha256=images.pixel_digest(tile),
        )
        return row, b"" if path else encoded


def _put(output: TileOutput, row: Row, encoded: bytes) -> str:
    """Add a tile to the shards; its path in the manifest."""
    meta = {name: getattr(row, name) for name in COLUMNS if name != "path"}
    return output.add(row.x, row.y, row.label, encoded, meta)


def _draw(job: Job, seen: Overview, plan: TilePlan, rows: list[Row]) -> None:
    """The overview with its kept tiles, for the owner alone."""
    corners = np.array([(row.x, row.y) for row in rows], dtype=np.float64)
    boxes = np.concatenate([corners, corners + plan.size], axis=1)
    boxes *= plan.level_0_pixels / seen.scale
    labels = [row.label for row in rows]
    picture = draw_kept(seen.pixels, boxes, labels, job.classes or sorted(set(labels)))
    with atomic_write(job.private / THUMBNAILS / f"{job.slide}.png", mode=PRIVATE) as stream:
        stream.write(images.encode_png(picture))
