"""Kinds of planted copies: what people call them, and which of them an audit would have seen.

One table of names serves the sentence to sign, the report, the terminal and the documentation.
Kinds of one family (`crop_60`, `crop_35`) are told together: "cropped to 0.6 or 0.35 of the side".
A kind that is not in the table is called by its own name.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

KINDS = {
    "exact": "exact",
    "symmetry": "mirrored or turned by 90°",
    "odd_rotation": "turned by another angle",
    "stain": "stained differently",
    "odd_rotation_stain": "turned and stained differently",
    "mirror_stain": "mirrored and stained differently",
    "blur": "blurred",
    "elastic": "warped",
    "perspective": "seen from the side",
    "down_up": "reduced and enlarged again",
    "img_to_img": "redrawn as by an image-to-image network",
    "histogram": "coloured like another patient",
    "invert": "inverted in colour",
    "jigsaw": "cut up and shuffled",
    "mosaic": "pieced together from several tiles",
    "half_paste": "pasted over half of another tile",
}
"""Kind and its name; families of kinds are in `FAMILIES`. No name holds a semicolon."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Kinds that differ in one number of two digits at the end of their name.

    Attributes:
      text: the name, `{}` where the strengths go.
      strength: what the digits say.
    """

    text: str
    strength: Callable[[int], str]


def _weights(percent: int) -> str:
    share = Fraction(percent, 100)
    return f"{share.numerator} : {share.denominator - share.numerator}"


FAMILIES = {
    "crop": Family(text="cropped to {} of the side", strength=lambda digits: f"{digits / 100:g}"),
    "jpeg": Family(text="JPEG of quality {}", strength=str),
    "blend": Family(text="blended {} with another tile", strength=_weights),
    "inset": Family(
        text="shrunk to {} of the side and set into another tile",
        strength=lambda digits: f"{digits / 100:g}",
    ),
    "piece": Family(
        text="a piece of {} of the side set into another tile",
        strength=lambda digits: f"{digits / 100:g}",
    ),
}
"""Families of kinds by the word before their digits."""

_NUMBER = re.compile(r"[0-9]{1,9}")  # a report may come from anybody


def kind_name(kind: str) -> str:
    """What people call one kind."""
    return name_kinds([kind])


def name_kinds(kinds: Iterable[str]) -> str:
    """Names of several kinds in a row, those of a family together where the first one stands."""
    names: dict[str, list[str]] = {}
    for kind in kinds:
        word, _, digits = kind.rpartition("_")
        if kind not in KINDS and word in FAMILIES and _NUMBER.fullmatch(digits):
            names.setdefault(word, []).append(FAMILIES[word].strength(int(digits)))
        else:
            names.setdefault(kind, [])
    told = [
        FAMILIES[key].text.format(_either(strengths))
        if strengths
        else KINDS.get(key, key.replace("_", " "))
        for key, strengths in names.items()
    ]
    return ", ".join(told)


def _either(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Which kinds of copies would have been seen, from the planted ones alone.

    Attributes:
      seen: kinds seen with power .8 at a share the policy allows.
      share: the largest MDL80 among them: a share at which every one of them is seen; None where
        there is none.
      later: kinds seen at larger shares only, with their MDL80.
      unseen: kinds planted and not seen at any share tried.
    """

    seen: tuple[str, ...]
    share: float | None
    later: Mapping[str, float]
    unseen: tuple[str, ...]

    @classmethod
    def of(cls, mdl80: Mapping[str, float | None], most: float) -> Self:
        """From the MDL80 of every planted kind and the largest one the policy allows."""
        known = {kind: share for kind, share in mdl80.items() if share is not None}
        seen = {kind: share for kind, share in known.items() if share <= most}
        return cls(
            seen=tuple(seen),
            share=max(seen.values(), default=None),
            later={kind: share for kind, share in known.items() if share > most},
            unseen=tuple(kind for kind, share in mdl80.items() if share is None),
        )

    def limits(self) -> list[str]:
        """What is not covered, a clause each."""
        clauses = []
        if self.later:
            shares = sorted(set(self.later.values()))
            told = [
                f"{name_kinds(kind for kind in self.later if self.later[kind] == share)} "
                f"(from {share:.3g})"
                for share in shares
            ]
            clauses.append(f"seen at larger shares only: {', '.join(told)}")
        if self.unseen:
            clauses.append(f"not seen at any share tried: {name_kinds(self.unseen)}")
        return clauses
