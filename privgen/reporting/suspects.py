"""The private page of suspects: pairs of tiles for the one person who must decide about them.

It shows patients' tissue and names their tiles, which no other output does: it is written for its
owner alone (mode 0600) and nothing refers to it. Like the report it stands alone, runs no script
and asks the network for nothing.
"""

import base64
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from audits.intervals import clopper_pearson
from privgen.data.images import encode_png
from privgen.data.tileset import TileRecord, TileSet
from privgen.evidence.suspects import PROOFS, Reason, Suspect, Suspects, frame, warped
from privgen.reporting import html, words

NAME = "suspects.html"
"""What the page is called, beside report.html."""

REASONS = {
    Reason.ALIGNED: (
        "Proven copy, by alignment",
        "it fits a training tile better than chance allows, by key points and by its tissue",
    ),
    Reason.EQUAL: (
        "Proven copy, by equal pixels",
        "its pixels are those of a training tile, mirrored or turned by quarter turns at most",
    ),
    Reason.CLOSE_FIT: (
        "Not proven: aligns well",
        "it aligns with a training tile as copies do, but not beyond what chance may do",
    ),
    Reason.TAIL: (
        "Not proven: nearer than the holdout",
        "its distance or distance ratio is smaller than that of every holdout tile",
    ),
    Reason.NEXT: (
        "Not proven: next nearest",
        "nothing marks it; by distance it comes next",
    ),
}
"""Each reason as the heading of a tile it is the strongest of, and what it means."""

_MOST_TICKS = 400
_MOST_LINES = 24  # about
_SMALLEST_CHANCE = 1e-9
_UNTURNED = 0.5
_UNSCALED = 0.01
_GAP = 0.06
_AXIS = 1.02


def render(
    suspects: Suspects, *, synthetic: TileSet, train: TileSet, side: int, created: str
) -> str:
    """The suspects as one self-contained HTML page.

    Args:
      suspects: from `evidence.suspects.choose`.
      synthetic, train: the audited sets its rows speak of.
      side: the audit's, pixels.
      created: ISO time of the report.
    """
    distances = [*suspects.holdout, *(suspect.distance for suspect in suspects.chosen)]
    far = _AXIS * max(distances) or 1.0
    return html.fill(
        "suspects.html.j2",
        ["report.css", "suspects.css"],
        pairs=[
            _pair(suspect, suspects, synthetic, train, side, far) for suspect in suspects.chosen
        ],
        proven=any(suspects.counts[reason] for reason in PROOFS),
        counts=[(*REASONS[reason], found) for reason, found in suspects.counts.items()],
        note="" if suspects.proof.rejected is not None else suspects.proof.note,
        total=len(synthetic),
        ticks=_ticks(suspects.holdout / far),
        far=far,
        side=side,
        gap=_GAP * side,
        folders=[
            (role, str(tiles.root))
            for role, tiles in (("training", train), ("synthetic", synthetic))
            if tiles.root is not None
        ],
        created=created[:16].replace("T", " "),
    )


