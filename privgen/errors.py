"""Every error privgen raises on purpose, and the exit code each one means.

```
PrivgenError                 3  base class: catch this to catch them all
├── InputError               2  what the caller gave cannot be used
│   ├── ConfigError          2  an option or configuration key is wrong
│   ├── TileError            2  one image file cannot be used as a tile (carries its path and the
  rule)
│   ├── SlideError           2  one slide cannot be opened or tiled as asked (carries the rule)
│   ├── LayoutError          2  a folder, manifest or npz is not a tile set privgen can read
│   ├── SplitError           2  tiles cannot be split, or two roles share a patient, a digest or
  pixels
│   ├── CheckpointError      2  a file is not a checkpoint or generator file of this version
│   │   └── SealError        2  a checkpoint's ledger is not the one it was sealed with
│   └── OutputError          2  the place to write to cannot be used (not empty, not writable)
├── RuntimeFailure           3  the work itself failed
│   ├── NonFiniteLossError   3  training met a NaN or infinite loss; no update was applied
│   ├── SlideReadError       3  a slide broke in the middle of reading (carries the rule)
│   ├── DiskFullError        3  no space left for an output
│   ├── StreamError          3  stdout or stderr cannot be written
│   └── WeightsError         3  published weights could not be loaded or fetched
└── Interrupted            130  Ctrl-C or SIGTERM; the message says how to go on
```

A message is one line: the rule, what was got, the way out. The audit verdicts are not errors:
exit codes 0 (no leak found), 1 (leak) and 4 (inconclusive) belong to `privgen audit`.
`audits` has its own `AuditInputError`, exit code 2, which is a `PrivgenError` too.
"""

from typing import Self

from audits.errors import PrivgenError as PrivgenError


class _AboutFile(PrivgenError):
    """An error about one file.

    Attributes:
      path: of the file, as given.
      rule: the rule it breaks; of a slide without any name or path, so that a log may hold it.
    """

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(f"{path}: {rule}")
        self.path = path
        self.rule = rule

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.path, self.rule)


class InputError(PrivgenError):
    """What the caller gave cannot be used."""

    exit_code = 2


class ConfigError(InputError):
    """An option or configuration key is unknown or out of range."""


class TileError(_AboutFile, InputError):
    """One image file cannot be used as a tile."""


class SlideError(_AboutFile, InputError):
    """One slide cannot be opened, or cannot be tiled as asked."""


class LayoutError(InputError):
    """A folder, manifest or npz file is not a tile set privgen can read."""


class SplitError(InputError):
    """Tiles cannot be split as asked, or two roles overlap."""


class CheckpointError(InputError):
    """A file is not a checkpoint or generator file this version can read."""


class SealError(CheckpointError):
    """A checkpoint's ledger, or its weights, are not those it was sealed with."""


class OutputError(InputError):
    """The place to write to cannot be used."""


class RuntimeFailure(PrivgenError):
    """The work itself failed."""


class NonFiniteLossError(RuntimeFailure):
    """Training met a NaN or infinite loss; the parameters were left as they were."""


class SlideReadError(_AboutFile, RuntimeFailure):
    """A slide that opened could not be read to its end."""


class DiskFullError(RuntimeFailure):
    """No space is left for an output."""


class StreamError(RuntimeFailure):
    """Stdout or stderr cannot be written: closed, a broken pipe, or a full disk behind it."""


class WeightsError(RuntimeFailure):
    """Published network weights could not be loaded or fetched."""


class Interrupted(PrivgenError):
    """The user or the system asked to stop; the message says how to go on."""

    exit_code = 130
