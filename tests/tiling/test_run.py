"""A run: tiles, manifest and counts as asked; going on; what is refused."""

import csv
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.data import images
from privgen.data.layouts import open_tiles
from privgen.errors import ConfigError, DiskFullError, OutputError
from privgen.tiling import job as jobs
from privgen.tiling.job import tile_slide
from privgen.tiling.labels import open_labels
from privgen.tiling.names import Names, load_key
from privgen.tiling.parts import read_part
from privgen.tiling.requests import TilingRequest
from privgen.tiling.run import Sources, Tiled
from privgen.tiling.session import tile_slides
from privgen.tiling.settings import Output, settings_of
from tests.helpers.slide_files import write_slide

SMALL: dict[str, Any] = {"size": 64, "mpp": 0.5}


def tissue(seed: int) -> NDArray[np.uint8]:
    """512 x 384 px of pink and purple cells with a white margin of 128 px on the left."""
    rng = np.random.default_rng(seed)
    whole = np.full((384, 512, 3), 245, dtype=np.uint8)
    purple = rng.random((48, 48)).repeat(8, axis=0).repeat(8, axis=1)[..., np.newaxis] < 0.3
    stained = np.where(purple, (110, 60, 150), (215, 140, 190))
    whole[:, 128:] = stained + rng.integers(-15, 16, (384, 384, 3))
    return whole


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[np.uint8]]:
    """Pixels of three slides by path; two are of one TCGA patient."""
    folder = tmp_path_factory.mktemp("slides")
    made = {}
    for seed, stem in enumerate(("TCGA-AA-0001-01", "TCGA-AA-0001-02", "TCGA-BB-0002-01")):
        pixels = tissue(seed)
        write_slide(folder / f"{stem}.tif", pixels, mpp=0.5)
        made[str(folder / f"{stem}.tif")] = pixels
    return made


Run = Callable[..., Tiled]


@pytest.fixture
def run(slides: dict[str, NDArray[np.uint8]], tmp_path: Path) -> Run:
    """Tile the slides into tmp_path/out, in one process of one thread."""

    def started(
        *,
        paths: list[Path] | None = None,
        name: str = "out",
        labels: Path | None = None,
        **asked: Any,
    ) -> Tiled:
        return tile_slides(
            paths or list(slides),
            tmp_path / name,
            labels=labels,
            private=tmp_path / "private",
            **{**SMALL, **asked},
        )

    return started


def rows(manifest: Path | None) -> list[dict[str, str]]:
    assert manifest is not None
    with manifest.open(newline="") as stream:
        return list(csv.DictReader(stream))


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of every file but the log, which says which run cut what."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.endswith(("log.jsonl", ".lock"))
    }


def test_every_tile_is_the_slide_at_its_row_and_patients_are_pseudonyms(
    run: Run, slides: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    tiled = run()
    assert tiled.exit_code == 0
    assert not tiled.failures
    found = rows(tiled.manifest)
    assert len(found) == tiled.document["tiles"] == 3 * 6 * 6  # 384 x 384 px of tissue per slide
    assert tiled.document["patients"] == 2
    by_slide = {row["slide"] for row in found}
    assert len(by_slide) == 3
    names = Names(load_key(tmp_path / "private" / "key"))
    pictures = {names.pseudonym("slide", Path(path).stem): slides[path] for path in slides}
    owners = {
        names.pseudonym("slide", stem): names.pseudonym("patient", stem[:12])
        for stem in (Path(path).stem for path in slides)
    }
    for row in found:
        tile = images.read_tile(tmp_path / "out" / row["path"])
        assert images.pixel_digest(tile) == row["sha256"]
        x, y = int(row["x"]), int(row["y"])
        np.testing.assert_array_equal(pictures[row["slide"]][y : y + 64, x : x + 64], tile)
        assert row["patient"] == owners[row["slide"]]
        assert float(row["mpp"]) == 0.5
        assert float(row["tissue"]) >= 0.5
    opened = open_tiles(tmp_path / "out", min_classes=1)
    assert opened.group_unit == "patient"
    assert len(opened) == len(found)
    assert not opened.skipped


def test_a_second_run_cuts_nothing_and_ends_with_the_same_bytes(run: Run, tmp_path: Path) -> None:
    run()
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "log.jsonl").unlink()
    run()
    assert contents(tmp_path / "out") == before
    log = map(json.loads, (tmp_path / "out" / "log.jsonl").read_text().splitlines())
    assert [line["new"] for line in log] == [False] * 3


