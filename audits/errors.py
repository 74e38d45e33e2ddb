"""The one error `audits` raises on purpose."""


class AuditInputError(ValueError):
    """Arrays that cannot be audited; the message says the rule, what was got and the way out."""
