"""`python tests/fuzz/nightly.py [--seconds 60] [DOOR ...]`: archive and table doors under atheris.

For a machine at night, not for every change: `benchmarks/run.py hostile` knocks at the same doors
without atheris (`pip install 'privgen[fuzz]'`). What is found stays in `tests/fuzz/found/`, which
git ignores; its smallest form belongs into `test_past_failures.py`.
"""

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_FOUND = _HERE / "found"
sys.path.insert(0, str(_HERE.parents[1]))

from benchmarks.fuzz.archives import doors  # noqa: E402


def main() -> int:
    """0 where nothing was found, or atheris is not installed; 1 where something was."""
    known = [door.name for door in doors()]
    parser = argparse.ArgumentParser(description="Search the archive and table doors.")
    parser.add_argument("doors", nargs="*", default=known, metavar="DOOR", help=", ".join(known))
    parser.add_argument("--seconds", type=int, default=60, help="a door")
    given = parser.parse_args()
    if unknown := set(given.doors) - set(known):
        parser.error(f"no such door: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if importlib.util.find_spec("atheris") is None:
        print("skipped: atheris is not installed. Run pip install 'privgen[fuzz]'.")  # noqa: T201
        return 0
    return max(_search(name, given.seconds) for name in given.doors)


def _search(name: str, seconds: int) -> int:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        ran = subprocess.run(
            [sys.executable, str(_HERE / "harness.py"), name, str(seconds), place],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        said = ran.stdout + ran.stderr
        units = re.search(r"number_of_executed_units: (\d+)", said)
        count = f"{int(units[1]):,} inputs" if units else "no inputs"
        if ran.returncode == 0 and units:
            print(f"{name}: {count}, nothing found", flush=True)  # noqa: T201
            return 0
        _FOUND.mkdir(exist_ok=True)
        for file in Path(place).glob("*-*"):
            shutil.copy(file, _FOUND / f"{name.replace(' ', '-')}-{file.name}")
        print(f"{name}: {count}, then:\n{said[-3000:]}", flush=True)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
