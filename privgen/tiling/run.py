"""`privgen tile`: slides in, tiles and a manifest out.

```
OUT/            manifest.csv (or .parquet)  label/slide/x_y.png or shards/*.tar
                tiling.json (settings and counts)  log.jsonl  parts/*.json (a slide's rows)
OUT-private/    key (of the pseudonyms, 0600)  thumbnails/*.png  summary.png
```
Everything in OUT carries pseudonyms. Whoever has the key can compute the pseudonym of a name and so
find its tiles; keep it apart from them. Run again with the same arguments, the command goes on
where it was stopped, killed or crashed, and ends with the same files.
"""

import json
import re
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path

from audits.patients import alike_within
from privgen.errors import ConfigError, SlideError
from privgen.files import (
    append_line,
    locked,
    sweep_partial_files,
    write_json,
)
from privgen.tiling import annotated, listed
from privgen.tiling.coordinates import coordinates_of
from privgen.tiling.document import TilingCounts, TilingDocument
from privgen.tiling.folder import PARAMETERS, claim, described, prepare
from privgen.tiling.given import Given, gather, one_of
from privgen.tiling.job import THUMBNAILS, Job, SlideOutcome, Stain
from privgen.tiling.labels import LabelSource
from privgen.tiling.lanes import Progress, run_here, run_on
from privgen.tiling.names import Names, known_as, load_key, patient_of
from privgen.tiling.normalise import load_normaliser
from privgen.tiling.parts import (
    FOLDER,
    SHARDS,
    SlidePart,
    clear_unfinished,
    read_part,
    read_parts,
    write_joined,
)
from privgen.tiling.pictures import summary_figure
from privgen.tiling.settings import TilingSettings

LOG = "log.jsonl"
_SUMMARY_COLUMNS = ("label", "patient", "slide", "tissue", "white", "sharpness", "pen", "fold")


