"""Training one classifier.

The recipe is the same in every arm: a fixed number of AdamW updates with decoupled weight decay,
cross-entropy with smoothed labels (Szegedy et al. 2016), a learning rate that rises over the first
fifth and falls along half a cosine. The best of a few evenly spaced checkpoints is chosen on the
validation split alone. Classical augmentation is an arm's, not the recipe's.

Before each evaluation the averages of batch norm are computed anew from training tiles (Wu &
Johnson 2021, arXiv:2105.07576, "precise" statistics). Running averages lag behind the weights of a
short training: on the phantom, 60 updates of EfficientNet gave a balanced accuracy of .11 with them
and .59 without. A baseline that collapsed this way would turn any change of the training set into a
gain.

Every draw is a function of the seed: the order of the tiles and dropout do not depend on whether
tiles are augmented, and what augmentation does to an update depends on nothing drawn before it. On
a CPU the same number of threads gives the same classifier.

Shapes: tiles are uint8 (n, side, side, 3) throughout; a classifier turns them into floats.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from privgen.benefit.arms import Composition
from privgen.benefit.trials.augmentation import augment as augmented
from privgen.draws import Purpose, stream
from privgen.errors import NonFiniteLossError

Pixels = NDArray[np.uint8]
Indices = NDArray[np.intp]
Floats = NDArray[np.float64]

_WARM_UP = 0.2  # share of the updates
_PROBE_TILES = 128  # training tiles that renew batch norm and give the training accuracy
_NORM_BATCH = 64
_PREDICTION_BATCH = 32  # measured: larger ones leave the cache and are up to 1.6 times slower


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How every classifier is trained.

    Attributes:
      updates: optimiser updates.
      batch: tiles an update.
      evaluations: checkpoints compared on the validation split.
      learning_rate: the highest one.
      weight_decay: of AdamW.
      label_smoothing: share of each label that is spread over all classes.
    """

    updates: int
    batch: int
    evaluations: int
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1

    def short(self, updates: int) -> "Recipe":
        """The same with `updates` updates and one evaluation: a trial."""
        return replace(self, updates=updates, evaluations=1)


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One evaluation during training.

    Attributes:
      update: optimiser updates made so far.
      train_loss: mean over the updates since the last evaluation, against smoothed labels, nats.
      validation_loss: against the labels themselves, nats.
      validation_balanced_accuracy: over the classes the validation split holds.
    """

    update: int
    train_loss: float
    validation_loss: float
    validation_balanced_accuracy: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """A trained classifier.

    Attributes:
      model: the chosen checkpoint, in evaluation mode.
      updates: optimiser updates that were made, as the optimiser counted them.
      chosen: update of the chosen checkpoint.
      curve: every evaluation.
      train_accuracy: share of its own training tiles the last checkpoint gets right.
    """

    model: nn.Module
    updates: int
    chosen: int
    curve: tuple[CurvePoint, ...]
    train_accuracy: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How one classifier is trained.

    Attributes:
      recipe: the same for every arm.
      seed: of the order of the tiles, augmentation and dropout; the caller's random state is left
        as it was.
      augment: whether every tile is augmented anew each time it is shown, see `augmentation`.
      bfloat16: whether updates run under bfloat16 autocast; predictions are float32.
      device: where.
    """

    recipe: Recipe
    seed: int
    augment: bool
    bfloat16: bool
    device: torch.device


def fit(
    model: nn.Module,
    trial: Trial,
    *,
    tiles: Pixels,
    composition: Composition,
    validation: Pixels,
    validation_labels: Indices,
    on_update: Callable[[], None],
) -> Fitted:
    """Train a classifier and keep its best checkpoint on the validation split.

    Args:
      model: as `classifiers.build` gives it; trained in place.
      trial: how it is trained.
      tiles: the pool, shape (m, side, side, 3).
      composition: which rows of the pool it is trained on, and as what.
      validation: shape (v, side, side, 3).
      validation_labels: shape (v,).
      on_update: called after every update.

    Raises:
      NonFiniteLossError: the loss became NaN or infinite.
    """
    recipe, seed, device = trial.recipe, trial.seed, trial.device
    model.to(device)
    optimiser = torch.optim.AdamW(
        model.parameters(), weight_decay=recipe.weight_decay, betas=(0.9, 0.99), fused=True
    )
    rng = np.random.default_rng(seed)
    probe = rng.permutation(len(composition))[:_PROBE_TILES]
    batches = _batches(len(composition), recipe.batch, rng)
    curve: list[CurvePoint] = []
    chosen: CurvePoint | None = None
    kept: dict[str, Tensor] = {}
    made = 0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for target in _evaluation_updates(recipe):
            losses = []
            while made < target:
                _set_rate(optimiser, recipe, made)
                batch = next(batches)
                shown = tiles[composition.rows[batch]]
                if trial.augment:
                    shown = augmented(shown, stream(seed, made, Purpose.AUGMENT))
                losses.append(
                    _update(
                        model,
                        optimiser,
                        shown,
                        composition.labels[batch],
                        smoothing=recipe.label_smoothing,
                        bfloat16=trial.bfloat16,
                    )
                )
                made += 1
                on_update()
            _renew_norm(model, tiles[composition.rows[probe]])
            point = _evaluate(model, validation, validation_labels, made, float(np.mean(losses)))
            curve.append(point)
            if chosen is None or _rank(point) > _rank(chosen):
                chosen = point
                kept = {name: value.clone() for name, value in model.state_dict().items()}
    assert chosen is not None, "a recipe has one evaluation or more"
    correct = predict(model, tiles[composition.rows[probe]]).argmax(axis=1)
    accuracy = float((correct == composition.labels[probe]).mean())
    model.load_state_dict(kept)
    return Fitted(
        model=model,
        updates=_counted(optimiser),
        chosen=chosen.update,
        curve=tuple(curve),
        train_accuracy=accuracy,
    )


