"""The lists of a BIDS data set: who takes part, which sessions there are, what the data set is.

They are kept up to date as files come and go, each changed as a whole under a lock. What somebody else has written into
them stays: columns and lines of others, and a description that is there already.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass

from orthanc_deid import __version__
from orthanc_deid.send import names
from orthanc_deid.send.below import Below

PARTICIPANTS = "participants.tsv"
DESCRIPTION = "dataset_description.json"
VERSION = "1.10.0"
"""The edition of BIDS that the names follow."""
_DATE, _TIME = re.compile(r"[0-9]{8}"), re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2})")
_NONE = "n/a"


@dataclass(frozen=True)
class Head:
    """What an output says of its series and session: number, modality, and the date and time that it kept, if any."""

    number: str
    modality: str
    date: str
    time: str

    @property
    def acquired(self) -> str:
        """The session's time as BIDS writes it, moved or not as the profile has it; n/a where there is none."""
        time = _TIME.match(self.time)
        if not _DATE.fullmatch(self.date):
            return _NONE
        day = f"{self.date[:4]}-{self.date[4:6]}-{self.date[6:]}"
        return f"{day}T{':'.join(time.groups())}" if time else f"{day}T00:00:00"


def enter(below: Below, pseudonym: str, study: str, head: Head) -> None:
    """See to it that the lists have this subject and this session. Raises OSError, Astray."""
    subject, session = names.subject(pseudonym), names.session(study)
    with below.locked() as root:
        if below.text(root, DESCRIPTION) is None:
            below.write(root, DESCRIPTION, io.BytesIO(_description()))
        _put(below, root, PARTICIPANTS, "participant_id", subject, {})
        with below.folder(root, (subject,), make=True) as folder:
            _put(below, folder, f"{subject}_sessions.tsv", "session_id", session, {"acq_time": head.acquired})


def leave(below: Below, pseudonym: str, study: str) -> None:
    """Take out of the lists what has no file any more. Raises OSError, Astray."""
    subject, session = names.subject(pseudonym), names.session(study)
    with below.locked() as root:
        if _exists(below, root, ("sourcedata", subject, session)):
            return
        if _exists(below, root, (subject,)):
            with below.folder(root, (subject,), make=False) as folder:
                left = _drop(below, folder, f"{subject}_sessions.tsv", session)
            if not left:
                below.remove(root, (subject, f"{subject}_sessions.tsv"))
        if not _exists(below, root, ("sourcedata", subject)):
            _drop(below, root, PARTICIPANTS, subject)


def _description() -> bytes:
    text = {
        "Name": "De-identified source data",
        "BIDSVersion": VERSION,
        "DatasetType": "raw",
        "GeneratedBy": [{"Name": "orthanc-deid", "Version": __version__}],
    }
    return (json.dumps(text, indent=2) + "\n").encode()


def _exists(below: Below, root: int, place: names.Place) -> bool:
    try:
        with below.folder(root, place, make=False):
            return True
    except FileNotFoundError:
        return False


def _table(text: str | None, first: str) -> tuple[list[str], list[list[str]]]:
    lines = [line.split("\t") for line in (text or "").splitlines() if line]
    return (lines[0], lines[1:]) if lines else ([first], [])


def _put(below: Below, folder: int, file: str, first: str, key: str, values: dict[str, str]) -> None:
    """Add a line for `key` where there is none."""
    before = below.text(folder, file)
    head, rows = _table(before, first)
    if any(row[0] == key for row in rows):
        return
    for name in values:
        if name not in head:
            head.append(name)
            for row in rows:
                row.append(_NONE)
    rows.append([key, *(values.get(name, _NONE) for name in head[1:])])
    _save(below, folder, file, head, rows)


def _drop(below: Below, folder: int, file: str, key: str) -> int:
    """Take the line of `key` out; return how many are left."""
    head, rows = _table(below.text(folder, file), "")
    left = [row for row in rows if row[0] != key]
    if len(left) != len(rows):
        _save(below, folder, file, head, left)
    return len(left)


def _save(below: Below, folder: int, file: str, head: list[str], rows: list[list[str]]) -> None:
    lines = ["\t".join(row) for row in [head, *sorted(rows)]]
    below.write(folder, file, io.BytesIO(("\n".join(lines) + "\n").encode()))
