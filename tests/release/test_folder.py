"""A folder of synthetic tiles: resumed, sharded, and never mixed with anything else."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from privgen.checkpoints import state
from privgen.checkpoints.state import GeneratorState
from privgen.config import TrainConfig
from privgen.errors import ConfigError, Interrupted, OutputError
from privgen.files import sha256_file
from privgen.models import build_generator
from privgen.release.folder import SamplePart, write_samples
from privgen.release.requests import Format
from privgen.sampling import CHUNK, LoadedGenerator, load_generator

CONFIG = TrainConfig(resolution=32, width=4)
COUNT = 150
FORMATS: dict[Format, int | None] = {"png": None, "npz": CHUNK}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("generator") / "secret-study.safetensors"
    tensors = build_generator(CONFIG, 2).state_dict()
    kept = GeneratorState(
        config=CONFIG, classes=("STR", "TUM"), class_share=(0.7, 0.3), tensors=tensors
    )
    state.save_generator(path, kept)
    return path


@pytest.fixture(scope="module")
def generator(file: Path) -> LoadedGenerator:
    return load_generator(file)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below, hidden ones too."""
    return {
        str(path.relative_to(folder)): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("format", FORMATS)
def test_parts_together_are_the_whole_file_by_file(
    format: Format, generator: LoadedGenerator, tmp_path: Path
) -> None:
    size = FORMATS[format]
    options: dict[str, Any] = {"count": COUNT, "seed": 3, "format": format, "tiles_per_file": size}
    whole = write_samples(generator, tmp_path / "whole", **options)
    parts = [
        write_samples(
            generator, tmp_path / "merged", part=SamplePart(number=number, parts=7), **options
        )
        for number in (3, 7, 1, 2, 6, 5, 4)
    ]
    assert digests(tmp_path / "merged") == digests(tmp_path / "whole")
    assert sum(part.made for part in parts) == whole.made == COUNT
    for name in ("STR", "TUM"):
        assert sum(part.classes[name] for part in parts) == whole.classes[name]


def test_a_part_by_itself_holds_its_range_of_images(
    generator: LoadedGenerator, tmp_path: Path
) -> None:
    part = SamplePart(number=2, parts=2)
    written = write_samples(generator, tmp_path / "o", count=COUNT, seed=3, part=part)
    numbers = sorted(int(path.stem) for path in (tmp_path / "o").rglob("*.png"))
    assert numbers == list(range(64, COUNT))
    assert (written.made, written.kept) == (COUNT - 64, 0)


@pytest.mark.parametrize("unit", [32, 96])
@pytest.mark.parametrize("parts", [1, 3, 8])
@pytest.mark.parametrize("count", [1, 32, 97, 1000])
def test_parts_are_contiguous_aligned_and_even(count: int, parts: int, unit: int) -> None:
    ranges = [SamplePart(number=k + 1, parts=parts).images(count, unit) for k in range(parts)]
    assert [ranges[0][0], ranges[-1][1]] == [0, count]
    for (_, end), (start, _) in pairwise(ranges):
        assert end == start
        assert end % unit == 0 or end == count
    units = [-(-(end - start) // unit) for start, end in ranges]
    assert max(units) - min(units) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "2", "a/b", "1/2/3", "-1/2", "1.5/2", ""])
def test_a_part_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="a shard is K/N"):
        SamplePart.parse(text)


def test_a_part_is_read_as_people_write_it() -> None:
    assert SamplePart.parse("2/8") == SamplePart(number=2, parts=8)


KILLED = """
import sys
from pathlib import Path
from privgen.release.folder import write_samples
from privgen.sampling import load_generator
write_samples(load_generator(Path(sys.argv[1])), Path(sys.argv[2]), count=640, seed=5)
"""


def test_a_killed_run_goes_on_to_the_very_same_files(
    generator: LoadedGenerator, file: Path, tmp_path: Path
) -> None:
    begun, whole = tmp_path / "begun", tmp_path / "whole"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(file), str(begun)],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    deadline = time.monotonic() + 60
    while len(list(begun.rglob("*.png"))) < 60 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    there = {name: digest for name, digest in digests(begun).items() if ".partial-" not in name}
    assert 60 <= sum(name.endswith(".png") for name in there) < 640
    (begun / "STR" / ".partial-left").write_bytes(b"half a tile")

    resumed = write_samples(generator, begun, count=640, seed=5)
    assert 0 < resumed.made < 640
    assert resumed.made + resumed.kept == 640
    write_samples(generator, whole, count=640, seed=5)
    after = digests(begun)
    assert after == digests(whole)
    assert there.items() <= after.items()


def test_an_archive_that_is_missing_is_made_again_with_the_same_bytes(
    generator: LoadedGenerator, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"count": COUNT, "seed": 5, "format": "npz", "tiles_per_file": CHUNK}
    write_samples(generator, tmp_path, **options)
    before = digests(tmp_path)
    (tmp_path / "synthetic-00001.npz").unlink()
    (tmp_path / ".partial-left").write_bytes(b"half an archive")
    again = write_samples(generator, tmp_path, **options)
    assert (again.made, again.kept) == (32, COUNT - 32)
    assert digests(tmp_path) == before


@pytest.mark.parametrize("format", FORMATS)
def test_a_finished_folder_has_nothing_to_do(
    format: Format, generator: LoadedGenerator, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "count": 40,
        "seed": 1,
        "format": format,
        "tiles_per_file": FORMATS[format],
    }
    write_samples(generator, tmp_path, **options)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = write_samples(generator, tmp_path, **options)
    assert (again.made, again.kept) == (0, 40)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times


