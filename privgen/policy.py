"""Release policies from files."""

from pathlib import Path

import audits
from privgen.documents import DocumentError, parse_toml, read_text
from privgen.errors import ConfigError
from privgen.limits import TEXT_BYTES, told


def read_policy(file: Path) -> audits.Policy:
    """A release policy from a TOML file.

    Raises:
      ConfigError: the file cannot be read, or is no policy.
    """
    try:
        return audits.Policy.from_mapping(parse_toml(read_text(file, TEXT_BYTES)))
    except OSError as error:
        raise ConfigError(f"cannot read policy {file}: {error.strerror}.") from error
    except (DocumentError, ArithmeticError, TypeError, audits.AuditInputError) as error:
        raise ConfigError(f"{file.name} is not a policy: {told(error)}") from error
