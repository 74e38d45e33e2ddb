"""Bad input: one clear line, the documented exit code, nothing lost."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from privgen.cli import app
from privgen.data.images import write_png
from privgen.data.phantom import make_phantom, write_phantom
from tests.helpers.command_line import one_line

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of procedural tiles: 4 patients, 9 classes, 2 tiles of each."""
    folder = tmp_path_factory.mktemp("phantom") / "tiles"
    folder.mkdir()
    write_phantom(folder, make_phantom(patients=4, tiles_per_patient=18, side=32, seed=0))
    return folder


def tile(value: int, side: int = 32) -> np.ndarray:
    rng = np.random.default_rng(value)
    return rng.integers(0, 256, (side, side, 3), dtype=np.uint8)


def class_folders(root: Path, *classes: str, tiles: int = 3) -> Path:
    for number, label in enumerate(classes):
        (root / label).mkdir(parents=True)
        for index in range(tiles):
            write_png(root / label / f"{index}.png", tile(100 * number + index))
    return root


def test_missing_folder(run: Run, tmp_path: Path) -> None:
    one_line(run("data", "check", tmp_path / "nowhere"), 2, "nowhere")


def test_folder_with_one_class(run: Run, tmp_path: Path) -> None:
    one_line(run("data", "check", class_folders(tmp_path / "t", "TUM")), 2, "2 classes", "TUM")


def test_folder_without_images(run: Run, tmp_path: Path) -> None:
    one_line(run("data", "check", tmp_path), 2, "no image")


def test_images_beside_class_folders(run: Run, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "t", "STR", "TUM")
    write_png(folder / "stray.png", tile(7))
    one_line(run("data", "check", folder), 2, "class folders")


def test_truncated_tile_is_named(run: Run, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "t", "STR", "TUM")
    whole = (folder / "TUM" / "1.png").read_bytes()
    (folder / "TUM" / "1.png").write_bytes(whole[: len(whole) // 2])
    one_line(run("data", "check", folder), 2, "TUM/1.png", "truncated")
    skipped = run("data", "check", folder, "--on-bad-tile", "skip")
    assert skipped.exit_code == 0
    assert "1 files skipped" in skipped.stderr


def test_one_patient_only(run: Run, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "t", "STR", "TUM")
    rows = [f"{c}/{i}.png,{c},P1" for c in ("STR", "TUM") for i in range(3)]
    (folder / "manifest.csv").write_text("\n".join(["path,label,patient", *rows]) + "\n")
    result = run("train", folder, "--kimg", "0.1", "--resolution", "32", "--out", tmp_path / "runs")
    one_line(result, 2, "patient", "2 in all")


def audit_folders(run: Run, train: Path, holdout: Path, synthetic: Path) -> Result:
    return run("audit", "--train", train, "--holdout", holdout, "--synthetic", synthetic)


def test_train_and_holdout_sharing_a_patient(run: Run, tmp_path: Path, phantom: Path) -> None:
    result = audit_folders(run, phantom, phantom, phantom)
    one_line(result, 2, "train", "holdout", "patient")


def test_train_and_holdout_sharing_a_digest(run: Run, tmp_path: Path) -> None:
    train = class_folders(tmp_path / "a", "STR", "TUM")
    holdout = class_folders(tmp_path / "b", "STR", "TUM")
    one_line(audit_folders(run, train, holdout, train), 2, "train", "holdout")


def test_audit_without_anything_to_audit(run: Run) -> None:
    one_line(run("audit"), 2, "--generator", "--synthetic")


def test_checkpoint_that_is_a_pickle(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    one_line(run("audit", "--generator", file), 2, "model.pt", "pickle")


def test_checkpoint_that_is_truncated(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(b"PK\x03\x04" + bytes(100))
    one_line(run("audit", "--generator", file), 2, "model.pt")


def test_checkpoint_that_is_missing(run: Run, tmp_path: Path) -> None:
    one_line(run("sample", tmp_path / "none.pt", "--out", tmp_path / "o"), 2, "none.pt")


def test_output_folder_that_is_not_empty(run: Run, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep me")
    one_line(run("data", "phantom", "--out", tmp_path), 2, "must be empty", "precious.txt")
    assert (tmp_path / "precious.txt").read_text() == "keep me"


def test_policy_with_an_unknown_key(run: Run, tmp_path: Path, phantom: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("significanze = 0.05\n")
    arguments = ["--train", phantom, "--holdout", phantom, "--synthetic", phantom]
    one_line(run("audit", *arguments, "--policy", policy), 2, "significanze", "significance")


def test_unknown_option_is_a_usage_error(run: Run) -> None:
    assert run("train", "--resolutoin", "64").exit_code == 2


def test_resolution_that_no_generator_has(run: Run, tmp_path: Path, phantom: Path) -> None:
    result = run("train", phantom, "--resolution", "48", "--out", tmp_path / "runs")
    one_line(result, 2, "resolution", "48")
    assert not (tmp_path / "runs").exists()


def test_tiles_smaller_than_the_resolution(run: Run, tmp_path: Path, phantom: Path) -> None:
    result = run("train", phantom, "--resolution", "64", "--out", tmp_path / "runs")
    one_line(result, 2, "32", "64")


def test_no_space_left_for_tiles(run: Run, full_disk: Path) -> None:
    arguments = ["--out", full_disk / "tiles", "--patients", "6", "--tiles", "45"]
    result = run("data", "phantom", *arguments)
    one_line(result, 3, "space")


def test_no_space_left_for_a_run(run: Run, full_disk: Path, phantom: Path) -> None:
    arguments = ["--resolution", "32", "--kimg", "0.1", "--out", full_disk / "runs"]
    one_line(run("train", phantom, *arguments), 3, "space", "needed")


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit", "--generator", "NOTHING"],
        ["audit", "--train", "NOTHING", "--holdout", ".", "--synthetic", "."],
        ["train", "NOTHING"],
        ["sample", "NOTHING", "--out", "new"],
        ["export", "NOTHING", "--out", "new"],
        ["augment-bench", "NOTHING"],
        ["data", "check", "NOTHING"],
    ],
    ids=" ".join,
)
def test_a_missing_path_is_told_before_anything_heavy_is_loaded(
    arguments: list[str], tmp_path: Path
) -> None:
    program = (
        "import sys; from privgen.cli.program import run; code = run();"
        "print(code, *{'torch', 'faiss', 'cv2', 'sklearn', 'numpy'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.stdout.split() == ["2"]
    assert found.stderr == "error: there is nothing at NOTHING. Check the path.\n"


def test_what_was_typed_does_not_steer_the_terminal(run: Run) -> None:
    result = run("data", "check", "tiles", "one\x1b[2Jtwo", "three")
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr
    assert "\\x1b[2J" in result.stderr
