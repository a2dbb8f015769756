"""The master key file, and the keys that are derived from it per project and purpose (HKDF-SHA-256, RFC 5869).

Everything that stands for a patient outside is derived from the master key, so the file is worth as much as the
patients' names: whoever has it can link, whoever loses it can never make the same pseudonym again. It is therefore
created once, atomically, for its owner alone, and never replaced.

The file keeps a history. A key that is added becomes the one for projects that start later; a project stays with the
key that it began with (the database remembers which), since another key would give all of its subjects new pseudonyms.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orthanc_deid.errors import KeyFileError

KEY_BYTES = 32
PURPOSES = ("uid", "pseudonym", "dates", "index", "seal", "mark")
"""What a project needs keys for; each has its own, so that one that leaks says nothing about the others."""

_FORMAT = "orthanc-deid master key"
_HEX = re.compile(rb"[0-9a-fA-F]{64}\s*")


@dataclass(frozen=True, slots=True)
class ProjectKeys:
    """The keys of one project, 32 bytes each. Can be handed to worker processes; shows nothing when printed."""

    project: str
    key_id: int
    uid: bytes = field(repr=False)
    pseudonym: bytes = field(repr=False)
    dates: bytes = field(repr=False)
    index: bytes = field(repr=False)
    seal: bytes = field(repr=False)
    mark: bytes = field(repr=False)


class MasterKey:
    """The keys of the master key file by number; the highest number is the current one."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys.values()):
            raise ValueError(f"a master key needs at least one key of {KEY_BYTES} bytes")
        self._keys = dict(keys)

    def __repr__(self) -> str:
        return f"MasterKey(ids={sorted(self._keys)})"

    @property
    def current(self) -> int:
        """The number of the key that new projects get."""
        return max(self._keys)

    @classmethod
    def random(cls) -> MasterKey:
        """Make a key that is kept nowhere: pseudonyms hold for one run only."""
        return cls({1: secrets.token_bytes(KEY_BYTES)})

    @classmethod
    def open(cls, path: Path | str, create: bool = False) -> MasterKey:
        """Read the key file; with `create`, make it where there is none.

        Callers pass `create` only while no subject exists: a new key in the place of a lost one would silently give
        every patient a second pseudonym. Of two processes that create at once, one wins and both read its key.

        Raises KeyFileError: missing, readable by others, not ours, truncated or damaged.
        """
        path = Path(path)
        if create and not path.exists():
            _create(path, _dump(cls.random()._keys))
        return cls(_load(path, _read(path)))

    @classmethod
    def rotate(cls, path: Path | str) -> MasterKey:
        """Add a key to the file, for projects that start later; the old ones stay. Raises KeyFileError."""
        path = Path(path)
        keys = _load(path, _read(path))
        keys[max(keys) + 1] = secrets.token_bytes(KEY_BYTES)
        temporary = _write_beside(path, _dump(keys))
        temporary.replace(path)
        _sync_folder(path.parent)
        return cls(keys)

    def fingerprint(self, key_id: int) -> str:
        """Name a key without telling it: the database keeps this to notice that a file was exchanged."""
        return hmac.new(self._key(key_id), b"orthanc-deid fingerprint v1", hashlib.sha256).hexdigest()[:16]

    def project(self, name: str, key_id: int | None = None) -> ProjectKeys:
        """Derive the keys of a project from the current key, or from the numbered one that it began with."""
        number = self.current if key_id is None else key_id
        master = self._key(number)
        return ProjectKeys(name, number, *(_derive(master, name, purpose) for purpose in PURPOSES))

    def _key(self, key_id: int) -> bytes:
        try:
            return self._keys[key_id]
        except KeyError:
            raise KeyFileError(f"the master key file has no key {key_id}, which a project was started with") from None


def _derive(master: bytes, project: str, purpose: str) -> bytes:
    name = project.encode()
    info = b"orthanc-deid v1" + len(name).to_bytes(4, "big") + name + purpose.encode()
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(master)


def _checksum(keys: Mapping[str, str]) -> str:
    # Guards against a truncated or mistyped file, not against an attacker: who can write it can read it.
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:16]


def _dump(keys: Mapping[int, bytes]) -> bytes:
    texts = {str(number): base64.b64encode(key).decode() for number, key in sorted(keys.items())}
    document = {"format": _FORMAT, "version": 1, "keys": texts, "checksum": _checksum(texts)}
    return json.dumps(document, indent=1).encode() + b"\n"


def _load(path: Path, data: bytes) -> dict[int, bytes]:
    """Parse the file: the JSON that this program writes, or 64 hexadecimal digits (a secret made by other tools)."""
    if _HEX.fullmatch(data):
        return {1: bytes.fromhex(data.decode().strip())}
    damaged = KeyFileError(f"the master key file {path} is truncated or damaged; put the backup in its place")
    try:
        document: Any = json.loads(data)
        texts = document["keys"]
        if document["format"] != _FORMAT or document["checksum"] != _checksum(texts):
            raise damaged
        version = document["version"]
        keys = {int(number): base64.b64decode(text, validate=True) for number, text in texts.items()}
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise damaged from None
    if version != 1:
        raise KeyFileError(f"the master key file {path} was written by a newer version")
    if not keys or any(len(key) != KEY_BYTES for key in keys.values()):
        raise damaged
    return keys


def _read(path: Path) -> bytes:
    try:
        # O_NOFOLLOW is left out: secrets of containers are symbolic links. The checks are made on the opened file.
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise KeyFileError(f"the master key file {path} is not a regular file")
            if status.st_mode & 0o077:
                mode = stat.S_IMODE(status.st_mode)
                raise KeyFileError(f"the master key file {path} is open to others (mode {mode:04o}): chmod 600 {path}")
            if status.st_uid not in (os.geteuid(), 0):
                raise KeyFileError(f"the master key file {path} belongs to another user")
            return file.read(1 << 20)
    except FileNotFoundError:
        raise KeyFileError(
            f"the master key file {path} is missing; put the backup back, a new key would give every subject a new name"
        ) from None
    except OSError as error:
        raise KeyFileError(f"the master key file {path} cannot be read: {error.strerror}") from None


def _write_beside(path: Path, data: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink()
        raise
    return temporary


def _create(path: Path, data: bytes) -> None:
    """Put the whole file in place at once, only where there is none (a rename would replace another's)."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = _write_beside(path, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return  # another process was first; its key counts
        finally:
            temporary.unlink()
        _sync_folder(path.parent)
    except OSError as error:
        raise KeyFileError(f"the master key file {path} cannot be created: {error.strerror}") from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
