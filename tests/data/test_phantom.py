"""The phantom: pure, balanced, recognisable by structure and not by colour, with true patients."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label, sobel
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from privgen.data.images import resize
from privgen.data.layouts import open_tiles
from privgen.data.phantom import CLASSES, make_phantom, render_tile, write_phantom
from privgen.data.phantom_patient import draw_patient
from privgen.data.stain import HED_FROM_RGB, optical_density
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError, OutputError
from privgen.models.effnet_lite import load_effnet_lite0, normalise

Tiles = NDArray[np.uint8]
BAR = 0.85


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small products are slower on many BLAS threads than on one."""
    with threadpool_limits(limits=1):
        yield


@pytest.fixture(scope="module")
def cohort() -> TileSet:
    """32 patients, 27 tiles each (3 a class), 64 px."""
    return make_phantom(patients=32, tiles_per_patient=27, side=64, seed=0)


@pytest.fixture(scope="module")
def pixels(cohort: TileSet) -> Tiles:
    return cohort.load()


def draw(name: str, count: int = 8, side: int = 64) -> Tiles:
    tiles = [render_tile(name, patient=p, index=0, seed=5, side=side) for p in range(count)]
    return np.stack(tiles)


# --- a tile is a pure function of its arguments


@pytest.mark.parametrize("name", CLASSES)
def test_a_tile_is_the_same_whatever_was_drawn_before(name: str) -> None:
    first = render_tile(name, patient=3, index=2, seed=1, side=64)
    render_tile("TUM", patient=3, index=2, seed=1, side=48)
    np.random.default_rng().random()
    assert np.array_equal(render_tile(name, patient=3, index=2, seed=1, side=64), first)


def test_every_argument_changes_the_tile() -> None:
    base = {"patient": 3, "index": 2, "seed": 1}
    first = render_tile("STR", side=64, **base)
    for name in base:
        changed = render_tile("STR", side=64, **{**base, name: base[name] + 1})
        assert np.abs(changed.astype(int) - first).mean() > 3, name
    assert not np.array_equal(render_tile("MUS", side=64, **base), first)


def test_a_tile_does_not_depend_on_how_many_are_made() -> None:
    few = make_phantom(patients=2, tiles_per_patient=3, side=32, seed=4)
    many = make_phantom(patients=3, tiles_per_patient=11, side=32, seed=4)
    kept = [p * 11 + i for p in range(2) for i in range(3)]
    assert np.array_equal(few.load(), many.load()[kept])
    assert np.array_equal(few.labels, many.labels[kept])
    one = render_tile(str(many.labels[27]), patient=2, index=5, seed=4, side=32)
    assert np.array_equal(many.load()[27], one)


@pytest.mark.parametrize("side", [16, 33, 64, 200])
def test_tiles_are_uint8_rgb_of_the_side_asked_for(side: int) -> None:
    for name in CLASSES:
        tile = render_tile(name, patient=0, index=0, seed=0, side=side)
        assert tile.shape == (side, side, 3)
        assert tile.dtype == np.uint8


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "BACK"])
def test_the_side_sets_resolution_and_not_content(name: str) -> None:
    fine = render_tile(name, patient=1, index=1, seed=3, side=256)
    averaged = fine.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    coarse = render_tile(name, patient=1, index=1, seed=3, side=64)
    assert np.corrcoef(averaged.ravel(), coarse.ravel())[0, 1] > 0.95


# --- the set


def test_a_set_knows_its_patients_labels_and_resolution() -> None:
    tiles = make_phantom(patients=3, tiles_per_patient=4, side=32, seed=0)
    assert len(tiles) == 12
    assert tiles.groups.tolist() == ["P000"] * 4 + ["P001"] * 4 + ["P002"] * 4
    assert tiles.group_unit == "patient"
    assert {record.mpp for record in tiles.records} == {3.5}
    assert "phantom" in tiles.layout


def test_classes_are_balanced_within_each_patient(cohort: TileSet) -> None:
    for patient in np.unique(cohort.groups):
        _, counts = np.unique(cohort.labels[cohort.groups == patient], return_counts=True)
        assert counts.tolist() == [3] * 9
    uneven = make_phantom(patients=9, tiles_per_patient=4, side=16, seed=0)
    assert np.unique(uneven.labels, return_counts=True)[1].tolist() == [4] * 9


