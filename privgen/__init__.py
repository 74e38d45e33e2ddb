"""Train class-conditional histology generators; audit synthetic tiles for leaks, at patient level.

```python
import privgen

checkpoint = privgen.train("tiles/", config={"resolution": 64, "minutes": 10})
result = privgen.audit(train="a/", holdout="b/", synthetic="c/")   # folders, arrays or a function
print(result.verdict.sentence)
```

Names are loaded when they are first used, so that importing privgen costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from privgen.auditing.finished import Audit
    from privgen.auditing.requests import AuditOptions, GeneratorAudit, TilesAudit
    from privgen.auditing.run import audit
    from privgen.benefit.protocol import augment_bench
    from privgen.data.layouts import open_tiles
    from privgen.data.phantom import make_phantom
    from privgen.data.splits import split_by_patient
    from privgen.data.tileset import TileSet
    from privgen.errors import PrivgenError
    from privgen.recipe.run import audit_recipe
    from privgen.release.exporting import export
    from privgen.reporting.progress import plot_progress
    from privgen.sampling import load_generator, sample
    from privgen.tiling.session import tile_slides
    from privgen.training.session import train

    __version__: str

_HOMES = {
    "Audit": "privgen.auditing.finished",
    "AuditOptions": "privgen.auditing.requests",
    "GeneratorAudit": "privgen.auditing.requests",
    "TilesAudit": "privgen.auditing.requests",
    "audit": "privgen.auditing.run",
    "audit_recipe": "privgen.recipe.run",
    "augment_bench": "privgen.benefit.protocol",
    "open_tiles": "privgen.data.layouts",
    "plot_progress": "privgen.reporting.progress",
    "make_phantom": "privgen.data.phantom",
    "split_by_patient": "privgen.data.splits",
    "TileSet": "privgen.data.tileset",
    "PrivgenError": "privgen.errors",
    "export": "privgen.release.exporting",
    "load_generator": "privgen.sampling",
    "sample": "privgen.sampling",
    "tile_slides": "privgen.tiling.session",
    "train": "privgen.training.session",
}

__all__ = [
    "Audit",
    "AuditOptions",
    "GeneratorAudit",
    "PrivgenError",
    "TileSet",
    "TilesAudit",
    "audit",
    "audit_recipe",
    "augment_bench",
    "export",
    "load_generator",
    "make_phantom",
    "open_tiles",
    "plot_progress",
    "sample",
    "split_by_patient",
    "tile_slides",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("privgen")
    if name not in _HOMES:
        raise AttributeError(f"module 'privgen' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
