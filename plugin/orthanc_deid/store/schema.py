"""The tables, as SQLAlchemy Core sees them; `migrations` makes the same ones, and a test holds the two together.

Nothing that identifies stands here in the clear. Columns named `*_index` are keyed (identity.vault), `*_sealed` are
encrypted, `out_*` are pseudonymous; times are seconds of the UTC epoch, handed in by the callers.
"""

from __future__ import annotations

import sqlalchemy as sa

NAMES = {
    "pk": "pk_%(table_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
}
metadata = sa.MetaData(naming_convention=NAMES)

LATE = "late IS NOT NULL"
"""Few rows are late, and they are counted often: only they are in the index."""

SPOOLED = "spool IS NOT NULL"
"""So are those whose original waits in the spool."""

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
    sa.Column("subject_index", sa.String(32), primary_key=True),
    sa.Column("pseudonym", sa.String(64), nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # identity domain and patient id
    sa.Column("birth_hash", sa.String(32)),  # keyed, of the first object that had one; so is sex_hash
    sa.Column("sex_hash", sa.String(32)),
    sa.Column("revision", sa.Integer, nullable=False, server_default="0"),  # counts when values were learnt
    sa.Column("first_seen", sa.Float, nullable=False),
    sa.UniqueConstraint("project", "pseudonym"),
)

subject_values = sa.Table(
    "subject_values",
    metadata,
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("subject_index", sa.String(32), primary_key=True),
    sa.Column("value_index", sa.String(32), primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # a value that verification searches for
    sa.Column("revision", sa.Integer, nullable=False, server_default="0"),  # the subject's, when this was learnt
)

studies = sa.Table(
    "studies",
    metadata,
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("study_index", sa.String(32), primary_key=True),
    sa.Column("study_sealed", sa.LargeBinary, nullable=False),
    sa.Column("subject_index", sa.String(32)),  # the subject of its first object; another one is a contradiction
    sa.Column("out_patient", sa.String(64)),
    sa.Column("out_study", sa.String(64)),
    sa.Column("last_arrival", sa.Float, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # open | released | held
    sa.Index(None, "project", "out_study"),
    sa.Index(None, "state", "last_arrival"),
)

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(64), nullable=False),
    sa.Column("source_index", sa.String(32), nullable=False),  # of Orthanc's instance id
    sa.Column("source_digest", sa.String(64), nullable=False),  # of the bytes, as Orthanc tells it
    sa.Column("source_version", sa.String(16)),  # of the stored file, random: another one may hold other bytes
    sa.Column("source_sealed", sa.LargeBinary, nullable=False),
    sa.Column("origin", sa.String(8), nullable=False, server_default="orthanc"),  # orthanc | spool: who has the bytes
    sa.Column("spool", sa.String(32)),  # name of the file in the spool, random; none once it is not needed any more
    sa.Column("series_index", sa.String(32), nullable=False),  # of Orthanc's series id
    sa.Column("series_sealed", sa.LargeBinary, nullable=False),
    sa.Column("study_index", sa.String(32), nullable=False),  # of the Study Instance UID
    sa.Column("subject_index", sa.String(32)),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(40)),
    sa.Column("tag", sa.BigInteger),
    sa.Column("findings", sa.Text),  # JSON without values
    sa.Column("out_patient", sa.String(64)),
    sa.Column("out_study", sa.String(64)),
    sa.Column("out_series", sa.String(64)),
    sa.Column("out_sop", sa.String(64)),
    sa.Column("out_orthanc_id", sa.String(44)),
    sa.Column("out_digest", sa.String(64)),  # SHA-256 of the verified bytes
    sa.Column("out_size", sa.BigInteger),
    sa.Column("plan_digest", sa.String(64)),
    sa.Column("known_revision", sa.Integer),  # the subject's, up to which its values were searched for in the output
    sa.Column("late", sa.Float),  # when a value was learnt that was not, after the output had left
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("owner", sa.String(64)),  # the service that works on it
    sa.Column("push", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("job_id", sa.String(36)),  # the job that brought it in; none when it arrived by itself
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("confirmed", sa.Float),
    sa.UniqueConstraint("project", "source_index", "source_digest"),
    sa.Index(None, "project", "state", "series_index"),
    sa.Index(None, "project", "study_index", "state"),
    sa.Index(None, "project", "out_study"),
    sa.Index(None, "project", "subject_index"),
    sa.Index(None, "state", "id"),
    sa.Index(None, "job_id"),
    sa.Index("ix_ledger_spool", "spool", sqlite_where=sa.text(SPOOLED), postgresql_where=sa.text(SPOOLED)),
    sa.Index("ix_ledger_spool_state", "state", sqlite_where=sa.text(SPOOLED), postgresql_where=sa.text(SPOOLED)),
    sa.Index("ix_ledger_late", "project", sqlite_where=sa.text(LATE), postgresql_where=sa.text(LATE)),
)

outputs = sa.Table(
    # Who an output UID belongs to: one source each, though its content may come in several versions.
    "outputs",
    metadata,
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("out_sop", sa.String(64), primary_key=True),
    sa.Column("source_index", sa.String(32), nullable=False),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=True),
    sa.Column("ledger_id", Id, sa.ForeignKey("ledger.id", ondelete="CASCADE"), nullable=False),
    sa.Column("destination", sa.String(100), nullable=False),
    sa.Column("project", sa.String(64), nullable=False),
    sa.Column("out_study", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # pending | sending | confirmed | refused | conflict
    sa.Column("sent_digest", sa.String(64)),  # of the bytes of the last attempt, written before they go
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_try", sa.Float, nullable=False),
    sa.Column("owner", sa.String(64)),
    sa.Column("reason", sa.String(40)),
    sa.Column("updated", sa.Float, nullable=False),
    sa.UniqueConstraint("ledger_id", "destination"),
    sa.Index(None, "state", "destination", "next_try"),
)

sent = sa.Table(
    # What a destination may hold under an output UID: every digest that was, perhaps, sent there.
    "sent",
    metadata,
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("destination", sa.String(100), primary_key=True),
    sa.Column("out_sop", sa.String(64), primary_key=True),
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("times", sa.Integer, nullable=False),
)

expected = sa.Table(
    # Orthanc ids that our own research copies will have, written down before they are stored.
    "expected",
    metadata,
    sa.Column("orthanc_id", sa.String(44), primary_key=True),
    sa.Column("project", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
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
    sa.Index(None, "created"),
)

job_items = sa.Table(
    "job_items",
    metadata,
    sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("ledger_id", Id, sa.ForeignKey("ledger.id", ondelete="CASCADE"), primary_key=True),
    sa.Index(None, "ledger_id"),
)