def test_a_choice_of_classes_is_kept_to() -> None:
    tiles = make_phantom(patients=2, tiles_per_patient=4, side=16, classes=("TUM", "NORM"))
    assert tiles.classes == ("NORM", "TUM")
    assert np.unique(tiles.labels, return_counts=True)[1].tolist() == [4, 4]


def test_no_two_tiles_are_identical(cohort: TileSet) -> None:
    assert len(set(cohort.digests)) == len(cohort)


def test_a_written_phantom_is_read_back_as_it_was(tmp_path: Path) -> None:
    made = make_phantom(patients=3, tiles_per_patient=9, side=32, seed=2)
    write_phantom(tmp_path / "phantom", made)
    read = open_tiles(tmp_path / "phantom")
    order = np.argsort([record.path for record in read.records])
    expected = np.argsort([record.path for record in made.records])
    assert np.array_equal(read.load()[order], made.load()[expected])
    for name in ("labels", "groups", "digests"):
        assert np.array_equal(getattr(read, name)[order], getattr(made, name)[expected])
    assert read.group_unit == "patient"
    assert {record.mpp for record in read.records} == {3.5}
    assert not read.skipped


def test_an_occupied_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    made = make_phantom(patients=1, tiles_per_patient=2, side=16)
    with pytest.raises(OutputError, match=r"mine\.txt"):
        write_phantom(tmp_path, made)
    assert [child.name for child in tmp_path.iterdir()] == ["mine.txt"]


def test_bad_numbers_and_classes_are_named() -> None:
    with pytest.raises(ConfigError, match="XYZ"):
        render_tile("XYZ", patient=0, index=0, seed=0, side=64)
    for wrong in ({"patient": -1}, {"index": -1}, {"seed": -1}, {"side": 8}, {"side": 4096}):
        arguments = {"patient": 0, "index": 0, "seed": 0, "side": 64, **wrong}
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            render_tile("ADI", **arguments)
    with pytest.raises(ConfigError, match="patients"):
        make_phantom(patients=0, tiles_per_patient=3)
    with pytest.raises(ConfigError, match="tiles_per_patient"):
        make_phantom(patients=2, tiles_per_patient=0)
    for classes in ((), ("ADI", "ADI"), ("adi",)):
        with pytest.raises(ConfigError, match="classes"):
            make_phantom(patients=1, tiles_per_patient=1, classes=classes)


# --- tissues are told apart by structure


def haematoxylin(tiles: Tiles) -> NDArray[np.float64]:
    return np.asarray(optical_density(tiles) @ HED_FROM_RGB)[..., 0]


def nuclei(tile: Tiles) -> int:
    """Connected dark spots of at least 6 square micrometres' worth of pixels at 128 px."""
    smooth = gaussian_filter(haematoxylin(tile), 1.0)
    spots, count = label(smooth > np.median(smooth) + 0.35)
    return int((np.bincount(spots.ravel(), minlength=count + 1)[1:] >= 8).sum())


def coherence(tile: Tiles) -> float:
    """How much all gradients of a tile share one direction, 0 to 1 (structure tensor)."""
    grey = gaussian_filter(tile.mean(axis=-1), 1.0)
    right, down = sobel(grey, axis=1), sobel(grey, axis=0)
    xx, yy, xy = (right**2).mean(), (down**2).mean(), (right * down).mean()
    return float(np.hypot(xx - yy, 2 * xy) / (xx + yy))


def test_background_is_nearly_empty() -> None:
    tiles = draw("BACK", 16).astype(float)
    assert tiles.mean(axis=(1, 2, 3)).min() > 215
    assert (tiles.mean(axis=-1) > 200).mean() > 0.995
    assert gaussian_filter(tiles, (0, 1, 1, 0)).std(axis=(1, 2)).max() < 12


