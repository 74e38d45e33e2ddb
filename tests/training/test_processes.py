"""Several processes do what one does; real processes, started by torchrun."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from privgen.errors import ConfigError
from privgen.training.processes import Processes, join

SCRIPT = Path(__file__).with_name("train_steps.py")
STEPS = 20


def _trained(folder: Path, processes: int, family: str, discriminator: str) -> dict[str, object]:
    if importlib.util.find_spec("lightning_fabric") is None:
        pytest.skip("lightning-fabric is not installed")
    out = folder / f"{processes}.safetensors"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    command += ["--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    command += [str(SCRIPT), family, discriminator, str(STEPS), str(out)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return dict(load_file(out))


@pytest.mark.parametrize(("family", "discriminator"), [("cdcgan", "projected")])
def test_two_processes_match_one_with_the_doubled_batch(
    tmp_path: Path, family: str, discriminator: str
) -> None:
    one = _trained(tmp_path, 1, family, discriminator)
    two = _trained(tmp_path, 2, family, discriminator)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-5, msg=name)


def test_a_batch_is_cut_in_order_and_never_through_tiles_that_are_compared() -> None:
    assert Processes().parts(6, 1) == [slice(0, 6)]
    assert Processes().parts(12, 3) == [slice(0, 4), slice(4, 8), slice(8, 12)]
    second = Processes()
    second.rank, second.count = 1, 2
    assert second.parts(16, 2) == [slice(8, 12), slice(12, 16)]
    with pytest.raises(ConfigError, match="got batch 24, 2 processes, accumulate 2"):
        second.parts(24, 2)


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = join()
    assert (alone.rank, alone.count, alone.first) == (0, 1, True)
    value = torch.tensor([1.0, 2.0])
    assert alone.total(value) is value
    assert alone.told("x") == "x"
    assert alone.any(True)
    assert not alone.any(False)
