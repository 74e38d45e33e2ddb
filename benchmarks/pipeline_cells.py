"""The cells of the benchmark `pipeline`: who is where, in which files, and what the audit is given.

What a tile gives by itself (its trace, its look, its embedding after a step) is found once and
composed; what is decided and judged is decided and judged anew in every cell, by the product.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audits import Aligned, Alignment, AuditData, Tiles
from privgen.copysearch.descriptors import describe
from privgen.copysearch.searching import Searched, search, verify
from privgen.data.images import encode_jpeg, write_png
from privgen.data.layouts import open_tiles
from privgen.data.tileset import TileSet
from privgen.encoders.cache import EmbeddingCache, embed_cached
from privgen.encoders.loading import load_encoder
from privgen.encoders.orbit import Whitening, fingerprint
from privgen.evidence.copy_kinds import plant
from privgen.pipelines.decision import Pipeline, decide
from privgen.pipelines.harmonise import Step
from privgen.pipelines.measuring import Look, Measured, headers, look, measure, sample

PATIENTS = (4, 8)
COPIES = 120
TILES_A_PATIENT = 16
OTHERS = 120
ALIGNED_A_PATIENT = 6
LEAKERS = 4

SCRATCH = Path(__file__).resolve().parent / "scratch" / "pipeline"
"""Embeddings and finished cells, private and ignored by git."""

_BLOCK = 128
_TILES = 20


@dataclass
class Kept:
    """Tiles of one kind in one kind of files, and what each gave by itself."""

    tiles: TileSet
    measured: Measured
    looks: dict[Step, tuple[Look, NDArray[np.intp]]]
    embeddings: dict[Step, NDArray[np.float32]]

    def part(self, rows: NDArray[np.intp]) -> tuple[TileSet, NDArray[np.intp]]:
        """Some of the tiles, and which of them an audit of them would measure."""
        tiles = self.tiles.subset(rows)
        return tiles, sample(tiles)


class Files:
    """All tiles of one side in files of one quality, beside the same as PNG."""

    def __init__(self, pool: "Pool", side: int, quality: int | None, folder: Path) -> None:
        self.pool, self.side, self.quality = pool, side, quality
        self.plain = Step(side=side, detail=side)
        self._aligned: dict[Step, tuple[NDArray[np.intp], Alignment]] = {}
        self.kept = {
            (name, kind): self._kept(name, kind, folder)
            for name in ("glas", "others", "copies")
            for kind in ((None, quality) if quality and name == "glas" else (quality,))
        }

    def _kept(self, name: str, quality: int | None, folder: Path) -> Kept:
        place = folder / f"{name}-{self.side}-{quality}"
        tiles = stored(place, self.pool.pixels(name, self.side), self.pool.patients[name], quality)
        every = np.arange(len(tiles))
        return Kept(tiles, measure(tiles, every, headers(tiles)), {}, {})

    def looked(self, kept: Kept, step: Step, rows: NDArray[np.intp]) -> Look:
        """Of some tiles of a kind, those that show something."""
        if step not in kept.looks:
            every = np.arange(len(kept.tiles))
            seen = [look(kept.tiles, every[[row]], step) for row in every]
            told = np.flatnonzero([len(each.measures) for each in seen])
            whole = Look(
                spectra=np.concatenate([each.spectra for each in seen]),
                measures=np.concatenate([each.measures for each in seen]),
                scales=np.concatenate([each.scales for each in seen]),
                patients=np.concatenate([each.patients for each in seen]),
            )
            kept.looks[step] = whole, told
        whole, told = kept.looks[step]
        at = np.searchsorted(told, np.intersect1d(rows, told))
        return Look(
            spectra=whole.spectra[at],
            measures=whole.measures[at],
            scales=whole.scales[at],
            patients=whole.patients[at],
        )

    def embedded(self, kept: Kept, step: Step) -> NDArray[np.float32]:
        """All tiles of a kind as they are embedded after a step."""
        if step not in kept.embeddings:
            view = replace(kept.tiles, through=step) if step.changes else kept.tiles
            parts = []
            for start in range(0, len(view), _BLOCK):
                rows = np.arange(start, min(start + _BLOCK, len(view)))
                pixels = view.subset(rows).load(self.side)
                found = embed_cached(self.pool.encoder, pixels, orbit=True, cache=self.pool.cache)
                parts.append(found.mean)
            kept.embeddings[step] = np.concatenate(parts)
        return kept.embeddings[step]

    def alignment(self, step: Step) -> tuple[NDArray[np.intp], Alignment]:
        """Rows of the copies that were aligned, and their alignment with all tiles of GlaS."""
        if step in self._aligned:
            return self._aligned[step]
        glas, copies = (self.kept[name, self.quality] for name in ("glas", "copies"))
        rows = np.concatenate(
            [
                np.flatnonzero(copies.tiles.groups == name)[:ALIGNED_A_PATIENT]
                for name in np.unique(copies.tiles.groups)
            ]
        )
        x = self.embedded(glas, step)
        whitening = Whitening.fit(x)
        pixels = glas.tiles.load(self.side)
        real = Searched(
            descriptors=describe(pixels),
            embeddings=whitening.apply(x),
            groups=glas.tiles.groups,
        )
        queries = Searched(
            descriptors=describe(copies.tiles.subset(rows).load(self.side)),
            embeddings=whitening.apply(self.embedded(copies, step)[rows]),
        )
        found = verify(
            synthetic=queries,
            train=real,
            real=real,
            real_fingerprints=np.array([fingerprint(tile) for tile in pixels]),
            rng=np.random.default_rng(self.pool.seed),
            search=search,
        )
        self._aligned[step] = rows, found
        return rows, found


class Pool:
    """The tiles every cell draws on."""

    def __init__(self, data: Path, seed: int) -> None:
        self.seed = seed
        self.encoder = load_encoder("effnet_lite0")
        SCRATCH.mkdir(parents=True, exist_ok=True)
        self.cache = EmbeddingCache(SCRATCH / "embeddings")
        rng = np.random.default_rng(_TILES)
        glas, others = open_tiles(data / "glas"), open_tiles(data / "lc25000")
        rows = [
            np.sort(rng.permutation(np.flatnonzero(glas.groups == name))[:TILES_A_PATIENT])
            for name in np.unique(glas.groups)
        ]
        order = rng.permutation(len(others))
        _, first = np.unique(others.groups[order], return_index=True)
        self._tiles = {
            "glas": glas.subset(np.concatenate(rows)),
            "others": others.subset(rng.permutation(order[first])[:OTHERS]),
        }
        owners = self._tiles["glas"].groups
        self.names, sizes = np.unique(owners, return_counts=True)
        self.large = rng.permutation(self.names[sizes == TILES_A_PATIENT])
        few, many = (COPIES // count for count in PATIENTS)
        sources = []
        for name in self.names:
            # Half of 4 patients give 60 copies each, all of them or half of 8 give 30, all of 8 15.
            wanted = many if name not in self.large else few
            wanted *= 2 if name in self.leakers else 1
            sources.append(np.resize(rng.permutation(np.flatnonzero(owners == name)), wanted))
        self.sources = np.concatenate(sources)
        self.patients: dict[str, NDArray[np.str_]] = {
            "glas": owners,
            "others": self._tiles["others"].groups,
            "copies": owners[self.sources],
        }

    @property
    def leakers(self) -> NDArray[np.str_]:
        """Patients of whom there are enough copies for two of them to make the leak."""
        return self.large[:LEAKERS]

    def pixels(self, name: str, side: int) -> NDArray[np.uint8]:
        """All tiles of a kind at one side, before they are stored."""
        if name != "copies":
            return self._tiles[name].load(side)
        originals = self._tiles["glas"].load(side)[self.sources]
        rng = np.random.default_rng(_TILES + 1)
        return plant("stain", plant("elastic", originals, rng), rng)


def stored(
    folder: Path, pixels: NDArray[np.uint8], patients: NDArray[np.str_], quality: int | None
) -> TileSet:
    """Tiles written as JPEG of a quality, colour halved, or as PNG, and opened again."""
    (folder / "all").mkdir(parents=True)
    lines = ["path,label,patient"]
    for row, (tile, patient) in enumerate(zip(pixels, patients, strict=True)):
        file = folder / "all" / f"{row:05d}.{'png' if quality is None else 'jpg'}"
        if quality is None:
            write_png(file, tile)
        else:
            file.write_bytes(encode_jpeg(tile, quality))
        lines.append(f"all/{file.name},all,{patient}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return open_tiles(folder, min_classes=1)


@dataclass(frozen=True)
class Design:
    """Who is where in one cell: rows of tiles.

    Attributes:
      train, holdout: of GlaS.
      made: of the tiles that stand for synthetic ones, and their kind.
      half, all: of the copies, from half the training patients and from all.
    """

    train: NDArray[np.intp]
    holdout: NDArray[np.intp]
    made: tuple[str, NDArray[np.intp]]
    half: NDArray[np.intp]
    all: NDArray[np.intp]


def deal(pool: Pool, count: int, rng: np.random.Generator) -> Design:
    """Patients dealt at random: `count` a side.

    Of 4 training patients two are leakers, of 8 at least four large, so that a leak can be made.
    """
    if count == PATIENTS[0]:
        leaking = rng.permutation(pool.leakers)[: count // 2]
        others = rng.permutation(np.setdiff1d(pool.large, leaking))[: 2 * count - len(leaking)]
        train = np.concatenate([leaking, others[: count - len(leaking)]])
        holdout = others[count - len(leaking) :]
    else:
        train = leaking = pool.names[:0]
        while len(leaking) < count // 2:
            order = rng.permutation(pool.names)
            train, holdout = order[:count], order[count:]
            leaking = train[np.isin(train, pool.large)][: count // 2]
    drawn = np.concatenate([train, holdout])
    owners, copied = pool.patients["glas"], pool.patients["copies"]
    third = np.flatnonzero(~np.isin(owners, drawn))

    def copies(patients: NDArray[np.str_]) -> NDArray[np.intp]:
        each = COPIES // len(patients)
        return np.concatenate([np.flatnonzero(copied == name)[:each] for name in patients])

    return Design(
        train=np.flatnonzero(np.isin(owners, train)),
        holdout=np.flatnonzero(np.isin(owners, holdout)),
        made=("glas", third) if len(third) else ("others", np.arange(OTHERS)),
        half=copies(leaking),
        all=copies(train),
    )


class Cell:
    """One design in one kind of files."""

    def __init__(self, files: Files, design: Design, *, mixed: bool) -> None:
        """`mixed`: the holdout is PNG; otherwise all roles have the same files."""
        self.files, self.design = files, design
        quality = files.quality
        self.kept = {
            "train": files.kept["glas", quality],
            "holdout": files.kept["glas", None if mixed else quality],
            "synthetic": files.kept[design.made[0], quality],
            "copies": files.kept["copies", quality],
        }

    def pipeline(self, copies: NDArray[np.intp]) -> Pipeline:
        """What the product measures and decides."""
        design = self.design
        rows = {"train": design.train, "holdout": design.holdout, "synthetic": design.made[1]}
        parts = {role: self.kept[role].part(own) for role, own in rows.items()}
        measured = {
            role: _measured_part(self.kept[role].measured, rows[role], at)
            for role, (_, at) in parts.items()
        }
        if len(copies):
            whole = _measured_part(self.kept["copies"].measured, copies, np.arange(len(copies)))
            measured["synthetic"] = _together(measured["synthetic"], whole)

        def looked(step: Step) -> dict[str, Look]:
            return {
                role: self.files.looked(self.kept[role], step, rows[role][parts[role][1]])
                for role in ("train", "holdout")
            }

        return decide(measured, looked, side=self.files.side, harmonise="auto")

    def data(
        self,
        pipeline: Pipeline | None,
        copies: NDArray[np.intp],
        aligned: tuple[NDArray[np.intp], Alignment] | None = None,
    ) -> AuditData:
        """What the audit is given; without a pipeline the tiles as they are."""
        design = self.design
        step = (pipeline.step if pipeline else None) or self.files.plain
        rows = {"train": design.train, "holdout": design.holdout, "synthetic": design.made[1]}
        parts = {
            role: self.files.embedded(self.kept[role], step)[own] for role, own in rows.items()
        }
        if len(copies):
            added = self.files.embedded(self.kept["copies"], step)[copies]
            parts["synthetic"] = np.concatenate([parts["synthetic"], added])
        whitening = Whitening.fit(np.concatenate(list(parts.values())))
        patients = {role: self.kept[role].tiles.groups[own] for role, own in rows.items()}
        train, holdout, synthetic = (
            Tiles(
                role,
                whitening.apply(x),
                patients=None if role == "synthetic" else patients[role],
            )
            for role, x in parts.items()
        )
        return AuditData(
            train=train,
            holdout=holdout,
            synthetic=synthetic,
            alignment=None if aligned is None else _placed(aligned, len(design.made[1]), copies),
            pipeline=pipeline.measured if pipeline else None,
            confounded=pipeline.confounded if pipeline else {},
        )


def _measured_part(measured: Measured, rows: NDArray[np.intp], at: NDArray[np.intp]) -> Measured:
    """Of tiles that were all measured, some, of which those `at` these places count as measured."""
    return Measured(
        kinds=measured.kinds[rows],
        codings=tuple(measured.codings[row] for row in rows),
        sides=measured.sides[rows],
        scales=measured.scales[rows],
        rows=at,
        traces=tuple(measured.traces[row] for row in rows[at]),
    )


def _together(one: Measured, other: Measured) -> Measured:
    return Measured(
        kinds=np.concatenate([one.kinds, other.kinds]),
        codings=one.codings + other.codings,
        sides=np.concatenate([one.sides, other.sides]),
        scales=np.concatenate([one.scales, other.scales]),
        rows=np.concatenate([one.rows, len(one) + other.rows]),
        traces=one.traces + other.traces,
    )


def _placed(
    aligned: tuple[NDArray[np.intp], Alignment], before: int, copies: NDArray[np.intp]
) -> Alignment:
    """The alignment of the copies that were aligned, among all synthetic tiles of a cell."""
    rows, found = aligned
    count = before + len(copies)
    inliers, strength = np.zeros(count, dtype=np.intp), np.zeros(count)
    _, ours, theirs = np.intersect1d(copies, rows, return_indices=True)
    inliers[before + ours] = found.synthetic.inliers[theirs]
    strength[before + ours] = found.synthetic.strength[theirs]
    featureless = np.zeros(count, dtype=np.bool_)
    judged = Aligned(
        inliers=inliers, strength=strength, marked=np.zeros(count), featureless=featureless
    )
    return replace(found, synthetic=judged)
