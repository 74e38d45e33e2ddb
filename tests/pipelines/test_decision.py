"""Whether roles differ by their files, what is done about it, and what is said."""

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from audits import Harm
from privgen.data.coding import Coding
from privgen.data.images import encode_jpeg, recode, resize, write_png
from privgen.data.layouts import open_tiles
from privgen.data.phantom import make_phantom
from privgen.data.tileset import TileSet
from privgen.pipelines.decision import Pipeline, inspect
from privgen.pipelines.measuring import SAMPLE, headers, measure, sample

Tiles = NDArray[np.uint8]
SIDE = 64
PATIENTS = 6


def phantom(seed: int, side: int = SIDE, per_patient: int = 6) -> TileSet:
    return make_phantom(
        patients=PATIENTS,
        tiles_per_patient=per_patient,
        side=side,
        seed=seed,
        classes=("LYM", "STR", "TUM"),
    )


def stored(folder: Path, tiles: TileSet, quality: int | None, name: str = "P") -> TileSet:
    """The same tiles in files: JPEG of a quality, colour halved, or PNG."""
    lines = ["path,label,patient"]
    for row, (tile, record) in enumerate(zip(tiles.load(), tiles.records, strict=True)):
        file = folder / "a" / f"{row:03d}.{'png' if quality is None else 'jpg'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        if quality is None:
            write_png(file, tile)
        else:
            file.write_bytes(encode_jpeg(tile, quality))
        lines.append(f"a/{file.name},a,{name}{record.patient}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return open_tiles(folder, min_classes=1)


def changed(tiles: TileSet, change: Callable[[Tiles], Tiles]) -> TileSet:
    """In memory, each tile after a change."""
    pixels = np.stack([change(tile) for tile in tiles.load()])
    return TileSet.from_arrays(pixels, tiles.labels, patients=tiles.groups)


def coded(quality: int) -> Callable[[Tiles], Tiles]:
    return lambda tile: recode(tile, Coding.standard(quality, "4:2:0"))


def judged(side: int = SIDE, harmonise: Any = "auto", **roles: TileSet) -> Pipeline:
    return inspect(roles, side=side, harmonise=harmonise)


def codings(pipeline: Pipeline) -> list[tuple[int, int, str]]:
    step = pipeline.step
    found = () if step is None else step.codings
    return [(side, coding.quality, coding.sampling) for side, coding in found]


def kinds(pipeline: Pipeline) -> set[tuple[str, ...]]:
    return {(each["kind"], *each["roles"]) for each in pipeline.facts["differences"]}


def test_roles_of_one_kind_of_files_are_left_alone_and_nothing_is_said(tmp_path: Path) -> None:
    for quality in (None, 60):
        folder = tmp_path / str(quality)
        roles = {
            role: stored(folder / role, phantom(number), quality)
            for number, role in enumerate(("train", "holdout", "synthetic"))
        }
        found = judged(**roles)
        assert found.step is None
        assert found.warnings == ()
        assert found.confounded == {}
        assert found.facts["differences"] == []
        assert found.facts["applied"] is None


def test_jpeg_beside_png_brings_every_role_to_that_jpeg(tmp_path: Path) -> None:
    found = judged(
        train=stored(tmp_path / "t", phantom(1), 30),
        holdout=stored(tmp_path / "h", phantom(2), None),
        synthetic=stored(tmp_path / "s", phantom(3), 30),
    )
    assert codings(found) == [(SIDE, 30, "4:2:0")]
    assert found.step is not None
    assert not found.step.off_grid
    assert kinds(found) == {("codec", "train", "holdout"), ("codec", "holdout", "synthetic")}
    assert found.confounded == {}
    (warning,) = found.warnings
    assert "train: JPEG of quality 30, colour halved; holdout: no JPEG" in warning
    assert "coded as JPEG of quality 30, colour halved, at 64 pixels" in warning
    assert "proofs of copies looked at the tiles as they are" in warning


def test_after_the_step_all_roles_measure_alike(tmp_path: Path) -> None:
    """The same tiles as JPEG and as PNG: the measures differ before the step and not after it."""
    pair = stored(tmp_path / "t", phantom(1), 40), stored(tmp_path / "h", phantom(1), None, "H")
    found = judged(train=pair[0], holdout=pair[1], synthetic=phantom(3))
    left = judged(train=pair[0], holdout=pair[1], synthetic=phantom(3), harmonise="off")
    assert found.measured is not None
    assert left.measured is not None
    apart, before = (
        np.abs(train.embeddings.mean(axis=0) - holdout.embeddings.mean(axis=0))
        for train, holdout in (found.measured, left.measured)
    )
    assert before.max() > 0.5
    assert np.all(apart < 0.15 * before.max())


def test_of_two_qualities_the_coarser_is_applied(tmp_path: Path) -> None:
    found = judged(
        train=stored(tmp_path / "t", phantom(1), 80),
        holdout=stored(tmp_path / "h", phantom(2), 35),
        synthetic=stored(tmp_path / "s", phantom(3), 80),
    )
    assert codings(found) == [(SIDE, 35, "4:2:0")]


def test_png_files_that_were_jpeg_are_found_by_their_pixels(tmp_path: Path) -> None:
    found = judged(
        side=128,
        train=stored(tmp_path / "t", changed(phantom(1, 128), coded(50)), None),
        holdout=stored(tmp_path / "h", phantom(2, 128), None),
        synthetic=changed(phantom(3, 128), coded(50)),
    )
    assert codings(found) == [(128, 50, "4:2:0")]
    assert found.facts["roles"]["train"]["kinds"] == {"png": 36}
    assert found.facts["roles"]["train"]["coded"] > 0.9
    assert found.facts["roles"]["holdout"]["coded"] == 0
    assert found.facts["roles"]["synthetic"]["kinds"] == {"array": 36}


def test_png_files_made_from_the_same_jpeg_are_no_other_pipeline(tmp_path: Path) -> None:
    """A JPEG and the PNG it was converted to have the same pixels."""
    found = judged(
        side=128,
        train=stored(tmp_path / "t", phantom(1, 128), 50),
        holdout=stored(tmp_path / "h", changed(phantom(2, 128), coded(50)), None),
        synthetic=stored(tmp_path / "s", phantom(3, 128), 50),
    )
    assert found.facts["differences"] == []
    assert found.step is None


def test_a_jpeg_saved_again_as_a_finer_one_is_what_it_was_before(tmp_path: Path) -> None:
    again = changed(phantom(1, 128), coded(30))
    found = judged(
        side=128,
        train=stored(tmp_path / "t", again, 95),
        holdout=stored(tmp_path / "h", phantom(2, 128), 95),
        synthetic=stored(tmp_path / "s", phantom(3, 128), 95),
    )
    assert codings(found) == [(128, 30, "4:2:0")]


def test_a_generators_smaller_tiles_ask_for_nothing(tmp_path: Path) -> None:
    real = {
        "train": stored(tmp_path / "t", phantom(1, 128), 50),
        "holdout": stored(tmp_path / "h", phantom(2, 128), 50),
    }
    assert judged(**real, synthetic=phantom(3)).step is None
    same_size = judged(side=128, **real, synthetic=phantom(3, 128))
    assert codings(same_size) == [(128, 50, "4:2:0")]


def test_synthetic_jpeg_beside_lossless_real_tiles_brings_all_to_it(tmp_path: Path) -> None:
    found = judged(
        train=phantom(1),
        holdout=phantom(2),
        synthetic=stored(tmp_path / "s", phantom(3), 70),
    )
    assert codings(found) == [(SIDE, 70, "4:2:0")]
    assert kinds(found) == {("codec", "train", "synthetic"), ("codec", "holdout", "synthetic")}
    left = judged(
        train=phantom(1),
        holdout=phantom(2),
        synthetic=stored(tmp_path / "s2", phantom(3), 70),
        harmonise="off",
    )
    # Membership compares real roles, and these agree.
    assert left.confounded == {}
    assert "and were left so" in left.warnings[0]


def test_a_few_coarse_tiles_do_not_coarsen_all(tmp_path: Path) -> None:
    tiles = phantom(1, per_patient=10)
    folder = tmp_path / "t"
    train = stored(folder, tiles, 80)
    (folder / train.records[0].path).write_bytes(encode_jpeg(tiles.load()[0], 10))
    found = judged(
        train=open_tiles(folder, min_classes=1),
        holdout=stored(tmp_path / "h", phantom(2), None),
        synthetic=stored(tmp_path / "s", phantom(3), 80),
    )
    assert codings(found) == [(SIDE, 80, "4:2:0")]


def test_left_alone_on_request_what_differs_is_confounded(tmp_path: Path) -> None:
    found = judged(
        train=stored(tmp_path / "t", phantom(1), 30),
        holdout=stored(tmp_path / "h", phantom(2), None),
        synthetic=stored(tmp_path / "s", phantom(3), 30),
        harmonise="off",
    )
    assert found.step is None
    assert set(found.confounded) == {Harm.COPYING, Harm.PATIENT_MEMBERSHIP}
    assert found.confounded[Harm.PATIENT_MEMBERSHIP] == (
        "Train and holdout tiles became pixels in different ways (train: JPEG of quality 30, "
        "colour halved; holdout: no JPEG): a difference between them may be that alone."
    )
    assert "and were left so" in found.warnings[0]
    assert found.facts["harmonise"] == "off"


def test_siblings_that_differ_from_train_confound_the_tile_arm(tmp_path: Path) -> None:
    roles = {
        "train": stored(tmp_path / "t", phantom(1), 30),
        "siblings": stored(tmp_path / "b", phantom(1, per_patient=8), None),
        "holdout": stored(tmp_path / "h", phantom(2), 30),
        "synthetic": stored(tmp_path / "s", phantom(3), 30),
    }
    left = judged(**roles, harmonise="off")
    assert set(left.confounded) == {Harm.TILE_MEMBERSHIP, Harm.PATIENT_MEMBERSHIP}
    assert "Train and siblings tiles" in left.confounded[Harm.TILE_MEMBERSHIP]
    mended = judged(**roles)
    assert mended.confounded == {}
    assert codings(mended) == [(SIDE, 30, "4:2:0")]


def test_tiles_scaled_up_on_one_side_lose_that_detail_on_all() -> None:
    def small(tile: Tiles) -> Tiles:
        return resize(resize(tile[np.newaxis], 32), SIDE)[0]

    roles = {
        "train": changed(phantom(1), small),
        "holdout": changed(phantom(2), lambda tile: tile),
        "synthetic": changed(phantom(3), small),
    }
    found = judged(**roles)
    assert kinds(found) == {("resolution", "train", "holdout")}
    assert found.step is not None
    assert 16 <= found.step.detail <= 32
    assert f"reduced to {found.step.detail} pixels and enlarged again" in found.warnings[0]
    assert "train and holdout differ in fine detail" in found.warnings[0]
    left = judged(**roles, harmonise="off")
    assert left.step is None
    assert set(left.confounded) == {Harm.COPYING, Harm.PATIENT_MEMBERSHIP}


def test_other_scales_cannot_be_brought_to_one(tmp_path: Path) -> None:
    def at(tiles: TileSet, mpp: float) -> TileSet:
        return replace(tiles, records=tuple(replace(r, mpp=mpp) for r in tiles.records))

    roles = {
        "train": at(phantom(1), 0.5),
        "holdout": at(phantom(2), 0.25),
        "synthetic": phantom(3),
    }
    found = judged(**roles)
    assert kinds(found) == {("scale", "train", "holdout")}
    assert "differ in scale: 0.5 against 0.25 um per pixel" in found.warnings[0]
    assert set(found.confounded) == {Harm.COPYING, Harm.PATIENT_MEMBERSHIP}
    # Half the pixels at twice the micrometres are the same field of tissue.
    same = {**roles, "holdout": at(phantom(2, 128), 0.25)}
    assert not {each for each in kinds(judged(**same)) if each[0] == "scale"}


def test_a_slides_grid_is_found_where_tiles_were_cut_beside_it(tmp_path: Path) -> None:
    def cut(tile: Tiles) -> Tiles:
        return recode(tile, Coding.standard(40, "4:2:0"))[5:101, 3:99]

    found = judged(
        side=96,
        train=changed(phantom(1, 128), cut),
        holdout=changed(phantom(2, 128), lambda tile: tile[5:101, 3:99]),
        synthetic=changed(phantom(3, 128), cut),
    )
    assert codings(found) == [(96, 40, "4:2:0")]
    assert found.step is not None
    assert found.step.off_grid


def test_the_sample_depends_on_content_alone_and_covers_every_patient() -> None:
    tiles = phantom(1, per_patient=20)
    chosen = sample(tiles)
    assert len(chosen) == SAMPLE
    counts = np.unique(tiles.groups[chosen], return_counts=True)[1]
    assert counts.min() >= SAMPLE // PATIENTS
    order = np.random.default_rng(0).permutation(len(tiles))
    shuffled = TileSet.from_arrays(
        tiles.load()[order],
        tiles.labels[order],
        patients=[f"other {name[::-1]}" for name in tiles.groups[order]],
    )
    again = sample(shuffled)
    assert set(shuffled.digests[again]) == set(tiles.digests[chosen])


def test_measures_of_a_role_do_not_depend_on_its_order() -> None:
    tiles = phantom(1, per_patient=12)
    order = np.random.default_rng(0).permutation(len(tiles))
    shuffled = TileSet.from_arrays(
        tiles.load()[order], tiles.labels[order], patients=tiles.groups[order]
    )
    plain = judged(train=tiles, holdout=phantom(2), synthetic=phantom(3))
    other = judged(train=shuffled, holdout=phantom(2), synthetic=phantom(3))
    assert plain.measured is not None
    assert other.measured is not None
    ours, theirs = (each.measured[0].embeddings[:, :5] for each in (plain, other) if each.measured)
    np.testing.assert_array_equal(np.sort(ours, axis=0), np.sort(theirs, axis=0))


def test_blank_roles_leave_no_control() -> None:
    white = TileSet.from_arrays(
        np.full((8, SIDE, SIDE, 3), 255, dtype=np.uint8), ["a"] * 8, patients=["P"] * 8
    )
    found = judged(train=phantom(1), holdout=white, synthetic=phantom(3))
    assert found.measured is None
    assert found.step is None


def test_headers_of_a_mixed_folder_count_every_file(tmp_path: Path) -> None:
    tiles = phantom(1)
    folder = tmp_path / "t"
    stored(folder, tiles, 80)
    pixels = tiles.load()
    for row in range(12):
        file = folder / "a" / f"{row:03d}.jpg"
        buffer = io.BytesIO()
        Image.fromarray(pixels[row]).save(buffer, "TIFF")
        file.write_bytes(buffer.getvalue())
    mixed = open_tiles(folder, min_classes=1)
    told = headers(mixed)
    assert told.kinds.count("tiff") == 12
    assert told.codings.count(Coding.standard(80, "4:2:0")) == 24
    shares = measure(mixed, sample(mixed), told).shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[None] == pytest.approx(1 / 3)


def test_the_facts_hold_no_name_and_fit_the_schema(tmp_path: Path) -> None:
    found = judged(
        train=stored(tmp_path / "t", phantom(1), 30),
        holdout=stored(tmp_path / "h", phantom(2), None),
        synthetic=stored(tmp_path / "s", phantom(3), 30),
    )
    facts: Mapping[str, Any] = found.facts
    assert set(facts["roles"]) == {"train", "holdout", "synthetic"}
    assert facts["roles"]["train"] == {
        "kinds": {"jpeg": 36},
        "measured": 36,
        "coded": 1.0,
        "quality": [30, 30],
        "colour_halved": 1.0,
        "side_px": [64, 64],
        "microns_a_pixel": None,
    }
    assert facts["applied"] == {
        "codings": [{"quality": 30, "sampling": "4:2:0", "side_px": 64}],
        "detail_px": 64,
    }
