"""What a dry run found out: counted instance by instance, added up, and written as a report.

The report carries reason codes, names of the standard, pseudonyms and research UIDs; no source id and no value. What
is no term of the standard counts as `other`: it may be anything, a name too.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydicom.uid import UID_dictionary

OWN = "own-output"
"""Outcome of a research copy in a dry run: a real job passes it over."""
OTHER = "other"
# fmt: off
MODALITIES = frozenset({
    "ANN", "AR", "ASMT", "AU", "BDUS", "BI", "BMD", "CFM", "CR", "CT", "CTPROTOCOL", "DG", "DMS", "DOC", "DX", "ECG",
    "EEG", "EMG", "EOG", "EPS", "ES", "FID", "GM", "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO", "LEN", "LS",
    "M3D", "MG", "MR", "NM", "OAM", "OCT", "OP", "OPM", "OPT", "OPTBSV", "OPTENF", "OPV", "OSS", "OT", "PA", "PLAN",
    "POS", "PR", "PT", "PX", "REG", "RESP", "RF", "RG", "RTDOSE", "RTIMAGE", "RTINTENT", "RTPLAN", "RTRAD", "RTRECORD",
    "RTSEGANN", "RTSTRUCT", "RWV", "SEG", "SM", "SMR", "SR", "SRF", "STAIN", "TEXTUREMAP", "TG", "US", "VA", "XA",
    "XAPROTOCOL", "XC",
})
# fmt: on
"""Defined terms of Modality (PS3.3 C.7.3.1.1.1)."""
_COUNTED = ("outcomes", "reasons", "actions", "modalities", "sop_classes")
COLUMNS = ("Section", "Key", "Pseudonym", "Outcome", "Reason", "Number")


def modality(text: str) -> str:
    """Return a modality that the standard knows, or `other`."""
    return text if text in MODALITIES else OTHER


def sop_class(uid: str) -> str:
    """Return the name of a SOP class that the standard knows, or `other`."""
    known = UID_dictionary.get(uid)
    return known[0] if known is not None and known[1] == "SOP Class" else OTHER


def count(
    before: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[tuple[str, str, str, str], int]]:
    """Add the results of a page; returns the new counts, and what to add per research study."""
    counts = {name: Counter(before.get(name, {})) for name in _COUNTED}
    sums = {name: float(before.get(name, 0)) for name in ("bytes", "out_bytes", "seconds")}
    studies: Counter[tuple[str, str, str, str]] = Counter()
    for result in results:
        outcome, reason = str(result["outcome"]), result.get("reason") or ""
        if outcome == OWN:
            continue
        counts["outcomes"][outcome] += 1
        if reason:
            counts["reasons"][reason] += 1
        counts["actions"].update(result.get("actions") or {})
        counts["modalities"][modality(result.get("modality") or "")] += 1
        counts["sop_classes"][sop_class(result.get("sop_class") or "")] += 1
        for name in sums:
            sums[name] += float(result.get(name) or 0)
        if result.get("study"):
            studies[str(result["study"]), str(result.get("patient") or ""), outcome, reason] += 1
    return {**{name: dict(counted) for name, counted in counts.items()}, **sums}, dict(studies)


def estimate(dry: Mapping[str, Any], expected: int | None, workers: int) -> dict[str, Any]:
    """Return what a real job over the same would take, by what this one saw: instances, bytes, hours of all workers."""
    seen = sum(dry.get("outcomes", {}).values())
    if not seen or expected is None:
        return {}
    factor = expected / seen
    out = dry.get("outcomes", {}).get("deidentified", 0)
    return {
        "Instances": expected,
        "Deidentified": round(out * factor),
        "SourceBytes": round(dry.get("bytes", 0) * factor),
        "Bytes": round(dry.get("out_bytes", 0) * factor),
        # Three digits that count: a small job takes no 0 hours.
        "Hours": float(f"{dry.get('seconds', 0) * factor / max(1, workers) / 3600:.3g}"),
    }


def shown(dry: Mapping[str, Any], expected: int | None, workers: int) -> dict[str, Any]:
    """Return what a dry run adds to the content of its job."""
    return {
        "Actions": dict(sorted(dry.get("actions", {}).items())),
        "Modalities": dict(sorted(dry.get("modalities", {}).items())),
        "SOPClasses": dict(sorted(dry.get("sop_classes", {}).items())),
        "Estimate": estimate(dry, expected, workers),
    }


def table(
    job: Mapping[str, Any],
    studies: Iterator[tuple[str, str, str, str, int]],
    lines: Iterator[tuple[int, str, str, int, int, int]],
) -> Iterator[str]:
    """Yield the lines of a job's report as CSV: its counts, its research studies, the lines of its cohort."""
    content = job["Content"]
    yield _line(*COLUMNS)
    for section, key in (("outcome", "Outcomes"), ("reason", "Reasons"), ("modality", "Modalities")):
        for name, number in content.get(key, {}).items():
            yield _line(section, name, "", "", "", number)
    for section, key in (("sop-class", "SOPClasses"), ("action", "Actions"), ("estimate", "Estimate")):
        for name, number in content.get(key, {}).items():
            yield _line(section, name, "", "", "", number)
    for patient, study, outcome, reason, number in studies:
        yield _line("study", study, patient, outcome, reason, number)
    for number, state, reason, found, fetched, handed in lines:
        yield _line("line", number, "", state, reason, handed)
        yield _line("line-studies", number, "", "", "", found)
        yield _line("line-fetched", number, "", "", "", fetched)


def _line(*cells: object) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue()
