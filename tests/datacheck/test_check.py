"""`privgen data check` from a folder to its table, its exit code and the split it offers."""

import csv
import itertools
import json
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from privgen.cli import app
from privgen.data.images import write_png
from privgen.data.layouts import open_tiles
from privgen.data.manifest import write_manifest
from privgen.data.phantom import make_phantom, render_tile, write_phantom
from privgen.data.splits import split_by_patient
from privgen.data.tileset import TileSet
from privgen.datacheck.check import MANIFEST_FILE, PAIRS_FILE, SHOWN, check_tiles
from privgen.datacheck.duplicates import look_at, near_duplicates
from privgen.datacheck.kinship import FIELD, NEAR, compare
from privgen.encoders.loading import Encoder, load_encoder
from privgen.errors import ConfigError, OutputError
from privgen.evidence.copy_kinds import plant
from privgen.reporting.data_check import print_check

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def phantom() -> TileSet:
    """Six patients, 4 tiles each, no tissue twice."""
    return make_phantom(
        patients=6, tiles_per_patient=4, side=64, seed=1, classes=("NORM", "TUM", "LYM")
    )


def written(folder: Path, tiles: TileSet, pixels: Pixels) -> Path:
    made = TileSet.from_arrays(pixels, tiles.labels, patients=tiles.groups)
    write_phantom(folder, made)
    return folder


def with_copies(tiles: TileSet, *places: tuple[int, int]) -> Pixels:
    """The tiles, some of them overwritten by turned and re-stained copies: (of, at)."""
    pixels = tiles.load().copy()
    for of, at in places:
        pixels[at] = plant("odd_rotation_stain", pixels[of : of + 1], np.random.default_rng(0))[0]
    return pixels


@pytest.fixture(scope="module")
def clean(phantom: TileSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("clean") / "tiles", phantom, phantom.load())


