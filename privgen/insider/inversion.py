"""Latent inversion: how closely a generator can be made to repeat a given tile.

An overfitted generator repeats its training tiles better than other tiles of the same kind, so the
error of the best repetition is a membership score (Chen et al. 2020, GAN-Leaks, arXiv:1909.03935).
`white_box` follows gradients, `partial_black_box` may only choose latents and look at the tiles.

**What is minimised.** GAN-Leaks adds `.001 (|z|^2 - dim z)^2` to the mean squared difference of
pixels. A typical latent is off by `sqrt(2 dim z)`, which already costs `.002 dim z`, many times
what pictures differ by: the term is a wall, and here it is one. The search stays on the shell
`|z|^2 = dim z`, where the term is 0 and a sampler's latents lie. The error is the mean over 3 r^2
values of the squared difference of a tile and G(z, c), both in [-1, 1], before any rounding or
clipping. LPIPS (weight .2 there) is left out: its weights would have to be fetched.

**Noise inputs are zero**, their mean. Fitted to a tile, maps of full resolution could paint any
fine detail, members' and others' alike, and a random draw only adds error.

**The start decides.** Some of what z says changes a tile by leaps (an orientation), where no
gradient leads. Searches therefore start at the nearest of many latents' tiles, one pool for all
tiles: z of the first images of the sample `seed`. Comparing goes on at most 32 px per side.

Randomness: all draws for a tile are functions of the seed and of its own pixels, so a score depends
on no other tile, its place or its role, rounding aside. A joint L-BFGS step would couple the tiles
of a batch; Adam (Kingma & Ba 2015, arXiv:1412.6980) does not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from privgen.data.images import pixel_digest
from privgen.draws import Purpose, latents
from privgen.errors import InputError
from privgen.models import Generator

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Labels = NDArray[np.intp]
Search = Callable[[Tensor, Tensor, Sequence[str]], Tensor]

FULL_EFFORT_TILES = 500
"""Up to so many tiles each gets full effort; more share what these would get, which is minutes on
two cores at 64 px."""

ANY_CLASS = -1
"""Label of a tile whose class is unknown, or shall be free: every class of the generator counts."""

_COMPARED_SIDE = 32
_ROWS = 32
_TILES = 16
_RATE = 0.1
_DECAY = (0.9, 0.99)
_TINY = 1e-10
_FIRST_SPREAD = 0.1
_SUCCESS, _FAILURE = float(np.exp(0.8 / 3)), float(np.exp(-0.2 / 3))
_RESTART, _MUTATION = 0, 1


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How hard a tile is searched for.

    Attributes:
      latents: of the pool, each made into a tile of every class once.
      starts: nearest of the pool that are tried, beside one random latent.
      explore: gradient steps from each start.
      steps: gradient steps from the best of them.
      queries: tiles the gradient-free search may ask for, beside the pool.
    """

    latents: int = 256
    starts: int = 2
    explore: int = 10
    steps: int = 40
    queries: int = 100

    @classmethod
    def for_tiles(cls, count: int) -> Self:
        """Full effort up to `FULL_EFFORT_TILES` tiles; beyond, the same total spread thinner."""
        share = min(1.0, FULL_EFFORT_TILES / max(count, 1))
        full = cls()
        return cls(
            explore=max(5, round(share * full.explore)),
            steps=max(10, round(share * full.steps)),
            queries=max(20, round(share * full.queries)),
        )

    @property
    def gradient_steps(self) -> int:
        """Gradient steps that a tile gets in all."""
        return (self.starts + 1) * self.explore + self.steps


