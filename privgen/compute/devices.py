"""Where a run computes, in which number type, and on how many CPU threads."""

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch

from privgen.compute.processes import Processes
from privgen.config import Precision, TrainConfig
from privgen.errors import ConfigError

_TRIAL_LAYERS = 100
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_LARGEST_BLOCK, _KEPT, _STEP = 32 * 2**20, 2**31 - 1, 64 * 2**20
_TYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def choose_device(name: str, processes: Processes | None = None) -> torch.device:
    """The device a configuration asks for; "auto" takes CUDA where there is one.

    With several processes on a machine, "auto" and "cuda" give each its own GPU.

    Raises:
      ConfigError: there is no such device.
    """
    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    if name in ("auto", "cuda") and processes is not None and processes.count > 1:
        name = f"cuda:{os.environ.get('LOCAL_RANK', processes.rank)}"
    try:
        device = torch.device("cuda" if name == "auto" else name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise ConfigError(f"device {name!r} cannot be used: {reason}. Try device auto.") from error
    return device


def working_type(precision: str, device: torch.device) -> torch.dtype:
    """The number type to train in: as asked, or with "auto" bfloat16 where it is faster."""
    if precision != "auto":
        return _TYPES[precision]
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def decided_precision(config: TrainConfig, processes: Processes) -> Precision:
    """The configuration's precision with "auto" decided for this machine, for the run to keep.

    Raises:
      ConfigError: there is no such device.
    """
    dtype = working_type(config.precision, choose_device(config.device, processes))
    return cast(Precision, str(dtype).removeprefix("torch."))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run with `count` CPU threads, and with as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Refuse operations whose result depends on the order of their parts; a CPU has none here."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory for the next step instead of giving it back at once.

    Every step frees and asks for the same blocks of a few megabytes, and the kernel clears each
    page anew: a tenth to a fifth of a step on a CPU. The setting is the process's, and stays: up to
    `_KEPT` bytes are held. Only glibc can be told so.

    Returns:
      Whether it was told.
    """
    try:
        tell = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    wishes = ((_MMAP_THRESHOLD, _LARGEST_BLOCK), (_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, _STEP))
    return all(tell(name, size) == 1 for name, size in wishes)


def quickest_threads() -> int:
    """PyTorch's number of threads or 1, by the time of a few small convolutions.

    Every layer ends with all its threads waiting for the slowest; on cores shared with other work
    two threads can take ten times as long as one.
    """
    default = torch.get_num_threads()
    layer = torch.nn.Conv2d(64, 64, 3, padding=1)
    tiles = torch.zeros(16, 64, 32, 32)
    seconds = {}
    for count in (default, 1):
        with threads(count), torch.inference_mode():
            layer(tiles)
            began = time.perf_counter()
            for _ in range(_TRIAL_LAYERS):
                layer(tiles)
            seconds[count] = time.perf_counter() - began
    return min(seconds, key=lambda count: seconds[count])
