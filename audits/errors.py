"""The errors of `audits`, and the base that they share with those of `privgen`."""


class PrivgenError(Exception):
    """Base class of all errors that `audits` and `privgen` raise on purpose.

    Attributes:
      exit_code: of a command that it ends.
    """

    exit_code = 3


class AuditInputError(PrivgenError, ValueError):
    """The tiles given cannot be audited: too few, the wrong shape, or the same set twice."""

    exit_code = 2
