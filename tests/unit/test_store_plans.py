"""No statement of the pipeline reads a ledger from end to end: what it asks goes down an index that fits the question.

SQLite has no statistics of its tables here, as in life, so its plans are the same for three rows as for fifty million.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from orthanc_deid.store import Store, commitments, deliveries, knowledge, ledger, recalls, studies, subjects
from orthanc_deid.store.rows import Outcome, Sent

from tests.ledgers import (
    PEER,
    PROJECT,
    VAULT,
    add,
    claim,
    finish,
    make_ready,
    make_released,
    output,
    sent,
    source,
    take,
)

LARGE = ("ledger", "deliveries", "sent", "outputs")
NUMBER = 60
"""Values in a list: SQLite prefers an index over many look-ups, but not over a few."""


class Asked:
    """Every statement that a connection runs, with how SQLite finds the rows."""

    def __init__(self, conn: sa.Connection) -> None:
        self.plans: dict[str, list[str]] = {}
        self._conn = conn

    def __call__(self, conn: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        if statement in self.plans or not re.match(r"SELECT|UPDATE|DELETE|INSERT|WITH", statement):
            return
        self.plans[statement] = []
        one = values[0] if many else values
        steps = self._conn.connection.driver_connection.execute(f"EXPLAIN QUERY PLAN {statement}", one)
        self.plans[statement] = [str(step[3]) for step in steps]

    def slow(self) -> list[tuple[str, str]]:
        """Steps that read as much as there is of a project, with their statements."""
        found = []
        for statement, steps in self.plans.items():
            for step in steps:
                table = re.match(r"(?:SCAN|SEARCH) (\w+)", step)
                if table is None or table[1] not in LARGE:
                    continue
                partial = re.search(r"INDEX (ix_\w+)", step) is not None and "_project_study_index_state" not in step
                whole = step.startswith("SCAN") or "(project=?)" in step or "(project=? AND destination=?)" in step
                if whole and not partial:
                    found.append((step, re.sub(r"(\?, )+", "…, ", statement)))
        return found


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sa.Connection]:
    store = Store.open(tmp_path / "deid.sqlite3")
    with store.begin() as conn:
        yield conn
    store.close()


def test_what_the_pipeline_asks(conn: sa.Connection) -> None:
    asked = Asked(conn)
    sa.event.listen(conn.engine, "before_cursor_execute", asked)
    names = [f"n{number}" for number in range(NUMBER)]
    rows = make_released(conn, *names)
    sent(conn, *(Sent(one.id, "confirmed") for one in take(conn)))
    held = [row.id for row in add(conn, *(f"h{number}" for number in range(NUMBER)))]
    claim(conn)
    finish(conn, *(Outcome(row, "quarantined", reason="unparsable") for row in held))
    waits = make_ready(conn, *(f"w{number}" for number in range(NUMBER)))
    ledger.unfinished(conn, PROJECT)
    ledger.backlog(conn)
    ledger.counts(conn)
    ledger.reasons(conn)
    ledger.oldest_unfinished(conn)
    ledger.confirmed_since(conn, PROJECT, 0.0)
    ledger.quarantine(conn, PROJECT)
    ledger.quarantine(conn, PROJECT, reason="unparsable")
    ledger.quarantine_count(conn, PROJECT)
    ledger.known_sources(conn, PROJECT, [source(name).instance.index for name in names])
    ledger.knows_output(conn, PROJECT, [output(name).sop for name in names])
    list(ledger.live_outputs(conn, PROJECT))
    ledger.requeue_orphans(conn, 300.0, owner="nobody")
    ledger.remake(conn, waits, 300.0)
    deliveries.due(conn, 300.0)
    deliveries.next_due(conn, 300.0, "here")
    deliveries.counts(conn)
    deliveries.requeue_orphans(conn, 300.0, owner="nobody")
    commitments.to_ask(conn, PEER, 300.0, 60.0, 500, "here")
    commitments.ended(conn, rows)
    commitments.stored(conn, PROJECT, PEER, 500)
    knowledge.late(conn)
    knowledge.outdated(conn, PROJECT, PEER, 300.0, output("n0").study)
    studies.due(conn, PROJECT, 300.0, 60)
    studies.next_quiet(conn, PROJECT, 60)
    studies.page(conn, PROJECT)
    studies.known(conn, PROJECT, [VAULT.index("study", "1.2.3")])
    subjects.page(conn, PROJECT)
    recalls.page(conn, PROJECT, 0, 100)
    recalls.of_study(conn, PROJECT, output("n0").study)
    recalls.among_other_plans(conn, rows, ["p" * 64])
    recalls.sources(conn, rows)
    recalls.replace(conn, rows, 400.0)
    recalls.resend(conn, rows, [PEER], 401.0)
    recalls.recall(conn, rows, 402.0)
    recalls.gone(conn, recalls.due(conn, 403.0), 403.0)
    recalls.todos(conn)
    assert len(asked.plans) > 60, "they were seen"
    assert asked.slow() == []
    # A subquery that is about the row outside of it names that one's table only there.
    assert [
        text for text in asked.plans if "FROM ledger, deliveries" in text or "FROM deliveries, ledger" in text
    ] == []
