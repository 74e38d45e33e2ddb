"""Pictures of a tiling: the kept tiles on the slide's overview, and a summary of the whole run.

Colours tell classes apart for colour-blind readers too and stand out from the pink and violet of
H&E (Okabe & Ito 2008, "Color Universal Design", without its pink and its black). The six colours
come back darker after the sixth class, and repeat after the twelfth. A class has the same colour in
both pictures where both are given the same classes in the same order.

Overviews show tissue, and the summary names pseudonyms: neither is made to be shared. Conventions:
uint8 RGB, shape (h, w, 3); box edges in overview pixels, x to the right, y down. The same input
gives the same bytes.
"""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from privgen.data import images
from privgen.errors import InputError
from privgen.files import PRIVATE, atomic_write
from privgen.reporting import svg

SCORES = ("tissue", "white", "sharpness", "pen", "fold")
"""Quality scores a summary shows, in this order."""

_PALETTE = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0), (86, 180, 233), (240, 228, 66),
)  # fmt: skip
_FILL, _LINE = 0.16, 0.95
_LINE_SHARE = 0.15
"""Share of the marked area that lines may cover at full strength; beyond it they fade."""

_DPI = 100
_TEXT = 10.5
_ROW, _SWATCH, _GAP, _MARGIN = 24, 13, 22, 10
_WIDTH, _PATIENTS, _BINS, _CUT = 1040, 30, 30, 1.1
_SHARES = ("tissue", "white", "pen", "fold")


def draw_kept(
    overview: NDArray[np.uint8],
    boxes: NDArray[np.integer | np.floating],
    labels: Sequence[str],
    classes: Sequence[str],
) -> NDArray[np.uint8]:
    """The overview with the kept tiles drawn in the colours of their classes.

    Where tiles overlap the tint is no deeper, and outlines fade as they crowd, so that the tissue
    stays visible under any number of tiles.

    Args:
      overview: uint8 RGB, shape (h, w, 3); not changed.
      boxes: left, top, right and bottom edge of each tile, shape (n, 4); may leave the overview.
      labels: class of each tile, length n.
      classes: all classes, in the order of their colours; one without a tile is named as well.

    Returns:
      uint8 RGB, shape (h + legend, w, 3).

    Raises:
      InputError: the lengths differ, an edge is not finite, or a label is not among `classes`.
    """
    colours = class_colours(classes)
    edges = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    unknown = set(labels) - set(colours)
    if len(edges) != len(labels) or unknown or not np.isfinite(edges).all():
        raise InputError(
            "every box needs four finite edges and a label of a known class: got "
            f"{len(edges)} boxes, {len(labels)} labels, unknown {sorted(unknown)}. Correct them."
        )
    height, width = overview.shape[:2]
    limits = np.array([width, height, width, height]) + 9  # far outside is as good as infinity
    corners: list[list[int]] = np.rint(np.clip(edges, -9, limits)).astype(int).tolist()
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    tint = np.zeros((height, width), dtype=np.uint16)
    lines = np.zeros_like(tint)
    for (left, top, right, bottom), label in zip(corners, labels, strict=True):
        last = (max(left, right - 1), max(top, bottom - 1))  # edges are exclusive, pixels are not
        cv2.rectangle(tint, (left, top), last, numbers[label], cv2.FILLED)
        cv2.rectangle(lines, (left, top), last, numbers[label], 1)
    table = np.array([(0, 0, 0), *colours.values()], dtype=np.uint8)
    marked, lined = np.count_nonzero(tint), np.count_nonzero(lines)
    picture = _blended(overview, table, tint, _FILL)
    if lined:
        strength = _LINE * min(1.0, _LINE_SHARE * marked / lined)
        picture = _blended(picture, table, lines, strength)
    counts = Counter(labels)
    entries = [(colour, f"{name}: {counts[name]:,}") for name, colour in colours.items()]
    return np.vstack([picture, _legend(entries, width)])


def _blended(
    picture: NDArray[np.uint8],
    table: NDArray[np.uint8],
    layer: NDArray[np.uint16],
    strength: float,
) -> NDArray[np.uint8]:
    """The picture, drawn towards `table[layer]` wherever the layer is not 0."""
    mixed = cv2.addWeighted(picture, 1 - strength, table[layer], strength, 0)
    return np.asarray(np.where((layer > 0)[..., np.newaxis], mixed, picture))


