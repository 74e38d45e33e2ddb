"""Several processes do what one does; real processes, started by torchrun."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from privgen.compute.processes import Processes, join
from privgen.config import TrainConfig
from privgen.errors import ConfigError, RuntimeFailure
from privgen.training.engine import Engine

SCRIPT = Path(__file__).parents[1] / "helpers" / "train_steps.py"
STEPS = 8
PAIRS = ("cdcgan:projected", "stylegan2:own", "pathologygan:own")
"""Diversity, a mean over all tiles; lazy penalties and controls; a loss that needs all logits."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights after the same steps in one process and in two."""
    if importlib.util.find_spec("lightning_fabric") is None:
        pytest.skip("lightning-fabric is not installed")
    folder = tmp_path_factory.mktemp("processes")
    arguments = [str(STEPS), "", *PAIRS]
    starts = {1: [sys.executable], 2: [sys.executable, "-m", "torch.distributed.run"]}
    starts[2] += ["--nproc-per-node", "2", "--master-port", "0"]
    starts[2] += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    for count, start in starts.items():
        arguments[1] = str(folder / f"{count}.safetensors")
        command = [*start, str(SCRIPT), *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stderr[-3000:]
    return load_file(folder / "1.safetensors"), load_file(folder / "2.safetensors")


@pytest.mark.parametrize("pair", PAIRS)
def test_two_processes_match_one_with_the_doubled_batch(
    trained: tuple[dict[str, Any], dict[str, Any]], pair: str
) -> None:
    one, two = ({n: t for n, t in part.items() if n.startswith(pair)} for part in trained)
    assert one.keys() == two.keys()
    assert len(one) > 10
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-5, msg=name)


def test_several_processes_without_lightning_fabric_are_refused_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)  # importing it fails
    with pytest.raises(RuntimeFailure, match=r"pip install 'privgen\[distributed\]'") as refused:
        join("cpu")
    assert refused.value.exit_code == 3
    assert "\n" not in str(refused.value)


def test_a_batch_that_processes_cannot_share_is_refused_before_a_step() -> None:
    three = Processes()
    three.rank, three.count = 0, 3
    config = TrainConfig(resolution=32, width=8, head_width=8, batch=16, device="cpu")
    with pytest.raises(ConfigError, match=r"got batch 16, 3 processes, accumulate 1"):
        Engine(config, 2, processes=three)


def test_a_batch_is_cut_in_order_and_never_through_tiles_that_are_compared() -> None:
    assert Processes().parts(8, 1) == [slice(0, 8)]
    assert Processes().parts(12, 3) == [slice(0, 4), slice(4, 8), slice(8, 12)]
    second = Processes()
    second.rank, second.count = 1, 2
    assert second.parts(16, 2) == [slice(8, 12), slice(12, 16)]
    with pytest.raises(ConfigError, match="got batch 24, 2 processes, accumulate 2"):
        second.parts(24, 2)
    with pytest.raises(ConfigError, match="got batch 6, 1 processes, accumulate 1"):
        Processes().parts(6, 1)


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = join()
    assert (alone.rank, alone.count, alone.first) == (0, 1, True)
    value = torch.tensor([1.0, 2.0])
    assert alone.total(value) is value
    assert alone.told("x") == "x"
    assert alone.any(True)
    assert not alone.any(False)
