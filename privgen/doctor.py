"""Is this installation able to do its work? Versions, processor, weights, a known speed."""

import os
import platform
import re
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from privgen import console
from privgen.compute.cores import cores
from privgen.encoders.loading import load_encoder
from privgen.errors import PrivgenError
from privgen.models.effnet_lite import weights_file

_NOT_USED_BY_COMMANDS = ("test", "dev", "docs", "fuzz")
_TILES = 32


class Machine(TypedDict):
    """What the work is done with."""

    versions: Mapping[str, str]
    python: str
    cores: int
    threads: int
    processor: str
    device: str


class EncoderFindings(TypedDict, total=False):
    """Of the encoder, as far as it could be loaded."""

    encoder_weights_mib: float
    encoder_tiles_per_second: float


class Findings(Machine, EncoderFindings):
    """Everything that was found."""

    free_disk_gib: float
    problems: Sequence[str]
    healthy: bool


def examine() -> Findings:
    """Look at everything the commands rely on.

    Returns:
      JSON-able: versions, processor, device, free disk, encoder (weights, tiles per second),
      problems, healthy.
    """
    problems: list[str] = []
    machine: Machine = {
        "versions": libraries(),
        "python": platform.python_version(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
    }
    encoder: EncoderFindings = {}
    try:
        encoder["encoder_weights_mib"] = round(weights_file().stat().st_size / 2**20, 1)
        encoder["encoder_tiles_per_second"] = _encoder_speed()
    except (PrivgenError, OSError) as error:
        problems.append(str(error))
    usage = os.statvfs(Path.cwd())
    free = round(usage.f_bavail * usage.f_frsize / 2**30, 1)
    if free < 1:
        problems.append("less than 1 GiB free in this folder: runs and reports may not fit.")
    return {
        **machine,
        **encoder,
        "free_disk_gib": free,
        "problems": problems,
        "healthy": not problems,
    }


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


def print_examination(findings: Findings) -> None:
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
