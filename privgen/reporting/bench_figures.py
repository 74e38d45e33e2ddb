"""The plots of augment-bench: small panels, one per model, side by side, and the plane.

Conventions as in `figures`: nothing is told by colour alone. Differences and gains are in
percentage points.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TypeVar

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from privgen.reporting import panels, svg
from privgen.reporting.figures import LINES
from privgen.reporting.panels import LEFT, LINE, RIGHT, Key, Mark

_Name = TypeVar("_Name")
_ROW, _LABEL_CHARACTERS, _LABELS = 22, 30, 208
_OUTCOMES = {
    "NO LEAK FOUND": Key(colour="#0a4f78", marker="o", size=8),
    "INCONCLUSIVE": Key(colour="#7a4a00", marker="D", filled=False, size=8),
    "LEAK": Key(colour="#9b1530", marker="X", size=9),
    "not audited": Key(colour=svg.SOFT, marker="s", filled=False, size=8),
}


@dataclass(frozen=True, kw_only=True)
class PlanePoint:
    """One generator's tiles on the plane.

    Attributes:
      number: printed beside it.
      mark: its gain.
      group: what it may be compared with; equal names stand together.
      column: what to call its place on the axis of leaks, the same within a group.
      outcome: of the audit, or "not audited".
      ringed: whether it is undominated.
    """

    number: int
    mark: Mark
    group: str
    column: str
    outcome: str
    ringed: bool


def difference_panels(
    labels: Sequence[str],
    models: Sequence[tuple[str, Sequence[Mark | None]]],
    *,
    axis: str,
    prefix: str,
    alt: str,
) -> str:
    """A forest plot for each model: arms down, the same in every panel; the line is at 0.

    Args:
      labels: of the rows, top to bottom.
      models: name and a mark per row; None leaves a row empty.
      axis: what is measured.
      prefix: tells this figure's ids from those of the page's other figures.
      alt: what the picture shows, in words.

    Returns:
      An `<svg>` element.
    """
    wrapped = [textwrap.wrap(label, _LABEL_CHARACTERS) or [""] for label in labels]
    tops = [0.0]
    for lines in wrapped:
        tops.append(tops[-1] + _ROW + LINE * (len(lines) - 1))
    middles = [(a + b) / 2 for a, b in pairwise(tops)]
    limits = panels.limits_of([mark for _, marks in models for mark in marks if mark])
    with svg.style():
        figure, sheet, places = panels.panel_sheet(
            [name for name, _ in models], left=_LABELS, height=tops[-1]
        )
        for (name, marks), (axes, first) in zip(models, places, strict=True):
            panels.title(axes, name)
            axes.set_xlim(*limits)
            axes.set_ylim(tops[-1], 0)
            axes.axvline(0, color=svg.INK, linewidth=1.1)
            axes.hlines(middles, *limits, color=svg.GRID, linewidth=0.8, zorder=0.5)
            for middle, mark in zip(middles, marks, strict=True):
                if mark is not None:
                    panels.draw_mark(axes, mark, middle, across=True)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.xaxis.set_major_locator(FixedLocator(panels.inner_ticks(limits, 4)))
            axes.xaxis.set_major_formatter(lambda value, _: panels.plain_number(value))
            for lines, middle in zip(wrapped, middles, strict=True):
                if first:
                    panels.beside(axes, "\n".join(lines), middle, 6 - _LABELS)
        panels.name_axes(sheet, [axes for axes, _ in places], axis)
        return svg.element(figure, prefix=prefix, alt=alt)


def ratio_panels(
    models: Sequence[tuple[str, Sequence[Mark]]],
    *,
    axes_names: tuple[str, str],
    prefix: str,
    alt: str,
) -> str:
    """A curve for each model: gain against the ratio (`Mark.place`, on a log scale).

    Args:
      models: name and its marks, by rising ratio.
      axes_names: of x and y.
      prefix, alt: as for `difference_panels`.
    """
    marks = [mark for _, curve in models for mark in curve]
    ratios = sorted({mark.place for mark in marks})
    colour, _, dashes = LINES[0]
    with svg.style():
        figure, sheet, places = panels.panel_sheet(
            [name for name, _ in models], left=LEFT, height=150
        )
        for (name, curve), (axes, first) in zip(models, places, strict=True):
            panels.title(axes, name)
            axes.set_xscale("log")
            axes.set_xlim(ratios[0] / 1.35, ratios[-1] * 1.35)
            axes.set_ylim(*panels.limits_of(marks))
            axes.axhline(0, color=svg.INK, linewidth=1.1)
            axes.plot(
                [mark.place for mark in curve],
                [mark.value for mark in curve],
                color=colour,
                linestyle=dashes,
                linewidth=1.4,
            )
            for mark in curve:
                panels.draw_mark(axes, mark, mark.place)
            panels.tick_apart(axes, ratios)
            panels.left_axis(axes, first, panels.limits_of(marks))
        panels.name_axes(sheet, [axes for axes, _ in places], *axes_names)
        return svg.element(figure, prefix=prefix, alt=alt)


def training_panels(
    models: Sequence[tuple[str, Sequence[Sequence[tuple[float, float]]]]],
    names: Sequence[str],
    *,
    axes_names: tuple[str, str],
    prefix: str,
    alt: str,
) -> str:
    """For each model one curve a regime, each with its own marker and dashes.

    Args:
      models: name and for each of `names` its points (x, y).
      names: of the curves, shown once above the panels.
      axes_names: of x and y.
      prefix, alt: as for `difference_panels`.
    """
    points = [point for _, curves in models for curve in curves for point in curve]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    span = (max(ys) - min(ys)) or 0.1
    limits = (min(ys) - 0.08 * span, max(ys) + 0.08 * span)
    with svg.style():
        figure, sheet, places = panels.panel_sheet(
            [name for name, _ in models], left=LEFT, height=140, top=26
        )
        looks = [
            Key(colour=colour, marker=marker, dashes=dashes, size=4)
            for colour, marker, dashes in LINES
        ]
        keys = [looks[position % len(looks)] for position in range(len(names))]
        panels.legend(sheet, LEFT, list(zip(names, keys, strict=True)))
        for (name, curves), (axes, first) in zip(models, places, strict=True):
            panels.title(axes, name)
            axes.set_xlim(0, 1.06 * max(xs))
            axes.set_ylim(*limits)
            for curve, key in zip(curves, keys, strict=True):
                axes.plot(
                    [x for x, _ in curve], [y for _, y in curve], color=key.colour,
                    marker=key.marker, markersize=key.size, linestyle=key.dashes, linewidth=1.4,
                )  # fmt: skip
            axes.xaxis.set_major_locator(FixedLocator(panels.inner_ticks((0, 1.06 * max(xs)), 4)))
            axes.xaxis.set_major_formatter(lambda value, _: panels.plain_number(value))
            panels.left_axis(axes, first, limits)
        panels.name_axes(sheet, [axes for axes, _ in places], *axes_names)
        return svg.element(figure, prefix=prefix, alt=alt)


def plane(
    points: Sequence[PlanePoint], *, axes_names: tuple[str, str], prefix: str, alt: str
) -> str:
    """Gain against what the audit could see, in order and not to scale: dominance is about order.

    Args:
      points: left to right; groups one after the other, and within them columns.
      axes_names: of x and y.
      prefix, alt: as for `difference_panels`.
    """
    low, high = panels.limits_of([point.mark for point in points])
    with svg.style():
        figure, sheet = panels.empty_sheet(402)
        known = {point.outcome for point in points}
        panels.legend(
            sheet, LEFT + 8, [(name, key) for name, key in _OUTCOMES.items() if name in known]
        )
        axes = panels.panel_at(sheet, (LEFT, 62, svg.WIDTH - LEFT - RIGHT, 290))
        axes.set_xlim(-0.5, len(points) - 0.5)
        axes.set_ylim(low, high + 0.08 * (high - low))
        axes.axhline(0, color=svg.INK, linewidth=1.1)
        for place, point in enumerate(points):
            _draw_point(axes, point, place)
        columns = _spans([(point.group, point.column) for point in points])
        for start, _, _ in columns[1:]:
            axes.axvline(start - 0.5, color=svg.GRID, linewidth=1.2, zorder=0.5)
        axes.set_xticks(
            [middle for _, middle, _ in columns],
            ["\n".join(textwrap.wrap(column, 8)) for _, _, (_, column) in columns],
        )
        axes.tick_params(axis="x", length=0)
        for start, middle, group in _spans([point.group for point in points]):
            if start:
                axes.axvline(start - 0.5, color=svg.SOFT, linewidth=1.4)
            axes.annotate(
                group, (middle, 1), xycoords=axes.get_xaxis_transform(), xytext=(0, 6),
                textcoords="offset points", ha="center", fontweight="bold",
            )  # fmt: skip
        panels.left_axis(axes, True, axes.get_ylim())
        panels.name_axes(sheet, [axes], *axes_names)
        return svg.element(figure, prefix=prefix, alt=alt)


def _draw_point(axes: Axes, point: PlanePoint, place: int) -> None:
    """A point with its number above, ringed where it is undominated."""
    panels.draw_mark(axes, point.mark, place, look=_OUTCOMES[point.outcome])
    if point.ringed:
        axes.plot(
            [place], [point.mark.value], marker="o", markersize=18, markerfacecolor="none",
            markeredgecolor=svg.INK, markeredgewidth=1.4,
        )  # fmt: skip
    top = point.mark.value if point.mark.high is None else point.mark.high
    axes.annotate(
        str(point.number), (place, top), xytext=(0, 9), textcoords="offset points", ha="center",
        va="center", fontweight="bold" if point.ringed else "normal",
    )  # fmt: skip


def _spans(names: Sequence[_Name]) -> list[tuple[int, float, _Name]]:
    """Runs of equal names: first place, middle, name."""
    runs = []
    start = 0
    for name, members in groupby(names):
        size = len(list(members))
        runs.append((start, start + (size - 1) / 2, name))
        start += size
    return runs
