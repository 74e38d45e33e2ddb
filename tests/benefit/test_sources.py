from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privgen.benefit import sources
from privgen.benefit.requests import BenchRequest
from privgen.benefit.sources import make_regimes, open_request
from privgen.checkpoints.state import GENERATOR
from privgen.data.phantom import write_phantom
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError, InputError
from tests.helpers.small_generators import TINY, Trained

Textures = Callable[..., TileSet]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (
            {"synthetic": Path("s"), "generators": (Path("g"),)},
            "one place: got `synthetic` and `generators`",
        ),
        (
            {"data": Path("d"), "generators": (Path("g"),), "training": {}},
            "got `generators` and `train_generator`",
        ),
        ({"data": Path("d")}, "real tiles need synthetic ones: give `synthetic`"),
        (
            {"data": Path("d"), "synthetic": Path("s"), "regimes": (0.1, 1.0)},
            r"regime of all training tiles alone: got `regimes` 0\.1,1",
        ),
        (
            {"generators": (Path("g"),), "group_by": "slide"},
            "ledgers of `generators` recorded: got `group_by` slide",
        ),
        (
            {"generators": (Path("g"),), "icc": "apply"},
            "ledgers of `generators` recorded: got `icc` apply",
        ),
        ({"generator_seeds": 0}, "`generator_seeds` must be 1 or more: got 0"),
    ],
)
def test_requests_that_contradict_themselves_are_refused(
    options: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ConfigError, match=rule) as raised:
        BenchRequest(**options)
    assert "\n" not in str(raised.value)


def test_a_synthetic_folder_serves_all_training_tiles(
    textures: Textures, real_folder: Path, tmp_path: Path
) -> None:
    made = textures("made0", side=32, grouped=False)
    write_phantom(tmp_path / "made", made)
    opened = open_request(BenchRequest(data=real_folder, synthetic=tmp_path / "made"))
    assert opened.generator_counts() == {1.0: 1}
    (regime,) = make_regimes(opened, ratio=1.0, filters=False, folder=None)
    assert regime.share == 1.0
    assert set(regime.train.digests) == set(opened.parts.known.digests)
    (source,) = regime.generators
    assert (source.name, set(source.tiles.digests)) == ("synthetic tiles", set(made.digests))


def test_colour_profiles_are_read_as_asked_in_both_sets(
    monkeypatch: pytest.MonkeyPatch, textures: Textures, real_folder: Path, tmp_path: Path
) -> None:
    write_phantom(tmp_path / "made", textures("made0", side=32, grouped=False))
    read, asked = sources.open_tiles, list[str]()

    def watched(*arguments: Any, **options: Any) -> TileSet:
        asked.append(options["icc"])
        return read(*arguments, **options)

    monkeypatch.setattr(sources, "open_tiles", watched)
    request = BenchRequest(data=real_folder, synthetic=tmp_path / "made", icc="apply")
    opened = open_request(request)
    make_regimes(opened, ratio=1.0, filters=False, folder=None)
    assert asked == ["apply", "apply"]
    assert opened.tiles.icc == "apply"


def test_without_data_the_generator_is_perfect_and_of_other_patients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "PHANTOM_PATIENTS", 10)
    monkeypatch.setattr(sources, "PHANTOM_TILES", 9)
    opened = open_request(
        BenchRequest(resolution=16, regimes=(0.5, 1.0), generator_seeds=1, seed=4)
    )
    regimes = make_regimes(opened, ratio=1.0, filters=False, folder=None)
    assert [regime.share for regime in regimes] == [0.5, 1.0]
    for regime in regimes:
        (source,) = regime.generators
        assert source.name == "perfect generator, seed 0"
        assert len(source.tiles) >= len(regime.train)
        assert not set(source.tiles.digests) & set(opened.tiles.digests)


def test_ledgers_say_what_the_regimes_are(trained: Trained) -> None:
    opened = open_request(
        BenchRequest(
            generators=(*trained.runs[1.0], *trained.runs[0.25]), regimes=(0.25, 1.0), seed=5
        )
    )
    assert opened.generator_counts() == {0.25: 1, 1.0: 2}
    assert set(opened.parts.test.digests) == set(trained.parts.test.digests)
    regimes = make_regimes(opened, ratio=0.5, filters=True, folder=None)
    for regime in regimes:
        train = trained.subsets[regime.share]
        assert set(regime.train.digests) == set(train.digests)
        assert [source.checkpoint for source in regime.generators] == list(
            trained.runs[regime.share]
        )
        names = [source.name for source in regime.generators]
        assert len(set(names)) == len(names)
        for source in regime.generators:
            assert len(source.tiles) == 2 * len(train)  # the filter may choose
            assert source.tiles.classes == train.classes


def test_patients_a_regimes_generators_saw_nothing_of_judge_their_privacy(
    trained: Trained,
) -> None:
    opened = open_request(
        BenchRequest(generators=(trained.runs[1.0][0], *trained.runs[0.25]), regimes=(0.25, 1.0))
    )
    for share, outside in opened.outside.items():
        seen = set(trained.subsets[share].groups)
        assert set(outside.groups) == set(trained.tiles.groups) - seen


def test_a_generator_that_lacks_a_class_is_refused(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_request(BenchRequest(generators=trained.runs[1.0]))
    load = sources.load_generator

    class Lacking:
        def __init__(self, path: Path) -> None:
            self.classes = load(path).classes[:-1]

    monkeypatch.setattr(sources, "load_generator", Lacking)
    with pytest.raises(InputError, match=r"must make every class: .* does not make down"):
        make_regimes(opened, ratio=1.0, filters=False, folder=None)


def test_a_shareable_generator_file_is_refused(trained: Trained) -> None:
    with pytest.raises(InputError, match=r"private \.pt checkpoints: .* is a shareable"):
        open_request(BenchRequest(generators=(trained.runs[1.0][0] / GENERATOR,)))


def test_generators_trained_here_need_a_place(real_folder: Path) -> None:
    opened = open_request(BenchRequest(data=real_folder, training=TINY, generator_seeds=3))
    assert opened.generator_counts() == {1.0: 3}
    with pytest.raises(ConfigError, match=r"got no output folder\. Give `out`"):
        make_regimes(opened, ratio=1.0, filters=False, folder=None)


def test_too_few_patients_are_refused_before_anything_is_trained(textures: Textures) -> None:
    few = textures("few", patients=4, side=32)
    with pytest.raises(InputError, match=r"needs 3 test patients or more: got \d"):
        open_request(BenchRequest(data=few, training=TINY))


def test_a_class_that_one_patient_has_is_refused_before_anything_is_trained(
    textures: Textures,
) -> None:
    tiles = textures("lone", patients=10)
    labels = np.array(tiles.labels)
    labels[1] = "rare"
    lone = TileSet.from_arrays(tiles.load(), labels, patients=tiles.groups)
    with pytest.raises(InputError, match="rare"):
        open_request(BenchRequest(data=lone, training=TINY))
