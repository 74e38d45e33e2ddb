"""One training step: what it learns, what it never does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from privgen.config import TrainConfig
from privgen.errors import ConfigError, NonFiniteLossError
from privgen.training import objectives
from privgen.training.devices import choose_device, working_type
from privgen.training.engine import Engine

CONFIG = TrainConfig(
    resolution=32, width=8, head_width=8, batch=6, precision="float32", device="cpu"
)
LABELS = np.array([0, 0, 0, 1, 1, 1])


def _tiles() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)


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
