"""What a benchmark compares: real tiles, split, and the synthetic tiles of every regime.

Synthetic tiles come from one of four places: generators trained here, one for each regime and seed;
checkpoints, whose ledgers then say what the regimes are; a folder of anybody's tiles; or, with
procedural real tiles, further procedural patients, which are what a perfect generator would make.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from privgen.benefit.generators import train_generators
from privgen.benefit.regimes import (
    GeneratorTiles,
    Parts,
    Regime,
    check_parts,
    cut,
    from_ledgers,
    split,
)
from privgen.benefit.requests import BenchRequest
from privgen.benefit.results.caveats import require_patients
from privgen.checkpoints.roles import agreed, opened_by
from privgen.compute.devices import threads
from privgen.data.layouts import open_tiles
from privgen.data.phantom import make_phantom
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError, InputError
from privgen.release.artificial import artificial_sentence
from privgen.sampling import LoadedGenerator, load_generator, sample

PHANTOM_PATIENTS, PHANTOM_TILES = 24, 27
"""Of the procedural set that stands in where no tiles are given."""

_SPARE = 2.0  # synthetic tiles for each one that the filtered arm wants, so that it can choose


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedBench:
    """Real tiles in their parts, before anything is trained.

    Attributes:
      request: where they come from.
      tiles: the whole real set.
      parts: its split.
      subsets: real training tiles of each regime.
      checkpoints: of each regime the generators given; empty where there are none yet.
      warnings: what the set says otherwise than the generators' ledgers, sentences for the report.
    """

    request: BenchRequest
    tiles: TileSet
    parts: Parts
    subsets: Mapping[float, TileSet]
    checkpoints: Mapping[float, tuple[Path, ...]]
    warnings: tuple[str, ...] = ()

    def generator_counts(self) -> dict[float, int]:
        """How many generators each regime has, or will have."""
        request = self.request
        alike = 1 if request.synthetic is not None else request.generators_per_regime
        return {share: len(self.checkpoints.get(share, ())) or alike for share in self.subsets}

    @property
    def outside(self) -> dict[float, TileSet]:
        """For each regime the tiles of patients its generators saw nothing of."""
        return {
            share: self.tiles.subset(np.flatnonzero(~np.isin(self.tiles.alike, train.alike)))
            for share, train in self.subsets.items()
        }


def open_request(request: BenchRequest) -> OpenedBench:
    """Open and split the real tiles; trains nothing.

    What the real tiles forbid is refused here, not after hours of training generators.

    Raises:
      InputError: tiles or checkpoints cannot be used, a class is missing from a part, or there are
        too few test patients.
    """
    opened = _opened(request)
    require_patients(opened.parts.test)
    check_parts(
        [
            Regime(share=share, train=train, generators=())
            for share, train in sorted(opened.subsets.items())
        ],
        validation=opened.parts.validation,
        test=opened.parts.test,
    )
    return opened


def _opened(request: BenchRequest) -> OpenedBench:
    if request.generators:
        loaded = {Path(path): load_generator(Path(path)) for path in request.generators}
        tiles, differences = _tiles_of(loaded, request)
        parts, found = from_ledgers(tiles, loaded, request.shares, seed=request.seed)
        return OpenedBench(
            request=request,
            tiles=tiles,
            parts=parts,
            subsets={share: train for share, (train, _) in found.items()},
            checkpoints={share: paths for share, (_, paths) in found.items()},
            warnings=(*differences, *_artificial(loaded)),
        )
    if request.data is None:
        tiles = make_phantom(
            patients=PHANTOM_PATIENTS,
            tiles_per_patient=PHANTOM_TILES,
            side=request.resolution or 32,
            seed=request.seed,
        )
    elif isinstance(request.data, TileSet):
        tiles = request.data
    else:
        tiles = open_tiles(
            Path(request.data),
            group_by=request.group_by,
            on_bad_tile=request.on_bad_tile,
            icc=request.icc,
        )
    parts = split(tiles, seed=request.seed)
    subsets = cut(parts.known, request.shares, seed=request.seed)
    return OpenedBench(request=request, tiles=tiles, parts=parts, subsets=subsets, checkpoints={})


def _artificial(loaded: Mapping[Path, LoadedGenerator]) -> tuple[str, ...]:
    counts = {one.artificial for one in loaded.values() if one.artificial}
    return tuple(artificial_sentence(count) for count in sorted(counts))


def _tiles_of(
    loaded: Mapping[Path, LoadedGenerator], request: BenchRequest
) -> tuple[TileSet, tuple[str, ...]]:
    """The real set as the generators' ledgers recorded it, and what it says otherwise now."""
    ledgers = []
    for path, generator in loaded.items():
        if generator.ledger is None:
            raise InputError(
                f"augment-bench needs private .pt checkpoints: {path} is a shareable generator "
                "file, which does not say which patients it was trained on."
            )
        ledgers.append(generator.ledger)
    tiles = request.data
    if not isinstance(tiles, TileSet):
        tiles = opened_by(ledgers[0], None if tiles is None else Path(tiles))
    return agreed(*ledgers, tiles=tiles)


