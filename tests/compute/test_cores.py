"""Cores are those this process may use, and no pool starts more workers than that."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from privgen.compute.cores import cores, decoders

ROOT = Path(__file__).parents[2]
WORK = """
import concurrent.futures, json, os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
started = []
for pool in (concurrent.futures.ThreadPoolExecutor, concurrent.futures.ProcessPoolExecutor):
    def noted(self, max_workers=None, *rest, _init=pool.__init__, **options):
        started.append(max_workers)
        _init(self, max_workers, *rest, **options)
    pool.__init__ = noted
import numpy as np
from privgen.copysearch.descriptors import describe
from privgen.copysearch.searching import Searched, search
from privgen.data.phantom import make_phantom
from privgen.encoders.loading import load_encoder
tiles = make_phantom(patients=3, tiles_per_patient=9, side=32).load()
load_encoder("colour").embed(tiles)
ready = Searched(descriptors=describe(tiles), embeddings=tiles.reshape(27, -1).astype(np.float32))
search(ready, ready)
print(json.dumps(started))
"""


def python(program: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_cores_follow_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 6})
    assert cores() == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    assert decoders() == 4


def test_on_one_core_no_pool_starts_two_workers() -> None:
    started = json.loads(python(WORK))
    assert len(started) >= 3
    assert set(started) == {1}


def test_one_core_is_what_the_doctor_sees() -> None:
    program = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    program += (
        "from privgen.cli import main; import sys; sys.argv[1:] = ['doctor', '--json']; main()"
    )
    found = json.loads(python(program))
    assert found["cores"] == 1
    assert {"torch", "openslide-python", "typer", "tensorboard"} <= set(found["versions"])
