from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from privgen.benefit.arms import Composition
from privgen.benefit.trials import fitting
from privgen.benefit.trials.augmentation import augment
from privgen.benefit.trials.classifiers import build
from privgen.benefit.trials.fitting import Fitted, Recipe, Trial, fit, predict
from privgen.data.tileset import TileSet
from privgen.draws import Purpose, stream
from privgen.errors import NonFiniteLossError

RECIPE = Recipe(updates=24, batch=12, evaluations=3)
CPU = torch.device("cpu")


def numbers(tiles: TileSet) -> np.ndarray[Any, np.dtype[np.intp]]:
    return np.searchsorted(np.array(tiles.classes), tiles.labels)


def train(
    textures: Callable[..., TileSet],
    recipe: Recipe = RECIPE,
    *,
    seed: int = 0,
    family: str = "densenet",
    augment: bool = False,
    on_update: Callable[[], None] = lambda: None,
) -> Fitted:
    real, validation = textures("train"), textures("choose", patients=2)
    return fit(
        build(family, classes=3, side=16, seed=seed, size="small"),
        Trial(recipe=recipe, seed=seed, augment=augment, bfloat16=False, device=CPU),
        tiles=real.load(),
        composition=Composition(rows=np.arange(len(real)), labels=numbers(real)),
        validation=validation.load(),
        validation_labels=numbers(validation),
        on_update=on_update,
    )


def test_learns_what_it_is_taught(textures: Callable[..., TileSet]) -> None:
    fitted = train(textures)
    test = textures("test")
    right = predict(fitted.model, test.load()).argmax(axis=1) == numbers(test)
    assert right.mean() > 0.9
    assert fitted.train_accuracy > 0.9
    assert fitted.curve[-1].train_loss < fitted.curve[0].train_loss


def test_the_kept_checkpoint_is_the_best_on_validation(textures: Callable[..., TileSet]) -> None:
    fitted = train(textures, replace(RECIPE, updates=6, evaluations=6))
    validation = textures("choose", patients=2)
    labels = numbers(validation)
    guess = predict(fitted.model, validation.load()).argmax(axis=1)
    recall = np.mean([(guess[labels == label] == label).mean() for label in range(3)])
    best = max(fitted.curve, key=lambda p: (p.validation_balanced_accuracy, -p.validation_loss))
    assert fitted.chosen == best.update
    assert recall == pytest.approx(best.validation_balanced_accuracy)


@pytest.mark.parametrize(
    ("updates", "evaluations", "expected"), [(24, 3, [8, 16, 24]), (7, 2, [3, 7]), (2, 2, [1, 2])]
)
def test_evaluations_are_evenly_spaced_and_the_last_comes_last(
    textures: Callable[..., TileSet], updates: int, evaluations: int, expected: list[int]
) -> None:
    steps = []
    recipe = Recipe(updates=updates, batch=4, evaluations=evaluations)
    fitted = train(textures, recipe, on_update=lambda: steps.append(1))
    assert [point.update for point in fitted.curve] == expected
    assert len(steps) == fitted.updates == updates


def test_the_same_seed_gives_the_same_classifier_and_leaves_the_random_state(
    textures: Callable[..., TileSet],
) -> None:
    # MobileNet and EfficientNet have dropout, which draws from PyTorch's global state.
    short = replace(RECIPE, updates=4, evaluations=2)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = train(textures, short, family="mobilenet")
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    again = train(textures, short, family="mobilenet")
    other = train(textures, short, family="mobilenet", seed=1)
    tiles = textures("test").load()
    assert np.array_equal(predict(first.model, tiles), predict(again.model, tiles))
    assert not np.array_equal(predict(first.model, tiles), predict(other.model, tiles))
    assert first.curve == again.curve


def test_batches_show_every_tile_once_before_any_again() -> None:
    stream = fitting._batches(10, 4, np.random.default_rng(0))
    shown = np.concatenate([next(stream) for _ in range(5)])
    assert sorted(shown[:10]) == sorted(shown[10:]) == list(range(10))


def test_a_training_set_smaller_than_a_batch_still_fills_it() -> None:
    batch = next(fitting._batches(3, 8, np.random.default_rng(0)))
    assert np.bincount(batch, minlength=3).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


