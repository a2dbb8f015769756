"""A service without processes or servers: the real database, keys and jobs, an Orthanc in memory, work done on call.

So the routes and the life of jobs are tested quickly and at exactly chosen moments; the tests on real servers show that
the real service is like this one.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orthanc_deid.config import Config
from orthanc_deid.identity.keys import MasterKey, ProjectKeys
from orthanc_deid.identity.subjects import identity_of
from orthanc_deid.identity.vault import Vault
from orthanc_deid.orthanc.client import Failed, NotFound, Unavailable
from orthanc_deid.orthanc.settings import Receivers
from orthanc_deid.pipeline.jobs import Jobs
from orthanc_deid.store import Store, deliveries, ledger, studies
from orthanc_deid.store import projects as projects_table
from orthanc_deid.store.ledger import NewSource, Outcome, Output

KINDS = ("Patient", "Study", "Series", "Instance")


def orthanc_id(text: str) -> str:
    """An id that looks like Orthanc's."""
    digits = hashlib.sha1(text.encode()).hexdigest()
    return "-".join(digits[start : start + 8] for start in range(0, 40, 8))


class OrthancDouble:
    """Patients, studies, series and instances in memory, and the routes that jobs ask."""

    def __init__(self) -> None:
        self.down = False
        self.refuses_queries = False
        self.asked: list[str] = []
        self.kind: dict[str, str] = {}
        self.children: dict[str, list[str]] = defaultdict(list)
        self.parent: dict[str, str] = {}
        self.tags: dict[str, dict[str, str]] = {}

    def add(self, patient: str, study: str, series: str, count: int) -> list[str]:
        """Store so many new instances; the names are only names. Returns their ids."""
        names = (patient, f"{patient}/{study}", f"{patient}/{study}/{series}")
        path = [orthanc_id(name) for name in names]
        for kind, id_, above in zip(KINDS, path, [None, *path], strict=False):
            if id_ not in self.kind:
                self.kind[id_] = kind
                self.tags[id_] = {"PatientID": patient, "StudyDescription": study, "SeriesDescription": series}
                if above:
                    self.children[above].append(id_)
                    self.parent[id_] = above
        before = len(self.children[path[2]])
        made = [orthanc_id(f"{names[2]}/{before + number}") for number in range(count)]
        for id_ in made:
            self.kind[id_] = "Instance"
            self.children[path[2]].append(id_)
            self.parent[id_] = path[2]
        return made

    def delete(self, id_: str) -> None:
        """Delete a resource with all below it, and what is empty above it."""
        for child in list(self.children.pop(id_, [])):
            self.delete(child)
        self.kind.pop(id_, None)
        above = self.parent.pop(id_, None)
        if above and id_ in self.children.get(above, []):
            self.children[above].remove(id_)
            if not self.children[above]:
                self.delete(above)

    def all(self, kind: str) -> list[str]:
        """The ids of one level, in the order of arrival."""
        return [id_ for id_, its in self.kind.items() if its == kind]

    def get_json(self, path: str, params: dict[str, Any] | None = None) -> Any:
        """GET, as jobs do."""
        self._answer(path)
        if path == "/statistics":
            return {
                f"Count{name}": len(self.all(kind)) for name, kind in (("Instances", "Instance"), ("Studies", "Study"))
            }
        if path in ("/instances", "/studies"):
            assert params is not None
            listed = self.all("Instance" if path == "/instances" else "Study")
            return listed[params["since"] :][: params["limit"]]
        _, level, id_ = path.split("/")
        kind = {"patients": "Patient", "studies": "Study", "series": "Series", "instances": "Instance"}[level]
        if self.kind.get(id_) != kind:
            raise NotFound("not here", 404)
        below = {"Patient": "Studies", "Study": "Series", "Series": "Instances"}.get(kind)
        return {"ID": id_, "Type": kind, **({below: list(self.children[id_])} if below else {})}

    def post_json(self, path: str, body: Any) -> Any:
        """POST, as jobs do."""
        self._answer(path)
        if path == "/tools/bulk-content":
            return [{"ID": id_, "Type": self.kind[id_]} for id_ in body["Resources"] if id_ in self.kind]
        assert path == "/tools/find" and body["Expand"] is False
        if self.refuses_queries:
            raise Failed("refused", 500)
        found = [
            id_
            for id_ in self.all(body["Level"])
            if all(self.tags.get(id_, {}).get(name) == value for name, value in body["Query"].items())
        ]
        return found[: body.get("Limit") or None]

    def _answer(self, path: str) -> None:
        self.asked.append(path)
        if self.down:
            raise Unavailable("nobody answers")


