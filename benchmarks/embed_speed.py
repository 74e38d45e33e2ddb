"""Tiles embedded per second, against the plain way to run the same network.

The plain side is what one writes first: fp32, memory as torch has it (NCHW), batches of 32, batch
norm where it was, all cores in every layer. Both sides decode nothing; the share of time a decoder
would let the encoder wait is measured apart, from files.
"""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from harness import Options, Outcome, interleave
from torch.nn import functional as F

from privgen.data.layouts import open_tiles
from privgen.data.phantom import make_phantom, write_phantom
from privgen.data.tileset import TileSet
from privgen.encoders.loading import EFFNET_SIDE, load_encoder
from privgen.models.effnet_lite import load_effnet_lite0, normalise

TILES = 512
PAIRS = 5
TARGET = 1.8
CLOSE = 0.01
BATCH = 32
BLOCK = 128


def run(options: Options) -> Outcome:
    """Speed-up over the plain loop, agreement with it, and the decoder's share."""
    count, pairs = (128, 2) if options.quick else (TILES, PAIRS)
    with TemporaryDirectory() as work:
        if options.data is None:
            folder = Path(work) / "tiles"
            folder.mkdir()
            write_phantom(folder, make_phantom(patients=8, tiles_per_patient=64, seed=options.seed))
        else:
            folder = Path(options.data)
        tiles = open_tiles(folder, min_classes=1)
        rows = np.arange(count) % len(tiles)
        pixels = tiles.subset(rows).load()
        encoder = load_encoder(device=options.device)
        plain = _Plain(options.device)
        timing = interleave(lambda: encoder.embed(pixels), lambda: plain.embed(pixels), pairs=pairs)
        waiting = _waiting(encoder.embed, tiles.subset(rows))
    ours, theirs = encoder.embed(pixels), plain.embed(pixels)
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    apart = float(1 - cosine.min())
    speed = timing.summary()
    rates = {
        "ours": count / float(np.median(timing.ours)),
        "plain": count / float(np.median(timing.plain)),
    }
    return Outcome(
        columns=["side", "tiles/s", "speed-up", "lowest", "highest"],
        rows=[
            ["plain fp32 NCHW loop", f"{rates['plain']:.0f}", "1", "", ""],
            [
                "encoder",
                f"{rates['ours']:.0f}",
                f"{speed['median']:.2f}",
                f"{speed['low']:.2f}",
                f"{speed['high']:.2f}",
            ],
        ],
        figures={
            "tiles": count,
            "side_px": int(pixels.shape[1]),
            "rates": rates,
            "speed_up": speed,
            "largest_cosine_distance": apart,
            "decoder_share": waiting,
        },
        figure=f"{speed['median']:.2f}x, within {apart:.1e} of its cosine",
        target=f">= {TARGET}x, <= {CLOSE}",
        passed=speed["median"] >= TARGET and apart <= CLOSE,
        notes=[
            f"{pixels.shape[1]} px tiles from files: the encoder waits for the decoder in "
            f"{waiting:.1%} of the time"
        ],
    )


class _Plain:
    """The same weights, the same resizing, nothing else."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.network = load_effnet_lite0().to(device)

    def embed(self, tiles: np.ndarray) -> np.ndarray:
        """Pooled features, shape (n, 1280)."""
        parts = []
        with torch.inference_mode():
            for start in range(0, len(tiles), BATCH):
                block = np.ascontiguousarray(tiles[start : start + BATCH].transpose(0, 3, 1, 2))
                batch = torch.from_numpy(block).to(self.device)
                side = (EFFNET_SIDE, EFFNET_SIDE)
                resized = F.interpolate(batch, side, mode="bicubic", antialias=True)
                parts.append(self.network(normalise(resized.float())).cpu().numpy())
        return np.concatenate(parts)


def _waiting(embed: Callable[[np.ndarray], object], tiles: TileSet) -> float:
    """Share of the time of a pass from files that goes into decoding."""
    decoding, start = 0.0, time.perf_counter()
    for first in range(0, len(tiles), BLOCK):
        before = time.perf_counter()
        part = tiles.subset(np.arange(first, min(first + BLOCK, len(tiles)))).load()
        decoding += time.perf_counter() - before
        embed(part)
    return decoding / (time.perf_counter() - start)