def test_batch_norm_is_renewed_from_the_tiles_under_the_present_weights(
    textures: Callable[..., TileSet],
) -> None:
    tiles = textures("train").load()
    model = build("resnet", classes=3, side=16, seed=0, size="small")
    fitting._renew_norm(model, tiles)
    x = (torch.from_numpy(tiles).permute(0, 3, 1, 2).float() - 127.5) / 63.75
    with torch.no_grad():
        first = model.network.features[0](x)
    norm = model.network.features[1]
    assert torch.allclose(norm.running_mean, first.mean(dim=(0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var, first.var(dim=(0, 2, 3)), rtol=1e-3)


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rates = []
    for made in range(50):
        fitting._set_rate(optimiser, replace(RECIPE, updates=50), made)
        rates.append(optimiser.param_groups[0]["lr"])
    peak = int(np.argmax(rates))
    assert rates[peak] == RECIPE.learning_rate
    assert peak in (9, 10)
    assert np.all(np.diff(rates[:peak]) > 0)
    assert np.all(np.diff(rates[peak + 1 :]) < 0)
    assert rates[-1] < 0.01 * RECIPE.learning_rate


def test_a_diverging_training_stops_with_a_named_error(textures: Callable[..., TileSet]) -> None:
    with pytest.raises(NonFiniteLossError, match=r"loss of (nan|inf)"):
        train(textures, replace(RECIPE, learning_rate=1e30))


def test_predictions_are_probabilities_one_row_a_tile(textures: Callable[..., TileSet]) -> None:
    model = build("densenet", classes=3, side=16, seed=0, size="small")
    found = predict(model, textures("many", patients=5, each=27).load())
    assert found.shape == (135, 3)
    assert found.dtype == np.float64
    assert np.allclose(found.sum(axis=1), 1)


def test_read_only_tiles_are_no_trouble(textures: Callable[..., TileSet]) -> None:
    tiles = textures("test").load().copy()
    tiles.setflags(write=False)
    model = build("densenet", classes=3, side=16, seed=0, size="small")
    assert predict(model, tiles).shape == (len(tiles), 3)


def test_labels_are_smoothed_by_the_recipe() -> None:
    """By hand: two classes, logits (1, -1), label 0, smoothing .1."""

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(torch.tensor([[1.0, -1.0]]))

        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            return self.logits.expand(len(tiles), 2)

    model = Fixed()
    loss = fitting._update(
        model,
        torch.optim.SGD(model.parameters(), lr=0.0),
        np.zeros((3, 2, 2, 3), dtype=np.uint8),
        np.zeros(3, dtype=np.intp),
        smoothing=0.1,
        bfloat16=False,
    )
    own, other = -np.log(1 / (1 + np.exp(-2))), -np.log(1 / (1 + np.exp(2)))
    assert loss == pytest.approx(0.95 * own + 0.05 * other)


def recorded(
    textures: Callable[..., TileSet],
    monkeypatch: pytest.MonkeyPatch,
    *,
    seed: int = 0,
    **rest: bool,
) -> tuple[list[np.ndarray[Any, np.dtype[np.uint8]]], Fitted]:
    """What every update was shown."""
    shown: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
    true = fitting._update

    def spy(model: Any, optimiser: Any, tiles: Any, labels: Any, **options: Any) -> float:
        shown.append(tiles)
        return true(model, optimiser, tiles, labels, **options)

    monkeypatch.setattr(fitting, "_update", spy)
    fitted = train(textures, Recipe(updates=4, batch=12, evaluations=2), seed=seed, **rest)
    monkeypatch.undo()
    return shown, fitted


def test_augmentation_changes_pixels_but_neither_the_order_nor_the_number_of_updates(
    textures: Callable[..., TileSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, fitted = recorded(textures, monkeypatch)
    changed, other = recorded(textures, monkeypatch, augment=True)
    assert fitted.updates == other.updates == len(changed) == 4
    for update, (before, after) in enumerate(zip(plain, changed, strict=True)):
        assert not np.array_equal(before, after)
        assert np.array_equal(after, augment(before, stream(0, update, Purpose.AUGMENT)))
    real = textures("train").load()
    assert all((tile == real).all(axis=(1, 2, 3)).any() for tiles in plain for tile in tiles)


def test_augmentation_is_drawn_anew_at_each_update_and_for_each_seed(
    textures: Callable[..., TileSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray[Any, np.dtype[np.int64]]] = []

    def spy(tiles: Any, rng: np.random.Generator) -> Any:
        seen.append(rng.integers(0, 2**40, 2))
        return tiles

    monkeypatch.setattr(fitting, "augmented", spy)
    for seed in (0, 1):
        train(textures, Recipe(updates=3, batch=4, evaluations=1), seed=seed, augment=True)
    assert len({tuple(draws) for draws in seen}) == 6


def test_updates_are_those_the_optimiser_made(
    textures: Callable[..., TileSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that is left out is missing from the count, whatever the loop believes."""
    true, calls = torch.optim.AdamW.step, []

    def forgetful(self: torch.optim.AdamW) -> None:
        calls.append(1)
        if len(calls) != 3:
            true(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", forgetful)
    assert train(textures, Recipe(updates=5, batch=4, evaluations=1)).updates == 4


def test_a_short_recipe_differs_in_its_length_alone() -> None:
    assert RECIPE.short(3) == replace(RECIPE, updates=3, evaluations=1)
