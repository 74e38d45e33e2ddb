"""The picture of a run: what is drawn, where, and that it is always the same."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from privgen.data import images
from privgen.reporting.progress import draw_progress, progress

FD = "fd_effnet_lite2_pca64"


def _line(step: int, *, fires: bool = False, distance: float = 90.0) -> dict[str, Any]:
    return {
        "step": step,
        "kimg": step / 100,
        "tiles": {"synthetic": 256, "train": 400, "held_out": 300},
        FD: {
            "synthetic_train": distance - 10,
            "synthetic_held_out": distance,
            "train_held_out": 60.0,
        },
        f"{FD}/class": {},
        "diversity": {"smallest": 0.7, "class": {"TUM": 0.7}},
        "copies": {"share": 0.02, "p": 0.3, "own_p": 0.4, "fires": fires},
        "membership": {"auroc": 0.55, "low": 0.4, "high": 0.7, "p": 0.2, "fires": fires},
    }


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, kept to look into."""
    kept: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        kept.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return kept


def _curve(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    (line,) = [line for line in axes.get_lines() if label in str(line.get_label())]
    return list(line.get_xdata()), list(line.get_ydata())


def test_distances_stand_above_and_signals_below_against_kimg(drawn: list[Figure]) -> None:
    progress([_line(100, distance=300.0), _line(200, distance=80.0)])
    above, below = drawn[0].axes
    assert _curve(above, "synthetic to held-out") == ([1.0, 2.0], [300.0, 80.0])
    assert _curve(above, "synthetic to train") == ([1.0, 2.0], [290.0, 70.0])
    assert _curve(above, "the floor")[1] == [60.0, 60.0]
    assert _curve(below, "membership AUROC") == ([1.0, 2.0], [0.55, 0.55])
    assert _curve(below, "copies") == ([1.0, 2.0], [0.02, 0.02])
    assert "kimg" in below.get_xlabel()
    assert above.get_xlim() == below.get_xlim()


def test_the_kept_weights_are_marked_where_they_are(drawn: list[Figure]) -> None:
    lines = [_line(100), _line(200), _line(300)]
    plain = progress(lines)
    marked = progress(lines, selected_step=200)
    words = [[text.get_text() for text in figure.axes[0].texts] for figure in drawn]
    assert not any("kept" in text for text in words[0])
    assert "kept: 2 kimg" in words[1]
    assert (plain != marked).any()


def test_a_signal_that_fired_is_filled(drawn: list[Figure]) -> None:
    progress([_line(100), _line(200, fires=True)])
    filled = [
        list(line.get_xdata())
        for line in drawn[0].axes[1].get_lines()
        if line.get_linestyle() == "None"
    ]
    assert filled == [[2.0], [2.0]]


def test_what_was_not_measured_leaves_a_gap_and_no_name(drawn: list[Figure]) -> None:
    lines: list[dict[str, Any]] = [
        {**_line(100), "copies": None, "membership": None},
        {**_line(200), "membership": None},
    ]
    progress(lines)
    below = drawn[0].axes[1]
    assert _curve(below, "copies") == ([2.0], [0.02])
    assert not any("AUROC" in str(line.get_label()) for line in below.get_lines())


def test_the_same_lines_give_the_same_picture_and_touch_no_settings() -> None:
    before = dict(matplotlib.rcParams)
    first, second = progress([_line(100)]), progress([_line(100)])
    np.testing.assert_array_equal(first, second)
    assert first.ndim == 3
    assert first.std() > 5
    assert dict(matplotlib.rcParams) == before


def test_a_run_folder_gets_a_readable_png(tmp_path: Path) -> None:
    watched, picture = tmp_path / "watch.jsonl", tmp_path / "progress.png"
    lines = [_line(100), _line(200)]
    watched.write_text("".join(json.dumps(line) + "\n" for line in lines))
    draw_progress(watched, picture, selected_step=100)
    np.testing.assert_array_equal(images.read_tile(picture), progress(lines, selected_step=100))


def test_before_the_first_measurement_there_is_no_picture(tmp_path: Path) -> None:
    watched, picture = tmp_path / "watch.jsonl", tmp_path / "progress.png"
    watched.write_text("")
    draw_progress(watched, picture)
    assert not picture.exists()