def test_a_slide_whose_tile_vanished_is_cut_again(run: Run, tmp_path: Path) -> None:
    tiled = run()
    before = contents(tmp_path / "out")
    (tmp_path / "out" / rows(tiled.manifest)[0]["path"]).unlink()
    run()
    assert contents(tmp_path / "out") == before


def test_the_same_slides_give_the_same_bytes_under_the_same_key(run: Run, tmp_path: Path) -> None:
    run()
    run(name="other")
    assert contents(tmp_path / "out") == contents(tmp_path / "other")


def test_another_key_gives_other_pseudonyms_and_the_same_pixels(run: Run, tmp_path: Path) -> None:
    first = rows(run().manifest)
    (tmp_path / "private" / "key").unlink()
    second = rows(run(name="other").manifest)
    assert not {row["slide"] for row in first} & {row["slide"] for row in second}
    assert sorted(row["sha256"] for row in first) == sorted(row["sha256"] for row in second)


def test_tar_shards_open_as_the_class_folders_do(run: Run, tmp_path: Path) -> None:
    run()
    run(name="tar", layout="tar")
    folders = open_tiles(tmp_path / "out", min_classes=1)
    shards = open_tiles(tmp_path / "tar", min_classes=1)
    np.testing.assert_array_equal(folders.load(), shards.load())
    assert list(folders.digests) == list(shards.digests)
    assert not list((tmp_path / "tar").rglob("*.png"))


