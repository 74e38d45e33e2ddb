"""Every door, by name."""

from collections.abc import Mapping

from benchmarks.fuzz import archives, models, pictures, slides
from benchmarks.fuzz.door import Door

DOORS: Mapping[str, Door] = {
    door.name: door for room in (pictures, archives, models, slides) for door in room.doors()
}