def predict(model: nn.Module, tiles: Pixels) -> Floats:
    """Class probabilities, shape (n, classes); leaves the model in evaluation mode."""
    model.eval()
    with torch.inference_mode():
        parts = [
            model(_on_device(tiles[i : i + _PREDICTION_BATCH], model)).double().softmax(dim=1)
            for i in range(0, len(tiles), _PREDICTION_BATCH)
        ]
    return np.asarray(torch.cat(parts).cpu().numpy())


def _batches(count: int, size: int, rng: np.random.Generator) -> Iterator[Indices]:
    """Endless batches of `size` positions; every position once before any comes again."""
    waiting = np.empty(0, dtype=np.intp)
    while True:
        while len(waiting) < size:
            waiting = np.concatenate([waiting, rng.permutation(count)])
        yield waiting[:size]
        waiting = waiting[size:]


def _evaluation_updates(recipe: Recipe) -> list[int]:
    """After how many updates to evaluate: evenly spaced, the last after all of them."""
    parts = recipe.evaluations
    return sorted({max(1, recipe.updates * (k + 1) // parts) for k in range(parts)})


def _set_rate(optimiser: torch.optim.Optimizer, recipe: Recipe, made: int) -> None:
    """Learning rate of the update after `made` ones: a ramp, then half a cosine down to 0."""
    ramp = max(1, round(_WARM_UP * recipe.updates))
    fall = max(0, made - ramp) / max(1, recipe.updates - ramp)
    share = min((made + 1) / ramp, 0.5 * (1 + math.cos(math.pi * fall)))
    for group in optimiser.param_groups:
        group["lr"] = recipe.learning_rate * share


def _update(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    tiles: Pixels,
    labels: Indices,
    *,
    smoothing: float,
    bfloat16: bool,
) -> float:
    """One optimiser update; returns its loss, nats."""
    model.train()
    x = _on_device(tiles, model)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
        logits = model(x)
    target = torch.from_numpy(labels).to(x.device)
    loss = F.cross_entropy(logits.float(), target, label_smoothing=smoothing)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise NonFiniteLossError(
            f"classifier training met a loss of {value}. Give larger batches or `size=standard`."
        )
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    optimiser.step()
    return value


def _counted(optimiser: torch.optim.Optimizer) -> int:
    """How often the optimiser has changed the weights."""
    return max(int(state["step"]) for state in optimiser.state.values())


def _renew_norm(model: nn.Module, tiles: Pixels) -> None:
    """Set the averages of every batch norm to those of `tiles` under the present weights."""
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    model.eval()
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        for part in np.array_split(np.arange(len(tiles)), -(-len(tiles) // _NORM_BATCH)):
            model(_on_device(tiles[part], model))


def _evaluate(
    model: nn.Module, tiles: Pixels, labels: Indices, made: int, train_loss: float
) -> CurvePoint:
    probabilities = predict(model, tiles)
    own = np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)
    hits = probabilities.argmax(axis=1) == labels
    return CurvePoint(
        update=made,
        train_loss=train_loss,
        validation_loss=float(-np.log(own).mean()),
        validation_balanced_accuracy=float(
            np.mean([hits[labels == label].mean() for label in np.unique(labels)])
        ),
    )


def _rank(point: CurvePoint) -> tuple[float, float]:
    return point.validation_balanced_accuracy, -point.validation_loss


def _on_device(tiles: Pixels, model: nn.Module) -> Tensor:
    """A copy of the tiles, which may be read-only, where the model is."""
    return torch.tensor(tiles, device=next(model.parameters()).device)