def test_classes_come_from_the_table_and_a_changed_one_moves_the_tiles(
    run: Run, slides: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    table = tmp_path / "labels.csv"
    stems = [Path(path).stem for path in slides]
    table.write_text("slide,label\n" + "".join(f"{stem},tumour\n" for stem in stems[:2]))
    tiled = run(labels=table)
    assert tiled.exit_code == 2  # the third has no row
    assert [path.stem for path, _ in tiled.failures] == [stems[2]]
    assert tiled.document["classes"] == {"tumour": 72}
    table.write_text(f"slide,label\n{stems[0]},tumour\n{stems[1]},stroma\n{stems[2]},stroma\n")
    tiled = run(labels=table)
    assert tiled.exit_code == 0
    assert tiled.document["classes"] == {"stroma": 72, "tumour": 36}
    listed = {row["path"] for row in rows(tiled.manifest)}
    there = {
        file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.png")
    }
    assert there == listed


def test_regions_give_tiles_their_class_and_leave_out_the_rest(
    run: Run, slides: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    folder = tmp_path / "regions"
    folder.mkdir()
    path = Path(next(iter(slides)))
    square = [[256, 0], [512, 0], [512, 128], [256, 128], [256, 0]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [square]},
        "properties": {"classification": {"name": "Tumor"}},
    }
    document = {"type": "FeatureCollection", "features": [feature]}
    (folder / f"{path.stem}.geojson").write_text(json.dumps(document))
    found = rows(run(paths=[path], labels=folder).manifest)
    assert {(int(row["x"]), int(row["y"])) for row in found} == {
        (x, y) for x in (256, 320, 384, 448) for y in (0, 64)
    }
    assert {row["label"] for row in found} == {"Tumor"}


def test_a_broken_slide_costs_itself_alone(
    run: Run, slides: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    good = run(name="alone")
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"no slide")
    everything = [*map(Path, slides), broken]
    tiled = run(paths=everything)
    assert tiled.exit_code == 2
    assert tiled.failures[0][0] == broken
    assert rows(tiled.manifest) == rows(good.manifest)
    assert "broken" not in (tmp_path / "out" / "log.jsonl").read_text()
    assert "broken" not in json.dumps(tiled.document)


def test_a_slide_that_cannot_be_opened_any_more_keeps_its_tiles_for_later(
    run: Run, slides: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    copied = tmp_path / "copied.tif"
    shutil.copy2(next(iter(slides)), copied)
    everything = [*map(Path, slides), copied]
    run(paths=everything)
    before = contents(tmp_path / "out")
    away = copied.rename(tmp_path / "away.tif")
    tiled = run(paths=everything)
    assert tiled.exit_code == 2
    assert any("come back" in warning for warning in tiled.warnings)
    assert len(rows(tiled.manifest)) == 108
    assert all((tmp_path / "out" / row["path"]).is_file() for row in rows(tiled.manifest))
    away.rename(copied)
    run(paths=everything)
    assert contents(tmp_path / "out") == before


def test_a_slide_that_changed_is_cut_again(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.tif"
    write_slide(path, tissue(7), mpp=0.5, compression=None)
    size = path.stat().st_size
    before = {row["sha256"] for row in rows(run(paths=[path]).manifest)}
    write_slide(path, tissue(8), mpp=0.5, compression=None)
    assert path.stat().st_size == size
    after = {row["sha256"] for row in rows(run(paths=[path]).manifest)}
    assert not before & after


def test_a_slide_without_a_label_any_more_leaves_no_tile_behind(
    run: Run, slides: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    table = tmp_path / "labels.csv"
    stems = [Path(path).stem for path in slides]
    table.write_text("slide,label\n" + "".join(f"{stem},tumour\n" for stem in stems))
    run(labels=table)
    table.write_text("slide,label\n" + "".join(f"{stem},tumour\n" for stem in stems[1:]))
    tiled = run(labels=table)
    assert tiled.exit_code == 2
    there = {
        file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.png")
    }
    assert there == {row["path"] for row in rows(tiled.manifest)}
    assert len(there) == 72


def test_another_key_in_the_same_folder_is_refused(run: Run, tmp_path: Path) -> None:
    run()
    before = contents(tmp_path / "out")
    (tmp_path / "private" / "key").unlink()
    with pytest.raises(ConfigError, match="another key"):
        run()
    assert contents(tmp_path / "out") == before


def test_slides_of_earlier_calls_stay_and_are_told(
    run: Run, slides: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    write_slide(tmp_path / "nobody.tif", tissue(5), mpp=0.5)
    run(paths=[tmp_path / "nobody.tif"])
    tiled = run(paths=[*map(Path, slides)])
    assert any("1 slides of earlier runs" in warning for warning in tiled.warnings)
    assert any("not known for 1 of 4 slides" in warning for warning in tiled.warnings)
    patients = {row["patient"] for row in rows(tiled.manifest)}
    assert (
        tiled.document["patients"] == len(patients) == 3
    )  # the slide that is nobody's stands for a patient of its own
    assert open_tiles(tmp_path / "out", min_classes=1).group_unit == "patient"


def test_settings_of_a_run_that_cut_nothing_bind_nobody(run: Run) -> None:
    assert run(mpp=0.1).exit_code == 2  # finer than the scan
    assert run().exit_code == 0


def test_files_of_another_programme_are_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in (".lock", ".partial-abc", "checkpoint.pt"):
        (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(OutputError, match="holds"):
        run()
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize("label", ["parts", "manifest.csv", "x" * 300, "a\0b"])
def test_a_class_that_cannot_be_a_folder_costs_its_slide_alone(
    run: Run, slides: dict[str, NDArray[np.uint8]], tmp_path: Path, label: str
) -> None:
    folder = tmp_path / "regions"
    folder.mkdir()
    square = [[128, 0], [512, 0], [512, 384], [128, 384], [128, 0]]
    for path, name in zip(slides, (label, "Tumor", "Tumor"), strict=True):
        feature = {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [square]},
            "properties": {"classification": {"name": name}},
        }
        (folder / f"{Path(path).stem}.geojson").write_text(json.dumps([feature]))
    tiled = run(labels=folder)
    assert tiled.exit_code == 2
    assert [path for path, _ in tiled.failures] == [Path(next(iter(slides)))]
    assert tiled.document["classes"] == {"Tumor": 72}


def test_the_name_that_fits_a_slide_best_gives_its_scale(
    slides: dict[str, NDArray[np.uint8]],
) -> None:
    given = {"TCGA-AA-0001-02": 0.5, "TCGA-AA": 1.0, "": 2.0, "Q": 3.0}
    sources = Sources(labels=open_labels(None), micrometres=given)
    assert sources.mpp_of("TCGA-AA-0001-02") == 0.5
    assert sources.mpp_of("TCGA-AA-0001-01") == 1.0
    assert sources.mpp_of("TCGA-BB-0002-01") == 2.0
    assert Sources(labels=open_labels(None)).mpp_of("TCGA") is None
    (warning,) = sources.idle(Path(path).stem for path in slides)
    assert warning == "1 of 4 `mpp_override` fit no slide."


def test_private_files_are_readable_by_their_owner_alone(run: Run, tmp_path: Path) -> None:
    run()
    for file in (tmp_path / "private").rglob("*"):
        assert file.stat().st_mode & 0o077 == 0, file.name


def test_other_settings_are_refused_with_what_differs(run: Run) -> None:
    run()
    with pytest.raises(ConfigError, match=r"min_tissue 0\.5 \(now 0\.2\)"):
        run(min_tissue=0.2)


def test_a_folder_with_something_else_in_it_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds thesis\.txt"):
        run()


def test_the_key_may_not_lie_among_the_tiles(
    slides: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="`key` must lie outside the tiles"):
        tile_slides(list(slides), tmp_path / "out", key=tmp_path / "out" / "key")
    assert not (tmp_path / "out").exists()


def test_a_table_that_names_none_of_the_slides_is_refused(
    slides: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("slide,patient\nTCGA-AA-0001,P\nother,Q\n")
    with pytest.raises(ConfigError) as caught:
        tile_slides(list(slides), tmp_path / "out", patients=table, **SMALL)
    assert "none of its 2 rows (first: TCGA-AA-0001) fits one of 3 slides" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_patients_of_a_table_who_may_be_one_person_are_told_without_names(
    slides: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    table = tmp_path / "patients.csv"
    rows = zip(map(Path, slides), ("007", "7.0", "7"), strict=True)
    table.write_text("slide,patient\n" + "\n".join(f"{p.name},{who}" for p, who in rows))
    tiled = tile_slides(list(slides), tmp_path / "out", patients=table, **SMALL)
    assert tiled.document["patients"] == 2
    (told,) = [warning for warning in tiled.warnings if "names that differ" in warning]
    assert told.startswith("2 patients have names that differ only in case, leading zeros or signs")
    assert "7" not in told


def test_a_table_of_patients_overrides_barcodes(
    slides: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    table = tmp_path / "patients.csv"
    stems = [Path(path).stem for path in slides]
    table.write_text("slide,patient\n" + "".join(f"{stem},Meier\n" for stem in stems))
    tiled = tile_slides(list(slides), tmp_path / "out", patients=table, **SMALL)
    assert tiled.document["patients"] == 1


@pytest.fixture
def one(slides: dict[str, NDArray[np.uint8]], tmp_path: Path) -> jobs.Job:
    (tmp_path / "private" / "thumbnails").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    return jobs.Job(
        path=Path(next(iter(slides))),
        slide="s-1",
        patient="p-1",
        label="tumour",
        settings=settings_of(TilingRequest(**SMALL)),
        out=tmp_path / "out",
        private=tmp_path / "private",
        threads=2,
    )


def nothing(read: int, planned: int) -> None:
    pass


def test_a_jobs_repr_names_no_file(one: jobs.Job, slides: dict[str, NDArray[np.uint8]]) -> None:
    assert Path(next(iter(slides))).stem not in repr(one)


def test_a_full_disk_ends_the_work_and_leaves_no_part(
    one: jobs.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, *args: object) -> None:
        raise DiskFullError("no space left")

    monkeypatch.setattr("privgen.tiling.output.TileOutput.place", full)
    with pytest.raises(DiskFullError):
        tile_slide(one, nothing)
    assert not list(one.out.glob("parts/*.json"))


@pytest.mark.parametrize("layout", ["folders", "tar"])
def test_an_unfinished_change_never_passes_for_what_was_before(
    one: jobs.Job, layout: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = replace(one, settings=replace(one.settings, output=layout))
    first = tile_slide(one, nothing)

    def killed(self: object, out: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("privgen.tiling.parts.SlidePart.write", killed)
        with pytest.raises(KeyboardInterrupt):
            tile_slide(replace(one, mpp=0.45, label="stroma"), nothing)
    again = tile_slide(one, nothing)
    assert again.fresh
    assert again == first
    part = read_part(one.out, one.slide)
    assert part is not None
    for path, digest in zip(part.columns["path"], part.columns["sha256"], strict=True):
        assert images.pixel_digest(images.read_tile(one.out / path)) == digest
    files = [file for file in one.out.rglob("*") if file.suffix in (".png", ".tar")]
    assert len(files) == (1 if layout == "tar" else len(part))
    assert not any("stroma" in file.parts for file in files)


def test_a_slide_taken_on_twice_is_cut_once(one: jobs.Job) -> None:
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda _: tile_slide(one, nothing), range(2)))
    assert sorted(outcome.fresh for outcome in outcomes) == [False, True]
    part = read_part(one.out, one.slide)
    assert part is not None
    assert part.complete(one.out)


def test_progress_counts_every_tile_and_may_stop_the_job(one: jobs.Job) -> None:
    seen: list[tuple[int, int]] = []
    outcome = tile_slide(one, lambda read, planned: seen.append((read, planned)))
    assert seen[0] == (0, 0)  # a sign of life while the overview is read
    assert next(one for one in seen if one[1]) == (0, outcome.tiles)
    assert seen[-1] == (outcome.tiles, outcome.tiles)
    shutil.rmtree(one.out)
    one.out.mkdir()

    def stop(read: int, planned: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tile_slide(one, stop)
    assert not list(one.out.glob("parts/*.json"))
