"""End to end on textures, where colour names the class in the real training tiles only."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from privgen.data.tileset import TileSet
from privgen.errors import ConfigError, InputError, RuntimeFailure
from privgen.utility import protocol
from privgen.utility.protocol import BenchReport, augment_bench

Textures = Callable[..., TileSet]


def material(textures: Textures, **changed: TileSet) -> dict[str, TileSet]:
    return {
        "train": textures("train", colour_tells=True),
        "validation": textures("choose", patients=3),
        "test": textures("test", patients=8),
        "synthetic": textures("made", patients=8, grouped=False),
    } | changed


def bench(textures: Textures, **changed: Any) -> BenchReport:
    roles = {name: changed.pop(name) for name in list(changed) if name in material(textures)}
    options: dict[str, Any] = {
        "families": ("densenet",),
        "seeds": (0, 1),
        "updates": 4,
        "batch": 8,
        "evaluations": 2,
        "size": "small",
        "device": "cpu",
    }
    return augment_bench(**material(textures, **roles), **(options | changed))


@contextmanager
def counted_steps() -> Iterator[list[int]]:
    steps = [0]

    def count(*_: object) -> None:
        steps[0] += 1

    hook = register_optimizer_step_post_hook(count)
    try:
        yield steps
    finally:
        hook.remove()


@pytest.fixture(scope="module")
def learned(textures: Textures) -> BenchReport:
    """A run long enough to learn the textures from synthetic tiles."""
    return bench(textures, seeds=(0, 1, 2), updates=30, batch=12, ratios=(1.0,))


def test_synthetic_tiles_that_break_a_shortcut_help(learned: BenchReport) -> None:
    added, repeated = learned.differences
    assert (added.arm, added.verdict) == ("real+synthetic x1", "helps")
    assert added.estimate.low is not None
    assert added.estimate.low > 0.1
    assert (repeated.arm, repeated.verdict) == ("oversampled x1", "control")
    assert repeated.estimate.value < 0.5 * added.estimate.value


def test_every_metric_is_an_estimate_over_test_patients(learned: BenchReport) -> None:
    assert len(learned.rows) == 3
    for row in learned.rows:
        assert list(row.metrics) == [
            "balanced_accuracy",
            "macro_f1",
            "auroc",
            "ece",
            "worst_class_recall",
        ]
        for estimate in row.metrics.values():
            assert (estimate.n, estimate.unit) == (8, "patient")
            assert estimate.low is not None
            assert estimate.high is not None
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_the_report_is_json_and_says_what_was_done(learned: BenchReport) -> None:
    content = json.loads(json.dumps(learned.to_dict(), allow_nan=False))
    assert content["classes"] == ["across", "check", "down"]
    assert content["group_unit"] == "patient"
    assert content["counts"] == {
        "train": {"tiles": 36, "patients": 4},
        "validation": {"tiles": 27, "patients": 3},
        "test": {"tiles": 72, "patients": 8},
        "synthetic": {"tiles": 72},
    }
    assert [row["train_tiles"] for row in content["rows"]] == [36, 72, 72]
    assert {row["updates"] for row in content["rows"]} == {30}
    assert content["config"]["side"] == 16
    assert content["config"]["recipe"]["updates"] == 30
    assert "train0" not in json.dumps(content)


def test_the_colour_histogram_is_fooled_by_the_shortcut(learned: BenchReport) -> None:
    assert learned.colour_histogram["balanced_accuracy"].value < 0.6


def test_synthetic_tiles_with_wrong_labels_harm(textures: Textures) -> None:
    made = textures("made", patients=8)
    wrong = TileSet.from_arrays(made.load(), np.roll(made.labels, 1))
    report = bench(
        textures,
        train=textures("plain", patients=4),
        synthetic=wrong,
        ratios=(2.0,),
        seeds=(0, 1, 2),
        updates=30,
        batch=12,
        arms=("real", "real+synthetic"),
    )
    (difference,) = report.differences
    assert difference.verdict == "harms"


def test_every_arm_makes_the_same_number_of_updates(textures: Textures) -> None:
    with counted_steps() as steps:
        report = bench(textures, ratios=(0.5, 2.0), updates=3)
    cells = 5 * 2  # real, two ratios each of real+synthetic and oversampled; two seeds
    assert steps[0] == cells * 3
    assert [row.updates for row in report.rows] == [3] * 5


def test_arms_start_from_the_same_weights_for_each_seed(
    textures: Textures, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[float] = []

    def spy(*arguments: Any, **options: Any) -> nn.Module:
        model = build(*arguments, **options)
        started.append(float(sum(p.detach().double().abs().sum() for p in model.parameters())))
        return model

    build = protocol.build
    monkeypatch.setattr(protocol, "build", spy)
    bench(textures, updates=2)
    assert len(started) == 6
    assert started[0::2] == [started[0]] * 3
    assert started[1::2] == [started[1]] * 3
    assert started[0] != started[1]


def test_the_same_arguments_give_the_same_report(textures: Textures) -> None:
    first, again = bench(textures), bench(textures)
    assert first.to_dict() == again.to_dict()
    assert bench(textures, seed=1).rows != first.rows


def test_a_cell_depends_on_nothing_trained_before_it(textures: Textures) -> None:
    both = bench(textures, families=("mobilenet", "densenet"), arms=("real", "real+synthetic"))
    alone = bench(textures, families=("densenet",), arms=("real", "real+synthetic"))
    assert both.rows[2:] == alone.rows


def test_a_second_look_at_the_test_split_raises(
    textures: Textures, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Peeking(protocol.TestGuard):
        def read(self, model: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
            super().read(model)
            return super().read(model)

    monkeypatch.setattr(protocol, "TestGuard", Peeking)
    with pytest.raises(RuntimeFailure, match="read once by each model"):
        bench(textures, updates=2)


def test_tiles_are_seen_at_the_side_asked_for(textures: Textures) -> None:
    large = {
        name: textures(name, side=24, grouped=name != "made")
        for name in ("train", "choose", "test", "made")
    }
    roles = dict(zip(("train", "validation", "test", "synthetic"), large.values(), strict=True))
    assert (
        augment_bench(
            **roles,
            families=("densenet",),
            arms=("real",),
            seeds=(0, 1),
            updates=2,
            batch=4,
            evaluations=2,
            side=16,
            size="small",
        ).config["side"]
        == 16
    )


@pytest.mark.parametrize(
    ("changed", "error", "rule"),
    [
        ({"ratios": (3.0,)}, InputError, "needs 108 synthetic tiles: got 72"),
        ({"side": 8}, InputError, "16 px or more: got 8x8"),
        ({"families": ("vgg",)}, ConfigError, "got 'vgg'"),
        ({"device": "quantum"}, ConfigError, "device"),
    ],
)
def test_bad_options_stop_before_anything_is_trained(
    textures: Textures, changed: dict[str, Any], error: type[Exception], rule: str
) -> None:
    with counted_steps() as steps, pytest.raises(error, match=rule):
        bench(textures, **changed)
    assert steps[0] == 0
