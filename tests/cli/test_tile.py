"""`privgen tile`: each bad slide costs itself alone, in one line; bad options cost nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from privgen.cli import app
from privgen.data.images import write_png
from tests.helpers.qupath import TEXT, box, feature
from tests.helpers.slide_files import break_the_end, write_scn, write_slide

Run = Callable[..., Result]
Pixels = NDArray[np.uint8]


def stained(width: int, height: int, seed: int) -> Pixels:
    """Dark nuclei on pink, all of it tissue to the mask."""
    rng = np.random.default_rng(seed)
    cells = cv2.resize(rng.random((height // 12 + 1, width // 12 + 1)), (width, height))[..., None]
    colour = np.where(cells > 0.7, [96.0, 56.0, 140.0], [214.0, 140.0, 190.0])
    return np.clip(colour + rng.normal(0, 8, (height, width, 1)), 0, 255).astype(np.uint8)


@pytest.fixture
def run() -> Run:
    return lambda *arguments: CliRunner().invoke(
        app, ["tile", *map(str, arguments), "--size", "64"]
    )


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide with 24 tiles of 64 px, all of them tissue."""
    path = tmp_path_factory.mktemp("good") / "good.tif"
    write_slide(path, stained(384, 256, 0), mpp=0.5)
    return path


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    """Slides that cannot be used, and what is said of them."""
    folder = tmp_path_factory.mktemp("bad")
    pixels = stained(384, 256, 1)
    write_png(folder / "picture.svs", pixels)
    (folder / "text.svs").write_text("a slide, honestly")
    write_slide(folder / "cut-short.tif", pixels, mpp=0.5)
    whole = (folder / "cut-short.tif").read_bytes()
    (folder / "cut-short.tif").write_bytes(whole[:-2000])
    write_slide(folder / "strips.tif", pixels, mpp=0.5, layout="strips")
    write_slide(folder / "unscaled.tif", pixels)
    write_slide(folder / "coarse.tif", pixels, mpp=1.0)
    write_slide(folder / "glass.tif", np.full_like(pixels, 244), mpp=0.5)
    write_slide(folder / "tiny.tif", pixels[:48, :48], mpp=0.5)
    scale = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER", "tile": (256, 256)}
    turned = [(274, 3, 1, 6, True)]
    tifffile.imwrite(folder / "turned.tif", pixels, photometric="rgb", extratags=turned, **scale)
    tifffile.imwrite(folder / "floats.tif", pixels / np.float32(255), photometric="rgb", **scale)
    (folder / "preview.vsi").write_bytes((folder / "unscaled.tif").read_bytes())
    write_slide(folder / "broken.tif", stained(8192, 256, 2), mpp=0.5, levels=2)
    break_the_end(folder / "broken.tif")
    return {
        folder / "picture.svs": "not a slide that OpenSlide can read",
        folder / "text.svs": "not a slide that OpenSlide can read",
        folder / "cut-short.tif": "not a slide that OpenSlide can read",
        folder / "strips.tif": "not a slide that OpenSlide can read",
        folder / "absent.svs": "does not exist",
        folder: "is not a file",
        folder / "unscaled.tif": "no micrometres per pixel. Give its micrometres per pixel "
        "with --mpp-",
        folder / "coarse.tif": "the scan has 1 um per pixel, coarser than the 0.5 asked for",
        folder / "glass.tif": "no tile has 0.5 of tissue",
        folder / "tiny.tif": "a slide must hold a whole tile of 64 px: it has 48x48 px",
        folder / "turned.tif": "is stored turned or mirrored (TIFF orientation 6)",
        folder / "floats.tif": "stores its pixels as floating-point numbers",
        folder / "preview.vsi": "is a slide of Olympus VSI, which OpenSlide cannot read",
        folder / "broken.tif": "broke in the middle of reading",
    }


def refused(result: Result, code: int, *words: str) -> None:
    """The command failed with `code` and said why in exactly one line that holds every word."""
    assert result.exit_code == code, result.output
    (line,) = errors(result)
    for word in words:
        assert word in line


def errors(result: Result) -> list[str]:
    assert "Traceback" not in result.output
    return [line for line in result.stderr.splitlines() if line.startswith("error: ")]


def tiles_of(out: Path) -> int:
    return len(list(out.glob("all/*/*.png")))


