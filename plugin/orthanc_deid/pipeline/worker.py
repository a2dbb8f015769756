"""What runs in a worker process: fetch an instance, de-identify and verify it, leave the output in the outbox.

A worker has no database and writes no log: it speaks over one pipe with the service, and what it says carries keyed
hashes, sealed values, pseudonyms and reason codes, never a value of an attribute. It ends when the pipe does.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import hmac
import os
import resource
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from orthanc_deid.core.deidentify import deidentify
from orthanc_deid.core.encrypted import Encrypt
from orthanc_deid.core.errors import DeidError, Quarantined, Rejected
from orthanc_deid.core.markers import mark
from orthanc_deid.core.profile import Profile
from orthanc_deid.core.sinks import FileSink
from orthanc_deid.core.source import Facts, Source
from orthanc_deid.core.uids import map_uid
from orthanc_deid.core.values import Known
from orthanc_deid.identity.envelope import EnvelopeError, encryptor, recipients
from orthanc_deid.identity.subjects import BIRTH_DATE, SEX, Identity, make_subject
from orthanc_deid.identity.vault import Ref, Vault
from orthanc_deid.orthanc.client import (
    AILING,
    DAMAGED,
    Failed,
    Fetched,
    NotFound,
    OrthancClient,
    OrthancError,
    md5_hex,
)
from orthanc_deid.orthanc.push import orthanc_ids
from orthanc_deid.pipeline.messages import (
    AskKnown,
    Chunk,
    Done,
    End,
    GiveWay,
    Item,
    Made,
    ProjectSetup,
    Setup,
    source_digest,
)
from orthanc_deid.pipeline.outbox import Outbox
from orthanc_deid.pipeline.spoolfolder import find, titles
from orthanc_deid.tuning import settle, stand_back

MEMORY_BYTES = 24 << 20
"""A source longer than this is not held in memory but in an unlinked file of the outbox."""
MODALITY = 0x00080060
STUDY_UID = 0x0020000D
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SUBJECTS_REMEMBERED = 64
"""Subjects whose known values a worker keeps."""


class Knowledge:
    """What a worker knows of one subject: what the database told, and what the objects of this chunk add to that."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._refs: dict[tuple[str, str], Ref] = {}
        self.revision = -1
        self.told = Known()
        self.known = self.told

    def update(self, revision: int, sealed: Iterable[bytes]) -> None:
        """Take what the database knows by now; what was only seen in the last chunk counts no more."""
        told = [Known.load(self._vault.open_bytes("known", value)).values for value in sealed]
        self.told = self.told.merge(Known(frozenset().union(*told)))
        self.revision = revision
        self.known = self.told
        self._refs.clear()

    def add(self, harvested: Known) -> tuple[Ref, ...]:
        """Add an object's own values; return those that the database has not told, each by itself."""
        new = harvested.values - self.told.values
        if not new:
            return ()
        for value in new - self._refs.keys():
            self._refs[value] = self._vault.ref_bytes("known", Known(frozenset([value])).dump())
        self.known = self.known.merge(harvested)
        return tuple(self._refs[value] for value in sorted(new))

    @property
    def beyond(self) -> tuple[str, ...]:
        """Indexes of what is known beyond what the database told."""
        return tuple(ref.index for ref in self._refs.values())


class Unreadable(Exception):
    """Orthanc answers, and cannot read the file of this instance; `alone`: it has one of other bytes than were stored
    once, or none but those of other instances. Otherwise its whole storage may be away."""

    def __init__(self, alone: bool) -> None:
        super().__init__("the source cannot be read")
        self.alone = alone