class Inverter:
    """Both inversions of one generator.

    Args:
      network: keeps the `Generator` protocol; in eval mode, without gradients of its weights.
      classes: number of classes it makes.
      seed: of all draws.
      effort: how hard to search.
    """

    def __init__(self, network: nn.Module, classes: int, *, seed: int, effort: Effort) -> None:
        self.network = cast(Generator, network)
        self.classes, self.seed, self.effort = classes, seed, effort
        parameter = next(network.parameters(), None)
        self._device = torch.device("cpu") if parameter is None else parameter.device
        drawn, _ = latents(
            seed, range(effort.latents), Purpose.SAMPLE, z_dim=self.network.z_dim, noise_shapes=()
        )
        self._pool = _on_shell(torch.from_numpy(drawn).to(self._device))
        self._views = torch.stack([self._pool_views(number) for number in range(classes)])

    def white_box(self, tiles: Pixels, labels: Labels) -> Floats:
        """Scores of an attacker who holds the weights: Adam on z, from several starts.

        Args:
          tiles: at the generator's resolution, shape (n, r, r, 3).
          labels: class number of each, or `ANY_CLASS`, shape (n,). With a free label one search
            starts in every class, and the best goes on.

        Returns:
          Minus the smallest error met, shape (n,), squared units of [-1, 1]; higher = more likely a
          member.

        Raises:
          InputError: tiles of another size, or an unknown class.

        Source: Chen et al. 2020, arXiv:1909.03935; docs/methods.md#membership-attacks.
        """
        return self._by_label(self._follow_gradients, tiles, labels)

    def partial_black_box(self, tiles: Pixels, labels: Labels) -> Floats:
        """Scores of an attacker who may choose z and sees the tile it makes, nothing else.

        An evolution strategy of one parent and one child: normal steps around the best latent so
        far, whose spread grows after a success and shrinks after a failure so that one in five
        succeeds (Rechenberg 1973; Kern et al. 2004). In hundreds of dimensions and as many queries
        there is nothing to learn a covariance from.

        Args, Returns, Raises: as `white_box`.

        Source: docs/methods.md#membership-attacks, with this search in the place of Powell's, whose
          line searches do not run over many tiles at once.
        """
        return self._by_label(self._ask, tiles, labels)

    def _by_label(self, search: Search, tiles: Pixels, labels: Labels) -> Floats:
        """Search tiles of a fixed and of a free label apart: they have other numbers of starts."""
        x, numbers = self._checked(tiles, labels)
        scores = np.empty(len(tiles))
        for free in (False, True):
            mine = np.flatnonzero((labels == ANY_CLASS) == free)
            for start in range(0, len(mine), _TILES):
                rows = mine[start : start + _TILES]
                digests = [pixel_digest(tiles[row]) for row in rows]
                scores[rows] = -search(x[rows], numbers[rows], digests).cpu().numpy()
        return scores

    def _follow_gradients(self, x: Tensor, labels: Tensor, digests: Sequence[str]) -> Tensor:
        z, classes = self._starts(x, labels, self.effort.starts)
        random = _on_shell(self._normal(self._rngs(digests, _RESTART)))
        z = torch.cat([z, random[:, None]], dim=1)
        classes = torch.cat([classes, classes[:, :1]], dim=1)
        z, classes, _ = self._best_start(z, x, classes, steps=self.effort.explore)
        return self._descend(z, x, classes, self.effort.steps)[1]

    @torch.no_grad()
    def _ask(self, x: Tensor, labels: Tensor, digests: Sequence[str]) -> Tensor:
        z, classes = self._starts(x, labels, 1)
        z, classes, errors = self._best_start(z, x, classes, steps=0)
        rngs = self._rngs(digests, _MUTATION)
        spread = torch.full((len(x), 1), _FIRST_SPREAD, device=self._device)
        for _ in range(self.effort.queries):
            child = _on_shell(z + spread * self._normal(rngs))
            found = self._errors(child, x, classes)
            better = (found < errors)[:, None]
            z, errors = _better(z, errors, child, found)
            spread = spread * (better * _SUCCESS + ~better * _FAILURE)
        return errors

    def _best_start(
        self, z: Tensor, x: Tensor, classes: Tensor, *, steps: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """After some steps from each of k starts: latent (n, d), class and error of the best."""
        tried = z.shape[1]
        z, errors = self._descend(
            z.flatten(0, 1), x.repeat_interleave(tried, 0), classes.flatten(), steps
        )
        best = errors.reshape(-1, tried).argmin(dim=1)
        place = best + tried * torch.arange(len(x), device=self._device)
        return z[place], classes.flatten()[place], errors[place]

    def _checked(self, tiles: Pixels, labels: Labels) -> tuple[Tensor, Tensor]:
        side = self.network.resolution
        if tiles.ndim != 4 or tiles.shape[1:] != (side, side, 3):
            raise InputError(
                f"inversion needs tiles of {side} px: got {tiles.shape[1]}. Load them so."
            )
        wrong = labels[(labels < ANY_CLASS) | (labels >= self.classes)]
        if len(wrong) or len(labels) != len(tiles):
            got = wrong[0] if len(wrong) else f"{len(labels)} labels for {len(tiles)} tiles"
            raise InputError(
                f"inversion needs a label per tile, classes 0 to {self.classes - 1}, or -1 for "
                f"any: got {got}. Give class numbers."
            )
        return signed(tiles).to(self._device), torch.from_numpy(labels).to(self._device)

    def _rngs(self, digests: Sequence[str], lane: int) -> list[np.random.Generator]:
        """A source of draws for each tile, told by its pixels alone."""
        own = [int(digest[:32], 16) for digest in digests]
        return [np.random.default_rng([self.seed, lane, number]) for number in own]

    def _normal(self, rngs: Sequence[np.random.Generator]) -> Tensor:
        """One standard normal latent from each source, shape (n, z_dim)."""
        drawn = [rng.standard_normal(self.network.z_dim, np.float32) for rng in rngs]
        return torch.from_numpy(np.array(drawn)).to(self._device)

    def _run(self, z: Tensor, labels: Tensor) -> Tensor:
        shapes = self.network.noise_shapes
        noise = [torch.zeros(len(z), *shape, device=z.device) for shape in shapes]
        return self.network(z, labels, noise).float()

    @torch.no_grad()
    def _pool_views(self, number: int) -> Tensor:
        """Small views of the pool's tiles of one class, shape (latents, values)."""
        views = []
        for start in range(0, len(self._pool), _ROWS):
            z = self._pool[start : start + _ROWS]
            labels = torch.full((len(z),), number, device=z.device)
            views.append(_small(self._run(z, labels)))
        return torch.cat(views)

    def _starts(self, x: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Latents of the pool's nearest tiles, shape (n, k, d), and their classes, (n, k).

        The `count` nearest of a tile's own class; with a free label the nearest of every class.
        """
        apart = torch.cdist(
            _small(x)[None], self._views, compute_mode="donot_use_mm_for_euclid_dist"
        )
        count = min(count, len(self._pool))
        nearest = apart.topk(count, largest=False).indices.transpose(0, 1)  # (n, classes, count)
        if bool((labels == ANY_CLASS).all()):
            every = torch.arange(self.classes, device=self._device)
            return self._pool[nearest[:, :, 0]], every.expand(len(x), -1)
        own = nearest[torch.arange(len(x), device=self._device), labels]
        return self._pool[own], labels[:, None].expand(-1, count)

    def _errors(self, z: Tensor, x: Tensor, labels: Tensor) -> Tensor:
        return (self._run(z, labels) - x).square().mean(dim=(1, 2, 3))

    def _descend(self, z: Tensor, x: Tensor, labels: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The best latents met on the way down, and their errors, row by row."""
        mean, square = torch.zeros_like(z), torch.zeros_like(z)
        best_z, best = z, self._errors(z, x, labels).detach()
        for step in range(steps):
            z = z.detach().requires_grad_(True)
            errors = self._errors(z, x, labels)
            (gradient,) = torch.autograd.grad(errors.sum(), z)
            best_z, best = _better(best_z, best, z.detach(), errors.detach())
            # Along the shell only: the rest would pass for steepness and slow every entry down.
            # Entries without a gradient decide by leaps and stay as the start chose them.
            radial = z.detach() * (gradient * z.detach()).mean(dim=1, keepdim=True)
            gradient = torch.where(gradient == 0, 0, gradient - radial)
            mean = torch.lerp(gradient, mean, _DECAY[0])
            square = torch.lerp(gradient.square(), square, _DECAY[1])
            corrected = mean / (1 - _DECAY[0] ** (step + 1))
            size = (square / (1 - _DECAY[1] ** (step + 1))).sqrt() + _TINY
            rate = _RATE * (1 + np.cos(np.pi * step / steps)) / 2
            z = _on_shell(z.detach() - rate * corrected / size)
        return _better(best_z, best, z, self._errors(z, x, labels).detach())


def signed(tiles: Pixels) -> Tensor:
    """uint8 tiles (n, r, r, 3) as networks see them: in [-1, 1], shape (n, 3, r, r)."""
    return torch.from_numpy(np.ascontiguousarray(tiles)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _on_shell(z: Tensor) -> Tensor:
    """Each row scaled to `|z|^2 = dim z`."""
    return z * torch.rsqrt(z.square().mean(dim=1, keepdim=True))


def _better(z: Tensor, errors: Tensor, other: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    return torch.where((others < errors)[:, None], other, z), torch.minimum(errors, others)


def _small(tiles: Tensor) -> Tensor:
    """Tiles averaged down to `_COMPARED_SIDE`, flat, shape (n, values)."""
    if tiles.shape[-1] > _COMPARED_SIDE:
        tiles = F.interpolate(tiles, size=(_COMPARED_SIDE, _COMPARED_SIDE), mode="area")
    return tiles.flatten(1)
