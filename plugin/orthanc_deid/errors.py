"""What keeps the service from starting or from trusting what it stored, named by its consequence.

What happens to a single instance is in `core.errors`. Texts name files, keys of the configuration and reasons; they
never carry a value of an attribute or a secret.
"""

from __future__ import annotations

from collections.abc import Iterable


class SetupError(Exception):
    """The service cannot start, or must not: a person has to change something first."""


class ConfigError(SetupError):
    """The configuration is wrong; `errors` lists every fault, each with its path in the JSON."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(self.errors))


class KeyFileError(SetupError):
    """The master key file is missing, damaged, readable by others, or not the one that the database was made with."""


class StoreError(SetupError):
    """The database cannot be opened, or a newer version of this program made it."""


class SealError(Exception):
    """A sealed value does not open: it was changed, stands in another place, or belongs to another key."""
