"""De-identifies one instance: walk, plan, pixels, rewrite, clean, verify, write. Pure: no clock, network, database."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

from . import encrypted, markers, pixels
from .actions import Piece, Rewriter
from .changes import changer
from .dates import parse_zone
from .encrypted import Encrypt
from .errors import Quarantined
from .pixelrisk import refuse
from .plan import Act, Plan
from .search import find
from .sinks import Sink
from .source import Source
from .uids import map_uid
from .values import NOTHING_KNOWN, Harvest, Known, identifying
from .verify import Verifier
from .walk import PIXEL_DATA

_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Subject:
    """Who stands for the patient in the output. `uid_key` has 32 bytes; `known` are values from other objects.

    `date_offset` (days, negative) and `time_offset` (seconds) serve profiles that move dates.
    """

    pseudonym: str
    uid_key: bytes
    date_offset: int = 0
    time_offset: int = 0
    known: Known = NOTHING_KNOWN

    def __repr__(self) -> str:
        return "Subject(…)"


@dataclass(frozen=True, slots=True)
class Report:
    """What was made: the output's UIDs and size in bytes, attributes counted by action, and what was harvested.

    `harvested` holds values of the patient's: it is for sealing, everything else may be shown.
    """

    study_uid: str
    series_uid: str
    sop_uid: str
    size: int
    counts: dict[str, int] = field(default_factory=dict)
    harvested: Known = field(default=NOTHING_KNOWN, repr=False)


def deidentify(source: Source, plan: Plan, subject: Subject, sink: Sink, encrypt: Encrypt | None = None) -> Report:
    """Write the de-identified instance to `sink` and report on it.

    With `encrypt`, what was removed goes along, encrypted, in the Encrypted Attributes Sequence.

    Raises Quarantined with a reason; what the sink took by then is to be thrown away. The result is the same for the
    same source, plan and subject, whenever and wherever it is made.
    """
    facts = source.facts
    for tag, uid in ((0x00080018, facts.sop_instance), (0x0020000D, facts.study), (0x0020000E, facts.series)):
        if not uid:
            raise Quarantined("unparsable", "an instance without this UID", tag)
    refuse(facts, keep_documents=plan.spec.keep_encapsulated, keep_raw_data=plan.spec.keep_raw_data)
    replaced = pixels.prepare(source)
    check = pixels.hidden_bits(source)

    key = subject.uid_key
    sop_uid = new_uid(plan, key, 0x00080018, facts.sop_instance)
    marks = markers.elements(plan, source.syntax, key, sop_uid)
    pseudonym = subject.pseudonym.encode("ascii")
    forced: frozenset[tuple[int, int]] = frozenset()
    # To clean text, the object's own values have to be known before; those of sequences come with the first round.
    own = top_level(source) if plan.cleans else NOTHING_KNOWN
    known = subject.known.merge(own)
    zone = parse_zone(facts.raw(0x00080201) or b"") if plan.temporal == "MODIFIED" else None
    for _ in range(_ROUNDS):
        change = changer(plan.spec, subject.date_offset, subject.time_offset, zone, known.needles)
        rewriter = Rewriter(source, plan, key, pseudonym, marks, dict(replaced), forced, change)
        pieces = rewriter.run()
        harvested = own.merge(rewriter.harvest.known())
        merged = known.merge(harvested)
        needles = merged.needles
        hits = find(rewriter.kept, needles, rewriter.uids)
        if not hits and (merged is known or not plan.cleans):
            break
        forced |= {hit[0] for hit in hits}
        known = merged
    else:
        raise Quarantined("value-left", "values of the subject's stand in what is kept", hits[0][1] if hits else None)

    if encrypt is not None:
        rewriter = Rewriter(source, plan, key, pseudonym, marks, dict(replaced), forced, change, removed=[])
        rewriter.run()
        marks = sorted([*marks, (encrypted.SEQUENCE, encrypted.sequence(rewriter.removed or [], source, encrypt))])
        rewriter = Rewriter(source, plan, key, pseudonym, marks, dict(replaced), forced, change)
        pieces = rewriter.run()

    verifier = Verifier(plan, source.syntax, pseudonym, key, rewriter.uids, change, rewriter.changes)
    verifier.check(source, pieces, dict(marks), needles, rewriter.uids, rewriter.kept)
    meta = markers.file_meta(facts.sop_class, sop_uid, source.syntax)
    size = _write(source, [meta, *pieces], check, sink)
    counts = {act.name.lower(): number for act, number in zip(Act, rewriter.counts, strict=True) if number}
    if rewriter.cleaned:
        counts["cleaned"] = rewriter.cleaned
    return Report(
        study_uid=new_uid(plan, key, 0x0020000D, facts.study),
        series_uid=new_uid(plan, key, 0x0020000E, facts.series),
        sop_uid=sop_uid,
        size=size,
        counts=counts,
        harvested=harvested,
    )


def new_uid(plan: Plan, uid_key: bytes, tag: int, uid: str) -> str:
    """Return what becomes of a UID of the top level: mapped, or itself where the profile retains UIDs."""
    return uid if plan.root[tag].act is Act.KEEP else map_uid(uid_key, uid)


def top_level(source: Source) -> Known:
    """Return the identifying values of the top level."""
    harvest = Harvest()
    kinds = identifying()
    charset = source.facts.charset
    for segment, (tag, _, _, start, stop, _, _) in source.facts.places(kinds.keys()):
        if start < stop <= len(segment.buf):
            harvest.raw.append((kinds[tag], segment.buf[start:stop], charset))
    return harvest.known()


def _write(source: Source, pieces: list[Piece], check: Any, sink: Sink) -> int:
    """Put the pieces out, in few writes; native pixels pass through `check` on their way."""
    if source.syntax.deflated:
        return _write_deflated(source, pieces, check, sink)
    pixels = _pixel_range(source) if check is not None else (0, 0)
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        if isinstance(piece, bytes):
            waiting.append(piece)
            size += len(piece)
            continue
        if waiting:
            sink.write(b"".join(waiting))
            waiting = []
        offset, length = piece
        size += length
        if pixels[0] <= offset < pixels[1]:
            for chunk in source.chunks(offset, length):
                check(chunk)
                sink.write(chunk)
        else:
            sink.copy(source, offset, length)
    if waiting:
        sink.write(b"".join(waiting))
    return size


def _write_deflated(source: Source, pieces: list[Piece], check: Any, sink: Sink) -> int:
    meta, *rest = [piece if isinstance(piece, bytes) else source.read(*piece) for piece in pieces]
    if check is not None:
        begin, end = _pixel_range(source)
        check(source.read(begin, end - begin))
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(b"".join(rest)) + packer.flush()
    packed += b"\0" * (len(packed) & 1)
    sink.write(meta)
    sink.write(packed)
    return len(meta) + len(packed)


def _pixel_range(source: Source) -> tuple[int, int]:
    place = source.facts.element(PIXEL_DATA)
    if place is None:
        return 0, 0
    segment, element = place
    return segment.base + element[3], segment.base + element[4]