def test_each_bad_slide_costs_itself_alone_and_is_told_in_one_line(
    run: Run, good: Path, bad: dict[Path, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run(*bad, good, "--out", out, "--json")
    assert result.exit_code == 3  # the worst of them: one broke in the middle
    *lines, last = errors(result)
    assert last == f"error: {len(bad)} of {len(bad) + 1} slides gave no tile; see above."
    for path, said in bad.items():
        (line,) = [line for line in lines if line.startswith(f"error: {path}: ")]
        assert said in line
    assert len(lines) == len(bad)
    document = json.loads(result.stdout)
    assert (document["slides"], document["tiles"]) == (1, 24)
    assert len(document["failed"]) == len(bad)
    assert tiles_of(out) == 24
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [entry["tiles"] for entry in log if "failed" not in entry] == [24]
    known = [path for path in bad if path.name not in ("broken.tif", "absent.svs")]
    worst = run(*known, good, "--out", out)
    assert worst.exit_code == 2
    assert errors(worst)[-1] == f"error: {len(known)} of {len(known) + 1} slides gave no tile; " + (
        "see above."
    )


def test_a_run_of_bad_slides_alone_leaves_no_manifest(
    run: Run, bad: dict[Path, str], tmp_path: Path
) -> None:
    absent = next(path for path in bad if path.name == "absent.svs")
    result = run(absent, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert errors(result)[-1] == "error: 1 of 1 slides gave no tile; see above."
    assert not (tmp_path / "out" / "manifest.csv").exists()


def test_micrometres_are_given_where_the_file_has_none(
    run: Run, bad: dict[Path, str], tmp_path: Path
) -> None:
    unscaled = next(path for path in bad if path.name == "unscaled.tif")
    result = run(unscaled, "--out", tmp_path / "out", "--mpp-override", "unsc=0.5")
    assert result.exit_code == 0, result.output
    assert tiles_of(tmp_path / "out") == 24
    refused(run(unscaled, "--out", tmp_path / "o", "--mpp-override", "x=fine"), 2, "NAME=MPP")


def test_regions_that_are_missing_elsewhere_or_damaged_cost_their_slide(
    run: Run, good: Path, tmp_path: Path
) -> None:
    names = ("beyond", "absent", "damaged")
    slides = [tmp_path / f"{name}.tif" for name in names]
    for slide in slides:
        slide.write_bytes(good.read_bytes())
    folder = tmp_path / "regions"
    folder.mkdir()

    def region(left: int) -> str:
        ring = [[left, 0], [left + 192, 0], [left + 192, 256], [left, 256], [left, 0]]
        shape = {"type": "Polygon", "coordinates": [ring]}
        marked = {"classification": {"name": "TUM"}}
        return json.dumps({"type": "Feature", "geometry": shape, "properties": marked})

    (folder / "good.geojson").write_text(region(0))
    (folder / "beyond.geojson").write_text(region(9000))
    (folder / "damaged.geojson").write_text(region(0)[:-9])
    out = tmp_path / "out"
    result = run(*slides, good, "--out", out, "--labels", folder)
    assert result.exit_code == 2
    *lines, last = errors(result)
    assert last == "error: 3 of 4 slides gave no tile; see above."
    said = dict(
        zip(names, ("every region lies outside", "has no GeoJSON", "is damaged"), strict=True)
    )
    for slide in slides:
        (line,) = [line for line in lines if line.startswith(f"error: {slide}: ")]
        assert said[slide.stem] in line
    assert len(lines) == 3
    assert len(list(out.glob("TUM/*/*.png"))) == 12
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"TUM", "parts"}


def test_a_slide_without_a_label_costs_itself(run: Run, good: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tif"
    other.write_bytes(good.read_bytes())
    table = tmp_path / "labels.csv"
    table.write_text("slide,label\ngood,TUM\n")
    result = run(good, other, "--out", tmp_path / "out", "--labels", table)
    assert result.exit_code == 2
    assert [str(other) in line for line in errors(result)] == [True, False]
    assert "no row in the table of labels" in errors(result)[0]
    assert len(list((tmp_path / "out").glob("TUM/*/*.png"))) == 24


@pytest.mark.parametrize("layout", ["folders", "tar"])
def test_a_full_disk_ends_the_run_in_one_line(
    run: Run, good: Path, full_disk: Path, tmp_path: Path, layout: str
) -> None:
    large = tmp_path / "large.tif"
    write_slide(large, stained(1024, 1024, 3), mpp=0.5)
    out = full_disk / "out"
    more = ["--layout", layout, "--private", tmp_path / "private"]
    refused(run(large, good, "--out", out, *more), 3, "no space left")
    assert list(full_disk.rglob(".partial-*")) == []
    assert not (out / "manifest.csv").exists()


def test_options_that_cannot_be_used_are_refused_before_any_work(
    run: Run, good: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    twin = tmp_path / "good.svs"
    twin.write_bytes(good.read_bytes())
    refused(run(good, twin, "--out", out), 2, "given once", str(good), str(twin))
    refused(run(good, "--out", out, "--stain", "macenko"), 2, "--stain-target", "together")
    refused(run(good, "--out", out, "--stain-target", twin), 2, "--stain", "together")
    refused(run(good, "--out", out, "--preset", "deepfake-2020"), 2, "Did you mean deepfakes-2020?")
    refused(run(good, "--out", out, "--key", out / "key"), 2, "--key must lie outside")
    refused(run(good, "--out", out, "--private", out / "mine"), 2, "--private must lie outside")
    refused(run(good, "--out", out, "--mpp", "0.001"), 2, "mpp must be 0.05 to 100: got 0.001")
    refused(run(good, "--out", out, "--stride", "0"), 2, "stride must be 1 to")
    refused(run(good, "--out", out, "--labels", tmp_path / "no.csv"), 2, "no.csv")
    refused(run(good, "--out", out, "--patients", tmp_path / "no.csv"), 2, "no.csv")
    refused(run(good, "--out", out, "--patient-pattern", "(("), 2, "regular expression")
    refused(
        run(good, "--out", out, "--workers", "1", "--scheduler", "tcp://127.0.0.1:1"),
        2,
        "--workers",
        "--scheduler",
    )
    assert not out.exists()
    key = tmp_path / "key"
    key.write_text("0" * 64)
    key.chmod(0o644)
    refused(run(good, "--out", out, "--key", key), 2, "only you may read the key", "chmod 600")
    key.chmod(0o600)
    key.write_text("no key")
    refused(run(good, "--out", out, "--key", key), 2, "64 hex digits")
    assert tiles_of(out) == 0


def test_a_folder_that_holds_something_else_is_left_alone(
    run: Run, good: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious.txt").write_text("keep me")
    refused(run(good, "--out", out), 2, "must be empty", "precious.txt")
    refused(run(good, "--out", out / "precious.txt"), 2, "must be a folder")
    assert [path.name for path in out.iterdir()] == ["precious.txt"]
    assert (out / "precious.txt").read_text() == "keep me"


def test_a_folder_goes_on_with_the_same_settings_only(run: Run, good: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(good, "--out", out)
    assert first.exit_code == 0, first.output
    assert errors(first) == []
    before = {path: path.stat().st_mtime_ns for path in out.glob("all/*/*.png")}
    refused(run(good, "--out", out, "--stride", "32"), 2, "stride 64 (now 32)", "new --out")
    refused(run(good, "--out", out, "--layout", "tar"), 2, "output folders (now tar)")
    again = run(good, "--out", out)
    assert again.exit_code == 0, again.output
    assert {path: path.stat().st_mtime_ns for path in out.glob("all/*/*.png")} == before
    assert [json.loads(line)["new"] for line in (out / "log.jsonl").read_text().splitlines()] == [
        True,
        False,
    ]


def test_overlapping_tiles_are_announced(run: Run, good: Path, tmp_path: Path) -> None:
    result = run(good, "--out", tmp_path / "out", "--stride", "32")
    assert result.exit_code == 0, result.output
    assert "tiles share pixels with their neighbours" in result.stderr


def test_what_was_left_aside_of_annotations_is_told_and_free_text_is_not(
    run: Run, good: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels").mkdir()
    cells = [feature(box(x, 0, x + 9, 9), "Immune cells", "cell") for x in range(0, 100, 10)]
    drawn = [
        feature(box(0, 0, 384, 256), "Stroma"),
        feature(box(192, 0, 384, 256), "Tumor"),
        feature(box(0, 0, 384, 256), None, name=TEXT),
        feature(box(0, 0, 384, 256), None, "tma_core", name=TEXT),
        feature(box(0, 0, 64, 64), "Ignore*", name=TEXT),
        *cells,
    ]
    (tmp_path / "labels" / "good.geojson").write_text(json.dumps(drawn))
    out = tmp_path / "out"
    result = run(good, "--out", out, "--labels", tmp_path / "labels", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["classes"] == {"Stroma": 11, "Tumor": 12}
    about = document["annotations"]
    assert about["left_aside"] == {
        "unclassified": 1,
        "ignored": 1,
        "detections": 10,
        "tma_cores": 1,
    }
    assert (about["tiles_outside"], about["tiles_tied"], about["frames"]) == (1, 0, {"same": 1})
    said = " ".join(result.stderr.split())
    assert "1 without a class" in said
    assert "10 detections, cells or tiles" in said
    assert "1 tiles on tissue have no class" in said
    everything = result.output.encode() + b"".join(
        file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and "out" in str(file)
    )
    assert b"4711" not in everything
    assert json.loads((out / "tiling.json").read_text())["annotations"] == about


def test_the_frame_of_annotations_can_be_given(run: Run, tmp_path: Path) -> None:
    write_scn(tmp_path / "a.scn", stained(512, 512, 3), offset=(256, 256), size=(1024, 1024))
    (tmp_path / "labels").mkdir()
    drawn = [feature(box(0, 0, 900, 900), "Tumor")]
    (tmp_path / "labels" / "a.geojson").write_text(json.dumps(drawn))
    given = [tmp_path / "a.scn", "--labels", tmp_path / "labels"]
    refused_at_first = run(*given, "--out", tmp_path / "a")
    assert refused_at_first.exit_code == 2
    assert "--annotation-frame bounds or level-0" in " ".join(refused_at_first.stderr.split())
    result = run(*given, "--out", tmp_path / "b", "--annotation-frame", "level-0", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["annotations"]["frames"] == {"level-0": 1}