@dataclass(frozen=True, kw_only=True)
class Tiled:
    """One finished run.

    Attributes:
      document: JSON-able; counts and pseudonyms.
      manifest: of every tile in the output folder; None where there is none.
      private: folder of the thumbnails and the summary.
      failures: (path of the slide, rule) of those that gave no tile; names people, not for logs.
      warnings: what should be read; they name nobody.
      exit_code: 0, or the highest of the slides': 2 where one cannot be used, 3 where work failed.
    """

    document: TilingDocument
    manifest: Path | None
    private: Path
    failures: tuple[tuple[Path, str], ...]
    warnings: tuple[str, ...]
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What is known about the slides.

    Attributes:
      labels: their classes.
      patients: patient by stem, or None where there is no table.
      pattern: of the patient in a stem.
      micrometres: micrometres per level-0 pixel by the start of a stem, or shell pattern; "" is
      any. coordinates: folder of listed places, or None.
    """

    labels: LabelSource
    patients: Mapping[str, str] | None = None
    pattern: re.Pattern[str] | None = None
    micrometres: Mapping[str, float] = field(default_factory=dict)
    coordinates: Path | None = None

    def coordinates_of(self, slide: Given) -> Path | None:
        """The listed places of a slide's tiles; None where there are none for any slide.

        Raises:
          SlideError: this slide has none.
        """
        if self.coordinates is None:
            return None
        return coordinates_of(self.coordinates, *slide.stems).resolve()

    def patient_of(self, slide: Given) -> str | None:
        """Whose slide it is; None where it is not known.

        Raises:
          ConfigError: the names of a DICOM series tell several patients.
        """
        if self.patients is not None:
            row = one_of(slide, self.patients, "patient")
            if row is not None:
                return row
        found = {
            patient_of(stem, table=self.patients, pattern=self.pattern) for stem in slide.telling
        } - {None}
        if len(found) > 1:
            raise ConfigError(
                f"a DICOM series is of one patient: the names of the files in {slide.path.parent} "
                f"tell {len(found)}. Give `patients`, or another `patient_pattern`."
            )
        return next(iter(found), None)

    def mpp_of(self, *stems: str) -> float | None:
        """Micrometres a pixel that were given for a slide; the longest name that fits counts.

        Args:
          stems: what the slide may be called.
        """
        fitting = [name for name in self.micrometres if any(_fits(name, stem) for stem in stems)]
        return self.micrometres[max(fitting, key=len)] if fitting else None

    def idle(self, stems: Iterable[str]) -> list[str]:
        """Warnings about micrometres that fit no slide; they name none."""
        known = list(stems)
        idle = sum(not any(_fits(name, stem) for stem in known) for name in self.micrometres)
        return [f"{idle} of {len(self.micrometres)} `mpp_override` fit no slide."] if idle else []

    def require_slides(self, stems: Iterable[str]) -> None:
        """Refuse a table of patients that names none of the slides.

        Raises:
          ConfigError: it says what the table and the slides are called.
        """
        known = list(map(known_as, stems))
        if self.patients and not any(stem in self.patients for stem in known):
            raise ConfigError(
                f"a table of patients must name the slides: none of its {len(self.patients)} rows "
                f"(first: {next(iter(self.patients))}) fits one of {len(known)} slides (first: "
                f"{known[0]}). Write the file's name into the column slide."
            )


def _fits(name: str, stem: str) -> bool:
    return stem.startswith(name) or fnmatchcase(stem, name)


@dataclass(frozen=True, kw_only=True)
class OutputPlaces:
    """Where a run writes.

    Attributes:
      out: new, empty, or the folder of the same run.
      private: folder of the thumbnails and the summary, mode 0700.
      key: file of the pseudonyms' key, made where it is missing; not inside `out`.
    """

    out: Path
    private: Path
    key: Path


@dataclass(frozen=True, kw_only=True)
class Hands:
    """Who cuts.

    Attributes:
      workers: slides at a time on this machine.
      threads: of each slide.
      scheduler: address of a Dask scheduler, whose workers see the same folders; then `workers` and
        this machine are left out.
    """

    workers: int = 1
    threads: int = 1
    scheduler: str | None = None


def run(
    slides: Sequence[Path],
    settings: TilingSettings,
    sources: Sources,
    places: OutputPlaces,
    *,
    stain: Stain | None = None,
    hands: Hands | None = None,
    progress: Progress = lambda done: None,
) -> Tiled:
    """Cut slides into tiles, or resume.

    Args:
      slides: files, or folders of DICOM series; one that cannot be used costs itself alone.
      settings: what to cut.
      sources: classes, patients and micrometres per pixel.
      places: where to write.
      stain: stain normalisation.
      hands: who cuts; this process alone when None.
      progress: called with the slides done, fractions included.

    Raises:
      ConfigError: the same slide twice, no slide, other settings than the folder's.
      OutputError, DiskFullError: the output cannot be used.
    """
    if not slides:
        raise ConfigError("at least one slide is needed. Name files.")
    hands = hands or Hands()
    out, private = places.out, places.private
    gathered = gather(slides)
    given = gathered.slides
    gathered.require_clear(sources.patients, sources.labels.table)
    sources.require_slides(stem for slide in given for stem in slide.stems)
    if stain is not None:
        load_normaliser(*stain)  # refused here, once, instead of for every slide
    prepare(out, private, places.key)
    with locked(out, purpose="tiling"):
        names = Names(load_key(places.key))
        claim(out, settings, stain, names)
        for folder in (out, out / FOLDER, out / SHARDS, private, private / THUMBNAILS):
            if folder.is_dir():
                sweep_partial_files(folder)
        asked = _Asked(settings, sources, places, stain, hands.threads, names)
        jobs: dict[str, Job] = {}
        outcomes: list[SlideOutcome] = []
        for one in given:
            job = _job(one, asked)
            if isinstance(job, SlideOutcome):
                outcomes.append(job)
            else:
                jobs[job.slide] = job
        for outcome in outcomes:
            _log(out, outcome)
        # The largest first: the last to end is then a small one.
        ordered = sorted(jobs.values(), key=lambda job: (-job.size, job.slide))
        with closing(_carried_out(ordered, hands.workers, hands.scheduler, progress)) as ended:
            for outcome in ended:
                _log(out, outcome)
                outcomes.append(outcome)
        idle = sources.idle(stem for slide in given for stem in slide.stems)
        owners = {sources.patient_of(one) for one in given} - {None}
        warnings = [*gathered.warnings, *idle, *_alike({str(owner) for owner in owners})]
        paths = {names.pseudonym("slide", one.name): one.path for one in given}
        return _finish(out, private, settings, stain, names, outcomes, paths, warnings)


@dataclass(frozen=True)
class _Asked:
    """What every slide of a run is cut by."""

    settings: TilingSettings
    sources: Sources
    places: OutputPlaces
    stain: Stain | None
    threads: int
    names: Names


def _job(one: Given, asked: _Asked) -> Job | SlideOutcome:
    """What is to be done with one slide, or why it cannot be."""
    sources, places, stain = asked.sources, asked.places, asked.stain
    slide = asked.names.pseudonym("slide", one.name)
    owner = sources.patient_of(one)
    try:
        label, regions = sources.labels.of_slide(*one.stems)
        coordinates = sources.coordinates_of(one)
    except SlideError as error:
        before = read_part(places.out, slide)
        if before is not None:  # of a run whose table named it
            before.withdraw(places.out)
        return SlideOutcome(slide=slide, rule=error.rule, exit_code=error.exit_code)
    return Job(
        path=one.path.resolve(),
        files=tuple(path.resolve() for path in one.files) if one.series else (),
        slide=slide,
        patient=None if owner is None else asked.names.pseudonym("patient", owner),
        label=label,
        regions=None if regions is None else regions.resolve(),
        coordinates=coordinates,
        classes=sources.labels.classes,
        mpp=sources.mpp_of(*one.stems),
        settings=asked.settings,
        stain=None if stain is None else (stain[0], stain[1].resolve()),
        out=places.out.resolve(),
        private=places.private.resolve(),
        threads=asked.threads,
    )


def _alike(owners: set[str]) -> list[str]:
    """A warning where patients may be one person, written differently; it names nobody."""
    groups = alike_within(owners)
    if not groups:
        return []
    return [
        f"{sum(map(len, groups))} patients have names that differ only in case, leading zeros or "
        "signs from another's. Each got its own pseudonym: if some are one person, write it one "
        "way and tile again."
    ]


def _carried_out(
    jobs: list[Job], workers: int, scheduler: str | None, progress: Progress
) -> Generator[SlideOutcome, None, None]:
    if scheduler is None:
        yield from run_here(jobs, workers, progress)
        return
    from privgen.compute.dask import connect

    with connect(scheduler) as client:
        yield from run_on(jobs, client, progress)


def _log(out: Path, outcome: SlideOutcome) -> None:
    line: dict[str, object] = {"slide": outcome.slide}
    if outcome.rule is None:
        line |= {"tiles": outcome.tiles, "candidates": outcome.candidates, "new": outcome.fresh}
    else:
        line |= {"failed": outcome.rule}
    append_line(out / LOG, json.dumps(line))


def _finish(
    out: Path,
    private: Path,
    settings: TilingSettings,
    stain: Stain | None,
    names: Names,
    outcomes: list[SlideOutcome],
    paths: Mapping[str, Path],
    warnings: list[str],
) -> Tiled:
    clear_unfinished(out)
    failing = {outcome.slide for outcome in outcomes if outcome.rule is not None}
    every = read_parts(out)
    parts = [part for part in every if part.slide not in failing]
    if not parts:
        for left in out.glob("manifest.*"):
            left.unlink()
    manifest = write_joined(out, parts) if parts else None
    failed = [outcome for outcome in outcomes if outcome.rule is not None]
    document: TilingDocument = {
        "version": version("privgen"),
        "settings": described(settings, stain),
        "key": names.check,
        "slides": len(parts),
        "failed": sorted(
            ({"slide": outcome.slide, "rule": outcome.rule} for outcome in failed),
            key=lambda entry: str(entry["slide"]),
        ),
        **_counts(parts),
    }
    write_json(out / PARAMETERS, document)
    if parts:
        _picture(private, parts)
    return Tiled(
        document=document,
        manifest=manifest,
        private=private,
        failures=tuple((paths[outcome.slide], str(outcome.rule)) for outcome in failed),
        warnings=(*warnings, *_warnings(every, parts, paths)),
        exit_code=max((outcome.exit_code for outcome in outcomes), default=0),
    )


def _warnings(
    every: list[SlidePart], parts: list[SlidePart], paths: Mapping[str, Path]
) -> list[str]:
    """What should be read of finished parts; it names nobody."""
    warnings = []
    unknown = sum(not part.columns["patient"][0] for part in parts)
    if unknown == len(parts):
        warnings.append(
            "no patient is known: the slide will be the unit of splits, and one patient may stand "
            "on both sides. Give `patients` or `patient_pattern`."
        )
    elif unknown:
        warnings.append(
            f"the patient is not known for {unknown} of {len(parts)} slides: each of them stands "
            "for a patient of its own. Slides of one patient may part; complete the table."
        )
    earlier = sum(part.slide not in paths for part in parts)
    if earlier:
        warnings.append(
            f"the manifest also holds {earlier} slides of earlier runs. To leave them out, start "
            "with a new `out`."
        )
    kept = len(every) - len(parts)
    if kept:
        warnings.append(
            f"{kept} slides that gave no tile now were cut by an earlier run: their tiles are not "
            "in the manifest, and come back to it once the slides can be used. Until then give "
            "other commands the manifest itself, not the folder."
        )
    unseen = sum(part.unseen > 0 for part in parts)
    if unseen:
        warnings.append(
            f"{unseen} slides (OME-TIFF) keep their lower levels where OpenSlide does not look: "
            "tiles were cut from level 0, which is right and slower."
        )
    lists = [part.listed for part in parts if part.listed is not None]
    return [*warnings, *listed.warnings(lists), *annotated.warnings(_annotated(parts))]


def _annotated(parts: list[SlidePart]) -> list[annotated.Annotated]:
    return [part.annotated for part in parts if part.annotated is not None]


def _counts(parts: list[SlidePart]) -> TilingCounts:
    labels = Counter(label for part in parts for label in part.columns["label"])
    owners = [part.columns["patient"][0] for part in parts]
    known, unknown = {owner for owner in owners if owner}, owners.count("")
    about = _annotated(parts)
    return {
        "tiles": sum(map(len, parts)),
        "candidates": sum(part.candidates for part in parts),
        "patients": len(known) + unknown if known else None,
        "unstained": sum(part.unstained for part in parts),
        "classes": dict(sorted(labels.items())),
        "annotations": annotated.told(about) if about else None,
        "levels_unseen": sum(part.unseen > 0 for part in parts),
    }


def _picture(private: Path, parts: list[SlidePart]) -> None:
    table = {
        name: [value for part in parts for value in part.columns[name]] for name in _SUMMARY_COLUMNS
    }
    summary_figure(table, private / "summary.png")
