"""Is this installation able to do its work? Versions, processor, weights, a known speed."""

import os
import platform
import re
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from privgen import console
from privgen.compute.cores import cores
from privgen.encoders.loading import load_encoder
from privgen.errors import PrivgenError
from privgen.models.effnet_lite import weights_file

_NOT_USED_BY_COMMANDS = ("test", "dev", "docs", "fuzz")
_TILES = 32


def examine() -> dict[str, Any]:
    """Look at everything the commands rely on.

    Returns:
      JSON-able: versions, processor, device, free disk, encoder (weights, tiles per second),
      problems, healthy.
    """
    problems: list[str] = []
    findings: dict[str, Any] = {
        "versions": libraries(),
        "python": platform.python_version(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
    }
    try:
        findings["encoder_weights_mib"] = round(weights_file().stat().st_size / 2**20, 1)
        findings["encoder_tiles_per_second"] = _encoder_speed()
    except (PrivgenError, OSError) as error:
        problems.append(str(error))
    usage = os.statvfs(Path.cwd())
    findings["free_disk_gib"] = round(usage.f_bavail * usage.f_frsize / 2**30, 1)
    if findings["free_disk_gib"] < 1:
        problems.append("less than 1 GiB free in this folder: runs and reports may not fit.")
    findings["problems"] = problems
    findings["healthy"] = not problems
    return findings


def libraries() -> dict[str, str]:
    """The version of privgen and of every library it may use; of a missing one what installs it."""
    found = {"privgen": metadata.version("privgen")}
    for line in metadata.requires("privgen") or ():
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra == ['\"](\w+)['\"]", line)
        if name is None or (extra and extra[1] in _NOT_USED_BY_COMMANDS):
            continue
        try:
            found[name[0]] = metadata.version(name[0])
        except metadata.PackageNotFoundError:
            way = f"pip install 'privgen[{extra[1]}]'" if extra else "pip install privgen"
            found[name[0]] = f"not installed; {way}"
    return found


def _encoder_speed() -> float:
    encoder = load_encoder("effnet_lite0")
    tiles = np.random.default_rng(0).integers(0, 256, (_TILES, 64, 64, 3), dtype=np.uint8)
    encoder.embed(tiles)
    start = time.perf_counter()
    encoder.embed(tiles)
    return round(_TILES / (time.perf_counter() - start), 1)


def print_examination(findings: dict[str, Any]) -> None:
    """Show the findings of `examine` to a person."""
    versions = ", ".join(f"{k} {v}" for k, v in findings["versions"].items())
    rows = [["versions", versions]]
    rows += [
        [key.replace("_", " "), str(value)]
        for key, value in findings.items()
        if key not in ("versions", "problems", "healthy")
    ]
    console.table("privgen doctor", ["what", "found"], rows)
    for problem in findings["problems"]:
        console.fail(problem)
    if findings["healthy"]:
        console.note("all is well.")