@pytest.fixture(scope="module")
def leaky(phantom: TileSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tile 9, of P002, is a copy of 0, of P000; 6 is one of 4, both of P001, by another label."""
    assert phantom.labels[0] == phantom.labels[9]
    assert phantom.labels[4] != phantom.labels[6]
    folder = tmp_path_factory.mktemp("leaky") / "tiles"
    return written(folder, phantom, with_copies(phantom, (0, 9), (4, 6)))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_clean_set_passes_and_says_so(clean: Path) -> None:
    result = run(clean, "--json")
    assert result.exit_code == 0, result.output
    checked = json.loads(result.stdout)
    assert checked["near"]["disagreements"] == {"count": 0, "first": []}
    assert checked["near"]["recovery"] is None
    assert checked["warnings"] == []


def test_copies_are_listed_and_fail_and_nothing_is_written_unasked(
    leaky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(leaky.rglob("*"))
    result = run(leaky, "--json")
    assert sorted(leaky.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []
    assert result.exit_code == 1, result.output
    near = json.loads(result.stdout)["near"]
    assert near["pairs"][NEAR] == {"within_group": 1, "across_groups": 1, "across_classes": 1}
    labelled, moved = near["disagreements"]["first"]
    assert labelled["groups"] == ["P001", "P001"]
    assert moved["groups"] == ["P000", "P002"]
    assert moved["inliers"] >= 50
    assert "a split by patient leaks" in result.stderr
    assert "near-duplicates carry different labels" in result.stderr
    assert "overlapping fields carry" not in result.stderr
    assert "--siblings 0" in result.stderr
    assert str(moved["inliers"]) in result.stderr


def test_offered_manifest_keeps_copies_together_and_opens_beside_the_tiles(
    leaky: Path, phantom: TileSet, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    check = check_tiles(leaky, encoder="pixels", out=out)
    assert check.exit_code == 1
    offered = rows(out / MANIFEST_FILE)
    units = [row["patient"] for row in offered]
    assert [row["group_before"] for row in offered] == phantom.groups.tolist()
    assert units[0] == units[9] == "P000"
    assert len(set(units)) == 5
    assert offered[0]["role"] == offered[9]["role"]
    assert {row["role"] for row in offered} <= {"train", "siblings", "holdout"}
    assert "siblings" not in {offered[row]["role"] for row in (0, 4, 6, 9)}

    beside = written(tmp_path / "tiles", phantom, with_copies(phantom, (0, 9), (4, 6)))
    (beside / "manifest.csv").write_bytes((out / MANIFEST_FILE).read_bytes())
    again = open_tiles(beside)
    assert again.group_unit == "patient"
    assert again.groups.tolist() == units
    for seed in range(5):
        for role in split_by_patient(again, siblings=0.0, seed=seed).roles().values():
            assert (0 in role) == (9 in role)
    assert (
        check_tiles(beside, encoder="pixels").document["near"]["pairs"][NEAR]["across_groups"] == 0
    )


def test_list_of_pairs_holds_every_pair_and_is_private(leaky: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    check = check_tiles(leaky, encoder="pixels", out=out)
    listed = rows(out / PAIRS_FILE)
    assert check.kinship is not None
    assert len(listed) == len(check.kinship.pairs) == 2
    across = listed[1]
    assert (across["group_a"], across["group_b"]) == ("P000", "P002")
    assert across["kind"] == NEAR
    assert int(across["inliers"]) >= 50
    assert (across["crosses_groups"], listed[0]["crosses_groups"]) == ("True", "False")
    for name in (PAIRS_FILE, MANIFEST_FILE):
        assert stat.S_IMODE((out / name).stat().st_mode) == 0o600


def test_fields_that_overlap_under_two_labels_are_told_from_copies(
    phantom: TileSet, tmp_path: Path
) -> None:
    picture = render_tile("NORM", patient=50, index=0, seed=1, side=160)
    pixels = phantom.load().copy()
    pixels[0], pixels[1] = picture[:64, :64], picture[:64, 40:104]
    check = check_tiles(written(tmp_path / "tiles", phantom, pixels), encoder="pixels")
    assert check.exit_code == 1
    assert check.document["near"]["pairs"] == {
        NEAR: {"within_group": 0, "across_groups": 0, "across_classes": 0},
        FIELD: {"within_group": 1, "across_groups": 0, "across_classes": 1},
    }
    (warning,) = check.document["warnings"]
    assert warning.startswith("overlapping fields carry different labels (1 pair)")


def test_tiles_without_groups_are_joined_as_source_images(phantom: TileSet, tmp_path: Path) -> None:
    folder = written(tmp_path / "tiles", phantom, with_copies(phantom, (0, 3)))
    (folder / "manifest.csv").unlink()
    out = tmp_path / "out"
    check = check_tiles(folder, encoder="pixels", out=out)
    assert check.exit_code == 1
    (folder / "manifest.csv").write_bytes((out / MANIFEST_FILE).read_bytes())
    again = open_tiles(folder)
    assert again.group_unit == "source_image"
    assert len(np.unique(again.groups)) == len(phantom) - 1


def test_quick_check_sees_equal_tiles_and_no_altered_ones(
    leaky: Path, phantom: TileSet, tmp_path: Path
) -> None:
    assert run(leaky, "--quick").exit_code == 0
    pixels = phantom.load().copy()
    pixels[10] = pixels[0]
    result = run(written(tmp_path / "equal", phantom, pixels), "--quick", "--json")
    assert result.exit_code == 1, result.output
    checked = json.loads(result.stdout)
    assert checked["near"] is None
    assert checked["repeated"] == {"within_group": 0, "across_groups": 1, "across_classes": 1}


def cut_with_overlap(folder: Path, roles: list[str] | None) -> Path:
    """Two slides of 3 x 3 tiles, 16 pixels per side and 6 of them shared, all of one class."""
    rng = np.random.default_rng(0)
    columns: dict[str, list[object]] = {name: [] for name in ("path", "label", "slide", "x", "y")}
    for slide in ("s-1", "s-2"):
        picture = rng.integers(0, 256, (36, 36, 3), dtype=np.uint8)
        for x, y in itertools.product((0, 10, 20), repeat=2):
            path = f"all/{slide}_{x}_{y}.png"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            write_png(folder / path, picture[y : y + 16, x : x + 16])
            for name, value in zip(columns, (path, "all", slide, x, y), strict=True):
                columns[name].append(value)
    write_manifest(folder / "manifest.parquet", columns | ({"role": roles} if roles else {}))
    return folder


def test_overlap_of_a_cut_slide_is_known_and_the_default_split_parts_none(tmp_path: Path) -> None:
    result = run(cut_with_overlap(tmp_path, None), "--quick", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["overlap"] == {
        "pairs": {"within_group": 2 * 20, "across_groups": 0, "across_classes": 0},
        "tiles": 18,
        "largest": 6 / 16,
        "covered": pytest.approx(1 - 10 * 4 / 16**2),  # that of a tile at an edge
        "parted": 0,
        "unknown": 0,
    }
    assert "parted by the split: 0" in " ".join(result.stderr.split())


def test_split_by_tile_that_a_manifest_brings_fails_the_check(tmp_path: Path) -> None:
    random = np.random.default_rng(1).choice(["train", "test"], 18).tolist()
    result = run(cut_with_overlap(tmp_path / "random", random), "--quick", "--json")
    assert result.exit_code == 1, result.output
    shared = json.loads(result.stdout)["roles"]["shared"]
    assert shared["slides"] == 2
    assert shared["overlapping"] > 10
    assert "the manifest's roles are not apart" in " ".join(result.stderr.split())
    by_slide = cut_with_overlap(tmp_path / "slide", ["train"] * 9 + ["test"] * 9)
    assert run(by_slide, "--quick").exit_code == 0
    assert run(by_slide, "--quick", "--group-by", "tile").exit_code == 1


@pytest.mark.parametrize("option", ["--out", "--approximate"])
def test_quick_check_refuses_what_only_the_search_gives(
    clean: Path, tmp_path: Path, option: str
) -> None:
    value = [tmp_path / "out"] if option == "--out" else []
    result = run(clean, "--quick", option, *value)
    assert result.exit_code == 2
    assert f"got {option} beside --quick" in result.stderr
    assert not (tmp_path / "out").exists()


def test_quick_check_refuses_in_python_too(clean: Path) -> None:
    with pytest.raises(ConfigError, match="`approximate` beside `quick`"):
        check_tiles(clean, quick=True, approximate=True)


def test_folder_that_holds_something_is_refused_before_any_work(
    clean: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="must be empty"):
        check_tiles(clean / "nowhere", out=tmp_path)


def test_approximate_check_states_its_recall(
    clean: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check = check_tiles(clean, approximate=True, encoder="pixels")
    assert 0 <= check.document["near"]["recall"]["value"] <= 1
    print_check(check.document)
    assert "approximate search: it lists" in capsys.readouterr().err


def test_at_most_twenty_disagreements_are_shown_and_the_rest_counted(
    phantom: TileSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = phantom.load().copy()
    pixels[:8] = pixels[0]
    check = check_tiles(written(tmp_path / "tiles", phantom, pixels), encoder="pixels")
    shown = check.document["near"]["disagreements"]
    print_check(check.document)
    assert shown["count"] == 8 * 7 // 2 - 2 * sum(
        phantom.labels[i] == phantom.labels[j] for i in range(4) for j in range(i)
    )
    assert len(shown["first"]) == SHOWN == 20
    assert f"and {shown['count'] - 20} more" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.real_data
def test_lc25000_groups_are_recovered_without_reading_them(
    real_data: Callable[[str], Path],
) -> None:
    tiles = open_tiles(real_data("lc25000"), group_by="source_image")
    names = np.unique(tiles.groups)
    # Two names for overlapping fields of one slide, among others.
    known = {"colon_n_234", "colon_n_241"}
    tiles = tiles.subset(np.flatnonzero(np.isin(tiles.groups, [*names[::9], *known])))
    searched = look_at(tiles, encoder=load_encoder("pixels"))
    found = compare(tiles, near_duplicates(searched), searched)
    assert found.recovery is not None
    assert found.recovery["recall"] >= 0.97
    crossing = {tuple(sorted(pair["groups"])) for pair in found.pairs if pair["crosses_groups"]}
    assert crossing == {tuple(sorted(known))}
    # Apart from those two, nothing is joined that the manifest parts.
    chained = [pair for pair in found.pairs if pair["crosses_groups"] and pair["kind"] != FIELD]
    assert found.recovery["found"] - found.recovery["both"] == len(chained)


@pytest.mark.parametrize(
    ("patients", "seconds_a_tile", "looked", "said"),
    [
        (6, 1.0, [16, 120], "about 2 min"),  # 120 s of looking and 25 s of searching
        (6, 0.1, [16, 120], "less than a minute"),
        (12, 1.0, [16, 240], "about 6 min"),  # 240 s and 99 s
        (1, 1000.0, [20], "less than a minute"),  # no trial: it would take as long as the search
    ],
)
def test_the_time_it_says_follows_from_a_few_tiles_looked_at(
    patients: int,
    seconds_a_tile: float,
    looked: list[int],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiles = make_phantom(patients=patients, tiles_per_patient=20, side=32, seed=0)
    write_phantom(tmp_path / "set", tiles)
    counts: list[int] = []

    def slow(some: TileSet, *, encoder: Encoder) -> None:
        counts.append(len(some))
        if len(some) == len(tiles):
            raise InterruptedError("the search itself is not wanted")

    clock = SimpleNamespace(perf_counter=lambda: seconds_a_tile * sum(counts))
    monkeypatch.setattr("privgen.datacheck.check.look_at", slow)
    monkeypatch.setattr("privgen.datacheck.check.time", clock)
    with pytest.raises(InterruptedError):
        check_tiles(tmp_path / "set", encoder="pixels")
    assert counts == looked
    assert f"searching {20 * patients} tiles among themselves: {said};" in capsys.readouterr().err
