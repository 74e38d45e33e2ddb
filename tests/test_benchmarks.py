"""Every benchmark that `benchmarks/run.py` offers can be loaded: a rename must not break one."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

LOAD_ALL = """
import sys
sys.path[:0] = ["benchmarks", "."]
import importlib, run
for module in run.NAMES.values():
    assert callable(importlib.import_module(module).run), module
print(len(run.NAMES))
"""


def test_every_benchmark_can_be_loaded() -> None:
    ran = subprocess.run([sys.executable, "-c", LOAD_ALL], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) >= 21
