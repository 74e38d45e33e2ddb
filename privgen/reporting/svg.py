"""From a matplotlib figure to an `<svg>` element that can stand inside a page.

Matplotlib's SVG is a file of its own: namespaces, metadata, ids that repeat from file to file, a
style sheet that would apply to the whole page. Here it is reduced to what a page needs. Text stays
text: it prints sharp, can be searched, and takes the page's font. Styles become attributes, so
that the page can forbid inline styles. Ids are kept only where something refers to them, with a
prefix, so that several plots share a page. The same figure gives the same bytes.
"""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

WIDTH = 660
"""Width of every figure in CSS pixels: fits A4 and a laptop; on a phone figures scroll sideways."""

INK = "#1c2733"
SOFT = "#5a6773"
GRID = "#dde2e7"

_SETTINGS: Any = {  # Any: matplotlib types the keys as a Literal of some 300 names
    "svg.fonttype": "none",
    "svg.hashsalt": "privgen",
    "text.parse_math": False,  # a "$" in a name is a dollar, not the start of a formula
    "font.family": "DejaVu Sans",
    "font.size": 11.5,
    "axes.labelsize": 12,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


@contextmanager
def style() -> Iterator[None]:
    """The settings every figure is drawn and written with; those in force before come back."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def canvas(height: float, *, left: int, right: int, bottom: int, top: int) -> tuple[Figure, Axes]:
    """A figure of `WIDTH` x `height` pixels with its margins in pixels (1 point = 1 pixel)."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    axes = figure.add_axes(
        (
            left / WIDTH,
            bottom / height,
            (WIDTH - left - right) / WIDTH,
            (height - bottom - top) / height,
        )
    )
    axes.patch.set_visible(False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    return figure, axes


def element(figure: Figure, *, prefix: str, alt: str) -> str:
    """The figure as an `<svg role="img">` element.

    Args:
      figure: drawn within `style()`, which must still be in force.
      prefix: tells this figure's ids from those of the page's other figures.
      alt: what the picture shows, in words.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    root = ElementTree.fromstring(text)
    used = set(re.findall(r"""["(]#([\w.-]+)""", text))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        node.attrib = _plain_attributes(node.attrib, used, prefix)
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "width": str(WIDTH),
        "role": "img",
        "aria-label": alt,
    }
    return ElementTree.tostring(root, encoding="unicode")


def _plain_attributes(attributes: Mapping[str, str], used: set[str], prefix: str) -> dict[str, str]:
    """Styles as attributes, references prefixed, unreferenced ids and font names left out."""
    plain: dict[str, str] = {}
    for key, value in attributes.items():
        name = key.rpartition("}")[2]
        if name == "style":
            for declaration in value.split(";"):
                what, _, setting = (part.strip() for part in declaration.partition(":"))
                if what not in ("", "font-family"):
                    plain[what] = setting
        elif name == "id":
            if value in used:
                plain["id"] = f"{prefix}-{value}"
        else:
            plain[name] = re.sub(r"^(url\()?#", rf"\1#{prefix}-", value)
    return plain
