"""Shuffling and renaming every role leaves report.json equal but for its date."""

import csv
import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.auditing import judging
from privgen.auditing.run import audit
from privgen.checkpoints.roles import reopen
from privgen.copysearch import searching
from privgen.data.images import encode_png
from privgen.data.phantom import make_phantom, write_phantom
from privgen.data.tileset import TileSet
from privgen.evidence.collect import collect
from privgen.evidence.copy_kinds import plant
from privgen.insider.inversion import Effort
from privgen.sampling import load_generator
from privgen.training.session import plan_session

SIDE = 32
TINY = Effort(latents=8, starts=1, explore=1, steps=2, queries=2)
Row = dict[str, str]


def write(folder: Path, tiles: NDArray[np.uint8], rows: list[Row]) -> Path:
    """Class folders of PNG and a manifest."""
    for tile, row in zip(tiles, rows, strict=True):
        file = folder / row["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_png(tile))
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def roles() -> dict[str, tuple[NDArray[np.uint8], list[Row]]]:
    """Pixels and manifest of every role: repeated tiles, a blank one, copies of train tiles."""
    whole = make_phantom(patients=14, tiles_per_patient=12, side=SIDE)
    pixels = whole.load()
    number = np.array([int(group[1:]) for group in whole.groups])
    turn = np.arange(len(whole)) % 12
    chosen = {
        "train": (number < 8) & (turn < 9),
        "siblings": (number < 8) & (turn >= 9),
        "holdout": (number >= 8) & (number < 12),
        "reference": number >= 12,
    }
    made: dict[str, tuple[NDArray[np.uint8], list[Row]]] = {}
    for role, rows in chosen.items():
        tiles = pixels[rows].copy()
        facts = [
            {"label": str(label), "patient": str(group), "slide": f"{group}-{place % 2}"}
            for place, (label, group) in enumerate(
                zip(whole.labels[rows], whole.groups[rows], strict=True)
            )
        ]
        tiles[1], facts[1] = tiles[0], facts[0]  # one tile twice
        tiles[14] = tiles[2]  # and one of two patients
        tiles[5] = 255 - len(made)  # blank, and another blank in each role
        made[role] = tiles, facts
    fresh = make_phantom(patients=4, tiles_per_patient=12, side=SIDE, seed=9)
    rng = np.random.default_rng(0)
    copies = plant("stain", made["train"][0][20:24], rng)
    tiles = np.concatenate([fresh.load(), copies])
    labels = [*fresh.labels, *(fact["label"] for fact in made["train"][1][20:24])]
    made["synthetic"] = tiles, [{"label": str(label)} for label in labels]
    for role, (_, facts) in made.items():
        for place, fact in enumerate(facts):
            facts[place] = {"path": f"{fact['label']}/{role}{place:04d}.png", **fact}
    return made


def disguised(
    roles: Mapping[str, tuple[NDArray[np.uint8], list[Row]]], seed: int
) -> dict[str, tuple[NDArray[np.uint8], list[Row]]]:
    """The same tiles in another order, every file, patient and slide under another name."""
    rng = np.random.default_rng(seed)
    names: dict[str, str] = {}

    def new(kind: str, name: str) -> str:
        return names.setdefault(f"{kind} {name}", f"{kind[0]}{rng.integers(10**8):08d}")

    shuffled = {}
    for role, (tiles, facts) in roles.items():
        order = rng.permutation(len(tiles))
        rows = []
        for place in order:
            row = {**facts[place]}
            row["path"] = f"{row['label']}/{new('file', row['path'])}.png"
            row |= {kind: new(kind, row[kind]) for kind in ("patient", "slide") if kind in row}
            rows.append(row)
        shuffled[role] = tiles[order], rows
    return shuffled


def report(
    folder: Path, roles: Mapping[str, tuple[NDArray[np.uint8], list[Row]]], **options: Any
) -> dict[str, Any]:
    folders = {role: write(folder / role, tiles, rows) for role, (tiles, rows) in roles.items()}
    audit(**folders, encoder="colour", out=folder / "report", **options)
    document = json.loads((folder / "report" / "report.json").read_text())
    assert document.pop("created")
    return dict(document)


@pytest.mark.slow
def test_shuffling_and_renaming_every_role_changes_nothing_but_the_date(
    roles: dict[str, tuple[NDArray[np.uint8], list[Row]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From folders, with alignment, and with a cache that holds embeddings already."""
    monkeypatch.setattr(judging, "collect", partial(collect, planted_per_kind=6))
    monkeypatch.setattr(searching, "NULL_TILES", 110)
    cache = tmp_path / "cache"
    plain = report(tmp_path / "a", roles, align=True)
    report(tmp_path / "b", disguised(roles, 1), align=False, cache=cache)
    again = report(tmp_path / "c", disguised(roles, 2), align=True, cache=cache)
    assert again == plain
    names = {result["name"] for result in plain["audit"]["results"]}
    assert {"aligned_copies", "tile_membership", "patient_membership/density_ratio"} <= names


def test_codes_of_tiles_and_patients_stay_out_of_the_report(
    roles: dict[str, tuple[NDArray[np.uint8], list[Row]]], tmp_path: Path
) -> None:
    report(tmp_path, roles, align=False)
    text = (tmp_path / "report" / "report.json").read_text()
    text += (tmp_path / "report" / "report.html").read_text()
    assert not re.search(r"(?<![.\d])0\d{8}(?!\d)", text), "a code as audits.order makes them"
    tiles, facts = roles["train"]
    digests = TileSet.from_arrays(tiles, [fact["label"] for fact in facts]).digests
    assert not any(digest[:12] in text for digest in digests)


@pytest.mark.slow
def test_insider_attacks_and_pictures_depend_on_no_name_either(tmp_path: Path) -> None:
    """A generator's own tiles beside real ones in memory, which are named by their place."""
    write_phantom(tmp_path / "tiles", make_phantom(patients=10, tiles_per_patient=16, side=SIDE))
    options = {"resolution": SIDE, "batch": 8, "kimg": 0.03, "width": 8, "head_width": 8}
    checkpoint = plan_session(
        tmp_path / "tiles",
        options={**options, "watch_kimg": 0.0},
        holdout=0.35,
        siblings=0.2,
        group_by=None,
        on_bad_tile="error",
        resume=None,
    ).run(tmp_path / "runs")
    ledger = load_generator(checkpoint).ledger
    assert ledger is not None
    real = reopen(ledger)
    rng = np.random.default_rng(0)

    def renamed(tiles: TileSet) -> TileSet:
        moved = tiles.subset(rng.permutation(len(tiles)))
        return TileSet.from_arrays(
            moved.load(),
            moved.labels,
            patients=np.char.add("z", np.char.add(moved.groups, "y")),
            slides=np.char.add("z", moved.slides),
            layout=moved.layout,
        )

    documents = []
    # Both in memory: what is known of files and scales is part of the report.
    kept = {
        role: TileSet.from_arrays(
            tiles.load(),
            tiles.labels,
            patients=tiles.groups,
            slides=tiles.slides,
            layout=tiles.layout,
        )
        for role, tiles in real.items()
    }
    for given in (kept, {role: renamed(tiles) for role, tiles in real.items()}):
        found = audit(
            generator=checkpoint, count=200, encoder="colour", align=False, insider=TINY, **given
        )
        documents.append({key: value for key, value in found.document.items() if key != "created"})
    assert documents[0] == documents[1]
    assert documents[0]["samples_png"], "a picture was compared"