def test_fat_is_mostly_light_with_thin_walls() -> None:
    light = draw("ADI", 16).mean(axis=-1)
    share = (light > 0.88 * np.percentile(light, 95, axis=(1, 2), keepdims=True)).mean(axis=(1, 2))
    assert np.median(share) > 0.6
    assert (light.min(axis=(1, 2)) < 190).all()


def test_an_aggregate_of_lymphocytes_has_many_times_the_nuclei_of_stroma() -> None:
    dense = [nuclei(tile) for tile in draw("LYM", 10, 128)]
    loose = [nuclei(tile) for tile in draw("STR", 10, 128)]
    assert np.median(dense) > 2 * np.median(loose)
    assert np.median(loose) >= 5
    dark = haematoxylin(draw("LYM", 10)).mean(axis=(1, 2))
    pale = haematoxylin(draw("STR", 10)).mean(axis=(1, 2))
    assert np.median(dark) > 1.3 * np.median(pale)


def test_muscle_runs_in_one_direction_and_lymphocytes_in_none() -> None:
    muscle = [coherence(tile) for tile in draw("MUS", 10, 128)]
    lymph = [coherence(tile) for tile in draw("LYM", 10, 128)]
    stroma = [coherence(tile) for tile in draw("STR", 10, 128)]
    assert min(muscle) > 0.4
    assert max(lymph) < 0.25
    assert np.median(muscle) > np.median(stroma)


def test_normal_mucosa_holds_pale_goblets_and_dark_nuclei() -> None:
    tiles = draw("NORM", 10)
    light = tiles.mean(axis=-1)
    pale, dark = (np.percentile(light, q, axis=(1, 2)) for q in (97, 3))
    assert np.median(pale) > 185
    assert (pale - dark).min() > 60


# --- patients are true groups


def features(tiles: Tiles) -> NDArray[np.float64]:
    """Mean R, G, B; contrast; sharpness; dark share; light share. Shape (n, 7)."""
    grey = tiles.mean(axis=-1)
    return np.column_stack(
        [
            tiles.mean(axis=(1, 2)),
            grey.std(axis=(1, 2)),
            np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2)),
            (grey < 110).mean(axis=(1, 2)),
            (grey > 215).mean(axis=(1, 2)),
        ]
    )


def intraclass(values: NDArray[np.float64], groups: NDArray[np.str_]) -> NDArray[np.float64]:
    """One-way random-effects ICC(1) of each column for groups of equal size."""
    names, codes = np.unique(groups, return_inverse=True)
    size = len(groups) // len(names)
    means = np.stack([values[codes == k].mean(axis=0) for k in range(len(names))])
    between = size * np.sum((means - values.mean(axis=0)) ** 2, axis=0) / (len(names) - 1)
    within = np.sum((values - means[codes]) ** 2, axis=0) / (len(groups) - len(names))
    return np.asarray((between - within) / (between + (size - 1) * within + 1e-12))


def intraclass_by_class(
    values: NDArray[np.float64], tiles: TileSet, rng: np.random.Generator | None = None
) -> NDArray[np.float64]:
    """ICC of each feature within each class, shape (9, f); `rng` shuffles the patients first."""
    rows = []
    for name in CLASSES:
        chosen = tiles.labels == name
        groups = tiles.groups[chosen]
        rows.append(intraclass(values[chosen], groups if rng is None else rng.permutation(groups)))
    return np.stack(rows)


def test_tiles_of_a_patient_correlate_moderately(cohort: TileSet, pixels: Tiles) -> None:
    each = intraclass_by_class(features(pixels), cohort)
    assert 0.2 < each[:, :3].mean() < 0.6  # colour
    assert 0.1 < each[:, 3:].mean() < 0.4  # structure


def test_patients_differ_more_than_shuffled_patients(cohort: TileSet, pixels: Tiles) -> None:
    values, rng = features(pixels), np.random.default_rng(0)
    observed = intraclass_by_class(values, cohort).mean(axis=0)
    null = [intraclass_by_class(values, cohort, rng).mean(axis=0) for _ in range(99)]
    assert (observed > np.max(null, axis=0)).all()


