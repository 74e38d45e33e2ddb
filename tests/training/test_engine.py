"""One training step: what it learns, what it never does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from privgen.compute.devices import choose_device, working_type
from privgen.config import TrainConfig
from privgen.draws import Purpose, latents
from privgen.errors import ConfigError, NonFiniteLossError
from privgen.models import FAMILIES
from privgen.models.presets import configure
from privgen.training import augment, objectives
from privgen.training import engine as engine_module
from privgen.training.engine import Engine

CONFIG = TrainConfig(
    resolution=32, width=8, head_width=8, batch=8, precision="float32", device="cpu"
)
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])


def _tiles() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)


def _parameters(engine: Engine) -> list[torch.Tensor]:
    networks = (engine.generator, engine.discriminator, engine.average)
    return [p.detach().clone() for network in networks for p in network.parameters()]


def test_a_step_moves_every_parameter_and_reports_finite_figures() -> None:
    engine = Engine(CONFIG, 2)
    networks = (engine.generator, engine.discriminator, engine.average)
    names = [name for network in networks for name, _ in network.named_parameters()]
    before = _parameters(engine)
    for step in range(3):
        figures = engine.step(_tiles(), LABELS, step)
    assert all(np.isfinite(value) for value in figures.values())
    moved = [not torch.equal(a, b) for a, b in zip(before, _parameters(engine), strict=True)]
    still = [name for name, here in zip(names, moved, strict=True) if not here]
    # A hinge with every logit inside its margin pulls the final biases neither way.
    assert all(name.endswith("logit.bias") for name in still)


def test_the_same_seed_gives_the_same_engine_and_leaves_pytorchs_own_state_alone() -> None:
    torch.manual_seed(77)
    expected = torch.rand(1)
    torch.manual_seed(77)
    first, second = Engine(CONFIG, 2), Engine(CONFIG, 2)
    assert torch.equal(torch.rand(1), expected)
    other = Engine(replace(CONFIG, seed=1), 2)
    for a, b in zip(_parameters(first), _parameters(second), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(_parameters(first)[0], _parameters(other)[0])


@pytest.mark.parametrize("which", ["generator_loss", "discriminator_loss"])
def test_a_loss_that_is_not_finite_stops_before_the_update(
    which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(CONFIG, 2)
    engine.step(_tiles(), LABELS, 0)
    before = _parameters(engine)
    moments = engine.state()["generator_optimizer"]["state"][0]["exp_avg"]
    true_loss = getattr(objectives, which)
    monkeypatch.setattr(objectives, which, lambda *given: true_loss(*given) * float("nan"))
    with pytest.raises(NonFiniteLossError, match=r"not finite at step 1.*No parameter was changed"):
        engine.step(_tiles(), LABELS, 1)
    for a, b in zip(before, _parameters(engine), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(moments, engine.state()["generator_optimizer"]["state"][0]["exp_avg"])


def test_a_gradient_that_is_not_finite_stops_too(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(CONFIG, 2)
    before = _parameters(engine)
    # sqrt has an infinite slope at 0 while its value is finite
    monkeypatch.setattr(
        objectives, "generator_loss", lambda _kind, _real, fooled, _total: (0 * fooled).sqrt().sum()
    )
    with pytest.raises(NonFiniteLossError):
        engine.step(_tiles(), LABELS, 0)
    for a, b in zip(before, _parameters(engine), strict=True):
        assert torch.equal(a, b)


def test_the_generators_loss_leaves_no_gradient_on_the_discriminator() -> None:
    engine = Engine(replace(CONFIG, discriminator_rate=1e-8), 2)
    engine.step(_tiles(), LABELS, 0)
    head = next(engine.discriminator.parameters())
    own_gradient = head.grad.clone()  # type: ignore[union-attr]
    other = Engine(replace(CONFIG, discriminator_rate=1e-8, diversity=100.0), 2)
    other.step(_tiles(), LABELS, 0)
    assert torch.equal(own_gradient, next(other.discriminator.parameters()).grad)  # type: ignore[arg-type]


def test_bfloat16_steps_stay_close_to_float32_steps() -> None:
    first = Engine(CONFIG, 2).step(_tiles(), LABELS, 0)
    second = Engine(replace(CONFIG, precision="bfloat16"), 2).step(_tiles(), LABELS, 0)
    assert second["discriminator_loss"] == pytest.approx(first["discriminator_loss"], abs=0.1)


def test_precision_and_device_follow_the_configuration() -> None:
    cpu = torch.device("cpu")
    assert working_type("bfloat16", cpu) == torch.bfloat16
    assert working_type("float16", cpu) == torch.float16
    assert working_type("float32", cpu) == torch.float32
    assert choose_device("cpu") == cpu
    with pytest.raises(ConfigError, match="device 'gpu7' cannot be used"):
        choose_device("gpu7")


TINY = {
    "resolution": 32,
    "width": 8,
    "head_width": 8,
    "style_dim": 8,
    "batch": 8,
    "augment": 0.0,
    "device": "cpu",
}
EIGHT = np.repeat([0, 1], 4)
STYLED = ("stylegan", "stylegan2", "pathologygan")


def _made(family: str, discriminator: str = "own", **options: object) -> Engine:
    given = {**TINY, "precision": "float64", "diversity": 0.0, **options}
    return Engine(configure({"family": family, "discriminator": discriminator, **given}), 2)


def _eight() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)


def _gradients(network: torch.nn.Module) -> list[torch.Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()]


def _assert_differ_by(
    one: list[torch.Tensor], other: list[torch.Tensor], expected: list[torch.Tensor], factor: float
) -> None:
    assert sum(float(e.abs().sum()) for e in expected) > 1e-3
    for a, b, e in zip(one, other, expected, strict=True):
        torch.testing.assert_close(a - b, factor * e, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("discriminator", ["own", "projected"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_makes_finite_steps_with_either_discriminator(
    family: str, discriminator: str
) -> None:
    engine = _made(family, discriminator, precision="float32", feature_side=32, augment=1.0)
    before = _parameters(engine)
    figures = [engine.step(_eight(), EIGHT, step) for step in (0, 1)]
    assert all(np.isfinite(value) for line in figures for value in line.values())
    after = _parameters(engine)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in after)
    assert sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) > len(after) / 2


@pytest.mark.parametrize("family", STYLED)
def test_mixing_keeps_early_styles_and_takes_all_later_ones_from_a_second_latent(
    family: str,
) -> None:
    engine = _made(family, style_mixing=1.0)
    engine.generator.eval()  # spectral norms stand still, so that styles can be compared
    painted: list[torch.Tensor] = []
    paint = engine._paint

    def recorded(styles: torch.Tensor, noise: list[torch.Tensor]) -> torch.Tensor:
        painted.append(styles)
        return paint(styles, noise)

    engine._paint = recorded
    indices, classes = np.arange(32), torch.arange(32) % 2
    tiles = engine._synthetic(indices, classes)
    (mixed,) = painted
    z, noise = engine._latents(indices, Purpose.TRAIN)
    plain = engine.generator.styles(z, classes)  # type: ignore[operator]
    kept = (mixed == plain).all(dim=2)
    assert bool(kept[:, 0].all())
    assert not bool(kept[:, -1].any())
    assert bool((kept[:, :-1] >= kept[:, 1:]).all())  # kept up to one place, replaced after it
    assert len(set(kept.sum(dim=1).tolist())) > 2
    own = engine.generator.synthesis(plain, noise)  # type: ignore[operator]
    assert float((tiles - own).abs().amax(dim=(1, 2, 3)).detach().min()) > 1e-4


def test_mixing_reaches_the_asked_share_of_tiles_and_no_other() -> None:
    engine, plain = _made("stylegan2", style_mixing=0.25), _made("stylegan2", style_mixing=0.0)
    indices, classes = np.arange(80), torch.zeros(80, dtype=torch.long)
    difference = (engine._synthetic(indices, classes) - plain._synthetic(indices, classes)).abs()
    mixed = difference.detach().amax(dim=(1, 2, 3)) > 1e-9
    assert 8 <= int(mixed.sum()) <= 34  # of 80 a quarter, give or take 3.3 standard deviations


@pytest.mark.parametrize("option", ["style_mixing", "path_weight"])
def test_a_family_without_styles_refuses_what_needs_them(option: str) -> None:
    with pytest.raises(ConfigError, match=rf"need a generator with styles.*{option} 0.5.*cdcgan"):
        _made("cdcgan", **{option: 0.5})


def test_r1_is_applied_lazily_and_weighs_its_interval() -> None:
    options = {"r1_gamma": 0.5, "r1_every": 2, "style_mixing": 0.0}
    lazy, without = _made("stylegan", **options), _made("stylegan", **{**options, "r1_gamma": 0.0})
    fresh = _made("stylegan", **options)
    real = torch.from_numpy(_eight()).permute(0, 3, 1, 2).double() / 127.5 - 1
    judge = fresh.discriminator.judge
    penalty = objectives.r1_penalty(judge, [real], torch.from_numpy(EIGHT))  # type: ignore[arg-type]
    penalty.backward()
    figures = [lazy.step(_eight(), EIGHT, 0)]
    without.step(_eight(), EIGHT, 0)
    _assert_differ_by(
        _gradients(lazy.discriminator),
        _gradients(without.discriminator),
        _gradients(fresh.discriminator),
        0.5 * 2,
    )
    assert figures[0]["r1"] == pytest.approx(float(penalty.detach()), rel=1e-9)
    figures += [lazy.step(_eight(), EIGHT, step) for step in (1, 2)]
    assert ["r1" in line for line in figures] == [True, False, True]


def test_path_length_is_applied_lazily_weighs_its_interval_and_keeps_a_running_mean() -> None:
    options = {"path_weight": 3.0, "path_every": 2, "r1_gamma": 0.0, "style_mixing": 0.0}
    lazy = _made("stylegan2", **options)
    lazy.adaptive.path_mean = 0.125
    without = _made("stylegan2", **{**options, "path_weight": 0.0})
    fresh = _made("stylegan2", **options)
    rows, classes = np.arange(0, 8, 2), torch.from_numpy(EIGHT[::2])
    z, noise = fresh._latents(np.arange(8), Purpose.TRAIN)
    styles = fresh.generator.styles(z[::2], classes)  # type: ignore[operator]
    drawn, _ = latents(0, rows, Purpose.PATH, z_dim=3 * 32 * 32, noise_shapes=())
    directions = torch.from_numpy(drawn).double().reshape(4, 3, 32, 32)
    tiles = fresh.generator.synthesis(styles, [n[::2] for n in noise])  # type: ignore[operator]
    lengths = objectives.path_lengths(tiles, styles, directions)
    (lengths - 0.125).square().mean().backward()
    figures = [lazy.step(_eight(), EIGHT, 0)]
    without.step(_eight(), EIGHT, 0)
    _assert_differ_by(
        _gradients(lazy.generator), _gradients(without.generator), _gradients(fresh.generator), 6.0
    )
    mean = float(lengths.detach().mean())
    assert figures[0]["path_length"] == pytest.approx(mean, rel=1e-9)
    assert lazy.adaptive.path_mean == pytest.approx(0.125 + 0.01 * (mean - 0.125), rel=1e-9)
    kept = lazy.adaptive.path_mean
    figures.append(lazy.step(_eight(), EIGHT, 1))
    assert lazy.adaptive.path_mean == kept == lazy.state()["adaptive"]["path_mean"]
    figures.append(lazy.step(_eight(), EIGHT, 2))
    assert ["path_length" in line for line in figures] == [True, False, True]
    expected = kept + 0.01 * (figures[2]["path_length"] - kept)
    assert lazy.adaptive.path_mean == pytest.approx(expected, rel=1e-12)


def test_a_step_in_two_parts_is_the_step_in_one() -> None:
    """Weights and controls, with R1, path length and adaptive augmentation on.

    Of a family without spectral normalisation: its power iteration runs once a forward pass, so
    that two parts would see two versions of the same weight.
    """
    options = {"batch": 16, "augment": 1.0, "ada_kimg": 0.1, "style_mixing": 0.9}
    whole, parts = (_made("stylegan2", **options, accumulate=n) for n in (1, 2))
    tiles = np.concatenate([_eight(), 255 - _eight()])
    labels = np.repeat([0, 1], 8)
    for engine in (whole, parts):
        engine.adaptive.probability = 0.5
    for step in range(2):
        figures = [engine.step(tiles, labels, step) for engine in (whole, parts)]
        for name in ("r1", "path_length", "generator_loss", "discriminator_loss", "real_logit"):
            values = [line.get(name, 0.0) for line in figures]
            assert values[0] == pytest.approx(values[1], rel=1e-9), name
        for a, b in zip(_parameters(whole), _parameters(parts), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
    assert whole.adaptive.path_mean == pytest.approx(parts.adaptive.path_mean, rel=1e-9)
    assert whole.adaptive.signs == pytest.approx(parts.adaptive.signs)


def test_augmentation_adapts_to_how_sure_the_discriminator_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = _made("cdcgan-2025", ada_target=0.6, ada_kimg=0.064, augment=1.0)
    used: list[float] = []
    true_augment = augment.augment

    def recorded(*given: torch.Tensor, probability: float, **options: float) -> torch.Tensor:
        used.append(probability)
        return true_augment(*given, probability=probability, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(augment, "augment", recorded)
    judge, logit = engine._judge, 5.0
    engine._judge = lambda maps, labels: 0 * judge(maps, labels) + logit
    logged = []
    for step in range(12):
        logit = 5.0 if step < 8 else -5.0
        logged.append(engine.step(_eight(), EIGHT, step)["augment_probability"])
    # Four steps of 8 tiles are half of 64 images: up by .5, up to the most, down by .5.
    assert logged == pytest.approx([0.0] * 3 + [0.5] * 4 + [0.8] * 4 + [0.3])
    assert used == pytest.approx([p for p in [0.0, *logged[:-1]] for _ in ("synthetic", "real")])
    assert engine.state()["adaptive"]["probability"] == pytest.approx(0.3)


def test_without_a_target_augmentation_is_fixed_and_not_logged() -> None:
    engine = _made("cdcgan-2025", augment=1.0)
    assert "augment_probability" not in engine.step(_eight(), EIGHT, 0)
    assert engine.adaptive.probability == 0.0


def test_float16_skips_an_update_that_overflows_and_halves_the_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = _made("cdcgan-2025", precision="float16")
    try:
        engine.step(_eight(), EIGHT, 0)
    except RuntimeError as error:
        pytest.skip(f"this CPU build has no float16 layers: {error}")
    before = [p.detach().clone() for p in engine.generator.parameters()]
    scale = engine.scaler.get_scale()
    assert scale > 1
    monkeypatch.setattr(
        objectives, "generator_loss", lambda _kind, _real, fooled, _total: (0 * fooled).sqrt().sum()
    )
    engine.step(_eight(), EIGHT, 1)
    assert engine.scaler.get_scale() == scale / 2
    for a, b in zip(before, engine.generator.parameters(), strict=True):
        assert torch.equal(a, b)
    engine.scaler.load_state_dict({**engine.scaler.state_dict(), "scale": 1.0})
    with pytest.raises(NonFiniteLossError, match="at step 2"):
        engine.step(_eight(), EIGHT, 2)
    for a, b in zip(before, engine.generator.parameters(), strict=True):
        assert torch.equal(a, b)


def test_float16_does_not_skip_a_loss_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _made("cdcgan-2025", precision="float16")
    monkeypatch.setattr(
        objectives, "generator_loss", lambda _k, _r, fooled, _t: fooled.sum() * float("inf")
    )
    with pytest.raises(NonFiniteLossError, match="at step 0"):
        engine.step(_eight(), EIGHT, 0)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_projected_discriminator_learns_in_low_precision(precision: str) -> None:
    low, full = (
        _made("cdcgan", "projected", precision=p, feature_side=32) for p in (precision, "float32")
    )
    ours, exact = (engine.step(_eight(), EIGHT, 0) for engine in (low, full))
    assert ours["discriminator_loss"] == pytest.approx(exact["discriminator_loss"], abs=0.05)
    assert ours["generator_loss"] == pytest.approx(exact["generator_loss"], abs=0.05)


def test_dropout_follows_from_the_step_and_leaves_pytorchs_own_state_alone() -> None:
    first, again, later = (_made("cdcgan-2025") for _ in range(3))
    torch.manual_seed(77)
    expected = torch.rand(3)
    torch.manual_seed(77)
    logit = first.step(_eight(), EIGHT, 0)["real_logit"]
    assert torch.equal(torch.rand(3), expected)
    assert again.step(_eight(), EIGHT, 0)["real_logit"] == logit
    for a, b in zip(_parameters(first), _parameters(again), strict=True):
        assert torch.equal(a, b)
    # The same weights and real tiles: only what is dropped differs.
    assert later.step(_eight(), EIGHT, 1)["real_logit"] != logit
    whole = _made("cdcgan-2025")
    whole.discriminator.eval()
    assert whole.step(_eight(), EIGHT, 0)["real_logit"] != logit


def test_orthogonal_regularisation_pulls_filters_of_both_networks_apart() -> None:
    loose, tight = (_made("cdcgan", orthogonal=weight) for weight in (0.0, 10.0))
    for engine in (loose, tight):
        for step in range(5):
            engine.step(_eight(), EIGHT, step)
    for network in ("generator", "discriminator"):
        one, other = (objectives.orthogonality(getattr(e, network)) for e in (loose, tight))
        assert float(other.detach()) < 0.99 * float(one.detach())


def test_stain_jitter_restains_real_tiles_by_the_step_and_leaves_synthetic_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[np.ndarray] = []
    restain = engine_module.jitter

    def watched(tiles: np.ndarray, draws: np.random.Generator, *, strength: float) -> np.ndarray:
        seen.append(restain(tiles, draws, strength=strength))
        return seen[-1]

    monkeypatch.setattr(engine_module, "jitter", watched)
    tiles = _eight()
    for step in (3, 3, 4):
        _made("cdcgan", stain_jitter=0.3).step(tiles, np.repeat([0, 1], 4), step)
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[0], tiles)

    plain, kept = _made("cdcgan"), _made("cdcgan", stain_jitter=0.0)
    for engine in (plain, kept):
        engine.step(tiles, np.repeat([0, 1], 4), 3)
    assert len(seen) == 3
    for ours, theirs in zip(_parameters(plain), _parameters(kept), strict=True):
        assert torch.equal(ours, theirs)
