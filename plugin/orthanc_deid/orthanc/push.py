"""What a receiver may say to a finished file, and the way back into our own Orthanc, as a research copy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from pathlib import Path
from typing import Any

from orthanc_deid.orthanc.client import AILING, Answer, Failed, OrthancClient, OrthancError, Unavailable

TRANSFER_SECONDS = 3600.0
"""How long a whole transfer may take: a large file on a slow line; the peer's own Timeout setting usually ends
earlier."""
RESEARCH_MARK = "4301"
"""Number of the user-defined metadata that marks a research copy; its value is the name of the project."""


Announce = Callable[[str], AbstractContextManager[None]]
"""Tells of bytes, by their SHA-256, that are about to be stored."""


def unannounced(_digest: str) -> AbstractContextManager[None]:
    """Tell nobody: without gateway mode, whatever is sent is stored."""
    return nullcontext()


class Reply(Enum):
    """What a receiver said to one instance."""

    STORED = "stored"
    ALREADY = "already"
    """It holds an instance of these UIDs; which bytes, only our own ledger can tell."""
    COERCED = "coerced"
    """It stores it, and says that it has changed or left out something (a warning of DICOM's)."""
    AWAITED = "awaited"
    """It has taken it, and has yet to commit to keeping it."""
    OTHER = "conflict"
    """It holds other content under these UIDs."""
    NO_ROOM = "no-room"
    """It lives, and has no room for anything at the moment."""
    NOT_TAKEN = "not-taken"
    """It accepts neither its SOP class nor any transfer syntax that we can send it in."""
    UNDECODABLE = "undecodable"
    """It would have to be sent in another transfer syntax, which cannot be done without a loss."""
    VALUE_LEFT = "value-left"
    """What would have to be added for this receiver tells something of the subject."""
    ASTRAY = "astray"
    """In the folder stands a link, or a file where a folder has to be: nothing is written there."""
    REFUSED = "refused"
    """It lives, and does not take this instance."""
    DOWN = "down"
    """It does not answer: every instance for it waits."""
    UNAUTHORIZED = "unauthorized"
    """It answers and does not let us in (user, password, rights): every instance for it waits."""
    UNTRUSTED = "untrusted"
    """It shows no certificate that is trusted here: every instance for it waits, and nothing has left."""
    LOCAL_DOWN = "local-down"
    """Our own Orthanc does not answer; nothing has left."""

    @property
    def waits(self) -> bool:
        """Whether this is about the destination and not about the instance."""
        return self in (Reply.DOWN, Reply.UNAUTHORIZED, Reply.UNTRUSTED, Reply.NO_ROOM, Reply.LOCAL_DOWN)


def status_of(answer: Answer) -> str | None:
    """Return the Status of what Orthanc answers to an upload of one instance."""
    try:
        body: Any = answer.json()
    except Failed:
        return None
    if isinstance(body, list):  # what Orthanc answers to an upload of several instances
        body = body[0] if len(body) == 1 else None
    status = body.get("Status") if isinstance(body, dict) else None
    return status if isinstance(status, str) else None


_FULL = frozenset({14, 19})
"""What Orthanc's errors are called by number (OrthancPluginErrorCode): CannotWriteFile, FullStorage."""


def trouble_of(answer: Answer) -> Reply | None:
    """Return what ails an Orthanc that answers with an error, None where the error is about what was asked.

    A full disk is a 500 like any refusal; only the number in its body tells them apart.
    """
    if answer.status == 507:
        return Reply.NO_ROOM
    if answer.status < 500:
        return None
    if answer.number in _FULL:
        return Reply.NO_ROOM
    return Reply.DOWN if answer.number in AILING else None


def store_copy(
    client: OrthancClient, path: Path, orthanc_id: str, digest: str, announced: Announce = unannounced
) -> Reply:
    """Store a research copy; bytes that already stand under its id are compared and, where they differ, replaced.

    `announced` makes a context in which these bytes may be stored, where gateway mode keeps all others out.

    Returns STORED when Orthanc holds exactly these bytes under exactly this id, REFUSED, or why it takes nothing now.
    """
    try:
        for _ in range(2):
            with path.open("rb") as file, announced(digest):
                answer = client.send(
                    "POST", "/instances", file=file, content_type="application/dicom", timeout=TRANSFER_SECONDS
                )
            status = status_of(answer) if answer.status == 200 else None
            if status not in ("Success", "AlreadyStored"):
                if answer.status in (502, 503, 504):
                    return Reply.LOCAL_DOWN
                return trouble_of(answer) or Reply.REFUSED
            if answer.json().get("ID") != orthanc_id:
                return Reply.REFUSED
            if status == "Success" or holds(client, orthanc_id, digest, path.parent):
                return Reply.STORED
            client.change("DELETE", f"/instances/{orthanc_id}")
        return Reply.REFUSED
    except Unavailable:
        return Reply.LOCAL_DOWN
    except OrthancError:
        return Reply.REFUSED


def holds(client: OrthancClient, orthanc_id: str, digest: str, spool: Path) -> bool:
    """Whether Orthanc holds exactly the bytes of this SHA-256 under an id. Raises NotFound, Unavailable, Failed."""
    fetched = client.fetch(orthanc_id, spool, 1 << 24)
    if fetched.file is None:
        return hashlib.sha256(fetched.data or b"").hexdigest() == digest
    with fetched.file as file:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest() == digest  # type: ignore[arg-type]


def mark_copy(client: OrthancClient, level: str, orthanc_id: str, project: str) -> None:
    """Mark a research copy's study or series with the project's name, as metadata that rules for routing can see."""
    client.change("PUT", f"/{level}/{orthanc_id}/metadata/{RESEARCH_MARK}", project.encode())


def orthanc_ids(patient: str, study: str, series: str, sop: str) -> tuple[str, str, str]:
    """Return the ids that Orthanc gives to the study, series and instance of these four identifiers (SHA-1 of them)."""
    names = [patient, study, series, sop]
    digests = [hashlib.sha1("|".join(names[:n]).encode()).hexdigest() for n in (2, 3, 4)]
    a, b, c = ("-".join(text[i : i + 8] for i in range(0, 40, 8)) for text in digests)
    return a, b, c
