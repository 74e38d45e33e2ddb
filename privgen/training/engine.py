"""The networks, their optimisers, and one training step.

Both networks are updated from the same batch. Synthetic tiles are judged once: the generator's
gradient is taken through the discriminator to the tiles, the discriminator's to its own parameters
alone. A frozen pyramid therefore runs once per step on the synthetic tiles and once on the real
ones.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from privgen.checkpoints.learnt import Learnt
from privgen.checkpoints.state import Checkpoint
from privgen.compute.devices import choose_device, working_type
from privgen.compute.processes import Processes
from privgen.config import TrainConfig
from privgen.data.stain import jitter
from privgen.draws import Purpose, latents, stream
from privgen.errors import ConfigError, NonFiniteLossError
from privgen.models import (
    Discriminator,
    Generator,
    StyleGenerator,
    build_discriminator,
    build_generator,
)
from privgen.training import augment, ema, objectives
from privgen.training.adaptive import Adaptive

_PIXEL_PLACES = 8
"""Places a side at which layouts are compared where the discriminator has no frozen features."""


class Engine:
    """Everything that learns, and how.

    Args:
      config: of the run.
      classes: number of classes.
      processes: that train together.

    Raises:
      ConfigError: the device or the family does not exist, the batch cannot be shared out, or the
        family has no styles to mix or to measure.
      WeightsError: the frozen pyramid's weights are missing.
    """

    def __init__(
        self, config: TrainConfig, classes: int, *, processes: Processes | None = None
    ) -> None:
        self.config = config
        self.processes = processes or Processes()
        self.device = choose_device(config.device, self.processes)
        self.dtype = working_type(config.precision, self.device)
        self.parts = self.processes.parts(config.batch, config.accumulate)
        self.exact = torch.promote_types(self.dtype, torch.float32)
        frozen_type = torch.float32 if self.dtype == torch.float16 else self.dtype
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.generator = build_generator(config, classes)
            self.discriminator = build_discriminator(config, classes, frozen_type=frozen_type)
        for network in (self.generator, self.discriminator):
            network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            if self.exact == torch.float64:
                network.double()
        self.average = ema.average_of(self.generator)
        self.generator_optimizer = torch.optim.Adam(
            self.generator.parameters(),
            lr=config.generator_rate,
            betas=(config.generator_beta1, config.beta2),
        )
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=config.discriminator_rate,
            betas=(config.discriminator_beta1, config.beta2),
        )
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.dtype == torch.float16, growth_interval=1000
        )
        self.adaptive = Adaptive()
        self._judge = self._ready(cast(Discriminator, self.discriminator).judge)
        styled = config.style_mixing > 0
        if (styled or config.path_weight) and not isinstance(self.generator, StyleGenerator):
            raise ConfigError(
                "style_mixing and path_weight need a generator with styles: got style_mixing "
                f"{config.style_mixing:g}, path_weight {config.path_weight:g} and family "
                f"{config.family}, which has none. Set both to 0, or give another `family`."
            )
        painter: Any = self.generator.synthesis if styled else self.generator
        self._paint = self._ready(painter)
        self._styled = styled

    def _ready(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        compiled: Callable[..., Tensor] = (
            torch.compile(function) if self.config.compile else function
        )
        return compiled

    def step(
        self, tiles: NDArray[np.uint8], labels: NDArray[np.intp], step: int
    ) -> dict[str, float]:
        """Update both networks once.

        Args:
          tiles: real tiles of the whole batch, uint8, shape (n, r, r, 3), n even.
          labels: their class numbers, shape (n,), sorted, so that most pairs 2k, 2k + 1 are of one
            class; the synthetic tiles are of the same classes.
          step: 0 for the first; all draws of the step follow from it.

        Returns:
          What to log: losses, mean logits, diversity of the synthetic tiles, penalties in use.

        Raises:
          NonFiniteLossError: a loss or gradient is NaN or infinite; no parameter was changed.
        """
        self.generator_optimizer.zero_grad(set_to_none=True)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        if self.config.stain_jitter:
            draws = stream(self.config.seed, step, Purpose.STAIN)
            tiles = jitter(tiles, draws, strength=self.config.stain_jitter)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(
                int(stream(self.config.seed, step, Purpose.LAYERS).integers(2**62))
                + self.processes.rank
            )
            for part in self.parts:
                for name, value in self._accumulate(tiles[part], labels[part], part, step).items():
                    sums[name] = sums.get(name, 0.0) + value / len(self.parts)
        figures = self._averaged(sums)
        self._update(figures, step)
        seen = (step + 1) * len(tiles)
        factor = ema.decay(batch=len(tiles), images_seen=seen, half_life_kimg=self.config.ema_kimg)
        ema.update(self.average, self.generator, factor)
        if np.isfinite(figures.get("path_length", np.nan)):
            self.adaptive.lengthened(figures["path_length"])
        if self.config.ada_target:
            self.adaptive.observe(
                figures.pop("real_sign"),
                batch=len(tiles),
                target=self.config.ada_target,
                kimg=self.config.ada_kimg,
            )
            figures["augment_probability"] = self.adaptive.probability
        return figures

    def _accumulate(
        self, tiles: NDArray[np.uint8], labels: NDArray[np.intp], part: slice, step: int
    ) -> dict[str, float]:
        """Add the gradients of one part of the batch; returns its figures."""
        config, n = self.config, len(tiles)
        discriminator = cast(Discriminator, self.discriminator)
        indices = np.arange(step * config.batch + part.start, step * config.batch + part.stop)
        real = (
            torch.from_numpy(tiles).to(self.device).permute(0, 3, 1, 2).to(self.exact) / 127.5 - 1
        )
        classes = torch.from_numpy(labels.astype(np.int64)).to(self.device)
        pairs = stream(config.seed, step, Purpose.AUGMENT).random(
            (config.batch // 2, augment.DRAWS), dtype=np.float32
        )
        draws = np.repeat(pairs, 2, axis=0)[part]

        def seen(x: Tensor) -> list[Tensor]:
            x = augment.augment(
                x,
                draws,
                strength=config.augment,
                side=discriminator.side,
                probability=self.adaptive.probability if config.ada_target else None,
            )
            return discriminator.features(x.contiguous(memory_format=torch.channels_last))

        with self._autocast():
            synthetic = self._synthetic(indices, classes)
        # Colours are augmented in float32, and frozen weights have a type of their own.
        synthetic_maps = seen(synthetic)
        with torch.no_grad():
            real_maps = seen(real)
        with self._autocast():
            both = [torch.cat(maps) for maps in zip(real_maps, synthetic_maps, strict=True)]
            logits = self._judge(both, torch.cat([classes, classes]))
        real_logits, fooled = logits[:n], logits[n:]
        total = self.processes.total
        generator_loss = objectives.generator_loss(config.loss, real_logits, fooled, total)
        discriminator_loss = objectives.discriminator_loss(config.loss, real_logits, fooled, total)
        figures = {
            "generator_loss": float(generator_loss.detach()),
            "discriminator_loss": float(discriminator_loss.detach()),
            "real_logit": float(real_logits.detach().mean()),
            "synthetic_logit": float(fooled.detach().mean()),
            "diversity": objectives.diversity(
                real_maps[-1],
                synthetic_maps[-1].detach(),
                classes,
                places=1 if config.discriminator == "projected" else _PIXEL_PLACES,
                total=total,
            ),
        }
        if config.ada_target:
            figures["real_sign"] = float(real_logits.detach().sign().mean())
        if config.diversity:
            shortfall = objectives.diversity_shortfall(real_maps, synthetic_maps, classes, total)
            generator_loss = generator_loss + config.diversity * shortfall
        if config.orthogonal:
            generator_loss = generator_loss + config.orthogonal * objectives.orthogonality(
                self.generator
            )
            discriminator_loss = discriminator_loss + config.orthogonal * (
                objectives.orthogonality(self.discriminator)
            )
        self._backward(generator_loss, discriminator_loss)
        if config.r1_gamma and step % config.r1_every == 0:
            penalty = objectives.r1_penalty(discriminator.judge, real_maps, classes)
            figures["r1"] = float(penalty.detach())
            self._add(config.r1_gamma * config.r1_every * penalty)
        if config.path_weight and step % config.path_every == 0:
            penalty, length = self._path_penalty(indices, classes)
            figures["path_length"] = length
            self._add(config.path_weight * config.path_every * penalty)
        return figures

    def _synthetic(self, indices: NDArray[np.intp], classes: Tensor) -> Tensor:
        """Tiles of the images at `indices` of the training sequence; some of mixed styles."""
        z, noise = self._latents(indices, Purpose.TRAIN)
        if not self._styled:
            return self._paint(z, classes, noise)
        generator = cast(StyleGenerator, self.generator)
        styles = generator.styles(z, classes)
        others = generator.styles(self._latents(indices, Purpose.MIX)[0], classes)
        seed, layers = self.config.seed, generator.style_count
        uniform = np.array([stream(seed, int(i), Purpose.MIX_AT).random(2) for i in indices])
        mixed = uniform[:, 0] < self.config.style_mixing
        cut = np.where(mixed, 1 + (uniform[:, 1] * (layers - 1)).astype(int), layers)
        kept = torch.from_numpy(np.arange(layers) < cut[:, None]).to(self.device)
        return self._paint(torch.where(kept[:, :, None], styles, others), noise)

    def _latents(self, indices: NDArray[np.intp], purpose: Purpose) -> tuple[Tensor, list[Tensor]]:
        generator = cast(Generator, self.generator)
        z, noise = latents(
            self.config.seed,
            indices,
            purpose,
            z_dim=generator.z_dim,
            noise_shapes=generator.noise_shapes if purpose is Purpose.TRAIN else (),
        )
        maps = [torch.from_numpy(part).to(self.device, self.exact) for part in noise]
        return torch.from_numpy(z).to(self.device, self.exact), maps

    def _path_penalty(self, indices: NDArray[np.intp], classes: Tensor) -> tuple[Tensor, float]:
        """Squared deviation of path lengths from their running mean, on every second tile.

        The mean is that before this step, so that parts and processes hold to the same.
        """
        generator = cast(StyleGenerator, self.generator)
        half = slice(0, None, 2)
        z, noise = self._latents(indices[half], Purpose.TRAIN)
        styles = generator.styles(z, classes[half])
        side = generator.resolution
        drawn, _ = latents(
            self.config.seed, indices[half], Purpose.PATH, z_dim=3 * side**2, noise_shapes=()
        )
        directions = torch.from_numpy(drawn).to(self.device, self.exact).reshape(-1, 3, side, side)
        tiles = generator.synthesis(styles, noise)
        lengths = objectives.path_lengths(tiles, styles, directions)
        deviation = lengths - self.adaptive.path_mean
        return deviation.square().mean(), float(lengths.detach().mean())

    def _backward(self, generator_loss: Tensor, discriminator_loss: Tensor) -> None:
        """Gradients of each loss with respect to its own network, adding to what is there."""
        for loss, network, keep in (
            (generator_loss, self.generator, True),
            (discriminator_loss, self.discriminator, False),
        ):
            scaled = self.scaler.scale(loss / len(self.parts))
            torch.autograd.backward(scaled, inputs=list(network.parameters()), retain_graph=keep)

    def _add(self, penalty: Tensor) -> None:
        torch.autograd.backward(self.scaler.scale(penalty / len(self.parts)))

    def _averaged(self, sums: dict[str, float]) -> dict[str, float]:
        """Average gradients and figures over the processes."""
        if self.processes.count == 1:
            return sums
        # Apart from the gradients and in float64: the controls go by these figures.
        values = torch.tensor(list(sums.values()), dtype=torch.float64, device=self.device)
        self.processes.mean_(self._gradients())
        self.processes.mean_([values])
        return dict(zip(sums, values.tolist(), strict=True))

    def _gradients(self) -> list[Tensor]:
        learning = [*self.generator.parameters(), *self.discriminator.parameters()]
        return [p.grad for p in learning if p.grad is not None]

    def _update(self, figures: dict[str, float], step: int) -> None:
        optimizers = (self.discriminator_optimizer, self.generator_optimizer)
        for optimizer in optimizers:
            self.scaler.unscale_(optimizer)
        size = float(torch.stack(torch._foreach_norm(self._gradients())).sum())
        losses = figures["generator_loss"] + figures["discriminator_loss"]
        skippable = self.scaler.is_enabled() and self.scaler.get_scale() > 1 and np.isfinite(losses)
        if not (np.isfinite(size + losses) or skippable):
            raise NonFiniteLossError(
                f"a loss or gradient is not finite at step {step}: generator "
                f"{figures['generator_loss']:g}, discriminator "
                f"{figures['discriminator_loss']:g}. No parameter was changed. Start a new run "
                "with lower generator_rate and discriminator_rate, or with precision float32."
            )
        for optimizer in optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()

    def _autocast(self) -> AbstractContextManager[Any]:
        low = self.dtype != self.exact
        return torch.autocast(self.device.type, self.dtype if low else None, enabled=low)

    def state(self) -> Learnt:
        """The part of a `Checkpoint` that learns; tensors are copies on the CPU."""
        learnt = {n: _on_cpu(copy.deepcopy(getattr(self, n).state_dict())) for n in _LEARNS}
        return cast(Learnt, {**learnt, "adaptive": self.adaptive.to_dict()})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same configuration."""
        for name in _LEARNS:
            getattr(self, name).load_state_dict(getattr(checkpoint, name))
        self.adaptive = Adaptive(**checkpoint.adaptive)


_LEARNS = (
    "generator",
    "average",
    "discriminator",
    "generator_optimizer",
    "discriminator_optimizer",
    "scaler",
)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return [_on_cpu(item) for item in value] if isinstance(value, list) else value
