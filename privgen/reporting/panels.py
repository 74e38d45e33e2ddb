"""Small plots side by side on one sheet: room, titles, scales, marks, and a row of names on top.

Conventions: panels share their scale; sizes and positions are in pixels from the sheet's lower left
corner. What the panels show is in `bench_figures`.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from audits.sections import EstimateDict
from privgen.reporting import svg
from privgen.reporting.figures import LINES

ACROSS = 4
"""Panels side by side; further ones go below."""

LEFT, RIGHT, LINE = 66, 10, 15
"""Margins of a sheet whose y axis has numbers, and the height of a line of text."""

_GAP = 14
_WIDEST = 210  # of a panel, where there are few
_TICKS = 30  # height of an axis with its numbers
_CHARACTER = 7.2  # mean width, on the wide side


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A value with its interval.

    Attributes:
      value, low, high: in the plot's unit; no interval where an end is None.
      filled: tested, or found; open otherwise.
      place: on the other axis, where that has a scale.
    """

    value: float
    low: float | None
    high: float | None
    filled: bool = True
    place: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Key:
    """How a line or a mark looks; no line where `dashes` is empty."""

    colour: str
    marker: str
    dashes: Any = ""
    filled: bool = True
    size: float = 5.5


FILLED = Key(colour=LINES[0][0], marker="s")
OPEN = Key(colour=svg.SOFT, marker="o", filled=False)


def in_points(estimate: EstimateDict, *, filled: bool = True, place: float = 0.0) -> Mark:
    """The mark of a report's estimate, in percentage points."""
    low, high = (None if end is None else 100 * end for end in (estimate["low"], estimate["high"]))
    return Mark(value=100 * estimate["value"], low=low, high=high, filled=filled, place=place)


def empty_sheet(height: float) -> tuple[Figure, Axes]:
    """A figure, and invisible axes over all of it that count in pixels."""
    figure, sheet = svg.canvas(height, left=0, right=0, bottom=0, top=0)
    sheet.set_axis_off()
    sheet.set_xlim(0, svg.WIDTH)
    sheet.set_ylim(0, height)
    return figure, sheet


