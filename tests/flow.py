"""What the tests of the whole way ask: what should come out of a source, what the ledger says, what the peer holds, and
whether anything that identifies stands anywhere.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from orthanc_deid.core.deidentify import deidentify
from orthanc_deid.core.errors import DeidError
from orthanc_deid.core.profile import Profile
from orthanc_deid.core.sinks import BytesSink
from orthanc_deid.core.source import Source
from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.identity.subjects import make_subject
from orthanc_deid.orthanc.push import orthanc_ids
from orthanc_deid.store.compact import unpack
from orthanc_deid.store.rows import TERMINAL

from tests import builders
from tests.builders import Origin, person
from tests.orthancs import CHECKOUT, Orthanc, until


@dataclass(frozen=True)
class Output:
    """What one source should become: Orthanc's id of the output and its bytes, or a reason why there is none."""

    orthanc_id: str
    data: bytes
    reason: str
    pseudonym: str


@dataclass(frozen=True)
class Row:
    """One row of the ledger."""

    project: str
    state: str
    reason: str | None
    out_orthanc_id: str | None
    out_digest: str | None
    out_patient: str | None
    out_study: str | None


def ct_series(number: int, study: int = 1, series: int = 1, slices: int = 4, rows: int = 32) -> list[bytes]:
    """Files of one CT series of patient `number`."""
    p = person(number)
    return [
        builders.to_bytes(builders.ct(Origin(p, study, series, n), rows=rows, columns=rows))
        for n in range(1, slices + 1)
    ]


def data_folder(clinical: Orthanc) -> Path:
    """The folder of the service's database, outbox and key."""
    return clinical.folder / "orthanc-deid"


def expected(clinical: Orthanc, files: Iterable[bytes], project: str = "lung", domain: str = "default") -> list[Output]:
    """Run the engine here, with the service's own key, on each file by itself."""
    keys = MasterKey.open(data_folder(clinical) / "master.key", create=False).project(project)
    profile = Profile.load(CHECKOUT / "profiles" / "basic.yaml")
    outputs = []
    for data in files:
        try:
            source = Source.from_bytes(data)
            plan = profile.plan(source.facts.sop_class)
            subject = make_subject(keys, domain, source.facts).subject
            sink = BytesSink()
            report = deidentify(source, plan, subject, sink)
        except DeidError as refusal:
            outputs.append(Output("", b"", refusal.reason, ""))
            continue
        name = orthanc_ids(subject.pseudonym, report.study_uid, report.series_uid, report.sop_uid)[2]
        outputs.append(Output(name, sink.getvalue(), "", subject.pseudonym))
    return outputs


def query(clinical: Orthanc, sql: str) -> list[tuple[object, ...]]:
    """Read the service's database from outside."""
    path = data_folder(clinical) / "deid.sqlite3"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(sql).fetchall()


def ledger(clinical: Orthanc) -> list[Row]:
    """All rows of the ledger."""
    columns = "project, state, reason, out_orthanc_id, out_digest, out_patient, out_study"
    rows = query(clinical, f"SELECT {columns} FROM ledger ORDER BY id")
    return [Row(*(unpack(value) if isinstance(value, bytes) else value for value in row)) for row in rows]  # type: ignore[arg-type]


def settled(clinical: Orthanc, number: int, seconds: float = 90, also: Iterable[str] = ()) -> list[Row]:
    """Wait until the ledger has exactly `number` rows and each has its outcome; return them."""
    final = TERMINAL | set(also)

    def done() -> list[Row] | None:
        rows = ledger(clinical)
        assert len(rows) <= number, f"{len(rows)} rows for {number} sources"
        return rows if len(rows) == number and all(row.state in final for row in rows) else None

    try:
        return until(done, seconds, f"{number} outcomes") or []
    except AssertionError as error:
        states = Counter((row.state, row.reason) for row in ledger(clinical))
        raise AssertionError(f"{error}; {dict(states)}\n{clinical.tail(40)}") from None


def check_peer(peer: Orthanc, outputs: Iterable[Output]) -> None:
    """The peer holds exactly the expected instances with exactly the expected bytes."""
    wanted = {output.orthanc_id: hashlib.sha256(output.data).hexdigest() for output in outputs if not output.reason}
    held = {instance: hashlib.sha256(peer.file(instance)).hexdigest() for instance in peer.instances()}
    assert held == wanted


def check_ledger(rows: Iterable[Row], outputs: Iterable[Output]) -> None:
    """Each source has exactly one outcome: the digest of its output confirmed, or its reason."""
    said = Counter((row.state, row.reason or "", row.out_digest or "") for row in rows)
    wanted: Counter[tuple[str, str, str]] = Counter()
    for output in outputs:
        if output.reason:
            wanted["quarantined", output.reason, ""] += 1
        else:
            wanted["confirmed", "", hashlib.sha256(output.data).hexdigest()] += 1
    assert said == wanted


def identifying(numbers: Iterable[int], studies: Iterable[int] = (1,)) -> dict[str, str]:
    """Values of the patients that must not be found anywhere, by what they are."""
    values: dict[str, str] = {}
    for number in numbers:
        p = person(number)
        family, given = p.name.split("^")[:2]
        values |= {
            f"family name of {number}": family,
            f"given name of {number}": given,
            f"id of {number}": p.patient_id,
            f"birth date of {number}": p.birth_date,
            f"institution of {number}": p.institution,
            f"referring physician of {number}": p.referring.split("^")[0],
        }
        for study in studies:
            o = Origin(p, study)
            values |= {
                f"accession number of {number}/{study}": p.accession(study),
                f"study UID of {number}/{study}": o.study_uid,
                f"series UID of {number}/{study}": o.series_uid,
                f"SOP UID of {number}/{study}": o.sop_uid,
            }
            study_id, series_id, instance_id = orthanc_ids(p.patient_id, o.study_uid, o.series_uid, o.sop_uid)
            values |= {
                f"Orthanc's study id of {number}/{study}": study_id,
                f"Orthanc's series id of {number}/{study}": series_id,
                f"Orthanc's instance id of {number}/{study}": instance_id,
            }
    return values


def sweep(values: dict[str, str], clinical: Orthanc, peer: Orthanc | None = None) -> None:
    """No value stands in the service's folder, in the logs, in metrics and health, or anywhere at the peer."""
    places = {"/deid/metrics": clinical.request("GET", "/deid/metrics").content}
    places["/deid/health"] = clinical.request("GET", "/deid/health").content
    files = [path for path in data_folder(clinical).rglob("*") if path.is_file()] + [clinical.log]
    if peer is not None:
        files += [path for path in (peer.folder / "storage").rglob("*") if path.is_file()] + [peer.log]
    for path in files:
        try:
            places[str(path.relative_to(path.parents[2]))] = path.read_bytes()
        except FileNotFoundError:  # an outbox file that has just been sent
            continue
    found = []
    for place, data in places.items():
        low = data.lower()
        for what, value in values.items():
            if value.lower().encode() in low or value.lower().encode("utf-16-le") in low:
                found.append(f"{what} in {place}")
    assert not found, found
