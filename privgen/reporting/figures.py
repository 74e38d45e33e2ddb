"""The plots of an audit: power curves and forest plots, as `<svg>` elements.

Colours tell lines apart for colour-blind readers too, and never alone: every line also has its own
marker, its own dashes and its name beside it. Plain `Figure` objects, no pyplot.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from audits.sections import PowerDict
from privgen.reporting import svg

LINES: tuple[tuple[str, str, Any], ...] = (
    ("#004488", "o", "-"),
    ("#a83246", "s", (0, (6, 2))),
    ("#7a6000", "D", (0, (2, 1.5))),
    ("#117755", "^", (0, (6, 2, 1, 2))),
    ("#663377", "v", (0, (4, 1.5))),
    ("#8a4513", "P", (0, (1, 1))),
)
"""Colour, marker and dashes of each line of a plot."""
_DOTTED: Any = (0, (1, 2))
_LABEL_STEP = 0.11
_LOWEST, _HIGHEST = -0.03, 1.03
_MARGIN_LEFT = 215
_LABEL_CHARACTERS = 30
_ROW, _LINE, _HEADING = 14, 15, 28


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """One line of a forest plot.

    Attributes:
      label: what was measured; wrapped to the margin.
      value: the point.
      low, high: ends of the interval; None where there is none.
      text: the same in words, printed at the right.
      control: a control, not a finding: drawn round, open and grey.
      heading: name of a group that starts with this row; empty for none.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    text: str
    control: bool = False
    heading: str = ""


def power_curves(
    points: Sequence[PowerDict],
    *,
    names: Mapping[str, str],
    bound: float,
    alt: str,
) -> str:
    """Power against the share of planted copies: one line per kind, intervals, the .8 line.

    Args:
      points: entries of the report's `power`, at least one, in any order.
      names: the words for each kind.
      bound: the largest share the policy accepts, marked by a dotted line.
      alt: what the picture shows, in words.

    Returns:
      An `<svg>` element.
    """
    curves: dict[str, list[PowerDict]] = {}
    for point in sorted(points, key=lambda point: float(point["fraction"])):
        curves.setdefault(point["kind"], []).append(point)
    kinds = list(dict.fromkeys(point["kind"] for point in points))
    shares = [bound, *(float(point["fraction"]) for point in points)]
    left, right = min(shares) / 1.3, max(shares) * 1.3
    with svg.style():
        figure, axes = svg.canvas(350, left=62, right=165, bottom=56, top=28)
        axes.set_xscale("log")
        axes.set_xlim(left, right)
        axes.set_ylim(_LOWEST, _HIGHEST)
        axes.axhline(0.8, color=svg.INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.axvline(bound, color=svg.SOFT, linewidth=1.2, linestyle=_DOTTED)
        axes.text(bound, 1.05, f"policy: {bound:g}", ha="center", color=svg.SOFT, fontsize=11)
        for position, kind in enumerate(kinds):
            # Slightly beside each other, so that intervals at the same share can be told apart.
            nudge = 1.02 ** (position - (len(kinds) - 1) / 2)
            _draw_curve(axes, curves[kind], LINES[position % len(LINES)], nudge)
        _label_curves(axes, [names.get(kind, kind) for kind in kinds], [curves[k] for k in kinds])
        axes.set_xlabel("share of synthetic tiles that are copies (log scale)")
        axes.set_ylabel("power: share of runs that find them")
        ticks = [m * 10.0**e for e in range(-7, 1) for m in (1, 2, 5)]
        axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if left <= t <= right]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:g}")
        axes.yaxis.set_major_locator(FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 1]))
        axes.yaxis.set_major_formatter(lambda power, _: f"{power:g}")
        axes.grid(axis="y", color=svg.GRID, linewidth=0.8)
        return svg.element(figure, prefix="power", alt=alt)


def _draw_curve(
    axes: Axes, curve: Sequence[PowerDict], look: tuple[str, str, Any], nudge: float
) -> None:
    colour, marker, dashes = look
    shares = [float(point["fraction"]) * nudge for point in curve]
    for share, point in zip(shares, curve, strict=True):
        low, high = point["power"]["low"], point["power"]["high"]
        if low is not None and high is not None:
            axes.vlines(share, low, high, color=colour, linewidth=1.1)
    power = [float(point["power"]["value"]) for point in curve]
    axes.plot(
        shares, power, color=colour, marker=marker, markersize=5, linestyle=dashes, linewidth=1.6
    )


