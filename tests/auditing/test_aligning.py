"""How a search is run, and when an audit aligns unasked."""

import numpy as np
import pytest

from privgen.auditing import aligning
from privgen.auditing.aligning import pairs
from privgen.auditing.requests import AuditOptions
from privgen.copysearch import searching
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError


def tiles(count: int) -> TileSet:
    return TileSet.from_arrays(np.zeros((count, 8, 8, 3), dtype=np.uint8), ["a"] * count)


def test_pairs_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aligning, "NULL_TILES", 10)
    monkeypatch.setattr(aligning, "PLANTED_PER_KIND", 8)
    monkeypatch.setattr(aligning, "KINDS", ("one", "two", "three", "four"))
    monkeypatch.setattr(aligning, "AUDITED_KINDS", ("one", "two"))
    roles = {"train": tiles(5), "holdout": tiles(3), "reference": tiles(100)}
    planted = 8 + 8 + 2 + 2
    assert pairs(roles, tiles(4)) == (4 + planted) * 5 + 8 * 8, "all 8 real tiles are the null"
    roles["siblings"] = tiles(7)
    assert pairs(roles, tiles(4)) == (4 + planted) * 5 + 10 * 15


def test_it_searches_here_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bool] = []
    monkeypatch.setattr(
        searching, "search", lambda *_, approximate, **__: heard.append(approximate)
    )
    for approximate in (False, True):
        with aligning.opened_search(AuditOptions(align=True, approximate=approximate)) as search:
            assert search is not None
            search(None, None)  # type: ignore[arg-type]
    assert heard == [False, True]
    with aligning.opened_search(AuditOptions(align=False)) as search:
        assert search is None


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"align": True, "approximate": True, "scheduler": "tcp://x:1"}, "searches exactly"),
        ({"align": False, "approximate": True}, "got `align=False` beside"),
        ({"align": False, "scheduler": "tcp://x:1"}, "got `align=False` beside"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, object], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        AuditOptions(**options)  # type: ignore[arg-type]