def _pair(
    suspect: Suspect, found: Suspects, synthetic: TileSet, train: TileSet, side: int, far: float
) -> dict[str, object]:
    """Everything the template shows of one pair."""
    ours, theirs = (
        tiles.subset([row]).load(side)[0]
        for tiles, row in ((synthetic, suspect.synthetic), (train, suspect.train))
    )
    fits = suspect.fits
    # Pictures count from a pixel's corner, key points from its centre.
    starts, ends = suspect.points + 0.5, suspect.targets + 0.5
    ends[:, 0] += side * (1 + _GAP)
    drawn = _spread(starts)
    proof = found.proof
    return {
        "tone": "proven" if suspect.proven else "" if Reason.NEXT in suspect.reasons else "close",
        "fits": fits,
        "title": REASONS[suspect.reasons[0]][0],
        "reasons": [REASONS[reason][1] for reason in suspect.reasons],
        "row": suspect.synthetic,
        "synthetic": synthetic.records[suspect.synthetic],
        "train": train.records[suspect.train],
        "train_row": suspect.train,
        "owner": _owner(train.records[suspect.train]),
        "nearer": (train.records[suspect.nearest].path if suspect.nearest != suspect.train else ""),
        "synthetic_png": _uri(ours),
        "train_png": _uri(theirs),
        "warped_png": _uri(warped(theirs, suspect.transform)) if fits else "",
        "frame": _path(frame(suspect.transform, side) + 0.5) if fits else "",
        "dots": _dots([*starts, *ends]),
        "joined": _dots([*starts[drawn], *ends[drawn]]),
        "lines": " ".join(
            f"M{starts[i][0]:.1f} {starts[i][1]:.1f}L{ends[i][0]:.1f} {ends[i][1]:.1f}"
            for i in drawn
        ),
        "moved": in_words(suspect) if np.isfinite(suspect.transform).all() else "",
        "inliers": suspect.inliers,
        "agreement": suspect.agreement,
        "strength": suspect.strength,
        "score": suspect.score,
        "needed_score": proof.details["needed_score"] if proof.rejected is not None else None,
        "phantoms": suspect.phantoms,
        "null_tiles": found.null_tiles,
        "limit": 100 * clopper_pearson(0, max(found.null_tiles, 1), confidence=0.9)[1],
        "chance": _chance(suspect.chance),
        "distance": suspect.distance,
        "mark": suspect.distance / far,
        "ratio": suspect.ratio,
        "beaten": suspect.beaten,
        "ratio_beaten": suspect.ratio_beaten,
        "holdout_tiles": len(found.holdout),
    }


def in_words(suspect: Suspect) -> str:
    """What was done to the train tile to give the synthetic one; the mirroring comes first."""
    # The transform leads back from the synthetic tile; mirroring turns the sense of a rotation.
    clockwise = suspect.rotation if suspect.mirrored else -suspect.rotation
    degrees = f"{abs(clockwise):.0f}°"
    if abs(clockwise) < _UNTURNED:
        turned = "not turned"
    elif degrees == "180°":
        turned = "turned 180°"
    else:
        turned = f"turned {degrees} {'clockwise' if clockwise > 0 else 'anticlockwise'}"
    size = 1 / suspect.scale
    scaled = "same size" if abs(size - 1) < _UNSCALED else f"scaled {size:.2f} times"
    mirrored = "mirrored left to right" if suspect.mirrored else "not mirrored"
    return f"{mirrored}, {turned}, {scaled}, {100 * suspect.overlap:.0f} % overlap"


def _chance(probability: float | None) -> str:
    if probability is None:
        return ""
    if probability < _SMALLEST_CHANCE:
        return "less than 1 in 1,000,000,000"
    return words.one_in(probability)


def _owner(record: TileRecord) -> str:
    """Whose tile it is, as far as is known."""
    known = (
        ("patient", record.patient),
        ("slide", record.slide),
        ("source image", record.source_image),
    )
    return ", ".join(f"{unit} {name}" for unit, name in known if name)


def _uri(tile: NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_png(tile)).decode()


def _spread(points: NDArray[np.float64]) -> NDArray[np.intp]:
    """Rows whose lines are drawn, evenly from the tile's top to its bottom, so they stay apart.

    Args:
      points: x, y, shape (k, 2).
    """
    order = np.argsort(points[:, 1], kind="stable")
    return order[:: max(1, len(order) // _MOST_LINES)]


def _dots(points: Iterable[NDArray[np.float64]]) -> str:
    """Dots as one path of lines without length, whose round ends are the dots."""
    places = dict.fromkeys(f"{x:.1f} {y:.1f}" for x, y in points)
    return " ".join(f"M{place}h0" for place in places)


def _path(corners: NDArray[np.float64]) -> str:
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in corners) + "Z"


def _ticks(shares: NDArray[np.float64]) -> str:
    """One upright line a holdout tile, or evenly chosen ones of many, over a width of 1000."""
    places = np.sort(shares)
    if len(places) > _MOST_TICKS:
        places = places[np.linspace(0, len(places) - 1, _MOST_TICKS).astype(np.intp)]
    return " ".join(f"M{1000 * place:.1f} 8V32" for place in places)
