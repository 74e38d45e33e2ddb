"""Kill a training run at random moments, resume it, and compare it with one that was left alone.

Both runs are real command lines on the phantom. The killed one gets SIGKILL, which no program can
answer, at random moments after it has started to make steps; checkpoints are due at every step, so
that many kills fall into the middle of one. At the end every tensor of the two checkpoints
(weights, averaged weights, moments of the optimisers), the controls, and log.jsonl, watch.jsonl and
the grids must be the same, bit for bit.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from harness import Options, Outcome

from privgen.checkpoints.state import load_checkpoint, sampled_checkpoint
from privgen.data.phantom import make_phantom, write_phantom
from privgen.files import sha256_file

KILLS = 20
FAMILIES = ("cdcgan", "stylegan2")
STEPS = {"cdcgan": 600, "stylegan2": 600}
LONGEST_WAIT = 2.5
START_LIMIT = 120.0
STATE = (
    "generator",
    "average",
    "discriminator",
    "generator_optimizer",
    "discriminator_optimizer",
    "scaler",
    "adaptive",
    "running",
    "selected",
    "step",
)


def run(options: Options) -> Outcome:
    """How many kills each family went through, and what differed afterwards."""
    kills = 4 if options.quick else KILLS
    rows, figures, passed = [], {}, True
    with TemporaryDirectory() as work:
        tiles = Path(work) / "tiles"
        tiles.mkdir()
        made = make_phantom(patients=8, tiles_per_patient=18, side=32, seed=options.seed)
        write_phantom(tiles, made)
        for family in FAMILIES:
            steps = STEPS[family] // (4 if options.quick else 1)
            config = _config(Path(work), family, steps)
            whole = _finished(_start(tiles, Path(work) / family / "whole", config))
            rng = np.random.default_rng([options.seed, len(family)])
            broken, done = _killed(tiles, Path(work) / family / "killed", config, kills, rng)
            different = differences(_only_run(whole), _only_run(broken))
            passed &= not different and done == kills
            rows.append([family, str(steps), str(done), ", ".join(different) or "nothing"])
            figures[family] = {"steps": steps, "kills": done, "different": different}
    total = sum(figures[family]["kills"] for family in FAMILIES)
    return Outcome(
        columns=["family", "steps", "kills", "different"],
        rows=rows,
        figures=figures,
        figure=f"{total} kills, "
        + (
            "all bit-identical"
            if all(not f["different"] for f in figures.values())
            else "different"
        ),
        target=f"{kills} kills a family, bit-identical",
        passed=passed,
    )


def _config(work: Path, family: str, steps: int) -> Path:
    """A small run with everything on; batch 8."""
    own = family == "stylegan2"
    values: dict[str, Any] = {
        "family": family,
        "discriminator": "own" if own else "projected",
        "resolution": 32,
        "batch": 8,
        "kimg": steps * 8 / 1000,
        "width": 8,
        "head_width": 8,
        "style_dim": 32,
        "threads": 1,
        "log_steps": 7,
        "grid_steps": 50,
        "watch_kimg": 0.8,
        "watch_count": 32,
        "select_by": "fd",
        "checkpoint_minutes": 0.0,
    }
    path = work / f"{family}.toml"
    path.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items()))
    return path


def _start(tiles: Path, out: Path, config: Path) -> tuple[subprocess.Popen[bytes], Path]:
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "privgen", "train", str(tiles), "--out", str(out)]
    command += ["--config", str(config), "--resume", "auto", "--holdout", "0.3"]
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}
    log = (out / "stderr.txt").open("ab")
    return subprocess.Popen(command, stdout=log, stderr=log, env=environment), out


def _finished(started: tuple[subprocess.Popen[bytes], Path]) -> Path:
    process, out = started
    if process.wait() != 0:
        raise RuntimeError((out / "stderr.txt").read_text()[-2000:])
    return out


def _killed(
    tiles: Path, out: Path, config: Path, kills: int, rng: np.random.Generator
) -> tuple[Path, int]:
    """A run that is killed at random moments and then left to finish; and how often it was."""
    done = 0
    while done < kills:
        process, _ = _start(tiles, out, config)
        before = _newest(out)
        deadline = time.monotonic() + START_LIMIT
        while _newest(out) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(float(rng.uniform(0, LONGEST_WAIT)))
        if process.poll() is not None:
            break  # it finished: fewer kills than asked for
        process.send_signal(signal.SIGKILL)
        process.wait()
        done += 1
    return _finished(_start(tiles, out, config)), done


def _newest(out: Path) -> str:
    return max((str(path) for path in out.glob("*/checkpoints/ckpt-*.pt")), default="")


def _only_run(out: Path) -> Path:
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    return folder


def differences(whole: Path, broken: Path) -> list[str]:
    """What differs between two run folders: parts of the last checkpoint, and files."""
    one, other = load_checkpoint(whole), load_checkpoint(broken)
    found = [name for name in STATE if not _equal(getattr(one, name), getattr(other, name))]
    chosen = [load_checkpoint(sampled_checkpoint(folder)) for folder in (whole, broken)]
    if not all(_equal(getattr(chosen[0], n), getattr(chosen[1], n)) for n in STATE):
        found.append("selected checkpoint")
    names = ["log.jsonl", "watch.jsonl", "generator.safetensors"]
    names += sorted(str(p.relative_to(whole)) for p in (whole / "fakes").iterdir())
    return found + [n for n in names if sha256_file(whole / n) != sha256_file(broken / n)]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
