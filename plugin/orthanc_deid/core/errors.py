"""How the engine says no: an instance is parked (Quarantined) or is none of ours (Rejected).

Both carry a reason code, the tag where one is known, and a detail in the words of DICOM. None carries a value of an
attribute: the texts end up in logs, reports and web pages.
"""

from __future__ import annotations

QUARANTINE_REASONS = {
    "pixels-not-cleaned": "may carry burned-in text, and the profile cannot clean it",
    "unknown-sop-class": "private, retired or unknown SOP class: no IOD says what its attributes mean",
    "unparsable": "the byte stream is no valid DICOM data set",
    "truncated": "the byte stream ends before its data set does",
    "unsupported-transfer-syntax": "the transfer syntax is not known",
    "unsupported": "the object uses something that the engine cannot clean",
    "too-large": "beyond a limit that keeps memory and time bounded",
    "value-left": "a value of the patient's was found in the output",
    "verify-failed": "the output did not pass its verification",
    "identity-missing": "Patient ID is missing, empty or a placeholder",
    "identity-contradiction": "the same Patient ID or study stands for two different people",
    "source-changed": "new content under a known id, after the old content had left",
    "source-unreadable": "its file cannot be read any more, or is not what was stored",
    "foreign-mark": "carries this installation's mark, but its ledger does not know the instance",
    "recipient": "a certificate that what was removed shall be encrypted for cannot be used",
    "crashed": "its worker process died twice",
    "error": "an unexpected error",
}
"""Reason codes of a quarantined instance, with what they mean."""

REJECT_REASONS = {
    "not-dicom": "not a DICOM file",
    "dicomdir": "a DICOMDIR lists files by patient; it is not an instance",
    "raw-data": "raw data of a scanner, which nobody but its maker can read; the profile does not keep them",
}
"""Reason codes of a rejected source, with what they mean."""


def tag_text(tag: int) -> str:
    """Write a tag as the standard does: (gggg,eeee)."""
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"


class DeidError(Exception):
    """An instance that does not come out, with the reason code, the tag (or None) and a detail without any value."""

    def __init__(self, reason: str, detail: str = "", tag: int | None = None) -> None:
        self.reason = reason
        self.detail = detail
        self.tag = tag
        where = f" at {tag_text(tag)}" if tag is not None else ""
        super().__init__(f"{reason}{where}{': ' + detail if detail else ''}")

    def __reduce__(self) -> tuple[type, tuple[str, str, int | None]]:
        # Worker processes hand these back by pickling; the default would pass only the composed text.
        return type(self), (self.reason, self.detail, self.tag)


class Quarantined(DeidError):
    """The instance is parked: a person can look at it, and nothing of it leaves."""


class Rejected(DeidError):
    """The source is not an instance that this software handles at all."""
