from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
from privgen.checkpoints.state import GENERATOR
from privgen.data.layouts import open_tiles
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError, InputError, PrivgenError, SplitError
from privgen.sampling import load_generator
from tests.helpers.small_generators import TINY, Trained

Textures = Callable[..., TileSet]


def paths(tiles: TileSet) -> set[str]:
    return {record.path for record in tiles.records}


def patients(tiles: TileSet) -> set[str]:
    return set(tiles.groups)


def made_of(owners: Sequence[tuple[str, str, int]]) -> TileSet:
    """Noise tiles: patient, class, how many."""
    rows = [(patient, label) for patient, label, count in owners for _ in range(count)]
    noise = np.random.default_rng(0).integers(0, 256, (len(rows), 16, 16, 3), dtype=np.uint8)
    return TileSet.from_arrays(
        noise, [label for _, label in rows], patients=[patient for patient, _ in rows]
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_split_keeps_patients_apart_and_every_class_on_both_sides(seed: int) -> None:
    common = [(f"p{n}", label, 4) for n in range(9) for label in ("A", "B")]
    tiles = made_of([*common, ("p0", "rare", 5), ("p1", "rare", 5)])
    parts = split(tiles, seed=seed)
    sides = [parts.known, parts.validation, parts.test]
    owners = [patients(side) for side in sides]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 9
    assert sum(map(len, sides)) == len(tiles)
    assert parts.known.classes == parts.test.classes == ("A", "B", "rare")


def test_the_split_has_the_shares_it_says() -> None:
    tiles = made_of([(f"p{n}", label, 3) for n in range(40) for label in ("A", "B")])
    parts = split(tiles, seed=0)
    assert len(parts.test) / len(tiles) == pytest.approx(0.35, abs=0.03)
    assert len(parts.validation) / len(tiles) == pytest.approx(0.65 * 0.2, abs=0.03)


@pytest.mark.real_data
def test_glas_has_every_class_in_test_and_in_training(real_data: Callable[[str], Path]) -> None:
    tiles = open_tiles(real_data("glas"))
    parts = split(tiles, seed=0)
    assert len(tiles.classes) == 5
    assert parts.test.classes == parts.known.classes == tiles.classes
    assert len(patients(parts.test)) >= 3
    assert not patients(parts.test) & (patients(parts.known) | patients(parts.validation))
    tenth = cut(parts.known, (0.1, 1.0), seed=0)[0.1]
    assert tenth.classes == tiles.classes


def test_regimes_are_nested_shares_of_every_class(textures: Textures) -> None:
    known = textures("known", patients=20)
    regimes = cut(known, (1.0, 0.1, 0.5), seed=3)
    assert list(regimes) == [0.1, 0.5, 1.0]
    assert paths(regimes[0.1]) < paths(regimes[0.5]) < paths(regimes[1.0]) == paths(known)
    for share, train in regimes.items():
        counts = np.unique(train.labels, return_counts=True)[1]
        assert counts.tolist() == [round(share * 60)] * 3


def test_a_small_regime_comes_from_few_patients(textures: Textures) -> None:
    known = textures("known", patients=20)
    tenth = cut(known, (0.1,), seed=3)[0.1]
    assert len(patients(tenth)) == 2  # 18 tiles, and a patient has 9


def test_seeds_choose_other_patients_and_the_same_seed_the_same(textures: Textures) -> None:
    known = textures("known", patients=20)
    chosen = [frozenset(patients(cut(known, (0.1,), seed=seed)[0.1])) for seed in range(6)]
    assert len(set(chosen)) > 3
    assert paths(cut(known, (0.1, 1.0), seed=1)[0.1]) == paths(cut(known, (0.1,), seed=1)[0.1])


def test_a_class_of_one_tile_is_in_every_regime() -> None:
    known = made_of([(f"p{n}", "A", 10) for n in range(10)] + [("p3", "rare", 1)])
    assert cut(known, (0.01,), seed=0)[0.01].classes == ("A", "rare")


@pytest.mark.parametrize("shares", [(), (0.0,), (1.5,), (0.5, 0.5), (-1.0,), (float("nan"),)])
def test_shares_out_of_range_are_refused(textures: Textures, shares: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="above 0 and up to 1"):
        cut(textures("known"), shares, seed=0)


def without(tiles: TileSet, label: str) -> TileSet:
    return tiles.subset(np.flatnonzero(tiles.labels != label))


def check(textures: Textures, **changed: TileSet) -> None:
    sets = {
        "train": textures("train"),
        "validation": textures("choose", patients=2),
        "test": textures("test"),
        "synthetic": textures("made", grouped=False),
    } | changed
    source = GeneratorTiles(name="g 0", tiles=sets["synthetic"])
    check_parts(
        [Regime(share=1.0, train=sets["train"], generators=(source,))],
        validation=sets["validation"],
        test=sets["test"],
    )


def test_disjoint_parts_with_all_classes_pass(textures: Textures) -> None:
    check(textures)


def renamed(tiles: TileSet) -> TileSet:
    labels = np.where(tiles.labels == "down", "up", tiles.labels)
    return TileSet.from_arrays(tiles.load(), [*labels[:-1], "down"])


@pytest.mark.parametrize(
    ("role", "change", "error", "rule"),
    [
        ("test", lambda t: without(t("test"), "down"), InputError, "test split: down is missing"),
        ("train", lambda t: without(t("train"), "down"), InputError, "among the training split's"),
        ("train", lambda t: t("train", classes=("down",)), InputError, "2 classes or more"),
        ("validation", lambda t: t("choose").subset(np.arange(0)), InputError, "must hold tiles"),
        ("test", lambda t: t("train"), SplitError, "may not share a patient"),
        ("validation", lambda t: t("train", patients=2), SplitError, "may not share a patient"),
        ("synthetic", lambda t: t("test", grouped=False), SplitError, "in the test split: 36 of g"),
        ("synthetic", lambda t: t("choose", patients=2), SplitError, "in the validation split"),
        ("synthetic", lambda t: without(t("made"), "down"), InputError, "set g 0: down is missing"),
        ("synthetic", lambda t: renamed(t("made")), InputError, r"up is not \(across, check, down"),
    ],
)
def test_unusable_parts_are_refused(
    textures: Textures,
    role: str,
    change: Callable[[Textures], TileSet],
    error: type[PrivgenError],
    rule: str,
) -> None:
    with pytest.raises(error, match=rule) as raised:
        check(textures, **{role: change(textures)})
    assert "\n" not in str(raised.value)


def test_a_class_missing_from_a_small_regime_is_refused(textures: Textures) -> None:
    source = GeneratorTiles(name="g 0", tiles=textures("made", grouped=False))
    whole = textures("train")
    with pytest.raises(InputError, match=r"regime 0\.1: down is missing. Give a larger"):
        check_parts(
            [
                Regime(share=0.1, train=without(whole, "down"), generators=(source,)),
                Regime(share=1.0, train=whole, generators=(source,)),
            ],
            validation=textures("choose", patients=2),
            test=textures("test"),
        )


def find(trained: Trained, runs: Sequence[Path], shares: Sequence[float], seed: int = 0) -> Any:
    return from_ledgers(
        trained.tiles, {run: load_generator(run) for run in runs}, shares, seed=seed
    )


def test_ledgers_of_trained_generators_give_back_the_same_parts(trained: Trained) -> None:
    runs = [*trained.runs[0.25], *trained.runs[1.0]]
    parts, found = find(trained, runs, (0.25, 1.0), seed=9)
    for name in ("known", "validation", "test"):
        assert paths(getattr(parts, name)) == paths(getattr(trained.parts, name))
    assert list(found) == [0.25, 1.0]
    for share, (train, chosen) in found.items():
        assert paths(train) == paths(trained.subsets[share])
        assert chosen == trained.runs[share]


def test_no_patient_a_generator_saw_is_tested(trained: Trained) -> None:
    """The small generator alone: the rest of the known patients is free for the test split."""
    parts, found = find(trained, trained.runs[0.25], (1.0,))
    seen = patients(trained.subsets[0.25])
    assert patients(parts.known) == seen
    assert not patients(parts.test) & seen
    assert patients(parts.validation) == patients(trained.parts.validation)
    assert patients(parts.test) > patients(trained.parts.test)
    assert paths(found[1.0][0]) == paths(trained.subsets[0.25])


def test_a_generator_trained_on_more_than_its_regime_is_refused(trained: Trained) -> None:
    runs = [trained.runs[0.25][0], trained.runs[1.0][0]]
    with pytest.raises(ConfigError, match=r"regime's own tiles: .* of \d+ known tiles .*are 0\.5"):
        find(trained, runs, (0.5, 0.25))


def test_a_regime_without_a_generator_is_refused(trained: Trained) -> None:
    with pytest.raises(ConfigError, match=r"every regime needs a generator.*: 0\.25 has none"):
        find(trained, trained.runs[1.0], (0.25, 1.0))


def test_a_generator_trained_on_test_patients_is_refused(trained: Trained, tmp_path: Path) -> None:
    swapped = Parts(
        known=trained.parts.test, validation=trained.parts.validation, test=trained.parts.known
    )
    other = train_generators(
        trained.tiles, swapped, {1.0: swapped.known}, options=TINY, count=1, folder=tmp_path
    )[1.0][0]
    with pytest.raises(
        SplitError, match=r"training split alone: .*00000.* was trained on \d+ tile"
    ):
        find(trained, [trained.runs[1.0][0], other], (1.0,))


def test_a_shareable_generator_file_is_refused(trained: Trained) -> None:
    with pytest.raises(InputError, match=r"needs private \.pt checkpoints: .*safetensors"):
        find(trained, [trained.runs[1.0][0] / GENERATOR], (1.0,))


def test_other_tiles_than_the_ledgers_are_refused(trained: Trained, textures: Textures) -> None:
    other = textures("other", patients=12, side=32)
    with pytest.raises(InputError, match="not those of the ledger"):
        from_ledgers(other, {Path("g"): load_generator(trained.runs[1.0][0])}, (1.0,), seed=0)
