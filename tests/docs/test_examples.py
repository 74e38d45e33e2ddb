"""The scripts of examples/ run as they stand, in an empty folder, and end as they say."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

SAID = {
    "audit_arrays": ["LEAK: copying.", "identical_tiles: "],
    "audit_folders": ["INCONCLUSIVE: ", "report.html"],
    "own_generator": ["function: ", "checkpoint: "],
    "slides_to_verdict": ["tiles of 6 patients", "report.html"],
}
"""What each script prints, among other things."""


def test_every_example_is_run() -> None:
    assert sorted(SAID) == sorted(file.stem for file in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("example", SAID)
def test_an_example_uses_the_public_names_alone(example: str) -> None:
    import privgen

    tree = ast.parse((EXAMPLES / f"{example}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith(("privgen", "audits"))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "privgen":
            assert node.attr in privgen.__all__


@pytest.mark.slow
@pytest.mark.parametrize("example", SAID)
def test_an_example_runs(example: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, EXAMPLES / f"{example}.py", tmp_path / "made"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=900,
    )
    assert ran.returncode == 0, ran.stderr
    for words in SAID[example]:
        assert words in ran.stdout
    if "report" in ran.stdout:
        assert (tmp_path / "made" / "report" / "report.html").is_file()
    assert [path.name for path in tmp_path.iterdir()] in ([], ["made"])
