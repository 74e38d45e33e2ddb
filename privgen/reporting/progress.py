"""The picture of a run: quality above, leakage below, against the tiles shown so far.

Read both together: a Frechet distance to train tiles that sinks below the floor, or below the one
to held-out tiles, is no quality but learning by heart, and the panel below should then move.

Colours tell lines apart for colour-blind readers, and never alone: every line has its own marker
and dashes. A filled marker is a signal that fired. Plain `Figure` objects, no pyplot; the same
lines give the same picture.
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from privgen.data import images
from privgen.errors import InputError
from privgen.reporting import svg

PICTURE = "progress.png"
"""Its name in a run folder."""

_SIZE, _DPI = (8.4, 6.6), 120
_BLUE, _RED, _OCHRE, _GREEN = "#004488", "#a83246", "#7a6000", "#117755"
_DASHED: Any = (0, (6, 2))
_FLOOR: Any = (0, (3, 3))
_GUESSING = 0.5
_LOWEST = -0.08
"""Lower end of the leakage panel, unless a share lies lower, as it can by chance."""
_DISTANCES = (
    ("synthetic_held_out", "synthetic to held-out", _RED, "s", _DASHED),
    ("synthetic_train", "synthetic to train", _BLUE, "o", "-"),
)
_SIGNALS = (
    ("membership", "auroc", "membership AUROC, 95 % interval", _GREEN, "^", _DASHED),
    ("copies", "share", "copies, share of synthetic tiles", _OCHRE, "D", "-"),
)


def draw_progress(watched: Path, picture: Path, *, selected_step: int | None = None) -> None:
    """Draw what a run has measured so far; nothing where it has measured nothing.

    Args:
      watched: the run's `watch.jsonl`.
      picture: PNG to write; replaced whole or not at all.
      selected_step: step whose weights are kept by `select_by`; None marks none.

    Raises:
      OutputError, DiskFullError: as `privgen.files.atomic_write`.
    """
    lines = [json.loads(line) for line in watched.read_text(encoding="utf-8").splitlines()]
    if lines:
        images.write_png(picture, progress(lines, selected_step=selected_step))


def progress(
    lines: Sequence[Mapping[str, Any]], *, selected_step: int | None = None
) -> NDArray[np.uint8]:
    """The picture as pixels.

    Args:
      lines: of `watch.jsonl`, at least one, by step; see `privgen.training.watch.Watch.measure`.
      selected_step: as `draw_progress`.

    Returns:
      RGB, uint8, shape (h, w, 3).
    """
    stream = io.BytesIO()
    with svg.style():
        progress_figure(lines, selected_step=selected_step).savefig(stream, format="rgba", dpi=_DPI)
    width, height = (round(inches * _DPI) for inches in _SIZE)
    pixels = np.frombuffer(stream.getvalue(), dtype=np.uint8).reshape(height, width, 4)
    return np.ascontiguousarray(pixels[..., :3])


def plot_progress(run: Path | str) -> Figure:
    """What a run has measured so far, as a matplotlib figure.

    Args:
      run: its folder, or the `watch.jsonl` in it.

    Raises:
      InputError: nothing was measured there.
    """
    watched = Path(run) if Path(run).is_file() else Path(run) / "watch.jsonl"
    text = watched.read_text(encoding="utf-8") if watched.is_file() else ""
    lines = [json.loads(line) for line in text.splitlines()]
    if not lines:
        raise InputError(f"a run with measurements is needed: {run} holds no watch.jsonl.")
    with svg.style():
        return progress_figure(lines)


def progress_figure(
    lines: Sequence[Mapping[str, Any]], *, selected_step: int | None = None
) -> Figure:
    """The picture as a figure; arguments as `progress`."""
    kimg = [float(line["kimg"]) for line in lines]
    figure = Figure(figsize=_SIZE, dpi=_DPI)
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    figure.subplots_adjust(left=0.1, right=0.9, bottom=0.085, top=0.9, hspace=0.3)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=svg.GRID, linewidth=0.8)
        axes.set_axisbelow(True)
    _quality(above, kimg, lines)
    _leakage(below, kimg, lines)
    below.set_xlim(0, max(kimg) * 1.02)
    below.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 2.5, 5, 10]))
    below.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    below.set_xlabel("training tiles shown, thousands (kimg)")
    for place, line in zip(kimg, lines, strict=True):
        if line["step"] == selected_step:
            _mark(above, below, place)
    return figure


def _quality(axes: Axes, kimg: list[float], lines: Sequence[Mapping[str, Any]]) -> None:
    (key,) = [name for name in lines[0] if name.startswith("fd_") and "/" not in name]
    for name, label, colour, marker, dashes in _DISTANCES:
        values = [float(line[key][name]) for line in lines]
        axes.plot(
            kimg, values, label=label, color=colour, marker=marker, markersize=5,
            linestyle=dashes, linewidth=1.6,
        )  # fmt: skip
    floor = float(lines[-1][key]["train_held_out"])
    axes.axhline(floor, label="train to held-out: the floor", color=svg.INK, linestyle=_FLOOR)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.15, high * 1.15)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylabel("Frechet distance, log scale")
    tiles = lines[-1]["tiles"]["synthetic"]
    _head(axes, f"Quality: {key}, {tiles} synthetic tiles; lower is better")


def _leakage(axes: Axes, kimg: list[float], lines: Sequence[Mapping[str, Any]]) -> None:
    axes.axhline(_GUESSING, color=svg.SOFT, linewidth=1.1, linestyle=_FLOOR)
    axes.annotate(
        "guessing", (1, _GUESSING), xycoords=axes.get_yaxis_transform(), xytext=(5, 0),
        textcoords="offset points", va="center", color=svg.SOFT, fontsize=10,
    )  # fmt: skip
    for signal, figure, label, colour, marker, dashes in _SIGNALS:
        known = [(x, line[signal]) for x, line in zip(kimg, lines, strict=True) if line[signal]]
        if not known:
            continue
        places, values = [x for x, _ in known], [float(found[figure]) for _, found in known]
        axes.plot(
            places, values, label=label, color=colour, marker=marker, markersize=6,
            markerfacecolor="white", markeredgewidth=1.4, linestyle=dashes, linewidth=1.6,
        )  # fmt: skip
        if "low" in known[0][1]:
            low, high = ([found[end] for _, found in known] for end in ("low", "high"))
            axes.vlines(places, low, high, color=colour, linewidth=0.9, alpha=0.45)
        fired = [
            (x, y) for x, y, (_, found) in zip(places, values, known, strict=True) if found["fires"]
        ]
        axes.plot(
            [x for x, _ in fired], [y for _, y in fired], color=colour, marker=marker,
            markersize=7, linestyle="",
        )  # fmt: skip
    axes.set_ylim(min(_LOWEST, axes.get_ylim()[0]), 1.05)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylabel("share, or AUROC")
    _head(axes, "Leakage; a filled marker is a signal, p .05 or less")


def _head(axes: Axes, title: str) -> None:
    """A title, and the names of the lines in one row between it and the panel."""
    axes.annotate(
        title, (0, 1), xycoords="axes fraction", xytext=(0, 24), textcoords="offset points",
        fontweight="bold",
    )  # fmt: skip
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1, ncols=3,
            frameon=False, handlelength=2.8, columnspacing=1.6, fontsize=10.5,
        )  # fmt: skip


def _mark(above: Axes, below: Axes, kimg: float) -> None:
    for axes in (above, below):
        axes.axvline(kimg, color=svg.INK, linewidth=1.2, zorder=1)
    left = kimg > sum(below.get_xlim()) / 2
    above.annotate(
        f"kept: {kimg:g} kimg", (kimg, 1), xycoords=above.get_xaxis_transform(),
        xytext=(-5 if left else 5, -4), textcoords="offset points",
        ha="right" if left else "left", va="top",
    )  # fmt: skip
