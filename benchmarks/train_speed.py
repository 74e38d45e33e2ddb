"""Training steps per second, against the plain loop one writes first.

The plain side restates the loop of PyTorch's DCGAN example on networks of the same layer sizes:
fp32, memory as torch has it (NCHW), batch norm in the generator, and three passes through the
discriminator a step: real tiles, synthetic tiles detached, synthetic tiles again for the generator.
No average of the weights, no augmentation, no penalty. Ours is the engine as shipped, with all
three. Both sides see tiles of the same size in batches of the same size, on the same threads. Each
runs in a process of its own, because ours has the C library keep freed memory, and they take turns.

Rows: `cdcgan` as shipped, whose discriminator judges in a frozen pyramid (the plain side runs the
same published network with batch norm and PyTorch's own backward pass); and `cdcgan` with its own
discriminator, which is DCGAN's. On a GPU the other families and larger tiles are timed alone.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from harness import Options, Outcome, Timing
from torch import Tensor, nn
from torch.nn import functional as F

from privgen.compute.devices import keep_freed_memory
from privgen.config import TrainConfig
from privgen.draws import batch_rows
from privgen.models import FAMILIES
from privgen.models.cdcgan import COARSEST, SPATIAL_Z, STYLE_Z, ConditionalGenerator
from privgen.models.effnet_lite import load_effnet_lite0, normalise
from privgen.models.presets import configure
from privgen.models.projected import ProjectedDiscriminator
from privgen.training.engine import Engine

CLASSES = 5
RESOLUTION = 64
STEPS = 6
PAIRS = 7
FAST_TARGET, TARGET = 2.0, 1.3
PEAK_SIDE = 2048


def run(options: Options) -> Outcome:
    """Speed-up of the shipped engine over the plain loop, and the share of the matmul peak."""
    steps, pairs = (2, 2) if options.quick else (STEPS, PAIRS)
    rows, figures, ratios = [], {}, []
    for kind in ("projected", "own"):
        config = configure({"discriminator": kind, "resolution": RESOLUTION, "device": "auto"})
        if options.device == "cpu":
            config = configure({**_asked(config), "device": "cpu"})
        with _side(_ours, config, steps) as ours, _side(_plain, config, steps) as plain:
            timing = Timing()
            for pair in range(pairs + 1):
                for side, seconds in ((ours, timing.ours), (plain, timing.plain)):
                    start = time.perf_counter()
                    side()
                    if pair:  # the first call of each is not measured
                        seconds.append(time.perf_counter() - start)
        speed = timing.summary()
        rates = {
            side: steps * config.batch / float(np.median(seconds))
            for side, seconds in (("ours", timing.ours), ("plain", timing.plain))
        }
        work = _operations(config) * rates["ours"] / config.batch
        share = work / _matmul_peak(config)
        ratios.append(speed["median"])
        figures[kind] = {
            "batch": config.batch,
            "rates": rates,
            "speed_up": speed,
            "operations_per_image": _operations(config) / config.batch,
            "share_of_matmul_peak": share,
        }
        rows.append(
            [
                f"cdcgan {kind}",
                f"{rates['plain']:.0f}",
                f"{rates['ours']:.0f}",
                f"{speed['median']:.2f}",
                f"{speed['low']:.2f}",
                f"{speed['high']:.2f}",
                f"{share:.2f}",
            ]
        )
    if options.device == "cuda":
        figures["families"] = _families(steps)
        for name, rate in figures["families"].items():
            rows.append([name, "", f"{rate:.0f}", "", "", "", ""])
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    target = FAST_TARGET if options.device == "cuda" or fast else TARGET
    return Outcome(
        columns=[
            "engine",
            "plain images/s",
            "images/s",
            "speed-up",
            "lowest",
            "highest",
            "of peak",
        ],
        rows=rows,
        figures={"resolution": RESOLUTION, "threads": torch.get_num_threads(), **figures},
        figure=f"projected {ratios[0]:.2f}x, own {ratios[1]:.2f}x",
        target=f">= {target}x both",
        passed=min(ratios) >= target,
        notes=[
            "of peak: multiplications and additions of the networks' convolutions and products in "
            "one step of ours, over what one large matrix product reaches here in the same type."
        ],
    )


def _asked(config: TrainConfig) -> dict[str, Any]:
    return {"discriminator": config.discriminator, "resolution": config.resolution}


def _tiles(config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (256, config.resolution, config.resolution, 3))
    return pixels.astype(np.uint8), np.sort(rng.integers(0, CLASSES, 256))


@contextmanager
def _side(
    make: Callable[[TrainConfig, int], Callable[[], None]], config: TrainConfig, steps: int
) -> Iterator[Callable[[], None]]:
    """A function that makes some steps in a process of its own and returns when they are made."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(
        target=_serve, args=(make, config, steps, torch.get_num_threads(), there), daemon=True
    )
    process.start()

    def call() -> None:
        here.send(True)
        here.recv()

    try:
        yield call
    finally:
        here.send(False)
        process.join()