def make_regimes(
    opened: OpenedBench, *, ratio: float, filters: bool, folder: Path | None
) -> tuple[Regime, ...]:
    """Train what is to be trained, and draw every generator's tiles.

    Args:
      opened: the real tiles.
      ratio: the largest ratio of synthetic to real tiles.
      filters: whether the filtered arm needs tiles to choose from.
      folder: private, for generators trained here.

    Raises:
      ConfigError: generators are to be trained and there is nowhere to keep them.
      InputError: a generator does not make every class.
    """
    request = opened.request
    wanted = max(ratio, _SPARE) if filters else ratio
    counts = {share: math.ceil(wanted * len(train)) for share, train in opened.subsets.items()}
    if request.synthetic is not None or (request.data is None and not request.generators):
        return tuple(
            Regime(share=share, train=train, generators=_given(request, counts[share]))
            for share, train in opened.subsets.items()
        )
    checkpoints = opened.checkpoints
    options = request.train_options
    if options is not None:
        if folder is None:
            raise ConfigError(
                "generators trained here must be kept, private: got no output folder. Give `out`."
            )
        checkpoints = train_generators(
            opened.tiles,
            opened.parts,
            opened.subsets,
            options={"seed": request.seed, **options},
            count=request.generators_per_regime,
            folder=folder / "generators",
            group_by=request.group_by,
            on_bad_tile=request.on_bad_tile,
        )
    return tuple(
        Regime(
            share=share,
            train=train,
            generators=tuple(
                _sampled(path, number, train, counts[share], request.seed)
                for number, path in enumerate(checkpoints[share])
            ),
        )
        for share, train in opened.subsets.items()
    )


def _given(request: BenchRequest, count: int) -> tuple[GeneratorTiles, ...]:
    if request.synthetic is None:
        return tuple(
            GeneratorTiles(
                name=f"perfect generator, seed {number}",
                tiles=make_phantom(
                    patients=math.ceil(count / PHANTOM_TILES),
                    tiles_per_patient=PHANTOM_TILES,
                    side=request.resolution or 32,
                    seed=request.seed + 1 + number,
                ),
            )
            for number in range(request.generators_per_regime)
        )
    tiles = (
        request.synthetic
        if isinstance(request.synthetic, TileSet)
        else open_tiles(Path(request.synthetic), on_bad_tile=request.on_bad_tile, icc=request.icc)
    )
    return (GeneratorTiles(name="synthetic tiles", tiles=tiles),)


def _sampled(path: Path, number: int, train: TileSet, count: int, seed: int) -> GeneratorTiles:
    """Synthetic tiles of a generator, its classes as frequent as it was trained on them.

    Raises:
      InputError: it does not make every class of the training tiles.
    """
    loaded = load_generator(path)
    missing = sorted(set(train.classes) - set(loaded.classes))
    if missing:
        raise InputError(
            f"a generator must make every class: {path} does not make {', '.join(missing)}. Leave "
            "the class out of the real tiles, or give another generator."
        )
    with threads(1):  # drawn again when a run goes on, perhaps where there are more
        tiles, labels = sample(loaded, count, seed=seed)
    return GeneratorTiles(
        name=f"{loaded.family} {number}, {loaded.kimg:.3g} kimg",
        tiles=TileSet.from_arrays(tiles, labels, layout="sampled from the generator"),
        checkpoint=path,
    )
