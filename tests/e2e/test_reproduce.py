"""The command a report prints makes the same report again, with its paths filled in."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from privgen.cli import app
from privgen.data.phantom import make_phantom, write_phantom
from privgen.data.tileset import TileSet
from privgen.sampling import load_generator

SIDE = 32
QUICK = ("--encoder", "colour", "--no-align")
POLICY = 'gates = ["copying", "patient membership"]\nmembership_excess = 0.2\n'
MAKER = """
import sys
from pathlib import Path
from privgen.data.phantom import make_phantom, write_phantom
count, seed, out = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
tiles = make_phantom(patients=count // 5, tiles_per_patient=5, side=32, seed=100 + seed)
write_phantom(out, tiles)
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the words of a printed command stand for."""
    root = tmp_path_factory.mktemp("reproduce")
    real = make_phantom(patients=24, tiles_per_patient=6, side=SIDE, seed=0)
    names = np.unique(real.groups)
    roles = {"TRAIN": names[:10], "HOLDOUT": names[10:18], "REFERENCE": names[18:]}
    found = {}
    for word, patients in roles.items():
        part = real.subset(np.flatnonzero(np.isin(real.groups, patients)))
        found[word] = folder(root / word.lower(), part)
    made = make_phantom(patients=12, tiles_per_patient=5, side=SIDE, seed=9)
    found["SYNTHETIC"] = folder(root / "synthetic", made)
    broken = root / "broken"
    folder(broken, made)
    (next(iter(sorted(broken.rglob("*.png"))))).write_bytes(b"no picture")
    found["BROKEN"] = str(broken)
    policy = root / "policy.toml"
    policy.write_text(POLICY)
    found["POLICY"] = str(policy)
    (root / "make.py").write_text(MAKER)
    found["SAMPLER"] = f"{sys.executable} {root / 'make.py'} {{n}} {{seed}} {{out}}"
    checkpoint = run("train", root / "train", "--out", root / "runs", *TRAINED)["checkpoint"]
    found["CHECKPOINT"] = checkpoint
    found["DATA"] = found["TRAIN"]
    return found


TRAINED = ("--resolution", SIDE, "--kimg", 0.064, "--batch", 16, "--json")


def folder(path: Path, tiles: TileSet) -> str:
    path.mkdir()
    write_phantom(path, tiles)
    return str(path)


def run(*arguments: object) -> dict[str, Any]:
    """The JSON that a command prints."""
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code in (0, 1, 4), result.output + result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def filled(command: str, places: dict[str, str]) -> list[str]:
    """Words of a printed command, with paths."""
    program, *words = shlex.split(command)
    assert program == "privgen"
    return [places.get(word, word) for word in words]


def timeless(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "created"}


ROLES = ("--train", "TRAIN", "--holdout", "HOLDOUT", "--synthetic", "SYNTHETIC")
LEDGER = ("--generator", "CHECKPOINT", "--count", "60")
AUDITS = {
    "tiles": (*ROLES, *QUICK),
    "aligned": (*ROLES, "--encoder", "colour", "--align", "--seed", "3"),
    "align-undecided": (*ROLES, "--encoder", "colour"),
    "reference": (*ROLES, *QUICK, "--reference", "REFERENCE"),
    "by-patient": (*ROLES, *QUICK, "--group-by", "patient"),
    "skipping": (*ROLES[:4], "--synthetic", "BROKEN", *QUICK, "--on-bad-tile", "skip"),
    "profiles": (*ROLES, *QUICK, "--icc", "apply"),
    "policy": (*ROLES, *QUICK, "--policy", "POLICY"),
    "as-they-are": (*ROLES, *QUICK, "--harmonise", "off"),
    "sampler": (*ROLES[:4], "--sampler", "SAMPLER", "--count", "60", *QUICK),
    "ledger": (*LEDGER, *QUICK),
    "truncated": (*LEDGER, *QUICK, "--truncation", "0.7", "--seed", "5"),
    "insider": (*LEDGER, *QUICK, "--insider"),
}


OFTEN = ("tiles", "sampler", "truncated")
"""Made again on every run; the others with PRIVGEN_TEST_ALL=1."""


@pytest.mark.slow
@pytest.mark.parametrize("name", AUDITS)
def test_an_audit_is_made_again_by_the_command_it_prints(name: str, places: dict[str, str]) -> None:
    if name not in OFTEN and not os.environ.get("PRIVGEN_TEST_ALL"):
        pytest.skip("set PRIVGEN_TEST_ALL=1 to make this audit again too")
    first = run("audit", *(places.get(word, word) for word in AUDITS[name]), "--json")
    again = dict(places)
    if "BROKEN" in AUDITS[name]:
        again["SYNTHETIC"] = places["BROKEN"]
    command = first["reproduce"]["command"]
    assert "/" not in command
    second = run(*filled(command, again), "--json")
    assert timeless(second) == timeless(first)


@pytest.mark.slow
def test_a_benchmark_is_made_again_by_the_command_it_prints(
    places: dict[str, str], tmp_path: Path
) -> None:
    real = make_phantom(patients=24, tiles_per_patient=9, side=SIDE, seed=0)
    here = {**places, "DATA": folder(tmp_path / "real", real)}
    asked = ("--models", "mobilenet", "--arms", "real,real+synthetic", "--quick", "--updates", "4")
    synthetic = make_phantom(patients=30, tiles_per_patient=9, side=SIDE, seed=4)
    here["SYNTHETIC"] = folder(tmp_path / "made", synthetic)
    words = (here["DATA"], "--synthetic", here["SYNTHETIC"], *asked, "--no-audit", "--json")
    first = run("augment-bench", *words)
    second = run(*filled(first["reproduce"]["command"], here), "--json")
    assert timeless(second) == timeless(first)


@pytest.mark.slow
def test_a_training_is_made_again_by_the_command_it_prints(
    places: dict[str, str], tmp_path: Path
) -> None:
    def trained(*words: str) -> tuple[str, str]:
        result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "runs"), "--json"])
        assert result.exit_code == 0, result.stderr
        said = [line for line in result.stderr.splitlines() if "the same generator again" in line]
        checkpoint = json.loads(result.stdout)["checkpoint"]
        return said[0].partition("again: ")[2], load_generator(checkpoint).digest

    first, digest = trained("train", places["DATA"], *map(str, TRAINED[:-1]), "--seed", "2")
    assert "--kimg 0.064" in first
    again, same = trained(*filled(first, places))
    assert again == first
    assert same == digest
