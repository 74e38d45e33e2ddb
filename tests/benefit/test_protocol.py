"""End to end on textures, where colour names the class in the real training tiles only."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from privgen.benefit.arms import ARMS, Composition
from privgen.benefit.plan import Cell
from privgen.benefit.protocol import BenchReport
from privgen.benefit.regimes import GeneratorTiles, Regime, cut
from privgen.benefit.trials import execution
from privgen.benefit.trials.fitting import Fitted, Trial
from privgen.benefit.trials.guard import TestGuard
from privgen.benefit.trials.stress import STRESSES
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError, InputError, RuntimeFailure

Textures = Callable[..., TileSet]
Material = Callable[..., dict[str, Any]]
Bench = Callable[..., BenchReport]


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
def learned(bench: Bench, material: Material) -> BenchReport:
    """A run long enough to learn the textures from synthetic tiles."""
    return bench(
        **material(colour_tells=True),
        models=("resnet",),
        updates=24,
        batch=12,
        arms=("real", "real+synthetic", "oversampled", "shuffled"),
    )


def test_synthetic_tiles_that_break_a_shortcut_help(learned: BenchReport) -> None:
    added, repeated, shuffled = learned.differences
    assert (added.arm, added.verdict) == ("real+synthetic x1", "helps")
    assert added.estimate.low is not None
    assert added.estimate.low > 0.1
    for control, name in ((repeated, "oversampled x1"), (shuffled, "shuffled x1")):
        assert (control.arm, control.verdict, control.p_holm) == (name, "control", None)
        assert control.estimate.low is not None
        assert control.estimate.low < 0
        assert control.estimate.value < 0.5 * added.estimate.value


def test_the_plane_has_the_gain_of_the_generator(learned: BenchReport) -> None:
    (point,) = learned.plane
    assert (point.regime, point.generator, point.filtered) == (1.0, "perfect 0", False)
    assert point.gain.value == pytest.approx(learned.differences[0].estimate.value)
    assert (point.outcome, point.undominated) == (None, None)


def test_every_metric_is_an_estimate_over_test_patients(learned: BenchReport) -> None:
    assert len(learned.rows) == 4
    for row in learned.rows:
        assert list(row.metrics) == [
            "balanced_accuracy",
            "macro_f1",
            "auroc",
            "ece",
            "worst_class_recall",
        ]
        assert list(row.robustness) == list(STRESSES)
        for estimate in (*row.metrics.values(), *row.robustness.values()):
            assert (estimate.n, estimate.unit) == (5, "patient")
            assert estimate.low is not None
            assert estimate.high is not None
            assert estimate.low <= estimate.value <= estimate.high


def test_the_report_is_json_and_says_what_was_done(learned: BenchReport) -> None:
    content = json.loads(json.dumps(learned.to_dict(), allow_nan=False))
    assert content["classes"] == ["across", "check", "down"]
    assert content["group_unit"] == "patient"
    assert content["counts"] == {
        "validation": {"tiles": 27, "patients": 3},
        "test": {"tiles": 45, "patients": 5},
    }
    (regime,) = content["regimes"]
    assert (regime["share"], regime["tiles"], regime["patients"]) == (1.0, 36, 4)
    assert regime["generators"] == [
        {
            "name": "perfect 0",
            "synthetic": 72,
            "kept": None,
            "dropped_confidence": None,
            "dropped_distance": None,
        }
    ]
    assert [row["train_tiles"] for row in content["rows"]] == [36, 72, 72, 72]
    assert {row["updates"] for row in content["rows"]} == {24}
    assert content["config"]["side"] == 16
    assert content["config"]["recipe"]["updates"] == 24
    assert content["config"]["weights"] == {"resnet": "scratch"}
    for patient in ("train0", "test0", "choose0"):
        assert patient not in json.dumps(content)


def test_the_colour_histogram_is_fooled_by_the_shortcut(learned: BenchReport) -> None:
    (histogram,) = learned.histograms
    assert histogram.metrics["balanced_accuracy"].value < 0.6


def test_synthetic_tiles_with_wrong_labels_harm(
    textures: Textures, bench: Bench, material: Material
) -> None:
    parts = material()
    made = textures("made0", patients=8, grouped=False)
    wrong = TileSet.from_arrays(made.load(), np.roll(made.labels, 1))
    regime = Regime(
        share=1.0,
        train=parts["regimes"][0].train,
        generators=(GeneratorTiles(name="w", tiles=wrong),),
    )
    report = bench(
        regimes=(regime,),
        test=textures("test", patients=8),
        models=("resnet",),
        seeds=(0, 1, 2),
        ratios=(2.0,),
        updates=24,
        batch=12,
    )
    (difference,) = report.differences
    assert difference.verdict == "harms"


@dataclass
class Watched:
    """What the trainings of one run with every arm were given, cell by cell."""

    report: BenchReport | None = None
    steps: int = 0
    cells: list[Cell] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    fits: list[dict[str, Any]] = field(default_factory=list)

    def of(self, label: str) -> list[dict[str, Any]]:
        pairs = zip(self.cells, self.fits, strict=True)
        return [fitted for cell, fitted in pairs if cell.label == label]


@pytest.fixture(scope="module")
def watched(bench: Bench, material: Material) -> Iterator[Watched]:
    seen = Watched()
    run_cell, build, fit = execution.run_cell, execution.build, execution.fit

    def spied_cell(setting: execution.Setting, cell: Cell) -> None:
        seen.cells.append(cell)
        run_cell(setting, cell)

    def spied_build(*arguments: Any, **options: Any) -> nn.Module:
        model = build(*arguments, **options)
        seen.starts.append(float(sum(p.detach().double().abs().sum() for p in model.parameters())))
        return model

    def spied_fit(model: nn.Module, trial: Trial, **options: Any) -> Fitted:
        seen.fits.append({**options, **vars(trial)})
        return fit(model, trial, **options)

    with pytest.MonkeyPatch.context() as patch, counted_steps() as steps:
        patch.setattr(execution, "run_cell", spied_cell)
        patch.setattr(execution, "build", spied_build)
        patch.setattr(execution, "fit", spied_fit)
        seen.report = bench(arms=tuple(ARMS), ratios=(0.5, 1.0))
        seen.steps = steps[0]
        yield seen


def counts(composition: Composition) -> list[int]:
    return np.bincount(composition.labels, minlength=3).tolist()


def test_every_arm_makes_the_same_number_of_updates(watched: Watched) -> None:
    assert watched.report is not None
    assert watched.steps == len(watched.cells) * 2
    assert {row.updates for row in watched.report.rows} == {2}
    assert len({fitted["recipe"] for fitted in watched.fits}) == 1


def test_arms_of_a_seed_start_alike_and_see_tiles_in_the_same_order(watched: Watched) -> None:
    for values in (watched.starts, [fitted["seed"] for fitted in watched.fits]):
        of_seed = {
            seed: {v for cell, v in zip(watched.cells, values, strict=True) if cell.seed == seed}
            for seed in (0, 1)
        }
        assert [len(found) for found in of_seed.values()] == [1, 1]
        assert of_seed[0] != of_seed[1]


def test_controls_hold_what_the_tested_arm_holds(watched: Watched) -> None:
    arms = [watched.of(f"{arm} x1") for arm in ("real+synthetic", "oversampled", "shuffled")]
    for mixed, repeated, shuffled in zip(*arms, strict=True):
        assert (
            counts(mixed["composition"])
            == counts(repeated["composition"])
            == counts(shuffled["composition"])
        )
        assert np.array_equal(mixed["composition"].rows, shuffled["composition"].rows)
        assert not np.array_equal(mixed["composition"].labels, shuffled["composition"].labels)
        assert repeated["composition"].rows.max() < 36


def test_ratios_are_nested(watched: Watched) -> None:
    for half, whole in zip(
        watched.of("real+synthetic x0.5"), watched.of("real+synthetic x1"), strict=True
    ):
        assert len(half["composition"]) == 36 + 18
        assert set(half["composition"].rows) < set(whole["composition"].rows)


def test_only_the_classical_arm_augments(watched: Watched) -> None:
    augmented = {
        cell.arm
        for cell, fitted in zip(watched.cells, watched.fits, strict=True)
        if fitted["augment"]
    }
    assert augmented == {"real+classical"}


def test_what_the_filter_drops_is_counted_and_is_not_trained_on(watched: Watched) -> None:
    assert watched.report is not None
    ((made,),) = (regime.generators for regime in watched.report.regimes)
    assert made.kept is not None
    assert made.dropped_confidence is not None
    assert made.dropped_distance is not None
    assert 0 < made.kept < 72
    assert made.kept <= 72 - max(made.dropped_confidence, made.dropped_distance)
    drawn = {
        int(row)
        for fitted in watched.of("real+filtered x1")
        for row in fitted["composition"].rows
        if row >= 36
    }
    assert 0 < len(drawn) <= made.kept
    (filtered,) = [row for row in watched.report.rows if row.arm == "real+filtered x1"]
    assert filtered.train_tiles == 36 + min(36, made.kept)
    assert [point.filtered for point in watched.report.plane] == [False, True]


def test_only_tested_arms_enter_holm(watched: Watched) -> None:
    assert watched.report is not None
    for difference in watched.report.differences:
        tested = difference.arm.startswith(("real+synthetic", "real+filtered"))
        assert (difference.p_holm is not None) == tested == (difference.role == "tested")
        assert tested or difference.verdict == difference.role


def test_regimes_and_generators_are_crossed(
    textures: Textures, bench: Bench, material: Material
) -> None:
    parts = material(generators=2)
    (whole,) = parts["regimes"]
    small = cut(whole.train, (0.5,), seed=0)[0.5]
    half = Regime(share=0.5, train=small, generators=whole.generators[:1])
    report = bench(**parts | {"regimes": (whole, half)})
    assert [
        (row.regime, row.arm, row.generators, row.seeds, row.train_tiles) for row in report.rows
    ] == [
        (0.5, "real", 1, 2, 18),
        (0.5, "real+synthetic x1", 1, 2, 36),
        (1.0, "real", 1, 2, 36),
        (1.0, "real+synthetic x1", 2, 2, 72),
    ]
    assert [one.regime for one in report.histograms] == [0.5, 1.0]
    assert [(point.regime, point.generator) for point in report.plane] == [
        (0.5, "perfect 0"),
        (1.0, "perfect 0"),
        (1.0, "perfect 1"),
    ]
    assert any("regime 0.5: one generator" in warning for warning in report.warnings)


def test_the_same_arguments_give_the_same_report_and_another_seed_another(bench: Bench) -> None:
    first = bench()
    assert first.to_dict() == bench().to_dict()
    assert bench(seed=1).rows != first.rows


def test_a_training_depends_on_nothing_trained_before_it(bench: Bench) -> None:
    both = bench(models=("mobilenet", "resnet"))
    assert both.rows[2:] == bench(models=("resnet",)).rows


def test_a_second_look_at_the_test_split_ends_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Peeking(TestGuard):
        def test(self, name: str, *arguments: Any) -> dict[str, Any]:
            super().test(name, *arguments)
            return super().test(name, *arguments)

    monkeypatch.setattr(execution, "TestGuard", Peeking)
    with pytest.raises(RuntimeFailure, match="read once by each classifier: regime 1, mobilenet"):
        bench()


def test_tiles_are_seen_at_the_side_asked_for(bench: Bench, textures: Textures) -> None:
    made = textures("made0", side=24, grouped=False)
    regime = Regime(
        share=1.0,
        train=textures("train", side=24),
        generators=(GeneratorTiles(name="g", tiles=made),),
    )
    report = bench(
        regimes=(regime,),
        validation=textures("choose", side=24),
        test=textures("test", side=24),
        arms=("real",),
        side=16,
    )
    assert report.config["side"] == 16


@pytest.mark.parametrize(
    ("changed", "error", "rule"),
    [
        ({"ratios": (3.0,)}, InputError, "needs 108 synthetic tiles: got 72"),
        ({"side": 8}, InputError, "16 px or more: got 8x8"),
        ({"models": ("vgg",)}, ConfigError, "got 'vgg'"),
        ({"device": "quantum"}, ConfigError, "device"),
    ],
)
def test_bad_options_stop_before_anything_is_trained(
    bench: Bench, changed: dict[str, Any], error: type[Exception], rule: str
) -> None:
    with counted_steps() as steps, pytest.raises(error, match=rule):
        bench(**changed)
    assert steps[0] == 0


def test_two_test_patients_are_too_few(bench: Bench, textures: Textures) -> None:
    with pytest.raises(InputError, match="needs 3 test patients or more: got 2"):
        bench(test=textures("test", patients=2))