def _label_curves(axes: Axes, labels: Sequence[str], curves: Sequence[Sequence[PowerDict]]) -> None:
    """Names at the right end of the curves, moved apart where curves end together.

    Curves that end at the same power are ordered by their mean power: the order they rise in.
    """
    powers = [[float(point["power"]["value"]) for point in curve] for curve in curves]
    order = sorted(
        range(len(labels)), key=lambda i: (-powers[i][-1], -sum(powers[i]) / len(powers[i]), i)
    )
    ceiling = _HIGHEST
    frame = axes.get_yaxis_transform()
    for place, index in enumerate(order):
        floor = _LOWEST + _LABEL_STEP * (len(order) - 1 - place)
        height = min(ceiling, max(powers[index][-1], floor))
        ceiling = height - _LABEL_STEP
        colour, marker, _ = LINES[index % len(LINES)]
        axes.plot(
            [1.0, 1.03], [powers[index][-1], height],
            transform=frame, color=colour, linewidth=0.8, clip_on=False,
        )  # fmt: skip
        axes.plot(
            [1.05], [height],
            transform=frame, color=colour, marker=marker, markersize=5, clip_on=False,
        )  # fmt: skip
        axes.text(1.075, height, labels[index], transform=frame, va="center")


def forest(
    rows: Sequence[ForestRow],
    *,
    reference: tuple[float, str],
    bound: tuple[float, str] | None = None,
    axis: str,
    prefix: str,
    alt: str,
) -> str:
    """Values with their intervals, one under the other, against a reference line.

    Args:
      rows: top to bottom, at least one.
      reference: where "nothing" lies and what to call it: (.5, "guessing"), (0, "no difference").
      bound: a second, dotted line and its name, such as the policy's limit.
      axis: what is measured.
      prefix: tells this figure's ids from those of the page's other figures.
      alt: what the picture shows, in words.

    Returns:
      An `<svg>` element.
    """
    wrapped = [textwrap.wrap(row.label, _LABEL_CHARACTERS) or [""] for row in rows]
    height, spans = 0.0, []
    for row, lines in zip(rows, wrapped, strict=True):
        top = height + (_HEADING if row.heading else 0)
        height = top + _ROW + _LINE * max(len(lines), row.text.count("\n") + 1)
        spans.append((top, height))
    marks = [reference] if bound is None else [reference, bound]
    ends = [x for row in rows for x in (row.low, row.value, row.high) if x is not None]
    ends += [position for position, _ in marks]
    margin = 0.06 * (max(ends) - min(ends)) or 0.05
    with svg.style():
        figure, axes = svg.canvas(height + 82, left=_MARGIN_LEFT, right=175, bottom=52, top=30)
        axes.set_xlim(min(ends) - margin, max(ends) + margin)
        axes.set_ylim(height, 0)
        _mark_references(axes, reference, bound)
        for row, lines, span in zip(rows, wrapped, spans, strict=True):
            _draw_row(axes, row, lines, span)
        axes.set_xlabel(axis)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(
            lambda value, _: f"{value:.6g}".replace("-", "\N{MINUS SIGN}")
        )
        axes.grid(axis="x", color=svg.GRID, linewidth=0.8)
        return svg.element(figure, prefix=prefix, alt=alt)


def _mark_references(
    axes: Axes, reference: tuple[float, str], bound: tuple[float, str] | None
) -> None:
    """The vertical lines, with their names above and on the side where there is room."""
    left, right = axes.get_xlim()
    middle = (left + right) / 2
    sides = {reference[0]: "right" if reference[0] > middle else "left"}
    if bound is not None:
        sides = {
            min(reference[0], bound[0]): "right",
            max(reference[0], bound[0]): "left",
        }
    for mark, colour, dashes in ((reference, svg.INK, "-"), (bound, svg.SOFT, _DOTTED)):
        if mark is None:
            continue
        axes.axvline(mark[0], color=colour, linewidth=1.1, linestyle=dashes)
        side = sides[mark[0]]
        axes.annotate(
            mark[1],
            (mark[0], 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(4 if side == "left" else -4, 7),
            textcoords="offset points",
            ha=side,
            color=colour,
            fontsize=11,
        )


def _draw_row(axes: Axes, row: ForestRow, lines: Sequence[str], span: tuple[float, float]) -> None:
    """Label at the left, point and interval, words at the right; `span` in pixels from the top."""
    top, middle = span[0], sum(span) / 2
    if row.heading:
        _beside(axes, row.heading, top - _HEADING / 2 + 4, 6 - _MARGIN_LEFT, weight="bold")
    _beside(axes, "\n".join(lines), middle, 6 - _MARGIN_LEFT)
    _beside(axes, row.text, middle, 10, right=True)
    colour = svg.SOFT if row.control else LINES[0][0]
    if row.low is not None and row.high is not None:
        axes.hlines(middle, row.low, row.high, color=colour, linewidth=1.8)
        axes.vlines([row.low, row.high], middle - 4, middle + 4, color=colour, linewidth=1.8)
    axes.plot(
        [row.value],
        [middle],
        marker="o" if row.control else "s",
        markersize=7,
        color=colour,
        markerfacecolor="white" if row.control else colour,
        markeredgewidth=1.6,
    )


def _beside(
    axes: Axes,
    text: str,
    height: float,
    offset: float,
    *,
    right: bool = False,
    weight: str = "normal",
) -> None:
    """Words in a margin, `offset` pixels from the plot's left or right edge."""
    axes.annotate(
        text,
        (float(right), height),
        xycoords=axes.get_yaxis_transform(),
        xytext=(offset, 0),
        textcoords="offset points",
        va="center",
        fontweight=weight,
        annotation_clip=False,
    )
