"""What became of a slide's annotations, in counts, and how a run tells it; it names nobody."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from privgen.tiling.annotations import ASIDE
from privgen.tiling.document import AnnotationCounts


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """Of one slide.

    Attributes:
      frame: of the annotations (`frames.Frame`).
      assumed: they fit both frames, and QuPath's default was taken.
      tied: tiles without a class because two cover the same share of them.
      outside: tiles without a class because none covers enough of them.
      aside: features left aside, by kind.
    """

    frame: str
    assumed: bool
    tied: int
    outside: int
    aside: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """JSON-able."""
        return asdict(self)


def told(slides: Iterable[Annotated]) -> AnnotationCounts:
    """All slides together, for the run's summary."""
    known = list(slides)
    aside = Counter[str]()
    for one in known:
        aside.update(one.aside)
    return {
        "frames": dict(sorted(Counter(one.frame for one in known).items())),
        "frames_assumed": sum(one.assumed for one in known),
        "tiles_tied": sum(one.tied for one in known),
        "tiles_outside": sum(one.outside for one in known),
        "left_aside": {kind: aside[kind] for kind in ASIDE if aside[kind]},
    }


def warnings(slides: Iterable[Annotated]) -> list[str]:
    """What should be read of it."""
    document = told(slides)
    frames, found = document["frames"], []
    if frames.get("bounds") or frames.get("level-0"):
        said = [
            f"of {frames[name]} from {corner}"
            for name, corner in (
                ("bounds", "the corner of the scanned area (QuPath's default)"),
                ("level-0", "the corner of level 0"),
            )
            if frames.get(name)
        ]
        assumed = document["frames_assumed"]
        found.append(
            f"slides whose scan has an offset: annotations count {' and '.join(said)}"
            + (f"; {assumed} of them fit both and were taken for QuPath's" if assumed else "")
            + ". Look at the thumbnails; `annotation_frame` bounds or level-0 sets it."
        )
    if document["left_aside"]:
        kinds = ", ".join(f"{n:,} {ASIDE[kind]}" for kind, n in document["left_aside"].items())
        found.append(f"of the annotations were left aside: {kinds}.")
    if document["tiles_tied"]:
        found.append(
            f"{document['tiles_tied']:,} tiles lie equally in two classes and were left out: "
            "neither outline lies inside the other. Correct the annotations."
        )
    if document["tiles_outside"]:
        found.append(
            f"{document['tiles_outside']:,} tiles on tissue have no class by the regions and were "
            "left out."
        )
    return found
