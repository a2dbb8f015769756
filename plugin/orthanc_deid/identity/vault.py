"""How identifying values are kept in the database: a keyed index to find them by, and a sealed value to read.

Orthanc's own ids are SHA-1 of identifiers (a short patient id falls in minutes), so they count as identifying too.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Literal

from orthanc_deid.identity.keys import ProjectKeys
from orthanc_deid.identity.seal import seal, unseal

Kind = Literal["instance", "series", "study", "subject", "known", "job"]
"""What a value is: instance and series are Orthanc's ids, study is a Study Instance UID (Orthanc's study id contains
the patient id, so it would hide that two patients share a study), subject and known are bytes of this package, job is
the request of a job."""


@dataclass(frozen=True, slots=True)
class Ref:
    """One identifying value as the database holds it: 32 hexadecimal digits of keyed index, and the sealed bytes."""

    index: str
    sealed: bytes


class Vault:
    """Indexes and seals the identifying values of one project."""

    def __init__(self, keys: ProjectKeys) -> None:
        self._keys = keys

    def index(self, kind: Kind, value: str) -> str:
        """Return the keyed index of a text: equal for equal values within a project and kind, else unrelated."""
        return self.index_bytes(kind, value.encode())

    def index_bytes(self, kind: Kind, data: bytes) -> str:
        """Return the keyed index of bytes."""
        return hmac.new(self._keys.index, kind.encode() + b"\0" + data, hashlib.sha256).hexdigest()[:32]

    def ref(self, kind: Kind, value: str) -> Ref:
        """Index and seal a text."""
        return self.ref_bytes(kind, value.encode())

    def ref_bytes(self, kind: Kind, data: bytes) -> Ref:
        """Index and seal bytes."""
        return Ref(self.index_bytes(kind, data), self.seal_bytes(kind, data))

    def open(self, kind: Kind, sealed: bytes) -> str:
        """Read a sealed text. Raises SealError."""
        return self.open_bytes(kind, sealed).decode()

    def seal_bytes(self, kind: Kind, data: bytes) -> bytes:
        """Seal bytes for their kind in this project: they do not open as anything else."""
        return seal(self._keys.seal, data, self._place(kind))

    def open_bytes(self, kind: Kind, sealed: bytes) -> bytes:
        """Read sealed bytes. Raises SealError."""
        return unseal(self._keys.seal, sealed, self._place(kind))

    def _place(self, kind: Kind) -> bytes:
        return f"{kind}\0{self._keys.project}".encode()
