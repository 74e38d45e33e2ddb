"""A folder of synthetic tiles: any number of them, by any number of machines, resumable.

`sample.json` is written first and says what the folder is a sample of; no path and nothing of the
training data stands in it. Files appear whole or not at all (`privgen.release.image_files`), so the
same call on the same folder makes what is missing and nothing else, after a kill as well.

A part of a sample (`Part`) is a contiguous range of its files. Parts made on several machines, into
one folder or into folders merged afterwards, are together what one call writes, file by file; bit
for bit where the machines round alike (`privgen.sampling`). A call for the whole sample on the
merged folder makes what is still missing.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from privgen import console
from privgen.errors import ConfigError, Interrupted, OutputError
from privgen.files import empty_folder, sweep_partial_files, write_json
from privgen.phases import phase
from privgen.release.artificial import artificial_sentence
from privgen.release.image_files import NpzFiles, PngFiles, Sample, SampleFiles
from privgen.release.probing import probed
from privgen.release.requests import SampleRequest
from privgen.requests import made
from privgen.sampling import LoadedGenerator, label_numbers

PARAMETERS = "sample.json"
"""Name of the file that says what a folder is a sample of."""


@dataclass(frozen=True, kw_only=True)
class SamplePart:
    """One of several equal parts of a sample, for one of several machines.

    Attributes:
      number: which, from 1.
      parts: how many there are.

    Raises:
      ConfigError: there is no such part.
    """

    number: int = 1
    parts: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.parts:
            raise ConfigError(
                f"a shard is K/N with K from 1 to N: got {self.number}/{self.parts}. "
                "Give, say, 1/4 to 4/4."
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """The part called `2/8`.

        Raises:
          ConfigError: the text is no such part.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if found is None:
            raise ConfigError(f"a shard is K/N: got {text!r}. Give, say, 1/4 to 4/4.")
        return cls(number=int(found[1]), parts=int(found[2]))

    def images(self, count: int, unit: int) -> tuple[int, int]:
        """First image of this part, and the one after its last.

        Args:
          count: images of the whole sample.
          unit: ends are multiples of it, or `count`.
        """
        units = -(-count // unit)
        first, end = ((k * units // self.parts) * unit for k in (self.number - 1, self.number))
        return min(first, count), min(end, count)


WHOLE = SamplePart()


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a call of `write_samples` did.

    Attributes:
      classes: tiles of each class in the part asked for.
      made: tiles made by this call.
      kept: tiles that were there already.
      constant: tiles without any structure among those looked at by this call.
    """

    classes: dict[str, int]
    made: int
    kept: int
    constant: int


def write_samples(
    generator: LoadedGenerator,
    folder: Path | str,
    request: SampleRequest | None = None,
    /,
    *,
    part: SamplePart = WHOLE,
    **options: Any,
) -> Written:
    """Write a sample, or go on with it where an earlier call stopped; memory stays bounded.

    Args:
      generator: any.
      folder: empty, new, or begun by the same call. What a killed call left half written is swept
        away by a call for the whole sample, so let no other write there meanwhile.
      request: how many tiles, and how they are drawn and kept; or give its fields as options.
      part: which part of the sample to write.
      options: fields of `SampleRequest`.

    Raises:
      ConfigError: an option is out of range, or a class name cannot be a folder's.
      InputError: a class is constant, `privgen.data.constant`.
      OutputError: `folder` holds something else, or a sample with other parameters; or it cannot
        be written.
      DiskFullError: no space is left.
      Interrupted: Ctrl-C; the same call goes on.
    """
    asked = made(SampleRequest, options) if request is None else request
    folder, count = Path(folder), asked.count
    label_numbers(generator, [], balance=asked.balance)
    sample = Sample(
        generator=generator,
        count=count,
        seed=asked.seed,
        balance=asked.balance,
        truncation=asked.truncation,
    )
    files = _files(sample, folder, asked.format, asked.tiles_per_file)
    parameters: dict[str, object] = {
        "schema": "privgen-sample/1",
        "privgen_version": version("privgen"),
        "generator": generator.digest,
        "family": generator.family,
        "resolution": generator.resolution,
        "count": count,
        "seed": asked.seed,
        "balance": asked.balance,
        "truncation": float(asked.truncation),
        "format": asked.format,
        "tiles_per_file": files.unit if asked.format == "npz" else None,
    }
    if generator.artificial:
        parameters["artificial_patients"] = generator.artificial
        console.warn(artificial_sentence(generator.artificial))
    probed(generator, seed=asked.seed, truncation=asked.truncation)
    _begin(folder, parameters, files)
    if part == WHOLE:
        for place in files.folders():
            sweep_partial_files(place)
    first, end = part.images(count, files.unit)
    files.prepare(first, end)
    new = 0
    try:
        with phase("sampling", total=end - first) as sampling:
            for start in range(first, end, files.unit):
                stop = min(start + files.unit, end)
                new += files.write(start, stop)
                sampling.advance(stop - start)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"interrupted after {new} new tiles; the same command goes on where it stopped."
        ) from error
    if sample.constants.count:
        console.warn(sample.constants.sentence())
    return Written(
        classes=sample.classes(first, end),
        made=new,
        kept=end - first - new,
        constant=sample.constants.count,
    )


def _files(sample: Sample, folder: Path, format: str, tiles_per_file: int | None) -> SampleFiles:
    if format == "npz":
        return NpzFiles(sample, folder, tiles_per_file=tiles_per_file)
    if format != "png":
        raise ConfigError(f"format must be png or npz: got {format!r}.")
    if tiles_per_file is not None:
        raise ConfigError(
            f"a PNG file holds one tile: got {tiles_per_file} tiles per file. Give `format=npz`, "
            "or leave that out."
        )
    return PngFiles(sample, folder)


def _begin(folder: Path, parameters: Mapping[str, object], files: SampleFiles) -> None:
    """Write the parameters into an empty folder; elsewhere they must be the same already.

    Hidden files are passed over: another part may be writing its `sample.json` just now.
    """
    file = folder / PARAMETERS
    try:
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
        elif not folder.is_dir() or (_visible(folder) and not file.exists()):
            empty_folder(folder)
        if not file.exists():
            write_json(file, parameters)
        found = dict(json.loads(file.read_text()))
        names = _visible(folder)
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(
            f"cannot tell what {folder} is a sample of: {error}. Give a new `out`."
        ) from error
    differing = [
        f"{key} {found.get(key)} there, {parameters.get(key)} asked for"
        for key in dict.fromkeys([*parameters, *found])
        if found.get(key) != parameters.get(key)
    ]
    if differing:
        raise OutputError(
            f"{folder} holds a sample with other parameters: {'; '.join(differing)}. "
            "Give a new `out`, or the parameters it was begun with."
        )
    strangers = [name for name in names if name != PARAMETERS and not files.owns(name)]
    if strangers:
        raise OutputError(
            f"the folder of a sample holds nothing else: {folder} holds {strangers[0]}. "
            "Give a new `out`, or move that away."
        )


def _visible(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
