"""What an answer must be: a stated refusal, or an output that reads back and holds no canary."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
import time
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pydicom
from orthanc_deid.core import source as source_module
from orthanc_deid.core import standard
from orthanc_deid.core.actions import CODING_UIDS, creator_name
from orthanc_deid.core.deidentify import Subject, deidentify
from orthanc_deid.core.errors import QUARANTINE_REASONS, REJECT_REASONS, DeidError, tag_text
from orthanc_deid.core.plan import Act, Node, Plan, Rule
from orthanc_deid.core.profile import Profile
from orthanc_deid.core.sinks import BytesSink
from orthanc_deid.core.source import Source
from orthanc_deid.core.values import identifying
from orthanc_deid.core.walk import Element, Walker, is_named
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.sequence import Sequence

from benchmarks.fuzzing import planted
from tests import raw

SUBJECT = Subject(
    pseudonym="PSEUDO7X4QK9M2TW",
    uid_key=bytes(range(32)),
    date_offset=-1234,
    time_offset=321,
    known=planted.KNOWN,
)
MAX_SECONDS = 1.0
"""CPU time that one input may take."""
SMALL_HEAD = 256
"""A file of which so little is read at once must give what it gives when it is read whole."""
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_NUMBERS = frozenset(["AT", "FD", "FL", "OD", "OF", "OL", "OV", "SL", "SS", "SV", "UL", "US", "UV"])
_BY_WORD = {
    token: re.compile(rb"(?<![^\W_])" + re.escape(token) + rb"(?![^\W_])")
    for token in planted.SOUGHT_KNOWN
    if token[:1].isdigit()
}
"""Dates with separators and telephone numbers count as words of their own (docs/decisions/0002-judge-a-find.md)."""
_NO_ANSWER = ("error", "crashed")


@dataclass
class Verdict:
    """What became of one input: its outcome, what is wrong with it (or None), and the CPU seconds of the engine."""

    outcome: str
    fault: str | None = None
    seconds: float = 0.0
    stayed: list[str] = field(default_factory=list)


class Oracle:
    """Judges inputs under one profile."""

    def __init__(self, profile: Profile, *, strict: bool) -> None:
        self.profile = profile
        self.strict = strict  # what stays must be on the reviewed list (the Basic Profile), not only kept by the plan

    def judge(self, data: bytes, *, twice: bool) -> Verdict:
        """Run one input, and once more as a file read in small parts if `twice`."""
        before = time.process_time()
        outcome, output, plan, fault = self._run(Source.from_bytes, data)
        verdict = Verdict(outcome, fault, time.process_time() - before)
        if verdict.fault is None and verdict.seconds > MAX_SECONDS:
            verdict.fault = f"slow: {verdict.seconds:.2f} s of CPU time"
        if verdict.fault is None and output is not None and plan is not None:
            verdict.fault = well_formed(output, plan) or self._canaries(output, plan, verdict)
        if verdict.fault is None and twice:
            with _small_reads(), tempfile.TemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as file:  # noqa: PTH112
                file.write(data)
                file.flush()
                again, other, _, fault = self._run(Source.from_file, file)
            # A refusal may name another fault, since it meets the faults in another order.
            if fault or other != output:
                verdict.fault = fault or f"read in parts: {again} in place of {outcome}, or other bytes"
        return verdict

    def _run(self, opening: Any, what: Any) -> tuple[str, bytes | None, Plan | None, str | None]:
        sink, plan = BytesSink(), None
        try:
            source = opening(what)
            plan = self.profile.plan(source.facts.sop_class)
            deidentify(source, plan, SUBJECT, sink)
        except DeidError as no:
            known = no.reason in QUARANTINE_REASONS or no.reason in REJECT_REASONS
            told = str(no).lower().encode("utf-8", "replace")
            if not known or no.reason in _NO_ANSWER:
                return no.reason, None, plan, f"no such reason: {no.reason}"
            if any(token in told for token in (*planted.SOUGHT_KNOWN, *planted.SOUGHT_UNKNOWN)):
                return no.reason, None, plan, "the refusal tells a value"
            if no.tag is not None and not no.tag & 0x10000 and not is_named(no.tag):
                return no.reason, None, plan, "the refusal names a tag that is none"
            return no.reason, None, plan, None
        except MemoryError:
            return "memory", None, plan, "memory: more than the limit"
        except Exception as problem:
            return "crash", None, plan, f"crash: {_where(problem)}"
        return "deidentified", sink.getvalue(), plan, None

    def _canaries(self, output: bytes, plan: Plan, verdict: Verdict) -> str | None:
        """Return what leaked; None where nothing did, or only where the plan keeps such values for a stated reason."""
        data = _inflated(output)
        for tight, low in enumerate((data.lower(), data.replace(b"\0", b"").lower())):
            for tokens, unknown in ((planted.SOUGHT_KNOWN, False), (planted.SOUGHT_UNKNOWN, True)):
                for token in tokens:
                    if token not in low or (token in _BY_WORD and not _BY_WORD[token].search(low)):
                        continue
                    if tight and token in data.lower():
                        continue  # judged already
                    places = list(_places(output, token, plan, wide=bool(tight)))
                    for path, own_vr, act in places:
                        reason = self._may_stay(path, own_vr, act, unknown)
                        if reason is None:
                            return (
                                f"leak: a {'secret' if unknown else 'known'} value at {_path(path)} {own_vr} {act.name}"
                            )
                        verdict.stayed.append(reason)
                    if not places:
                        return "leak: a canary outside of all elements"
        return None

    def _may_stay(self, path: list[int], own_vr: str, act: Act, unknown: bool) -> str | None:
        tag = path[-1]
        if len(path) == 1 and tag in _PIXELS:
            return "pixels"
        if own_vr.split(" ")[0] in _NUMBERS and act == Act.KEEP:
            return "numbers"
        if not unknown:
            return "kept by the plan" if tag in identifying() and act == Act.KEEP else None
        if act != Act.KEEP:
            return None
        if tag in CODING_UIDS:
            return "coding scheme"
        if own_vr == "CS" or tag in standard.keep_list() or not self.strict:
            return "reviewed"
        return None


@contextlib.contextmanager
def _small_reads() -> Iterator[None]:
    before = source_module.HEAD_BYTES
    source_module.HEAD_BYTES = SMALL_HEAD
    try:
        yield
    finally:
        source_module.HEAD_BYTES = before


def _where(problem: BaseException) -> str:
    """Say what was raised and where, so that equal crashes count as one."""
    trace = problem.__traceback__
    place = ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "orthanc_deid" in name:
            place = f"{os.path.basename(name)}:{trace.tb_lineno}"  # noqa: PTH119
        trace = trace.tb_next
    return f"{type(problem).__name__} at {place}"


def well_formed(output: bytes, plan: Plan) -> str | None:
    """Return what is wrong with an output as such, read by the engine, by the tests' strict reader and by pydicom."""
    try:
        source = Source.from_bytes(output)
        for segment in source.segments:
            _walk(segment.walker, segment.elements, plan.root, 0)
    except DeidError as no:
        return f"malformed: the engine says {no.reason} at {tag_text(no.tag or 0)}"
    facts = source.facts
    if facts.patient_id not in ("", SUBJECT.pseudonym) or facts.patient_name not in ("", SUBJECT.pseudonym):
        return "malformed: not the pseudonym"
    if facts.get(0x00120062) != "YES" or facts.get(0x00080018) != source.meta[0x00020003].rstrip(b"\0").decode():
        return "malformed: not marked, or another instance in the file meta"
    try:
        raw.parse(output)
    except Exception as problem:
        return f"malformed: the strict reader says {type(problem).__name__}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _enter(pydicom.dcmread(io.BytesIO(output)))
        except BytesLengthException:
            return (
                None  # a number of the source's with a byte too many or too few: pydicom found it, and no fault in it
            )
        except Exception as problem:
            # pydicom takes what a UN of undefined length holds for big endian too; it is little endian always.
            if source.syntax.little or b"UN\0\0\xff\xff\xff\xff" not in output:
                return f"malformed: pydicom says {type(problem).__name__}"
    return None


