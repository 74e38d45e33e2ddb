"""The tiles of an audit: as many as were asked for, and with something on them."""

from typing import Any

import numpy as np
import pytest

import privgen
from privgen.auditing.requests import TilesAudit
from privgen.auditing.tiles import constants_of, synthetic_tiles
from privgen.data.tileset import TileSet
from privgen.errors import InputError

RNG = np.random.default_rng(0)


def made_by(source: Any, count: int) -> TileSet:
    with synthetic_tiles(
        TilesAudit(train="t", holdout="h", synthetic=source, count=count), seed=0
    ) as found:
        return found


def pixels(count: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("made", [0, 120, 999, 1001])
def test_a_function_that_makes_another_number_of_tiles_is_refused(made: int) -> None:
    with pytest.raises(InputError, match=rf"return n tiles: asked for 1,000, got {made:,}\."):
        made_by(lambda n: pixels(made), 1000)


@pytest.mark.parametrize("made", [None, [1, 2], (np.zeros(2), np.zeros(2))])
def test_a_function_that_makes_no_array_is_refused(made: Any) -> None:
    with pytest.raises(InputError, match="must return an array of n tiles: got"):
        made_by(lambda n: made, 2)


def test_a_function_is_asked_for_as_many_as_are_audited() -> None:
    asked = []

    def make(count: int) -> np.ndarray:
        asked.append(count)
        return pixels(count)

    assert len(made_by(make, 30)) == 30
    assert asked == [30]


def real(prefix: str) -> TileSet:
    patients = [f"{prefix}{row // 10}" for row in range(60)]
    return TileSet.from_arrays(pixels(60), ["all"] * 60, patients=patients)


def asked_for(synthetic: Any, **options: Any) -> privgen.Audit:
    return privgen.audit(
        train=real("t"),
        holdout=real("h"),
        synthetic=synthetic,
        encoder="colour",
        align=False,
        **options,
    )


def test_an_audit_of_too_few_tiles_of_a_function_is_refused() -> None:
    with pytest.raises(InputError, match=r"asked for 1,000, got 120\. Return as many"):
        asked_for(lambda n: pixels(120), count=1000)


def test_anybodys_constant_tiles_are_refused_in_an_audit() -> None:
    with pytest.raises(InputError, match="all 40 tiles of class all are constant"):
        asked_for(np.zeros((40, 16, 16, 3), dtype=np.uint8))


def test_some_constant_tiles_are_counted_in_the_report() -> None:
    tiles = pixels(60)
    tiles[:6] = 9
    found = asked_for(tiles)
    assert any(
        said.startswith("6 of 60 synthetic tiles are constant") for said in found.report.warnings
    )


def test_an_empty_set_is_left_to_the_audit_to_refuse() -> None:
    assert constants_of(real("s").subset([])) == []
