"""Which code trained a generator: a digest over the modules that decide what training computes."""

import hashlib
from functools import cache
from pathlib import Path

_DECIDES = (
    *("config.py", "draws.py", "sampling.py", "models", "training"),
    *("data/images.py", "data/stain.py", "compute/devices.py", "compute/processes.py"),
)
_ROOT = Path(__file__).resolve().parents[1]


@cache
def code_digest() -> str:
    """SHA-256, 64 hex digits, over the sources of generators, training, sampling and decoding."""
    found = hashlib.sha256()
    for name in _DECIDES:
        place = _ROOT / name
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            text = file.read_bytes()
            found.update(f"{file.relative_to(_ROOT).as_posix()} {len(text)}\n".encode())
            found.update(text)
    return found.hexdigest()
