"""The tables, as SQLAlchemy Core sees them; `migrations` makes the same ones, and a test holds the two together.

Nothing that identifies stands here in the clear. Columns named `*_index` are keyed (identity.vault), `*_sealed` are
encrypted, `out_*` are pseudonymous; what is `Compact` is short bytes in the database; times are seconds of the UTC
epoch, handed in by the callers.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from orthanc_deid.store.compact import Compact
from orthanc_deid.store.rows import (
    HELD,
    OPEN,
    PAUSED,
    PENDING,
    QUEUED,
    READY,
    SENDING,
    STORED,
    WORKING,
)

NAMES = {
    "pk": "pk_%(table_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
}
metadata = sa.MetaData(naming_convention=NAMES)

# Almost all rows are past the end of their way: only the OPEN ones are in most indexes, and these stay small for ever.


def among(column: sa.ColumnElement[Any], *states: str) -> sa.ColumnElement[bool]:
    """Return the condition that a state is one of these, written out: SQLite takes a partial index for no other."""
    literals: list[sa.ColumnElement[Any]] = [sa.literal_column(f"'{state}'") for state in sorted(states)]
    return column == literals[0] if len(literals) == 1 else column.in_(literals)


def _where(*states: str) -> dict[str, Any]:
    """Let an index have the rows in these states alone."""
    names = ", ".join(f"'{state}'" for state in sorted(states))
    text = sa.text(f"state = {names}" if len(states) == 1 else f"state IN ({names})")
    return {"sqlite_where": text, "postgresql_where": text}


TAKEN_BACK = "recall IS NOT NULL"
"""Few deliveries are being taken back or replaced."""
SPOOLED = "spool IS NOT NULL"
"""Few rows have their original in the spool."""
UNCOUNTED = "outcome IS NULL"
FETCHED_HERE = "fetched"
"""What a job has in hand, and what it fetched: few of its rows, looked for often."""

# On SQLite only a column of type INTEGER becomes the row id; on PostgreSQL ids outgrow 32 bits.
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.String(100), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

projects = sa.Table(
    "projects",
    metadata,
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("key_id", sa.Integer, nullable=False),  # the key that the project began with, and stays with
    sa.Column("key_fingerprint", sa.String(16), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)

subjects = sa.Table(
    "subjects",
    metadata,
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("subject_index", Compact, primary_key=True),
    sa.Column("pseudonym", sa.String(64), nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # identity domain and patient id
    sa.Column("birth_hash", Compact),  # keyed, of the first object that had one; so is sex_hash
    sa.Column("sex_hash", Compact),
    sa.Column("revision", sa.Integer, nullable=False, server_default="0"),  # counts when values were learnt
    sa.Column("first_seen", sa.Float, nullable=False),
    sa.UniqueConstraint("project", "pseudonym"),
)

subject_values = sa.Table(
    "subject_values",
    metadata,
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("subject_index", Compact, primary_key=True),
    sa.Column("value_index", Compact, primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # a value that verification searches for
    sa.Column("revision", sa.Integer, nullable=False, server_default="0"),  # the subject's, when this was learnt
    sqlite_with_rowid=False,
)

studies = sa.Table(
    "studies",
    metadata,
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("study_index", Compact, primary_key=True),
    sa.Column("study_sealed", sa.LargeBinary, nullable=False),
    sa.Column("subject_index", Compact),  # the subject of its first object; another one is a contradiction
    sa.Column("out_patient", sa.String(64)),
    sa.Column("out_study", Compact),
    sa.Column("last_arrival", sa.Float, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # open | released | held
    sa.Index(None, "project", "out_study"),
    sa.Index(None, "project", "subject_index"),
)

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(64), nullable=False),
    sa.Column("source_index", Compact, nullable=False),  # of Orthanc's instance id
    sa.Column("source_digest", Compact, nullable=False),  # of the bytes, as Orthanc tells it
    sa.Column("source_version", Compact),  # of the stored file, random: another one may hold other bytes
    sa.Column("source_sealed", sa.LargeBinary, nullable=False),
    sa.Column("origin", sa.String(8), nullable=False, server_default="orthanc"),  # orthanc | spool: who has the bytes
    sa.Column("spool", sa.String(32)),  # name of the file in the spool, random; none once it is not needed any more
    sa.Column("series_index", Compact, nullable=False),  # of Orthanc's series id
    sa.Column("study_index", Compact, nullable=False),  # of the Study Instance UID
    sa.Column("subject_index", Compact),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(40)),
    sa.Column("tag", sa.BigInteger),
    sa.Column("findings", sa.Text),  # JSON without values
    sa.Column("out_patient", sa.String(64)),
    sa.Column("out_study", Compact),
    sa.Column("out_series", Compact),
    sa.Column("out_sop", Compact),
    sa.Column("out_orthanc_id", Compact),
    sa.Column("out_digest", Compact),  # SHA-256 of the verified bytes
    sa.Column("out_size", sa.BigInteger),
    sa.Column("plan_digest", Compact),
    sa.Column("known_revision", sa.Integer),  # the subject's, up to which its values were searched for in the output
    sa.Column("late", sa.Float),  # when a value was learnt that was not, after the output had left
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("owner", sa.String(64)),  # the service that works on it
    sa.Column("outbox", sa.String(32)),  # the outbox that the output lies in; none where nobody knows
    sa.Column("push", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("priority", sa.SmallInteger, nullable=False, server_default="0"),  # the smallest first (rows.FRESH, …)
    sa.Column("job_id", sa.String(36)),  # the job that brought it in; none when it arrived by itself
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("confirmed", sa.Float),
    sa.UniqueConstraint("project", "source_index", "source_digest"),
    sa.Index(None, "project", "study_index", "state"),
    # Whose turn it is, and what of a series is next. The state is in them too, lest SQLite takes another one and sorts.
    sa.Index("ix_ledger_queue", "state", "priority", "id", "project", "series_index", **_where(QUEUED)),
    sa.Index("ix_ledger_queue_of_series", "state", "project", "series_index", "priority", "id", **_where(QUEUED)),
    sa.Index("ix_ledger_working", "owner", **_where(WORKING)),
    # With the state, so that SQLite need not look into the table.
    sa.Index("ix_ledger_ready", "project", "study_index", "state", **_where(READY)),
    sa.Index("ix_ledger_open", "project", "id", **_where(*OPEN)),
    sa.Index("ix_ledger_held", "id", **_where(*HELD)),
    sa.Index("ix_ledger_held_project", "project", "id", **_where(*HELD)),
    sa.Index("ix_ledger_held_reason", "project", "reason", "id", **_where(*HELD)),
    sa.Index("ix_ledger_waiting_job", "job_id", **_where(QUEUED, PAUSED)),
    sa.Index("ix_ledger_spool", "spool", sqlite_where=sa.text(SPOOLED), postgresql_where=sa.text(SPOOLED)),
    sa.Index("ix_ledger_spool_state", "state", sqlite_where=sa.text(SPOOLED), postgresql_where=sa.text(SPOOLED)),
)

outputs = sa.Table(
    # Who an output UID belongs to: one source each, though its content may come in several versions.
    "outputs",
    metadata,
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("out_sop", Compact, primary_key=True),
    sa.Column("source_index", Compact, nullable=False),
    sqlite_with_rowid=False,
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("ledger_id", Id, sa.ForeignKey("ledger.id", ondelete="CASCADE"), nullable=False),
    sa.Column("destination", sa.String(100), nullable=False),
    sa.Column("project", sa.String(64), nullable=False),
    sa.Column("out_study", Compact, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # rows.py has them
    sa.Column("sent_digest", Compact),  # of the bytes of the last attempt, written before they go
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_try", sa.Float, nullable=False),
    sa.Column("priority", sa.SmallInteger, nullable=False, server_default="0"),  # that of its row of the ledger
    sa.Column("owner", sa.String(64)),
    sa.Column("reason", sa.String(40)),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("transaction_uid", sa.String(64)),  # the storage commitment that was asked for
    sa.Column("recall", sa.String(8)),  # recall | replace: what was sent is to be deleted there
    sa.Column("there", sa.Text),  # JSON: under which UIDs, where the output's may be others by now
    sa.UniqueConstraint("ledger_id", "destination"),
    sa.Index("ix_deliveries_pending", "destination", "project", "out_study", "id", **_where(PENDING)),
    sa.Index("ix_deliveries_next", "next_try", **_where(PENDING)),
    sa.Index("ix_deliveries_sending", "owner", **_where(SENDING)),
    sa.Index("ix_deliveries_stored", "destination", **_where(STORED)),
    sa.Index("ix_deliveries_recall", "id", sqlite_where=sa.text(TAKEN_BACK), postgresql_where=sa.text(TAKEN_BACK)),
)

sent = sa.Table(
    # What a destination may hold under an output UID: every digest that was, perhaps, sent there.
    "sent",
    metadata,
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("destination", sa.String(100), primary_key=True),
    sa.Column("out_sop", Compact, primary_key=True),
    sa.Column("digest", Compact, primary_key=True),
    sa.Column("times", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)

variants = sa.Table(
    # Bytes that were sent in place of an output's own (another transfer syntax, XNAT's attribute): what was made of it.
    "variants",
    metadata,
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("destination", sa.String(100), primary_key=True),
    sa.Column("out_sop", Compact, primary_key=True),
    sa.Column("digest", Compact, primary_key=True),  # of the output
    sa.Column("variant_digest", Compact, primary_key=True),  # of what went
    sa.Column("made", sa.String(80), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)

commitments = sa.Table(
    # Storage commitments that were asked for and not yet answered.
    "commitments",
    metadata,
    sa.Column("transaction_uid", sa.String(64), primary_key=True),
    sa.Column("destination", sa.String(100), nullable=False),
    sa.Column("asked", sa.Float, nullable=False),
    sa.Column("due", sa.Float, nullable=False),  # asked again, by another transaction, after this time
)

expected = sa.Table(
    # Orthanc ids that our own research copies will have, written down before they are stored.
    "expected",
    metadata,
    sa.Column("orthanc_id", Compact, primary_key=True),
    sa.Column("project", sa.String(64), nullable=False),
    sa.Column("digest", Compact, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sqlite_with_rowid=False,
)

services = sa.Table(
    # The services that share this database and live; times are those of the database's own clock.
    "services",
    metadata,
    sa.Column("owner", sa.String(64), primary_key=True),  # one run of a service
    sa.Column("outbox", sa.String(32), nullable=False),
    sa.Column("name", sa.String(100), nullable=False),  # of the machine, for people
    sa.Column("started", sa.Float, nullable=False),
    sa.Column("beat", sa.Float, nullable=False),
)

leases = sa.Table(
    # What only one service does at a time, and which one.
    "leases",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("term", sa.Integer, nullable=False),  # counts the changes of hands
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("type", sa.String(40), nullable=False),
    sa.Column("project", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("completed", sa.Float),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("content", sa.Text, nullable=False),  # JSON without values
    sa.Column("priority", sa.Integer, nullable=False, server_default="0"),  # as in Orthanc: the greater, the sooner
    sa.Column("tidied", sa.Boolean, nullable=False, server_default=sa.false()),  # its links are no longer needed
    sa.Index(None, "created"),
    sa.Index(None, "state"),
)

job_items = sa.Table(
    # The ledger's rows of a job. What has come to an outcome is counted in job_counts and looked at no more: so a look
    # at a job costs as much as what it has in hand, not as much as all that it ever had.
    "job_items",
    metadata,
    sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("ledger_id", Id, sa.ForeignKey("ledger.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("outcome", sa.String(16)),  # the state that it is counted in; none while it is in hand
    sa.Column("reason", sa.String(40)),
    sa.Column("fetched", sa.Boolean, nullable=False, server_default=sa.false()),  # the job fetched its original itself
    sa.Index(None, "ledger_id"),
    sa.Index(
        "ix_job_items_open", "job_id", "ledger_id", sqlite_where=sa.text(UNCOUNTED), postgresql_where=sa.text(UNCOUNTED)
    ),
    sa.Index(
        "ix_job_items_fetched",
        "job_id",
        "ledger_id",
        sqlite_where=sa.text(FETCHED_HERE),
        postgresql_where=sa.text(FETCHED_HERE),
    ),
)

job_counts = sa.Table(
    # How many rows of a job came to which outcome.
    "job_counts",
    metadata,
    sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("state", sa.String(16), primary_key=True),
    sa.Column("reason", sa.String(40), primary_key=True),  # empty: none
    sa.Column("number", sa.BigInteger, nullable=False),
)

job_parts = sa.Table(
    # The resources that a job is over, sealed, some hundreds in a row.
    "job_parts",
    metadata,
    sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)

job_lines = sa.Table(
    # The lines of a cohort that is fetched from elsewhere.
    "job_lines",
    metadata,
    sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("line", sa.Integer, primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # what is asked for; empty once the job has succeeded
    sa.Column("progress", sa.LargeBinary),  # sealed: the studies found, and what of them was here before
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(40)),
    sa.Column("studies", sa.Integer, nullable=False, server_default="0"),  # found
    sa.Column("fetched", sa.Integer, nullable=False, server_default="0"),  # instances that were not here before
    sa.Column("handed", sa.Integer, nullable=False, server_default="0"),  # instances handed over to the project
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_try", sa.Float, nullable=False, server_default="0"),
    sa.Index(None, "job_id", "state", "next_try"),
)

job_studies = sa.Table(
    # What a dry run says of each research study.
    "job_studies",
    metadata,
    sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("out_study", sa.String(64), primary_key=True),
    sa.Column("out_patient", sa.String(64), primary_key=True),
    sa.Column("outcome", sa.String(16), primary_key=True),
    sa.Column("reason", sa.String(40), primary_key=True),  # empty: none
    sa.Column("number", sa.BigInteger, nullable=False),
)

# Counters, kept by triggers in the transactions that change what they count (counting.py). `slot` is 0 on SQLite, and
# on PostgreSQL the session's process, so that sessions do not wait for each other; the sum over the slots counts.

instance_counts = sa.Table(
    "instance_counts",
    metadata,
    sa.Column("slot", sa.Integer, primary_key=True),
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), primary_key=True),
    sa.Column("reason", sa.String(40), primary_key=True),  # empty: none
    sa.Column("late", sa.Boolean, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

event_counts = sa.Table(
    # How often rows came into a state, by minutes of the epoch; old minutes are put together as 0.
    "event_counts",
    metadata,
    sa.Column("slot", sa.Integer, primary_key=True),
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), primary_key=True),
    sa.Column("minute", sa.Integer, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

delivery_counts = sa.Table(
    "delivery_counts",
    metadata,
    sa.Column("slot", sa.Integer, primary_key=True),
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("destination", sa.String(100), primary_key=True),
    sa.Column("state", sa.String(16), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