def test_traits_belong_to_a_patient_and_a_seed() -> None:
    first, again = draw_patient(0, 1), draw_patient(0, 1)
    assert first.nucleus == again.nucleus
    assert np.array_equal(first.stains, again.stains)
    strengths = {draw_patient(s, p).haematoxylin for s in range(3) for p in range(20)}
    assert len(strengths) == 60


# --- colour is not enough, structure is


def histograms(tiles: Tiles) -> NDArray[np.float64]:
    """Share of pixels in each of 8 x 8 x 8 boxes of a colour space, shape (n, 512)."""
    boxes = (tiles.astype(np.intp) // 32) @ np.array([64, 8, 1])
    counts = [np.bincount(row, minlength=512) for row in boxes.reshape(len(tiles), -1)]
    return np.stack(counts) / boxes[0].size


def hue_saturation_value(tiles: Tiles) -> Tiles:
    rgb = tiles / 255.0
    value, least = rgb.max(axis=-1), rgb.min(axis=-1)
    chroma = value - least
    safe = np.where(chroma > 0, chroma, 1)
    red, green, blue = np.moveaxis(rgb, -1, 0)
    sector = np.select(
        [value == red, value == green],
        [(green - blue) / safe % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    )
    saturation = chroma / np.where(value > 0, value, 1)
    return np.round(255 * np.stack([sector / 6, saturation, value], axis=-1)).astype(np.uint8)


def crossed_predictions(
    model: object, values: NDArray[np.float64], tiles: TileSet
) -> NDArray[np.str_]:
    """Each half of the patients predicted by a model trained on the other half."""
    half = np.isin(tiles.groups, np.unique(tiles.groups)[::2])
    predicted = np.empty_like(tiles.labels)
    for train in (half, ~half):
        predicted[~train] = model.fit(values[train], tiles.labels[train]).predict(values[~train])
    return predicted


def balanced_accuracy(truth: NDArray[np.str_], predicted: NDArray[np.str_]) -> float:
    return float(recall_score(truth, predicted, labels=CLASSES, average="macro"))


def upper_bound(tiles: TileSet, predicted: NDArray[np.str_]) -> float:
    """97.5 % point of balanced accuracy when patients are drawn with replacement."""
    rng = np.random.default_rng(0)
    names = np.unique(tiles.groups)
    rows = {name: np.flatnonzero(tiles.groups == name) for name in names}
    draws = []
    for _ in range(200):
        chosen = np.concatenate([rows[name] for name in rng.choice(names, len(names))])
        draws.append(balanced_accuracy(tiles.labels[chosen], predicted[chosen]))
    return float(np.quantile(draws, 0.975))


@pytest.mark.parametrize("space", ["rgb", "hsv"])
@pytest.mark.parametrize("kind", ["logistic regression", "random forest"])
def test_a_colour_histogram_does_not_tell_the_tissues_of_new_patients(
    cohort: TileSet, pixels: Tiles, space: str, kind: str
) -> None:
    values = histograms(pixels if space == "rgb" else hue_saturation_value(pixels))
    if kind == "random forest":
        model = RandomForestClassifier(200, random_state=0)
    else:  # Square roots make the Euclidean distance of histograms the Hellinger distance.
        values, model = np.sqrt(values), LogisticRegression(C=30.0, max_iter=500)
    predicted = crossed_predictions(model, values, cohort)
    assert balanced_accuracy(cohort.labels, predicted) > 0.4  # the features do carry colour
    assert upper_bound(cohort, predicted) < BAR


@pytest.mark.slow
def test_an_embedding_tells_the_tissues_of_new_patients(cohort: TileSet, pixels: Tiles) -> None:
    torch.set_num_threads(2)
    early = np.flatnonzero(np.isin(cohort.groups, np.unique(cohort.groups)[:12]))
    early = early[early % 27 < 18]
    network = load_effnet_lite0()
    batches = []
    with torch.inference_mode():
        for rows in np.array_split(early, 8):
            rgb = torch.from_numpy(resize(pixels[rows], 160)).permute(0, 3, 1, 2).float()
            batches.append(network(normalise(rgb)).numpy())
    tiles = cohort.subset(early)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    predicted = crossed_predictions(model, np.concatenate(batches), tiles)
    assert balanced_accuracy(tiles.labels, predicted) > 0.9
