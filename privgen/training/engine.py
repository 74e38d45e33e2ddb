"""The networks, their optimisers, and one training step.

Both networks are updated from the same batch: the synthetic tiles go through the frozen pyramid
once, their features serve the generator's loss with gradients and the discriminator's without.
"""

import copy
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from privgen.config import TrainConfig
from privgen.errors import ConfigError, NonFiniteLossError
from privgen.models import Discriminator, Generator, build_discriminator, build_generator
from privgen.training import augment, ema, objectives
from privgen.training.draws import Purpose, latents, stream
from privgen.training.state import Checkpoint


class Engine:
    """Everything that learns, and how.

    Args:
      config: of the run.
      classes: number of classes.

    Raises:
      ConfigError: the device or the family does not exist.
      WeightsError: the frozen pyramid's weights are missing.
    """

    def __init__(self, config: TrainConfig, classes: int) -> None:
        self.config = config
        self.device = choose_device(config.device)
        self.low_precision = uses_bfloat16(config.precision, self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.generator = build_generator(config, classes)
            frozen_type = torch.bfloat16 if self.low_precision else torch.float32
            self.discriminator = build_discriminator(config, classes, frozen_type=frozen_type)
        for network in (self.generator, self.discriminator):
            network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
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

    def step(
        self, tiles: NDArray[np.uint8], labels: NDArray[np.intp], step: int
    ) -> dict[str, float]:
        """Update both networks once.

        Args:
          tiles: real tiles, uint8, shape (n, r, r, 3), n even.
          labels: their class numbers, shape (n,), sorted, so that most pairs 2k, 2k + 1 are of one
            class; the synthetic tiles are of the same classes.
          step: 0 for the first; all draws of the step follow from it.

        Returns:
          What to log: losses, mean logits, and the diversity of the synthetic tiles.

        Raises:
          NonFiniteLossError: a loss or gradient is NaN or infinite; no parameter was changed.
        """
        config, n = self.config, len(tiles)
        generator = cast(Generator, self.generator)
        discriminator = cast(Discriminator, self.discriminator)
        real = torch.from_numpy(tiles).to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        classes = torch.from_numpy(labels.astype(np.int64)).to(self.device)
        z, noise = latents(
            config.seed,
            np.arange(step * n, (step + 1) * n),
            Purpose.TRAIN,
            z_dim=generator.z_dim,
            noise_shapes=generator.noise_shapes,
        )
        pairs = stream(config.seed, step, Purpose.AUGMENT).random(
            (n // 2, augment.DRAWS), dtype=np.float32
        )
        draws = np.repeat(pairs, 2, axis=0)

        def seen(x: Tensor) -> list[Tensor]:
            x = augment.augment(x, draws, strength=config.augment, side=discriminator.side)
            return discriminator.features(x.contiguous(memory_format=torch.channels_last))

        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low_precision):
            synthetic = generator(
                torch.from_numpy(z).to(self.device),
                classes,
                [torch.from_numpy(maps).to(self.device) for maps in noise],
            )
            synthetic_maps = seen(synthetic)
            with torch.no_grad():
                real_maps = seen(real)
            self.discriminator.requires_grad_(False)
            fooled = discriminator.judge(synthetic_maps, classes)
            self.discriminator.requires_grad_(True)
            real_logits = discriminator.judge(real_maps, classes)
            synthetic_logits = discriminator.judge([m.detach() for m in synthetic_maps], classes)
        shortfall = objectives.diversity_shortfall(real_maps, synthetic_maps, classes)
        generator_loss = objectives.generator_hinge(fooled) + config.diversity * shortfall
        discriminator_loss = objectives.discriminator_hinge(real_logits, synthetic_logits)
        self._update(generator_loss, discriminator_loss, step)
        factor = ema.decay(batch=n, images_seen=(step + 1) * n, half_life_kimg=config.ema_kimg)
        ema.update(self.average, self.generator, factor)
        return {
            "generator_loss": float(generator_loss.detach()),
            "discriminator_loss": float(discriminator_loss.detach()),
            "real_logit": float(real_logits.detach().mean()),
            "synthetic_logit": float(synthetic_logits.detach().mean()),
            "diversity": objectives.diversity(real_maps[-1], synthetic_maps[-1], classes),
        }

    def _update(self, generator_loss: Tensor, discriminator_loss: Tensor, step: int) -> None:
        self.generator_optimizer.zero_grad(set_to_none=True)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(generator_loss)
        torch.autograd.backward(discriminator_loss)
        learning = [*self.generator.parameters(), *self.discriminator.parameters()]
        gradients = [p.grad for p in learning if p.grad is not None]
        size = torch.stack(torch._foreach_norm(gradients)).sum()
        if not bool(torch.isfinite(size + generator_loss + discriminator_loss)):
            raise NonFiniteLossError(
                f"a loss or gradient is not finite at step {step}: generator "
                f"{generator_loss.item():g}, discriminator {discriminator_loss.item():g}. No "
                "parameter was changed. Resume from the last checkpoint with lower rates or "
                "--precision float32."
            )
        self.discriminator_optimizer.step()
        self.generator_optimizer.step()

    def state(self) -> dict[str, Any]:
        """The part of a `Checkpoint` that learns; tensors are copies on the CPU."""
        return {name: _on_cpu(copy.deepcopy(getattr(self, name).state_dict())) for name in _LEARNS}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same configuration."""
        for name in _LEARNS:
            getattr(self, name).load_state_dict(getattr(checkpoint, name))


_LEARNS = (
    "generator",
    "average",
    "discriminator",
    "generator_optimizer",
    "discriminator_optimizer",
)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return [_on_cpu(item) for item in value] if isinstance(value, list) else value


def choose_device(name: str) -> torch.device:
    """The device a configuration asks for; "auto" takes CUDA where there is one.

    Raises:
      ConfigError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise ConfigError(f"device {name!r} cannot be used: {reason}. Try device auto.") from error
    return device


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether to train in bfloat16: as asked, or with "auto" where the processor is faster so."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
