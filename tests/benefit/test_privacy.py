import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audits import AuditInputError
from audits.results import Estimate
from privgen.auditing.run import Audit
from privgen.benefit import privacy
from privgen.benefit.privacy import audit_points
from privgen.benefit.regimes import GeneratorTiles, Regime
from privgen.benefit.results.records import (
    Point,
)
from privgen.data.tileset import TileSet
from privgen.errors import DiskFullError, InputError

Textures = Callable[..., TileSet]

GAIN = Estimate(value=0.1, low=0.0, high=0.2, confidence=0.95, n=5, unit="patient")


def point(generator: str, *, filtered: bool = False, gain: float = 0.1) -> Point:
    return Point(
        regime=1.0,
        generator=generator,
        filtered=filtered,
        gain=Estimate(**{**GAIN.__dict__, "value": gain}),
        outcome=None,
        mdl80=None,
    )


@dataclass
class Audited:
    """What was audited, and what is found."""

    calls: list[dict[str, Any]]
    found: list[tuple[str, Mapping[str, float | None]] | Exception]

    def __call__(self, **options: Any) -> "Audited":
        self.calls.append(options)
        finding = self.found[(len(self.calls) - 1) % len(self.found)]
        if isinstance(finding, Exception):
            raise finding
        self.document = {
            "audit": {
                "verdict": {"outcome": finding[0]},
                "mdl80": finding[1],
                "policy": {"copying_kinds": ["exact", "symmetry"]},
            }
        }
        return self

    def write(self, folder: Path) -> None:
        (folder / "report.json").write_text(json.dumps(self.document))
        (folder / "report.html").touch()


@pytest.fixture
def audited(monkeypatch: pytest.MonkeyPatch) -> Audited:
    found = Audited(calls=[], found=[("NO LEAK FOUND", {"exact": 0.02, "symmetry": 0.05})])
    monkeypatch.setattr(privacy, "audit", found)
    return found


@pytest.fixture
def sets(textures: Textures) -> dict[str, Any]:
    """Two generators of one regime; the filter keeps ten tiles of the second."""
    made = [textures(f"made{number}", grouped=False) for number in range(2)]
    regime = Regime(
        share=1.0,
        train=textures("train"),
        generators=tuple(
            GeneratorTiles(name=f"g {n}", tiles=tiles) for n, tiles in enumerate(made)
        ),
    )
    return {
        "regimes": (regime,),
        "outside": {1.0: textures("test")},
        "kept": {(1.0, 1): np.arange(36) < 10},
        "ratio": 1.0,
        "seed": 3,
    }


def test_every_point_is_audited_on_its_own_tiles(audited: Audited, sets: dict[str, Any]) -> None:
    judged, warnings = audit_points(
        [point("g 0"), point("g 1"), point("g 1", filtered=True)], out=None, private=None, **sets
    )
    assert warnings == ()
    assert [one.outcome for one in judged] == ["NO LEAK FOUND"] * 3
    assert [one.mdl80 for one in judged] == [0.05] * 3
    assert all(one.undominated is not None for one in judged)
    (regime,) = sets["regimes"]
    for call, digests in zip(
        audited.calls,
        [
            regime.generators[0].tiles.digests,
            regime.generators[1].tiles.digests,
            regime.generators[1].tiles.digests[:10],
        ],
        strict=True,
    ):
        assert np.array_equal(call["synthetic"].digests, digests)
        assert call["train"] is regime.train
        assert call["holdout"] is sets["outside"][1.0]
        assert call["seed"] == 3


def test_as_many_tiles_are_audited_as_the_ratio_takes(
    audited: Audited, sets: dict[str, Any]
) -> None:
    audit_points(
        [point("g 1"), point("g 1", filtered=True)], out=None, private=None, **sets | {"ratio": 0.5}
    )
    assert [len(call["synthetic"]) for call in audited.calls] == [18, 10]