def test_only_what_is_missing_or_empty_is_made_again(
    generator: LoadedGenerator, tmp_path: Path
) -> None:
    write_samples(generator, tmp_path, count=40, seed=1)
    before = digests(tmp_path)
    first, second, *_ = sorted(tmp_path.rglob("*.png"))
    first.unlink()
    second.write_bytes(b"")
    again = write_samples(generator, tmp_path, count=40, seed=1)
    assert (again.made, again.kept) == (2, 38)
    assert digests(tmp_path) == before


def test_other_parameters_are_refused_by_name(generator: LoadedGenerator, tmp_path: Path) -> None:
    write_samples(generator, tmp_path, count=10, seed=1)
    before = digests(tmp_path)
    with pytest.raises(OutputError) as caught:
        write_samples(generator, tmp_path, count=12, seed=1, truncation=0.5)
    message = str(caught.value)
    assert "count 10 there, 12 asked for" in message
    assert "truncation 1.0 there, 0.5 asked for" in message
    assert "seed" not in message
    with pytest.raises(OutputError, match="format png there, npz asked for"):
        write_samples(generator, tmp_path, count=10, seed=1, format="npz")
    assert digests(tmp_path) == before


def test_other_weights_are_refused(generator: LoadedGenerator, file: Path, tmp_path: Path) -> None:
    write_samples(generator, tmp_path, count=4, seed=1)
    other = load_generator(file)
    with torch.no_grad():
        next(other.network.parameters()).add_(0.01)
    with pytest.raises(OutputError, match=r"generator .* there"):
        write_samples(other, tmp_path, count=4, seed=1)


def test_a_folder_that_holds_something_else_is_left_alone(
    generator: LoadedGenerator, tmp_path: Path
) -> None:
    (tmp_path / "precious.txt").write_text("keep me")
    with pytest.raises(OutputError, match=r"must be empty: .* holds precious\.txt"):
        write_samples(generator, tmp_path, count=4, seed=1)
    assert digests(tmp_path).keys() == {"precious.txt"}


def test_a_stranger_beside_a_sample_is_refused(generator: LoadedGenerator, tmp_path: Path) -> None:
    write_samples(generator, tmp_path, count=4, seed=1)
    (tmp_path / "other").mkdir()
    with pytest.raises(OutputError, match=r"holds nothing else: .* holds other"):
        write_samples(generator, tmp_path, count=4, seed=1)


def test_a_file_in_place_of_the_folder_is_refused(
    generator: LoadedGenerator, tmp_path: Path
) -> None:
    (tmp_path / "o").write_text("keep me")
    with pytest.raises(OutputError, match="must be a folder"):
        write_samples(generator, tmp_path / "o", count=4, seed=1)


@pytest.mark.parametrize("content", ["", "[]", "[1]", "{", "7"])
def test_a_damaged_parameter_file_is_refused(
    content: str, generator: LoadedGenerator, tmp_path: Path
) -> None:
    (tmp_path / "sample.json").write_text(content)
    with pytest.raises(OutputError, match=r"what .* is a sample of|other parameters"):
        write_samples(generator, tmp_path, count=4, seed=1)
    assert (tmp_path / "sample.json").read_text() == content


def test_another_part_just_beginning_is_no_stranger(
    generator: LoadedGenerator, tmp_path: Path
) -> None:
    (tmp_path / ".partial-sample").write_text("another machine writes here")
    write_samples(generator, tmp_path, count=64, seed=1, part=SamplePart(number=2, parts=2))
    assert (tmp_path / ".partial-sample").exists()
    assert len(list(tmp_path.rglob("*.png"))) == 32


def test_the_parameter_file_says_what_was_sampled_and_no_place(
    generator: LoadedGenerator, file: Path, tmp_path: Path
) -> None:
    write_samples(generator, tmp_path / "o", count=4, seed=9, balance="uniform", truncation=0.5)
    text = (tmp_path / "o" / "sample.json").read_text()
    found = json.loads(text)
    assert found.pop("privgen_version")
    assert found == {
        "schema": "privgen-sample/1",
        "generator": generator.digest,
        "family": "cdcgan",
        "resolution": 32,
        "count": 4,
        "seed": 9,
        "balance": "uniform",
        "truncation": 0.5,
        "format": "png",
        "tiles_per_file": None,
    }
    assert "/" not in text.replace("privgen-sample/1", "")
    assert "secret" not in text


def test_ctrl_c_says_how_to_go_on(
    generator: LoadedGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = LoadedGenerator.generate

    def stopping(self: LoadedGenerator, seed: int, indices: Any, labels: Any, **how: Any) -> Any:
        if indices[0] == 64:
            raise KeyboardInterrupt
        return generate(self, seed, indices, labels, **how)

    monkeypatch.setattr(LoadedGenerator, "generate", stopping)
    with pytest.raises(Interrupted, match="after 64 new tiles; the same command goes on"):
        write_samples(generator, tmp_path, count=100, seed=1)
    monkeypatch.undo()
    assert write_samples(generator, tmp_path, count=100, seed=1).made == 36


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, "`count` must be 1 or more"),
        ({"truncation": 2.0}, "`truncation` must be from 0 to 1"),
        ({"format": "tiff"}, "`format` must be one of png, npz: got 'tiff'"),
        ({"tiles_per_file": 32}, "a PNG file holds one tile"),
        ({"balance": "equal"}, "`balance` must be one of"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    options: dict[str, Any], words: str, generator: LoadedGenerator, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        write_samples(generator, tmp_path / "o", **{"count": 4, "seed": 1, **options})
    assert not (tmp_path / "o").exists()