def class_colours(classes: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """A colour for each class, RGB, in the order given.

    Raises:
      InputError: a class comes twice.
    """
    if len(set(classes)) < len(classes):
        raise InputError(f"a class may be named once: got {', '.join(classes)}. Remove one.")
    colours: dict[str, tuple[int, int, int]] = {}
    for place, name in enumerate(classes):
        red, green, blue = _PALETTE[place % len(_PALETTE)]
        if place // len(_PALETTE) % 2:
            red, green, blue = red * 11 // 20, green * 11 // 20, blue * 11 // 20
        colours[name] = (red, green, blue)
    return colours


def _legend(entries: Sequence[tuple[tuple[int, int, int], str]], width: int) -> NDArray[np.uint8]:
    """Swatches and names on white, in as many rows as they need; shape (h, width, 3)."""
    with svg.style():
        font = FontProperties(size=_TEXT)  # of the family in force
        rows: list[list[tuple[float, tuple[int, int, int], str]]] = [[]]
        place = float(_MARGIN)
        for colour, name in entries:
            text = _fitting(name, font, width - 2 * _MARGIN - _SWATCH - 6)
            length = _SWATCH + 6 + _text_width(text, font)
            if rows[-1] and place + length > width - _MARGIN:
                rows.append([])
                place = float(_MARGIN)
            rows[-1].append((place, colour, text))
            place += length + _GAP
        height = _ROW * len(rows) + _MARGIN
        figure, canvas = _canvas(width, height)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        for number, row in enumerate(rows):
            middle = _MARGIN / 2 + _ROW * (number + 0.5)
            for left, colour, text in row:
                tint = f"#{bytes(colour).hex()}"
                axes.barh(middle, _SWATCH, left=left, height=_SWATCH, color=tint, linewidth=0)
                axes.text(left + _SWATCH + 6, middle, text, font=font, va="center_baseline")
        return _pixels(canvas)


def _text_width(text: str, font: FontProperties) -> float:
    """Pixels `text` takes."""
    drawn = get_font(findfont(font))
    drawn.set_size(font.get_size_in_points(), _DPI)
    drawn.set_text(text)
    return float(drawn.get_width_height()[0]) / 64


def _fitting(text: str, font: FontProperties, room: float) -> str:
    """`text`, shortened by an ellipsis where it is too long, its last word (a count) kept.

    Letters the font lacks become squares; matplotlib would warn, and draw the same.
    """
    known = get_font(findfont(font)).get_charmap()
    shown = "".join(letter if ord(letter) in known else "\N{WHITE SQUARE}" for letter in text)
    name, colon, count = shown.rpartition(": ") if ": " in shown else (shown, "", "")
    while name and _text_width(shown, font) > room:
        name = name[:-1]
        shown = f"{name}\N{HORIZONTAL ELLIPSIS}{colon}{count}"
    return shown


def _canvas(width: int, height: int) -> tuple[Figure, FigureCanvasAgg]:
    # Half a pixel more: matplotlib cuts inches times dots to whole pixels, and 0.57 * 100 is 56.9.
    figure = Figure(figsize=((width + 0.5) / _DPI, (height + 0.5) / _DPI), dpi=_DPI)
    return figure, FigureCanvasAgg(figure)


def _pixels(canvas: FigureCanvasAgg) -> NDArray[np.uint8]:
    """What it shows, RGB; drawn within `svg.style()`, which must still be in force."""
    canvas.figure.savefig(stream := io.BytesIO(), format="rgba", dpi=_DPI)
    width, height = canvas.get_width_height()
    pixels = np.frombuffer(stream.getvalue(), dtype=np.uint8).reshape(height, width, 4)
    return np.ascontiguousarray(pixels[..., :3])


def summary_figure(
    table: Mapping[str, Sequence[object]], path: Path, *, classes: Sequence[str] | None = None
) -> None:
    """Write a PNG of counts by patient and class and of how the quality scores are spread.

    Args:
      table: columns of the manifest, one entry a kept tile: `label`, `patient` and `slide`
        (pseudonyms; empty or None is "no patient"), and the scores. A score that is missing, empty
        or None for a tile is left out of its histogram; the last bar of sharpness has all above.
      path: replaced whole or not at all; gets no metadata.
      classes: in the order of their colours, as `draw_kept`; None takes the labels, sorted.

    Raises:
      InputError: a column is missing or shorter than another, there is no tile, or a label is not
        among `classes`.
      OutputError, DiskFullError: as `privgen.files.atomic_write`.
    """
    for needed in ("label", "patient", "slide"):
        if needed not in table:
            raise InputError(f"a summary needs the columns label, patient and slide: no {needed}.")
    lengths = {len(column) for column in table.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise InputError(f"a summary needs tiles and columns of one length: got {sorted(lengths)}.")
    labels = [str(label) for label in table["label"]]
    patients = ["no patient" if p is None or p == "" else str(p) for p in table["patient"]]
    colours = class_colours(sorted(set(labels)) if classes is None else classes)
    if unknown := sorted(set(labels) - set(colours)):
        raise InputError(f"a label must be one of the classes: got {', '.join(unknown)}. Add it.")
    total = Counter(labels)
    numbers = (len(labels), len(set(table["slide"])), len(set(patients) - {"no patient"}))
    named = zip(numbers, ("tile", "slide", "patient"), strict=True)
    title = ", ".join(f"{number:,} {what}{'s' * (number != 1)}" for number, what in named)
    entries = [(colour, f"{name}: {total[name]:,}") for name, colour in colours.items()]
    with svg.style():
        bars = _patient_bars(patients, labels, colours, title)
        scores = _histograms(table)
    with atomic_write(path, mode=PRIVATE) as stream:
        stream.write(images.encode_png(np.vstack([bars, _legend(entries, _WIDTH), scores])))


def _patient_bars(
    patients: Sequence[str],
    labels: Sequence[str],
    colours: Mapping[str, tuple[int, int, int]],
    title: str,
) -> NDArray[np.uint8]:
    """One stacked bar a patient, the most tiles on top; patients beyond `_PATIENTS` share one."""
    order = [name for name, _ in sorted(Counter(patients).items(), key=lambda p: (-p[1], p[0]))]
    counts = Counter(zip(patients, labels, strict=True))
    rows = [(name, [counts[name, label] for label in colours]) for name in order[:_PATIENTS]]
    longest = max(sum(parts) for _, parts in rows)
    if order[_PATIENTS:]:
        pooled = [sum(counts[n, label] for n in order[_PATIENTS:]) for label in colours]
        rows.append((f"{len(order) - _PATIENTS:,} others", pooled))
    height = 26 * len(rows) + 100
    figure, canvas = _canvas(_WIDTH, height)
    axes = figure.add_axes((0.2, 52 / height, 0.77, 26 * len(rows) / height))
    _bare(axes, "x")
    for place, (_, parts) in enumerate(rows):
        # The pooled bar is cut, its parts in proportion, where it would dwarf the others.
        cut = sum(parts) > _CUT * longest
        scale = _CUT * longest / sum(parts) if cut else 1.0
        left = 0.0
        for colour, part in zip(colours.values(), parts, strict=True):
            if not part:
                continue
            axes.barh(
                place, part * scale, left=left, height=0.72, linewidth=0,
                color=f"#{bytes(colour).hex()}", alpha=0.55 if cut else 1.0,
            )  # fmt: skip
            left += part * scale
        text = f"{sum(parts):,}" + (" (bar cut)" if cut else "")
        axes.text(left + 0.008 * longest, place, text, va="center_baseline")
    axes.set_xlim(0, longest * (_CUT + 0.3 if len(rows) > _PATIENTS else 1.12))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    font = FontProperties(size=_TEXT)
    names = [_fitting(name, font, 0.2 * _WIDTH - 16) for name, _ in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=_TEXT)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("kept tiles by patient and class")
    figure.text(_MARGIN / _WIDTH, 1 - 14 / height, title, va="top", fontweight="bold")
    return _pixels(canvas)


def _histograms(table: Mapping[str, Sequence[object]]) -> NDArray[np.uint8]:
    """One panel a score; logarithmic, so that the few bad tiles show beside the many good ones."""
    figure, canvas = _canvas(_WIDTH, 260)
    panels = figure.subplots(1, len(SCORES), sharey=True)
    figure.subplots_adjust(left=0.095, right=0.985, bottom=0.23, top=0.9, wspace=0.14)
    panels[0].set_ylim(0.6, 2 * len(table["label"]))  # first: a log axis without data warns
    for axes, score in zip(panels, SCORES, strict=True):
        _bare(axes, "y")
        axes.set_xlabel(score)
        given = [float(str(v)) for v in table.get(score, ()) if v is not None and v != ""]
        values = np.array([value for value in given if np.isfinite(value)])
        end = 1.0
        if score not in _SHARES and len(values):  # a long tail: its end goes into the last bar
            end = 1.5 * float(np.quantile(values, 0.99)) or 1.0
        counts, ends = np.histogram(np.minimum(values, end), bins=_BINS, range=(0, end))
        axes.bar(ends[:-1], counts, width=end / _BINS, align="edge", color=svg.SOFT, linewidth=0)
        axes.set_xlim(0, end)
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(MaxNLocator(nbins=3, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        if not len(values):
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
    panels[0].yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    panels[0].set_ylabel("tiles, log scale")
    return _pixels(canvas)


def _bare(axes: Axes, grid: Literal["x", "y"]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=svg.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
