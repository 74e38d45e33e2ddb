"""One training run in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from harness import Options


def cores() -> int:
    """Runs to make at a time: one per core."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def train_apart(
    work: Path, options: Options, family: str, discriminator: str, resolution: int, minutes: float
) -> Path:
    """Train by the command line on one thread; returns the run folder.

    Raises:
      RuntimeError: the run failed; its last lines are the message.
    """
    out = work / f"{family}-{discriminator}"
    command = [sys.executable, "-m", "privgen", "train", str(options.data), "--out", str(out)]
    command += ["--family", family, "--discriminator", discriminator]
    command += ["--resolution", str(resolution), "--minutes", str(minutes)]
    command += ["--seed", str(options.seed), "--watch-kimg", "0", "--device", options.device]
    threads = {"OMP_NUM_THREADS": "1"} if options.device == "cpu" else {}
    root = Path(__file__).resolve().parent.parent
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, **threads, "PYTHONPATH": str(root)},
    )
    if ran.returncode != 0:
        raise RuntimeError(ran.stderr[-2000:])
    (folder,) = out.iterdir()
    return folder
