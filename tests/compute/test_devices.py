"""Devices, number types, threads, and what they put back afterwards."""

from contextlib import AbstractContextManager

import pytest
import torch

from privgen.compute import devices
from privgen.compute.devices import deterministic, quickest_threads, threads, working_type


def _fail_within(context: AbstractContextManager[None]) -> None:
    with context:
        raise ValueError("stop")


@pytest.mark.parametrize("before", [False, True])
def test_deterministic_mode_ends_with_the_run_even_where_it_fails(before: bool) -> None:
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(before)
    torch.backends.cudnn.benchmark = True
    try:
        with deterministic(True):
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.backends.cudnn.benchmark
        with pytest.raises(ValueError, match="stop"):
            _fail_within(deterministic(True))
        assert torch.are_deterministic_algorithms_enabled() is before
        assert torch.backends.cudnn.benchmark
        with deterministic(False):
            assert torch.are_deterministic_algorithms_enabled() is before
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = benchmark


def test_threads_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    with pytest.raises(ValueError, match="stop"):
        _fail_within(threads(before + 1))
    assert torch.get_num_threads() == before


def test_the_quickest_number_of_threads_is_pytorchs_or_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_TRIAL_LAYERS", 2)
    assert quickest_threads() in (1, torch.get_num_threads())


@pytest.mark.parametrize("fast", [False, True])
def test_auto_takes_bfloat16_only_where_the_processor_has_it(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices.torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr(devices.torch.cpu, "_is_amx_tile_supported", lambda: False)
    expected = torch.bfloat16 if fast else torch.float32
    assert working_type("auto", torch.device("cpu")) == expected
    assert working_type("float64", torch.device("cpu")) == torch.float64


def test_freed_memory_is_kept_where_the_c_library_can_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[int, int]] = []

    class Library:
        def __init__(self, name: None) -> None:
            self.mallopt = lambda name, size: told.append((name, size)) or 1

    monkeypatch.setattr(devices.ctypes, "CDLL", Library)
    assert devices.keep_freed_memory()
    assert sorted(told) == [(-3, 32 * 2**20), (-2, 64 * 2**20), (-1, 2**31 - 1)]
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: object())
    assert not devices.keep_freed_memory()
