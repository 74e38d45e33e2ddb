"""The training configuration: what it accepts, how it refuses, how it travels."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from privgen.config import _RANGES, DEFAULT_MINUTES, RUNTIME_KEYS, TrainConfig, read_toml
from privgen.errors import ConfigError


def test_a_configuration_survives_json() -> None:
    config = TrainConfig(resolution=128, kimg=3.5, class_balance="uniform", seed=7)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match=r"'resolutoin'; did you mean resolution\?"):
        TrainConfig.from_dict({"resolutoin": 64})


def test_an_unknown_key_like_nothing_lists_all_keys() -> None:
    with pytest.raises(ConfigError, match=r"known keys: family, discriminator, resolution"):
        TrainConfig.from_dict({"zzz": 64})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resolution": 100}, r"resolution must be one of \(32, 64, 128, 224, 256\): got 100"),
        ({"batch": 2}, r"batch must be in \[4, 4096\]: got 2"),
        ({"batch": 6}, "^batch must be a multiple of 4, discriminators compare .* fours: got 6$"),
        ({"batch": 7}, "^batch must be a multiple of 4, discriminators compare .* fours: got 7$"),
        ({"batch": 8.5}, "batch must be int: got 8.5"),
        ({"batch": True}, "batch must be int: got True"),
        ({"compile": 1}, "compile must be bool: got 1"),
        (
            {"loss": "relativistic", "ada_target": 0.6},
            r"^ada_target must be 0 with loss relativistic.*: got 0\.6\.",
        ),
        ({"loss": "wgan"}, "loss must be one of hinge, logistic, relativistic: got 'wgan'"),
        ({"minutes": 0.0}, "minutes must be in"),
        ({"kimg": float("nan")}, "kimg must be in"),
        ({"class_balance": "equal"}, "class_balance must be one of preserve, uniform: got 'equal'"),
        ({"device": 3}, "device must be str: got 3"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_dict(values)


def test_without_a_budget_training_stops_after_ten_minutes() -> None:
    assert TrainConfig().budget_seconds == DEFAULT_MINUTES * 60
    assert TrainConfig().budget_steps == float("inf")


def test_a_budget_in_kimg_alone_is_not_cut_short_by_time_and_rounds_up() -> None:
    config = TrainConfig(kimg=0.1, batch=32)
    assert config.budget_seconds == float("inf")
    assert config.budget_steps == 4  # 100 images in batches of 32


def test_only_keys_that_change_what_is_computed_count_as_differences() -> None:
    config = TrainConfig(kimg=1.0)
    assert config.differences(TrainConfig(kimg=9.0, minutes=3.0, keep_checkpoints=5)) == []
    assert config.differences(TrainConfig(width=16, seed=1)) == ["seed: 0 -> 1", "width: 32 -> 16"]


@pytest.mark.parametrize(("resolution", "side"), [(32, 64), (64, 96), (128, 128), (256, 256)])
def test_tiles_are_judged_at_least_at_their_own_resolution(resolution: int, side: int) -> None:
    assert TrainConfig(resolution=resolution).judged_side == side
    assert TrainConfig(resolution=resolution, feature_side=80).judged_side == 80


def test_every_number_has_a_range_that_holds_its_default() -> None:
    ranged = {name: (low, high) for name, low, high in _RANGES}
    for key in fields(TrainConfig):
        default = key.default
        if isinstance(default, bool | str) or key.name == "resolution":
            assert key.name not in ranged
        elif default is None:
            assert key.name in ranged
        else:
            low, high = ranged[key.name]
            assert low <= default <= high, key.name  # type: ignore[operator]
            for outside in (low - 1, high + 1):
                with pytest.raises(ConfigError, match=rf"^{key.name} must be"):
                    TrainConfig.from_dict({key.name: type(default)(outside)})  # type: ignore[operator]


def test_keys_that_may_change_on_resume_are_keys() -> None:
    assert {key.name for key in fields(TrainConfig)} > RUNTIME_KEYS


def test_toml_gives_its_keys_and_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('family = "stylegan2"\nr1_gamma = 0.5\ncompile = true\n')
    assert read_toml(path) == {"family": "stylegan2", "r1_gamma": 0.5, "compile": True}
    path.write_text("family = stylegan2\n")
    with pytest.raises(ConfigError, match=r"cannot read configuration .*c\.toml: .*line 1"):
        read_toml(path)
    with pytest.raises(ConfigError, match=r"cannot read configuration .*none\.toml"):
        read_toml(tmp_path / "none.toml")


def test_the_kimg_of_so_many_steps_is_so_many_steps_again() -> None:
    for steps in (1, 68, 2007, 2011, 99_999):
        assert TrainConfig(kimg=steps * 16 / 1000, batch=16).budget_steps == steps