def test_a_kind_of_copies_that_was_not_seen_has_no_mdl80(
    audited: Audited, sets: dict[str, Any]
) -> None:
    audited.found = [("INCONCLUSIVE", {"exact": 0.02, "symmetry": None})]
    ((judged,), _) = audit_points([point("g 0")], out=None, private=None, **sets)
    assert (judged.outcome, judged.mdl80) == ("INCONCLUSIVE", None)


def test_a_generator_that_gains_more_and_leaks_less_dominates(
    audited: Audited, sets: dict[str, Any]
) -> None:
    seen = {"exact": 0.02, "symmetry": 0.02}
    audited.found = [("LEAK", seen), ("NO LEAK FOUND", seen)]
    judged, _ = audit_points(
        [point("g 0", gain=0.1), point("g 1", gain=0.2)], out=None, private=None, **sets
    )
    assert [one.undominated for one in judged] == [False, True]


@pytest.mark.parametrize("error", [AuditInputError("too few tiles"), InputError("too few tiles")])
def test_what_cannot_be_audited_is_a_warning_beside_the_others(
    audited: Audited, sets: dict[str, Any], error: Exception
) -> None:
    audited.found = [error, audited.found[0]]
    judged, warnings = audit_points([point("g 0"), point("g 1")], out=None, private=None, **sets)
    told = "too few tiles" if isinstance(error, AuditInputError) else "InputError"
    assert warnings == (f"regime 1, g 0 could not be audited: {told}",)
    assert [one.outcome for one in judged] == [None, "NO LEAK FOUND"]
    assert judged[0].undominated is None


def test_a_full_disk_is_no_warning(audited: Audited, sets: dict[str, Any]) -> None:
    audited.found = [DiskFullError("no space left")]
    with pytest.raises(DiskFullError):
        audit_points([point("g 0")], out=None, private=None, **sets)


def test_finished_audits_are_not_repeated_and_half_written_ones_are(
    audited: Audited, sets: dict[str, Any], tmp_path: Path
) -> None:
    points = [point("g 1"), point("g 1", filtered=True)]
    first = audit_points(points, out=tmp_path / "out", private=tmp_path, **sets)
    assert {path.parent.name for path in tmp_path.rglob("report.html")} == {
        "regime-1-g-1",
        "regime-1-g-1-filtered",
    }
    assert len(audited.calls) == 2
    assert audit_points(points, out=tmp_path / "out", private=tmp_path, **sets) == first
    assert len(audited.calls) == 2
    (tmp_path / "audit-regime-1-g-1.json").unlink()  # as a kill before its end leaves it
    assert audit_points(points, out=tmp_path / "out", private=tmp_path, **sets) == first
    assert len(audited.calls) == 3


def test_audits_share_embeddings_and_none_are_left(
    audited: Audited, sets: dict[str, Any], tmp_path: Path
) -> None:
    found: list[bool] = []

    def keeping(**options: Any) -> Audited:
        found.append(options["cache"].exists())
        options["cache"].mkdir(exist_ok=True)
        return audited(**options)

    points = [point("g 0"), point("g 1")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(privacy, "audit", keeping)
        audit_points(points, out=None, private=tmp_path, **sets)
    assert found == [False, True]
    assert {call["cache"].parent for call in audited.calls} == {tmp_path}
    assert not any(path.is_dir() for path in tmp_path.iterdir())


@pytest.mark.slow
def test_a_generator_of_copies_is_a_leak(textures: Textures) -> None:
    train, outside = textures("train", patients=8, each=5), textures("test", patients=8, each=5)
    copies = TileSet.from_arrays(train.load(), train.labels)
    regime = Regime(
        share=1.0, train=train, generators=(GeneratorTiles(name="copier", tiles=copies),)
    )
    ((judged,), warnings) = audit_points(
        [point("copier")],
        [regime],
        outside={1.0: outside},
        kept={},
        ratio=1.0,
        seed=0,
        out=None,
        private=None,
    )
    assert warnings == ()
    assert judged.outcome == "LEAK"


def test_the_stand_in_writes_what_an_audit_writes() -> None:
    assert {"document", "write"} <= {*Audit.__dataclass_fields__, *vars(Audit)}