Fate = Callable[[str], str]
"""What becomes of an instance (by its id): `ready`, or a reason code of quarantine."""


class ServiceDouble:
    """What routes and jobs see of the service; `work()` does all that is queued at that moment."""

    def __init__(self, folder: Path, projects: Mapping[str, Mapping[str, Any]], profiles: Path) -> None:
        section = {"Python": "python3", "Profiles": str(profiles), "Projects": projects}
        self.config = Config.parse(section, data_directory=folder, load_profiles=False)
        self.store = Store.open(folder / "deid.sqlite3")
        self.orthanc = OrthancDouble()
        self.receivers = Receivers()
        self.master = MasterKey.random()
        with self.store.begin() as conn:
            self._keys = {name: projects_table.open_keys(conn, self.master, name, time.time()) for name in projects}
        self.own: set[str] = set()
        self.spool: set[str] = set()
        self.nudged = 0
        self.enqueued: list[list[str]] = []
        self.priorities: list[int] = []
        self.dry_fate: Fate = lambda _: "deidentified"
        self.rush = threading.Event()
        self.jobs = Jobs(self)

    def close(self) -> None:
        """Stop everything."""
        self.jobs.stop(10)
        self.store.close()

    def keys(self, project: str) -> ProjectKeys:
        """The keys of a project."""
        return self._keys[project]

    def enqueue(
        self,
        project: str,
        instance_ids: Iterable[str],
        job_id: str | None,
        *,
        push: bool = True,
        again: bool = False,
        priority: int = 10,
    ) -> int:
        """Put instances into the ledger; own copies are passed over."""
        vault = Vault(self.keys(project))
        ids = [id_ for id_ in instance_ids if id_ not in self.own]
        self.enqueued.append(ids)
        self.priorities.append(priority)
        sources = []
        for id_ in ids:
            series = self.orthanc.parent[id_]
            study = self.orthanc.parent[series]
            refs = [vault.ref(kind, name) for kind, name in (("instance", id_), ("series", series), ("study", study))]  # type: ignore[arg-type]
            sources.append(NewSource(*refs, digest="0" * 32))
        with self.store.begin() as conn:
            return len(ledger.add_many(conn, project, sources, time.time(), job_id=job_id, push=push, again=again))

    def dry_run(self, project: str, instance_ids: Sequence[str]) -> list[Mapping[str, Any]]:
        """Say what would happen."""
        results = []
        for id_ in instance_ids:
            fate = self.dry_fate(id_)
            done = fate == "deidentified"
            results.append(
                {
                    "outcome": fate if done else "quarantined",
                    "reason": None if done else fate,
                    "actions": {"REMOVE": 2},
                    "modality": "CT",
                    "sop_class": "1.2.840.10008.5.1.4.1.1.2",
                    "bytes": 1000,
                    "out_bytes": 900 if done else 0,
                    "seconds": 3.6,
                    "study": "2.25.1",
                    "patient": "PSEUDO",
                }
            )
        return results

    def work(
        self, fate: Fate = lambda _: "ready", *, only: int = 1_000_000, release: bool = True, answer: str = "confirmed"
    ) -> int:
        """Do at most `only` of what is queued: de-identify, release, deliver. Returns how many."""
        done = 0
        for project, id_, work in list(self._claim(only)):
            reason = fate(id_)
            outcome = self._ready(project, id_, work.id) if reason == "ready" else None
            with self.store.begin() as conn:
                row = outcome or Outcome(id=work.id, state="quarantined", reason=reason)
                ledger.finish_many(conn, project, [row], time.time())
                if outcome and release and self.config.projects[project].release != "manual":
                    ledger.release_rows(conn, [work.id], self._destinations(project), time.time())
            done += 1
        self.deliver(answer)
        return done

    def deliver(self, answer: str = "confirmed") -> None:
        """Let whatever is due at any destination come to this."""
        with self.store.begin() as conn:
            for due in deliveries.due(conn, time.time()):
                claimed = deliveries.claim(conn, due.project, due.destination, 10_000, "me", time.time())
                deliveries.finish_many(
                    conn, [deliveries.Sent(id=item.id, state=answer) for item in claimed], time.time()
                )

    def _destinations(self, project: str) -> list[str]:
        return [deliveries.peer(destination.name) for destination in self.config.projects[project].destinations]

    def _claim(self, only: int) -> Iterator[tuple[str, str, Any]]:
        with self.store.begin() as conn:
            for waiting in ledger.backlog(conn):
                vault = Vault(self.keys(waiting.project))
                claimed = ledger.claim(conn, waiting.project, waiting.series_index, only, "me", time.time())
                only -= len(claimed)
                for work in claimed:
                    yield waiting.project, vault.open("instance", work.instance_sealed), work

    def _ready(self, project: str, id_: str, ledger_id: int) -> Outcome:
        keys = self.keys(project)
        series = self.orthanc.parent[id_]
        study = self.orthanc.parent[series]
        identity = identity_of(keys, "default", self.orthanc.parent[study])

        def uid(text: str) -> str:
            return "2.25." + str(int(hashlib.sha256(keys.uid + text.encode()).hexdigest()[:30], 16))

        output = Output(
            patient=identity.subject.pseudonym,
            study=uid(study),
            series=uid(series),
            sop=uid(id_),
            orthanc_id=orthanc_id(uid(id_)),
            digest=hashlib.sha256(id_.encode()).hexdigest(),
            size=1000,
            plan_digest="0" * 64,
        )
        return Outcome(id=ledger_id, state="ready", output=output, subject=identity.seen)

    # What only the routes ask

    def nudge(self) -> None:
        """Count."""
        self.nudged += 1

    def stored(self) -> None:
        """Count."""
        self.nudged += 1

    def health(self) -> dict[str, Any]:
        """Nothing to complain of."""
        return {"State": "ok"}

    def render_metrics(self) -> bytes:
        """One metric."""
        return b"deid_up 1\n"

    def release(self, project: str, out_study: str) -> bool:
        """Release what is ready."""
        with self.store.begin() as conn:
            released = studies.release_out(conn, project, out_study, self._destinations(project), time.time())
        self.deliver()
        return bool(released)

    def hold(self, project: str, out_study: str) -> bool:
        """Hold a study."""
        with self.store.begin() as conn:
            return studies.hold(conn, project, out_study, time.time())

    def retry(self, ledger_id: int) -> bool:
        """Try again."""
        with self.store.begin() as conn:
            again = ledger.retry(conn, [ledger_id], time.time())
            return bool(again or deliveries.resend(conn, [ledger_id], time.time()))

    def exclude(self, ledger_id: int) -> bool:
        """Leave out."""
        with self.store.begin() as conn:
            return bool(ledger.exclude(conn, [ledger_id], time.time()))

    def unmatched(self, after: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """What no project takes."""
        names = sorted(name for name in self.spool if name > after)[:limit]
        return [{"ID": name, "Reason": "unmatched", "Since": 1.0, "Size": 3} for name in names]

    def discard(self, name: str) -> bool:
        """Delete one of them."""
        if name not in self.spool:
            return False
        self.spool.remove(name)
        return True