def _serve(
    make: Callable[[TrainConfig, int], Callable[[], None]],
    config: TrainConfig,
    steps: int,
    threads: int,
    pipe: Any,
) -> None:
    torch.set_num_threads(threads)
    run = make(config, steps)
    while pipe.recv():
        run()
        pipe.send(True)


def _plain(config: TrainConfig, steps: int) -> Callable[[], None]:
    return _Plain(config, steps).run


def _ours(config: TrainConfig, steps: int) -> Callable[[], None]:
    keep_freed_memory()
    pixels, labels = _tiles(config)
    engine = Engine(config, CLASSES)
    made = [0]

    def run() -> None:
        for _ in range(steps):
            rows = batch_rows(labels, seed=0, step=made[0], batch=config.batch, balance="preserve")
            engine.step(pixels[rows], labels[rows], made[0])
            made[0] += 1
        if engine.device.type == "cuda":
            torch.cuda.synchronize()

    return run


class _PlainGenerator(nn.Module):
    """Convolutions of the same sizes as `ConditionalGenerator`'s, each with batch norm."""

    def __init__(self, like: ConditionalGenerator) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CLASSES, STYLE_Z)
        self.mapping = nn.Sequential(nn.Linear(2 * STYLE_Z, 128), nn.ReLU(), nn.Linear(128, 128))
        self.start = nn.Conv2d(SPATIAL_Z, like.start.out_channels, 1)
        layers: list[nn.Module] = []
        for block in like.blocks:
            a, b = block.weight.shape[:2]
            if block.up:
                layers.append(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False))
            else:
                layers.append(nn.Conv2d(b, a, 3, padding=1, bias=False))
            layers += [nn.BatchNorm2d(b if block.up else a), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.to_rgb = nn.Conv2d(like.to_rgb.in_channels, 3, 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        style = self.mapping(torch.cat([z[:, :STYLE_Z], self.embedding(labels)], 1))
        x = z[:, STYLE_Z : STYLE_Z + SPATIAL_Z * COARSEST**2]
        x = self.start(x.reshape(-1, SPATIAL_Z, COARSEST, COARSEST))
        x = x + style[:, : x.shape[1], None, None]
        return torch.tanh(self.to_rgb(self.layers(x)))


class _PlainDiscriminator(nn.Module):
    """Convolutions of the same sizes as ours, without spectral normalisation."""

    def __init__(self, like: nn.Module) -> None:
        super().__init__()
        self.frozen = None
        if isinstance(like, ProjectedDiscriminator):
            self.frozen = load_effnet_lite0()
            self.across, self.down = (
                nn.ModuleList(_free_conv(conv) for conv in part)
                for part in (like.across, like.down)
            )
            self.across.requires_grad_(False)
            self.down.requires_grad_(False)
            self.bodies = nn.ModuleList(_free(head) for head in like.heads)
        else:
            self.bodies = nn.ModuleList([_free(like)])

    def forward(self, x: Tensor) -> Tensor:
        if self.frozen is None:
            return self.bodies[0](x).flatten(1)
        x = F.interpolate(x, size=(96, 96), mode="bilinear")
        maps = [
            mix(m)
            for mix, m in zip(
                self.across, self.frozen.pyramid(normalise((x + 1) * 127.5)), strict=True
            )
        ]
        for k in range(len(maps) - 2, -1, -1):
            coarse = F.interpolate(
                self.down[k](maps[k + 1]), size=maps[k].shape[-2:], mode="bilinear"
            )
            maps[k] = (maps[k] + coarse) * 0.7071
        return torch.cat([body(m).flatten(1) for body, m in zip(self.bodies, maps, strict=True)], 1)


def _free_conv(frozen: Any) -> nn.Conv2d:
    c_out, c_in, kernel, _ = frozen.weight.shape
    return nn.Conv2d(c_in, c_out, kernel, bias=False)


def _free(like: Any) -> nn.Sequential:
    """The convolutions of a discriminator or head, in order, with leaky ReLUs between."""
    layers: list[nn.Module] = []
    for conv in like.modules():
        if isinstance(conv, nn.Conv2d):
            c_in = layers[-2].out_channels if layers else conv.in_channels
            layers.append(
                nn.Conv2d(c_in, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
            )
            layers.append(nn.LeakyReLU(0.2))
    if isinstance(like.logit, nn.Linear):
        layers.append(nn.Conv2d(like.logit.in_features, 1, COARSEST))
    else:
        layers.pop()
    return nn.Sequential(*layers)


class _Plain:
    """The loop of PyTorch's DCGAN example, restated."""

    def __init__(self, config: TrainConfig, steps: int) -> None:
        self.steps, self.batch = steps, config.batch
        self.pixels, self.labels = _tiles(config)
        engine = Engine(config, CLASSES)
        self.device = engine.device
        torch.manual_seed(0)
        self.generator = _PlainGenerator(engine.generator).to(self.device)  # type: ignore[arg-type]
        self.discriminator = _PlainDiscriminator(engine.discriminator).to(self.device)
        learning = [p for p in self.discriminator.parameters() if p.requires_grad]
        self.d_optimizer = torch.optim.Adam(learning, lr=2e-4, betas=(0.5, 0.999))
        self.g_optimizer = torch.optim.Adam(
            self.generator.parameters(), lr=2e-4, betas=(0.5, 0.999)
        )
        self.z_dim = engine.generator.z_dim
        self.rng = np.random.default_rng(0)

    def run(self) -> None:
        loss = nn.BCEWithLogitsLoss()
        for _ in range(self.steps):
            rows = self.rng.integers(0, len(self.pixels), self.batch)
            real = torch.from_numpy(self.pixels[rows]).to(self.device).permute(0, 3, 1, 2)
            real = (real.float() / 127.5 - 1).contiguous()
            labels = torch.from_numpy(self.labels[rows]).to(self.device)
            self.discriminator.zero_grad()
            logits = self.discriminator(real)
            loss(logits, torch.ones_like(logits)).backward()
            z = torch.randn(self.batch, self.z_dim, device=self.device)
            synthetic = self.generator(z, labels)
            logits = self.discriminator(synthetic.detach())
            loss(logits, torch.zeros_like(logits)).backward()
            self.d_optimizer.step()
            self.generator.zero_grad()
            logits = self.discriminator(synthetic)
            loss(logits, torch.ones_like(logits)).backward()
            self.g_optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def _operations(config: TrainConfig) -> float:
    """Multiplications and additions of one step, as PyTorch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    pixels, labels = _tiles(config)
    engine = Engine(config, CLASSES)
    with FlopCounterMode(display=False) as counter:
        engine.step(pixels[: config.batch], labels[: config.batch], 1)
    return float(counter.get_total_flops())


def _matmul_peak(config: TrainConfig) -> float:
    """Operations a second of one large matrix product in the type the engine works in."""
    engine = Engine(config, CLASSES)
    a = torch.randn(PEAK_SIDE, PEAK_SIDE, device=engine.device, dtype=engine.dtype)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        product = a @ a
        if engine.device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
        del product
    return 2.0 * PEAK_SIDE**3 / best


def _families(steps: int) -> dict[str, float]:
    """Images a second of every family at 128 and 256 px, with the discriminator it ships with."""
    rates = {}
    for family in FAMILIES:
        for resolution in (128, 256):
            config = configure({"family": family, "resolution": resolution, "device": "cuda"})
            step = _ours(config, steps)
            step()
            start = time.perf_counter()
            step()
            rate = steps * config.batch / (time.perf_counter() - start)
            rates[f"{family} {resolution} px"] = rate
    return rates
