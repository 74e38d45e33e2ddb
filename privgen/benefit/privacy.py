"""The privacy audit of the very tiles that classifiers were trained on, beside what they gain.

Of every generator as many tiles as the primary ratio takes are audited, against its own training
tiles and all tiles of patients it saw nothing of; where a filter chose among them, what it kept is
audited too, because a filter that prefers tiles near to real ones may prefer copies.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import audits
from privgen import console
from privgen.auditing.run import audit
from privgen.benefit.arms import synthetic_count
from privgen.benefit.regimes import Regime
from privgen.benefit.results.records import (
    Point,
)
from privgen.benefit.results.tradeoff import (
    undominated,
)
from privgen.data.tileset import TileSet
from privgen.errors import InputError, WeightsError
from privgen.files import PRIVATE, write_json
from privgen.reporting.sections import ReportDict


@dataclass(frozen=True, kw_only=True)
class Leak:
    """What an audit says of one set of tiles.

    Attributes:
      outcome: the verdict's word.
      mdl80: of the kinds of copies that the policy names, the largest; None where one of them was
        not seen at any share tried.
    """

    outcome: str
    mdl80: float | None


def audit_points(
    points: Sequence[Point],
    regimes: Sequence[Regime],
    *,
    outside: Mapping[float, TileSet],
    kept: Mapping[tuple[float, int], NDArray[np.bool_]],
    ratio: float,
    seed: int,
    out: Path | None,
    private: Path | None,
) -> tuple[tuple[Point, ...], tuple[str, ...]]:
    """The same points with the verdict on their tiles.

    Args:
      points: gains without a verdict.
      regimes: the tiles.
      outside: for each regime the real tiles of patients its generators saw nothing of.
      kept: which tiles the filter kept, by regime and generator.
      ratio: the primary one; as many tiles are audited as are released at it.
      seed: of the audits.
      out: gets `audits/NAME/report.html`.
      private: of this benchmark; an audit that it knows is not repeated.

    Returns:
      The points, and a warning for each that could not be audited.
    """
    # The audits share most of their real tiles.
    embeddings = None if private is None else private / "embeddings"
    sources = {
        (regime.share, source.name): (number, regime, source.tiles)
        for regime in regimes
        for number, source in enumerate(regime.generators)
    }
    judged, warnings = [], []
    for point in points:
        number, regime, tiles = sources[point.regime, point.generator]
        if point.filtered:
            tiles = tiles.subset(np.flatnonzero(kept[point.regime, number]))
        tiles = tiles.subset(np.arange(min(len(tiles), synthetic_count(len(regime.train), ratio))))
        name = f"regime {point.regime:g}, {point.generator}{', filtered' * point.filtered}"
        console.note(f"auditing {len(tiles)} tiles: {name}")
        try:
            leak = _leak(
                regime.train,
                outside[point.regime],
                tiles,
                seed=seed,
                name=_slug(name),
                out=out,
                private=private,
                cache=embeddings,
            )
            judged.append(replace(point, outcome=leak.outcome, mdl80=leak.mdl80))
        except (InputError, WeightsError, audits.AuditInputError) as error:
            judged.append(point)
            console.warn(f"{name} could not be audited: {error}")
            # What an error says of tiles may name their files, and so patients.
            told = error if isinstance(error, audits.AuditInputError) else type(error).__name__
            warnings.append(f"{name} could not be audited: {told}")
    if embeddings is not None:
        shutil.rmtree(embeddings, ignore_errors=True)
    return undominated(judged), tuple(warnings)


def _slug(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def _leak(
    train: TileSet,
    holdout: TileSet,
    synthetic: TileSet,
    *,
    seed: int,
    name: str,
    out: Path | None,
    private: Path | None,
    cache: Path | None,
) -> Leak:
    known = None if private is None else private / f"audit-{name}.json"
    if known is not None and known.exists():
        return Leak(**json.loads(known.read_text(encoding="utf-8")))
    found = audit(
        train=train, holdout=holdout, synthetic=synthetic, align=False, cache=cache, seed=seed
    )
    leak = _read(found.document)
    if out is not None:
        folder = out / "audits" / name
        folder.mkdir(parents=True, exist_ok=True)
        found.write(folder)
    if known is not None:
        write_json(known, asdict(leak), mode=PRIVATE)
    return leak


def _read(document: ReportDict) -> Leak:
    judged = document["audit"]
    assert judged is not None
    shares = [judged["mdl80"].get(kind) for kind in judged["policy"]["copying_kinds"]]
    seen = [share for share in shares if share is not None]
    return Leak(
        outcome=judged["verdict"]["outcome"],
        mdl80=max(seen) if len(seen) == len(shares) else None,
    )