def panel_at(sheet: Axes, bounds: tuple[float, float, float, float]) -> Axes:
    """Axes at (x, y, width, height) of the sheet."""
    axes = sheet.inset_axes(bounds, transform=sheet.transData)
    axes.patch.set_visible(False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    return axes


def panel_sheet(
    names: Sequence[str], *, left: int, height: float, top: int = 4
) -> tuple[Figure, Axes, list[tuple[Axes, bool]]]:
    """Room for every panel: figure, sheet, and for each its axes and whether it starts a row."""
    across = min(ACROSS, len(names))
    width = min(_WIDEST, (svg.WIDTH - left - RIGHT - _GAP * (across - 1)) / across)
    titles = max(len(_wrapped_title(name, width)) for name in names)
    step = height + LINE * titles + 8 + _TICKS
    total = top + step * math.ceil(len(names) / across) + 18
    figure, sheet = empty_sheet(total)
    places = []
    for number in range(len(names)):
        row, column = divmod(number, across)
        low = total - top - step * (row + 1) + _TICKS
        axes = panel_at(sheet, (left + column * (width + _GAP), low, width, height))
        places.append((axes, column == 0))
    return figure, sheet, places


def _wrapped_title(name: str, width: float) -> list[str]:
    return textwrap.wrap(name, round(width / _CHARACTER)) or [""]


def title(axes: Axes, name: str) -> None:
    """What a panel is about, above it."""
    width = axes.get_position().width * svg.WIDTH
    axes.annotate(
        "\n".join(_wrapped_title(name, width)), (0.5, 1), xycoords="axes fraction",
        xytext=(0, 6), textcoords="offset points", ha="center", fontweight="bold",
    )  # fmt: skip


def draw_mark(
    axes: Axes, mark: Mark, place: float, *, across: bool = False, look: Key | None = None
) -> None:
    """A mark at `place`: its interval lies across or stands upright.

    Args:
      axes: of the panel.
      mark: its value and interval.
      place: on the other axis.
      across: whether values run from left to right.
      look: colour, marker and fill; by `mark.filled` where it is None.
    """
    look = look or (FILLED if mark.filled else OPEN)
    if mark.low is not None and mark.high is not None:
        lines = axes.hlines if across else axes.vlines
        lines(place, mark.low, mark.high, color=look.colour, linewidth=1.6)
    axes.plot(
        *([[mark.value], [place]] if across else [[place], [mark.value]]),
        marker=look.marker,
        markersize=look.size,
        color=look.colour,
        markerfacecolor=look.colour if look.filled else "white",
        markeredgewidth=1.4,
    )


def limits_of(marks: Sequence[Mark]) -> tuple[float, float]:
    """Room for every mark and for 0."""
    ends = [x for mark in marks for x in (mark.low, mark.value, mark.high) if x is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def inner_ticks(limits: tuple[float, float], count: int) -> list[float]:
    """Round numbers away from the ends, where they would touch those of the next panel."""
    low, high = limits
    margin = 0.1 * (high - low)
    ticks = MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    kept = [float(tick) for tick in ticks if low + margin <= tick <= high - margin]
    return kept or [(low + high) / 2]


def tick_apart(axes: Axes, values: Sequence[float]) -> None:
    """Ticks at all values of a log axis, numbers where they do not touch."""
    width = axes.get_position().width * svg.WIDTH
    low, high = axes.get_xlim()
    span = math.log(high / low)
    named: list[float] = []
    for value in sorted(values, key=lambda value: abs(math.log(value))):  # 1 before all others
        room = _CHARACTER * len(f"{value:g}")
        if all(abs(math.log(value / other)) / span * width >= room for other in named):
            named.append(value)
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value in named else "")


def left_axis(axes: Axes, first: bool, limits: tuple[float, float]) -> None:
    """Grid lines in every panel, numbers in the first of a row."""
    ticks = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(*limits)
    axes.yaxis.set_major_locator(
        FixedLocator([float(tick) for tick in ticks if limits[0] <= tick <= limits[1]])
    )
    axes.yaxis.set_major_formatter(lambda value, _: plain_number(value) if first else "")
    axes.tick_params(axis="y", length=3 if first else 0)
    axes.grid(axis="y", color=svg.GRID, linewidth=0.8)


def name_axes(sheet: Axes, axes: Sequence[Axes], x: str, y: str = "") -> None:
    """What is on the axes, once for all panels: below them, and upright at the left."""
    _, height = sheet.get_ylim()
    boxes = [one.get_position() for one in axes]
    middle = (min(box.x0 for box in boxes) + max(box.x1 for box in boxes)) / 2 * svg.WIDTH
    sheet.text(middle, 8, x, ha="center", fontsize=12)
    sheet.text(16, height / 2, y, rotation=90, ha="center", va="center", fontsize=12)


def legend(sheet: Axes, left: float, entries: Sequence[tuple[str, Key]]) -> None:
    """Names with their marks in a row along the top, from `left` on."""
    _, height = sheet.get_ylim()
    for name, key in entries:
        half = 13 if key.dashes else 0
        sheet.plot(
            [left, left + half, left + 2 * half], [height - 12] * 3,
            color=key.colour, marker=key.marker, markersize=key.size, markevery=[1],
            markerfacecolor=key.colour if key.filled else "white", linewidth=1.4,
            linestyle=key.dashes,
        )  # fmt: skip
        sheet.text(left + 2 * half + 10, height - 12, name, va="center")
        left += 2 * half + 10 + _CHARACTER * len(name) + 24


def beside(axes: Axes, text: str, height: float, offset: float) -> None:
    """Words at `height` of the y axis, `offset` from its line."""
    axes.annotate(
        text, (0, height), xycoords=axes.get_yaxis_transform(), xytext=(offset, 0),
        textcoords="offset points", va="center", annotation_clip=False,
    )  # fmt: skip


def plain_number(value: float) -> str:
    """As axes show it."""
    return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")
