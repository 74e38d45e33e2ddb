"""Files of a sample: what they hold, how they are called, and that both formats open as tiles."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from privgen import files
from privgen.config import TrainConfig
from privgen.data.images import read_tile
from privgen.data.layouts import open_tiles
from privgen.errors import ConfigError, DiskFullError, OutputError
from privgen.models import build_generator
from privgen.release.image_files import MOST_BYTES, MOST_TILES, NpzFiles, PngFiles, Sample
from privgen.sampling import CHUNK, LoadedGenerator, sample

SEED, COUNT = 7, 70


def a_generator(classes: tuple[str, ...] = ("STR", "TUM"), resolution: int = 32) -> LoadedGenerator:
    torch.manual_seed(0)
    config = TrainConfig(resolution=resolution, width=4)
    return LoadedGenerator(
        network=build_generator(config, len(classes)).eval().requires_grad_(False),
        family="cdcgan",
        classes=classes,
        class_share=(1 / len(classes),) * len(classes),
        resolution=resolution,
    )


def asked(generator: LoadedGenerator, count: int = COUNT) -> Sample:
    return Sample(generator=generator, count=count, seed=SEED, balance="uniform", truncation=1.0)


@pytest.fixture(scope="module")
def generator() -> LoadedGenerator:
    return a_generator()


def test_png_files_hold_the_sample_and_open_as_class_folders(
    generator: LoadedGenerator, tmp_path: Path
) -> None:
    writer = PngFiles(asked(generator), tmp_path)
    for start in range(0, COUNT, CHUNK):
        assert writer.write(start, min(start + CHUNK, COUNT)) == min(CHUNK, COUNT - start)
    tiles, names = sample(generator, COUNT, seed=SEED, balance="uniform")
    for index, (tile, name) in enumerate(zip(tiles, names, strict=True)):
        np.testing.assert_array_equal(read_tile(tmp_path / name / f"{index:06d}.png"), tile)
    opened = open_tiles(tmp_path)
    assert len(opened) == COUNT
    assert opened.classes == ("STR", "TUM")


def test_png_names_sort_as_their_images_beyond_a_million(
    generator: LoadedGenerator, tmp_path: Path
) -> None:
    writer = PngFiles(asked(generator, 2_000_000), tmp_path)
    writer.write(999_968, 1_000_000)
    writer.write(1_000_000, 1_000_032)
    names = sorted(path.name for path in (tmp_path / "STR").iterdir())
    assert (names[0], names[-1]) == ("0999968.png", "1000030.png")


def test_npz_files_hold_the_sample_and_each_opens_by_itself(
    generator: LoadedGenerator, tmp_path: Path
) -> None:
    writer = NpzFiles(asked(generator), tmp_path, tiles_per_file=CHUNK)
    assert [writer.write(0, 32), writer.write(32, 64), writer.write(64, 70)] == [32, 32, 6]
    names = [f"synthetic-0000{number}.npz" for number in range(3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    opened = [open_tiles(tmp_path / name) for name in names]
    tiles, labels = sample(generator, COUNT, seed=SEED, balance="uniform")
    np.testing.assert_array_equal(np.concatenate([each.load() for each in opened]), tiles)
    np.testing.assert_array_equal(np.concatenate([each.labels for each in opened]), labels)


def test_an_npz_file_carries_no_time(generator: LoadedGenerator, tmp_path: Path) -> None:
    NpzFiles(asked(generator), tmp_path, tiles_per_file=CHUNK).write(0, 32)
    with zipfile.ZipFile(tmp_path / "synthetic-00000.npz") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize(("side", "tiles"), [(32, MOST_TILES), (64, MOST_TILES), (256, 1344)])
def test_npz_files_are_bounded_in_tiles_and_bytes(side: int, tiles: int, tmp_path: Path) -> None:
    unit = NpzFiles(asked(a_generator(resolution=side)), tmp_path, tiles_per_file=None).unit
    assert unit == tiles <= 10_000
    assert unit % CHUNK == 0
    assert unit * 3 * side**2 <= MOST_BYTES


@pytest.mark.parametrize("wrong", [0, 16, 33, -32])
def test_tiles_per_file_must_be_whole_chunks(
    wrong: int, generator: LoadedGenerator, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"multiple of 32: got {wrong}"):
        NpzFiles(asked(generator), tmp_path, tiles_per_file=wrong)


def test_only_a_samples_own_names_are_owned(generator: LoadedGenerator, tmp_path: Path) -> None:
    archives = NpzFiles(asked(generator), tmp_path, tiles_per_file=CHUNK)
    assert archives.owns("synthetic-00002.npz")
    for other in ("synthetic-00003.npz", "synthetic-000002.npz", "STR", "notes.txt"):
        assert not archives.owns(other)
    pictures = PngFiles(asked(generator), tmp_path)
    assert pictures.owns("TUM")
    assert not pictures.owns("synthetic-00002.npz")


@pytest.mark.parametrize(
    "name", ["../up", "/etc", "a/b", "a\\b", "..", "", ".hidden", "sample.json"]
)
def test_a_class_that_could_leave_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a class name"):
        PngFiles(asked(a_generator(("STR", name))), tmp_path)
    assert not list(tmp_path.iterdir())


def test_npz_files_that_will_not_fit_are_refused_before_the_work(
    generator: LoadedGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = NpzFiles(asked(generator), tmp_path, tiles_per_file=CHUNK)
    writer.write(0, 32)
    missing = (COUNT - 32) * 3 * 32**2

    class Usage:
        free = missing - 1

    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(DiskFullError, match="not enough space"):
        writer.prepare(0, COUNT)
    Usage.free = missing
    writer.prepare(0, COUNT)


def test_a_file_in_place_of_a_class_folder_is_one_clear_error(
    generator: LoadedGenerator, tmp_path: Path
) -> None:
    (tmp_path / "STR").write_text("not a folder")
    with pytest.raises(OutputError, match="STR"):
        PngFiles(asked(generator), tmp_path).write(0, 32)
    assert (tmp_path / "STR").read_text() == "not a folder"