def _walk(walker: Walker, elements: list[Element], node: Node, depth: int) -> None:
    for element in elements:
        rule = node[element[0]]
        if rule.vr != "SQ" and element[1] != b"SQ":
            continue
        inner, items = walker.sequence(element, depth)
        for item in items:
            _walk(inner, item[4], rule.child if rule.child is not None else node, depth + 1)


def _enter(dataset: Dataset) -> None:
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        if element.VR == "SQ" or (element.VR in (None, "UN") and standard_sq(int(tag))):
            found = dataset[tag].value
            if isinstance(found, Sequence):
                for item in found:
                    _enter(item)


def standard_sq(tag: int) -> bool:
    """Whether the dictionary says that the attribute is a sequence."""
    entry = standard.attribute(tag)
    return entry is not None and entry.vr == "SQ"


def _inflated(output: bytes) -> bytes:
    if b"1.2.840.10008.1.2.1.99" not in output[:400]:
        return output
    length = int.from_bytes(output[140:144], "little")
    return output[: 144 + length] + zlib.decompressobj(-15).decompress(output[144 + length :])


def _places(output: bytes, token: bytes, plan: Plan, *, wide: bool) -> Iterator[tuple[list[int], str, Act]]:
    """Yield the elements whose own value holds the token: path of tags, VR by the dictionary, what the plan does."""
    source = Source.from_bytes(output)
    if source.fragments is not None:
        for _, start, size in source.fragments.items:
            if token in _plain(source.read(start, size), wide):
                yield [source.fragments.tag], "OB", Act.KEEP
    for segment in source.segments:
        yield from _holding(segment.walker, segment.elements, plan.root, [], token, wide)


def _holding(
    walker: Walker, elements: list[Element], node: Node, path: list[int], token: bytes, wide: bool
) -> Iterator[tuple[list[int], str, Act]]:
    for element in elements:
        tag, vr, _, start, stop, _, _ = element
        if token not in _plain(walker.buf[start:stop], wide):
            continue
        rule = _rule(walker, elements, node, element)
        here = [*path, tag]
        if vr == b"SQ" or rule.vr == "SQ":
            inner, items = walker.sequence(element, len(path))
            for item in items:
                yield from _holding(inner, item[4], rule.child or node, here, token, wide)
        else:
            yield here, rule.vr, rule.act


def _rule(walker: Walker, elements: list[Element], node: Node, element: Element) -> Rule:
    """Return what the plan says of an element; of a private one by the creator of its block on the same level."""
    tag, vr = element[0], element[1]
    if tag >> 16 & 1 and node.private is not None:
        home = tag & 0xFFFF0000 | tag >> 8 & 0xFF
        for other in elements:
            if other[0] == home:
                found = node.private(tag, creator_name(walker.buf[other[3] : other[4]]), vr)
                if found is not None:
                    return found
    return node[tag]


def _plain(value: bytes, wide: bool) -> bytes:
    return (value.replace(b"\0", b"") if wide else value).lower()


def _path(path: list[int]) -> str:
    return "/".join(tag_text(tag) for tag in path)
