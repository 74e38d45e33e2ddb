"""What an insider can tell: attacks that need the generator's weights, or its discriminator.

Each real tile is inverted (`privgen.insider.inversion`) and, where a private checkpoint is at
hand, judged by the discriminator that trained against it (LOGAN, Hayes et al. 2019,
arXiv:1705.07663). Train, siblings and holdout tiles go through the very same calls; the scores join
the audit by tile id and end there, as figures over patients.

The discriminator sees a tile as it is, only resized. It may compare neighbours, in pairs or in
fours, so each tile stands among copies of itself: its score says nothing of another tile.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from audits import AuditResult, OutsideScores
from privgen import console
from privgen.checkpoints.state import load_checkpoint, sampled_checkpoint
from privgen.config import TOGETHER
from privgen.data.tileset import TileSet
from privgen.errors import CheckpointError, ConfigError
from privgen.insider.inversion import ANY_CLASS, Effort, Floats, Inverter, Labels, Pixels, signed
from privgen.models import Discriminator, build_discriminator
from privgen.phases import phase
from privgen.sampling import LoadedGenerator
from privgen.training.augment import DRAWS, augment

ROLES = ("train", "siblings", "holdout")
"""Roles whose tiles are scored: all that membership compares."""

HOLDS = {
    "white_box": "The attacker holds the generator's weights",
    "partial_black_box": "The attacker may choose the generator's latents, but not see its weights",
    "discriminator": "The attacker holds the discriminator, which no generator file contains",
}
"""What an attack needs, in words."""

_BLOCK = 32


def load_discriminator(path: Path) -> nn.Module:
    """The discriminator of a private checkpoint, in eval mode, float32.

    Raises:
      CheckpointError: not a checkpoint, or its discriminator does not fit its configuration.
      WeightsError: the frozen pyramid's weights are not installed.
    """
    checkpoint = load_checkpoint(sampled_checkpoint(path))
    try:
        network = build_discriminator(
            checkpoint.config, len(checkpoint.classes), frozen_type=torch.float32
        )
        network.load_state_dict(checkpoint.discriminator)
    except (ConfigError, RuntimeError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise CheckpointError(f"the discriminator in {path} cannot be rebuilt: {reason}") from error
    return network.eval().requires_grad_(False)


@torch.no_grad()
def discriminator_scores(network: nn.Module, tiles: Pixels, labels: Labels, classes: int) -> Floats:
    """Mean logit of each tile, un-augmented and resized, compared with nothing but itself.

    Args:
      network: keeps the `Discriminator` protocol; in eval mode.
      tiles: shape (n, r, r, 3).
      labels: class numbers, or `ANY_CLASS` for the highest over all classes, shape (n,).
      classes: how many there are.

    Returns:
      Scores, shape (n,), logits; higher = more likely a member.

    Source: Hayes et al. 2019, arXiv:1705.07663; docs/methods.md#membership-attacks.
    """
    judge = cast(Discriminator, network)
    device = next(network.parameters()).device
    x = augment(
        signed(tiles).to(device),
        np.zeros((len(tiles), DRAWS), dtype=np.float32),
        strength=0.0,
        side=judge.side,
    )
    copies = [maps.repeat_interleave(TOGETHER, dim=0) for maps in judge.features(x)]

    def scores(numbers: Labels) -> Floats:
        asked = torch.from_numpy(np.repeat(numbers, TOGETHER)).to(device)
        logits = judge.judge(copies, asked)[::TOGETHER]
        return logits.double().mean(dim=1).cpu().numpy()

    known = scores(np.maximum(labels, 0))
    if not (labels == ANY_CLASS).any():
        return known
    highest = np.max([scores(np.full(len(tiles), c)) for c in range(classes)], axis=0)
    return np.where(labels == ANY_CLASS, highest, known)


def insider_scores(
    generator: LoadedGenerator,
    discriminator: nn.Module | None,
    roles: Mapping[str, TileSet],
    *,
    ids: Mapping[str, NDArray[np.str_]],
    seed: int,
    effort: Effort,
) -> list[OutsideScores]:
    """Scores of every real tile by every attack there are weights for.

    Args:
      generator: under audit.
      discriminator: of the same run; None leaves its attack out.
      roles: real tiles by role; only `ROLES` are scored. A class the generator does not make
        counts as free.
      ids: of each role's tiles, in their order, as the audit knows them.
      seed: of all draws.
      effort: how hard each tile is searched for.

    Raises:
      LayoutError, TileError: a tile cannot be read.
      audits.AuditInputError: a score is not finite.
    """
    inverter = Inverter(generator.network, len(generator.classes), seed=seed, effort=effort)
    attacks: dict[str, Callable[[Pixels, Labels], Floats]] = {
        "white_box": inverter.white_box,
        "partial_black_box": inverter.partial_black_box,
    }
    if discriminator is not None:
        attacks["discriminator"] = lambda tiles, labels: discriminator_scores(
            discriminator, tiles, labels, len(generator.classes)
        )
    scored = {role: roles[role] for role in ROLES if role in roles}
    total = sum(len(tiles) for tiles in scored.values())
    console.note(
        f"insider attacks: {total:,} tiles, {effort.gradient_steps} gradient steps and "
        f"{effort.queries} queries each"
    )
    found: dict[str, list[Floats]] = {name: [] for name in attacks}
    with phase("insider attacks", total=total) as attacking:
        for tiles in scored.values():
            numbers = class_numbers(tiles.labels, generator.classes)
            for start in range(0, len(tiles), _BLOCK):
                rows = np.arange(start, min(start + _BLOCK, len(tiles)))
                pixels = tiles.subset(rows).load(generator.resolution)
                for name, attack in attacks.items():
                    found[name].append(attack(pixels, numbers[rows]))
                attacking.advance(len(rows))
    names = np.concatenate([ids[role] for role in scored])
    return [
        OutsideScores(name=name, ids=names, scores=np.concatenate(parts))
        for name, parts in found.items()
    ]


def class_numbers(labels: NDArray[np.str_], classes: Sequence[str]) -> Labels:
    """Number of each label among the generator's classes, `ANY_CLASS` where it makes none such."""
    known = {name: number for number, name in enumerate(classes)}
    return np.array([known.get(str(label), ANY_CLASS) for label in labels], dtype=np.intp)


def with_knowledge(results: Sequence[AuditResult], effort: Effort) -> tuple[AuditResult, ...]:
    """The same results, those of insider attacks saying what the attacker holds and spends."""
    spent = {
        "white_box": {"gradient_steps": effort.gradient_steps},
        "partial_black_box": {"queries": effort.queries},
        "discriminator": {},
    }
    told = []
    for result in results:
        attack = result.name.rpartition("/")[2]
        if attack in HOLDS and result.harm is not None:
            cost = ", ".join(f"{n} {unit.replace('_', ' ')}" for unit, n in spent[attack].items())
            how = f"{HOLDS[attack]}" + (f"; {cost} per tile, without LPIPS." if cost else ".")
            note = f"{result.note} {how}".strip()
            result = replace(result, details={**result.details, **spent[attack]}, note=note)
        told.append(result)
    return tuple(told)