class Worker:
    """Does the items of chunks, one after the other."""

    def __init__(self, pipe: Connection, setup: Setup) -> None:
        self._pipe = pipe
        self._setup = setup
        self._client = OrthancClient(setup.orthanc_url, setup.authorization, setup.ca)
        self._outbox = Outbox(setup.outbox)
        self._profiles: dict[str, Profile] = {}
        self._encrypt: dict[str, Encrypt] = {}
        self._known: dict[tuple[str, str], Knowledge] = {}
        self._asked: set[tuple[str, str]] = set()
        self._give_way = False
        self._last: tuple[tuple[object, ...], Identity] | None = None
        self._seen: dict[str, Any] = {}

    def warm_up(self) -> None:
        """Load the profiles and compile one plan, so that the first instance does not wait for that."""
        for setup in self._setup.projects.values():
            with suppress(DeidError):
                self._profile(setup).plan(CT_IMAGE)

    def serve(self) -> None:
        """Do chunks until the service hangs up."""
        while True:
            chunk: Chunk = self._receive()
            self._give_way = False  # what was asked for during the last item of the chunk before
            self._asked.clear()  # other workers may have seen more of these subjects meanwhile
            for item in chunk.items:
                self._pipe.send(self.do(chunk.project, item, chunk.dry))
                if self._gives_way():
                    break
            gc.collect(1)
            self._pipe.send(End(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))

    def _receive(self) -> Any:
        """Return what the service says next; that it asks to give way is noted."""
        while isinstance(said := self._pipe.recv(), GiveWay):
            self._give_way = True
        return said

    def _gives_way(self) -> bool:
        while self._pipe.poll():  # nothing else can be there now: nothing was asked
            self._pipe.recv()
            self._give_way = True
        return self._give_way

    def do(self, project: str, item: Item, dry: bool = False) -> Done:
        """Do one item; whatever happens, the answer is an outcome. Of a dry run, `findings` say what was seen."""
        began = time.monotonic()
        self._seen = {}
        done = self._outcome(project, item, dry)
        if not dry:
            return done
        actions = (done.findings or {}).get("actions", {}) if done.state == "ready" else {}
        seen = {**self._seen, "actions": actions, "seconds": time.monotonic() - began}
        return dataclasses.replace(done, findings=seen)

    def _outcome(self, project: str, item: Item, dry: bool) -> Done:
        setup = self._setup.projects[project]
        fetched: Fetched | None = None
        try:
            fetched = self._fetch(item)
            if not dry and not self._is_meant(setup, item, fetched):
                return Done(item.row, "changed")
            return self._deidentify(setup, item, fetched, dry)
        except NotFound:
            return Done(item.row, "source-lost", "source-lost")
        except Unreadable as damage:
            return Done(item.row, "unreadable", "source-unreadable", findings={"alone": damage.alone})
        except OrthancError:
            return Done(item.row, "wait", "orthanc")
        except Rejected as refusal:
            return Done(item.row, "rejected", refusal.reason, refusal.tag)
        except DeidError as refusal:
            return Done(item.row, "quarantined", refusal.reason, refusal.tag, {"detail": refusal.detail})
        except MemoryError:
            return Done(item.row, "quarantined", "too-large")
        except EnvelopeError:
            return Done(item.row, "quarantined", "recipient", findings={"detail": "a certificate cannot be used"})
        except OSError as error:
            return Done(item.row, "wait", "disk", findings={"errno": error.errno})
        except Exception as error:  # a fault of ours: the instance is parked, and only the kind of fault is told
            return Done(item.row, "quarantined", "error", findings={"error": type(error).__name__, "at": _place(error)})
        finally:
            if fetched is not None and fetched.file is not None:
                fetched.file.close()

    def _fetch(self, item: Item) -> Fetched:
        """Fetch the source from who has it. Raises NotFound, Unreadable, OrthancError, OSError."""
        if item.spool is None:
            try:
                return self._client.fetch(item.instance, self._setup.outbox, MEMORY_BYTES)
            except Failed as failure:
                if failure.status in (401, 403) or failure.number in AILING:
                    raise
                alone = failure.number in DAMAGED or self._client.reads_others(item.instance)
                raise Unreadable(alone) from None
        path = None if self._setup.spool is None else find(self._setup.spool, item.spool)
        if path is None:
            if self._setup.spool is None or not self._setup.spool.is_dir():
                raise FileNotFoundError  # gateway mode was switched off, or its disk is away: nothing is lost by that
            raise NotFound("the spool does not have it")
        file = path.open("rb")
        if os.fstat(file.fileno()).st_size > MEMORY_BYTES:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            file.seek(0)
            return Fetched(None, file, md5)
        with file:
            data = file.read()
        return Fetched(data, None, md5_hex(data))

    def _is_meant(self, setup: ProjectSetup, item: Item, fetched: Fetched) -> bool:
        """Whether what was fetched is the content that the ledger means. Raises Unreadable where it was, and is no
        longer what was once stored: before 1.13 Orthanc hands out a damaged file like any other, and a file of the
        spool is never written to again."""
        if source_digest(setup.keys, fetched.md5) == item.digest:
            return True
        if item.spool is not None:
            raise Unreadable(alone=True)
        name = self._client.content_name(item.instance)
        if source_digest(setup.keys, name) != item.digest:
            return False
        if len(name) == len(fetched.md5):  # an MD5, and not that of these bytes; other names are longer
            raise Unreadable(alone=True)
        return True

    def _deidentify(self, setup: ProjectSetup, item: Item, fetched: Fetched, dry: bool) -> Done:
        if fetched.data is not None:
            source = Source.from_bytes(fetched.data)
        else:
            source = Source.from_file(fetched.file)
        facts = source.facts
        if dry:
            size = os.fstat(fetched.file.fileno()).st_size if fetched.file else len(fetched.data or b"")
            self._look(setup, facts, size)
        self._refuse_own(facts.own_mark, facts.sop_instance)
        plan = self._profile(setup).plan(facts.sop_class)
        identity = self._identity(setup, item, facts)
        self._seen["patient"] = identity.subject.pseudonym
        knowledge = self._knowledge(setup, identity.seen.index)
        subject = dataclasses.replace(identity.subject, known=knowledge.known)
        file, name = self._outbox.begin(item.row)
        part: str | None = name
        try:
            sink = _Sink(file)
            report = deidentify(source, plan, subject, sink, self._encryptor(setup))
            if dry:
                self._seen["out_bytes"] = sink.digest()[1]
                return Done(item.row, "ready", findings={"actions": dict(report.counts)})
            digest, size = sink.digest()
            self._outbox.finish(name, item.row, digest)
            part = None
        finally:
            file.close()
            if part is not None:
                self._outbox.abandon(part)
        study, series, instance = orthanc_ids(subject.pseudonym, report.study_uid, report.series_uid, report.sop_uid)
        made = Made(
            subject.pseudonym,
            report.study_uid,
            report.series_uid,
            report.sop_uid,
            instance,
            series,
            study,
            digest,
            size,
            plan.digest,
        )
        new = knowledge.add(report.harvested)
        return Done(
            item.row,
            "ready",
            made=made,
            subject=identity.seen,
            revision=knowledge.revision,
            known=new,
            knew=knowledge.beyond,
        )

    def _look(self, setup: ProjectSetup, facts: Facts, size: int) -> None:
        """Note what a report of a dry run tells of a source: terms of the standard, and the research study's UID."""
        self._seen |= {"modality": str(facts.get(MODALITY) or ""), "sop_class": facts.sop_class, "bytes": size}
        study = str(facts.get(STUDY_UID) or "")
        if study:
            self._seen["study"] = map_uid(setup.keys.uid, study)

    def _identity(self, setup: ProjectSetup, item: Item, facts: Facts) -> Identity:
        """Identify the subject; that of the instance before is kept, since instances come in series."""
        domain = self._domain(setup, item)
        told = (setup.name, domain, facts.patient_id, facts.get(BIRTH_DATE), facts.get(SEX))
        if self._last is None or self._last[0] != told:
            self._last = told, make_subject(setup.keys, domain, facts)
        return self._last[1]

    def _refuse_own(self, found: str | None, sop: str) -> None:
        """Hold what this installation made: unchanged copies were recognised before they came here."""
        for other in self._setup.projects.values() if found else ():
            if hmac.compare_digest(found or "", mark(other.keys.uid, sop)):
                raise Quarantined(
                    "foreign-mark", "made by this installation, but not as the ledger knows it", 0x0018A001
                )

    def _profile(self, setup: ProjectSetup) -> Profile:
        profile = self._profiles.get(setup.name)
        if profile is None:
            profile = self._profiles[setup.name] = Profile.load(setup.profile)
        return profile

    def _encryptor(self, setup: ProjectSetup) -> Encrypt | None:
        """Return what encrypts for the project's recipients, None where it has none."""
        if not setup.encrypt_to:
            return None
        if setup.name not in self._encrypt:
            # Here and not in the service: a certificate that has run out by now parks what comes, and harms no other.
            self._encrypt[setup.name] = encryptor(recipients(setup.encrypt_to))
        return self._encrypt[setup.name]

    def _domain(self, setup: ProjectSetup, item: Item) -> str:
        if len(setup.domains) == 1:
            return next(iter(setup.domains.values()))
        if item.spool is not None and self._setup.spool is not None:
            caller = titles(self._setup.spool, item.spool)[0]
        else:
            caller = self._client.metadata(item.instance).get("RemoteAET", "")
        return setup.domains.get(caller, setup.domains["*"])

    def _knowledge(self, setup: ProjectSetup, subject: str) -> Knowledge:
        key = (setup.name, subject)
        knowledge = self._known.get(key)
        if knowledge is None:
            if len(self._known) >= SUBJECTS_REMEMBERED:
                self._known.clear()
                self._asked.clear()
            knowledge = self._known[key] = Knowledge(Vault(setup.keys))
        if key not in self._asked:
            self._pipe.send(AskKnown(setup.name, subject, knowledge.revision))
            knowledge.update(*self._receive())
            self._asked.add(key)
        return knowledge


class _Sink(FileSink):
    """Writes the output and takes its digest on the way, where the bytes pass through this process."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self._file = file
        self._sha = hashlib.sha256()
        self._size = 0
        self._past = False

    def write(self, data: bytes | memoryview) -> None:
        """Take new bytes."""
        super().write(data)
        self._sha.update(data)
        self._size += len(data)

    def copy(self, source: Source, offset: int, length: int) -> None:
        """Take a range of the source; of a file within the kernel, past the digest."""
        self._past = self._past or source.fd is not None
        super().copy(source, offset, length)

    def digest(self) -> tuple[str, int]:
        """Return SHA-256 and size of what was written."""
        if not self._past:
            return self._sha.hexdigest(), self._size
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest(), os.fstat(self._file.fileno()).st_size


def _place(error: BaseException) -> str:
    """Return where an exception came from, as module and line, without its text."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).stem}:{trace.tb_lineno}" if trace else "?"


def main(pipe: Connection, setup: Setup) -> None:
    """Run a worker until the service hangs up. Ctrl-C goes to the whole group, and the service decides what it
    means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    stand_back(setup.niceness)
    worker = Worker(pipe, setup)
    worker.warm_up()
    settle()
    with suppress(EOFError, ConnectionError):
        worker.serve()
