"""Rows half as wide, indexes over what is unfinished only, and counters in the place of counting.

At tens of millions of rows nothing may read them all. Indexes, digests, UIDs and ids become bytes (store/compact.py),
almost all indexes get the few rows that are on their way, and triggers keep the counts in the same transactions,
whoever changes the rows. On SQLite the tables are written anew, which needs as much free space as the database has.
"""

import re
from typing import Any

import sqlalchemy as sa
from alembic import op
from orthanc_deid.store.compact import pack

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# In this order a table is made after those that it refers to.
COMPACT = {
    "subjects": ("subject_index", "birth_hash", "sex_hash"),
    "subject_values": ("subject_index", "value_index"),
    "studies": ("study_index", "subject_index", "out_study"),
    "ledger": (
        "source_index", "source_digest", "source_version", "series_index", "study_index", "subject_index", "out_study",
        "out_series", "out_sop", "out_orthanc_id", "out_digest", "plan_digest",
    ),
    "outputs": ("out_sop", "source_index"),
    "deliveries": ("out_study", "sent_digest"),
    "sent": ("out_sop", "digest"),
    "expected": ("orthanc_id", "digest"),
    "job_items": (),  # refers to the ledger
}  # fmt: skip
BY_KEY = ("subject_values", "outputs", "sent", "expected")
"""Tables that on SQLite lie in the order of their key, without a second copy of it."""

OLD_INDEXES = (
    "ix_ledger_job_id",
    "ix_ledger_late",
    "ix_ledger_project_out_study",
    "ix_ledger_project_state_series_index",
    "ix_ledger_project_study_index_state",
    "ix_ledger_project_subject_index",
    "ix_ledger_state_id",
    "ix_studies_project_out_study",
    "ix_studies_state_last_arrival",
    "ix_deliveries_state_destination_next_try",
    "ix_job_items_ledger_id",
)
OPEN = "state IN ('paused', 'queued', 'ready', 'released', 'working')"
HELD = "state IN ('conflict', 'quarantined', 'refused', 'rejected', 'source-lost')"
PENDING = "state = 'pending'"
NEW_INDEXES = (
    ("ix_studies_project_out_study", "studies", ["project", "out_study"], None),
    ("ix_studies_project_subject_index", "studies", ["project", "subject_index"], None),
    ("ix_ledger_project_study_index_state", "ledger", ["project", "study_index", "state"], None),
    ("ix_ledger_queued", "ledger", ["project", "series_index", "id"], "state = 'queued'"),
    ("ix_ledger_working", "ledger", ["owner"], "state = 'working'"),
    ("ix_ledger_ready", "ledger", ["project", "study_index", "state"], "state = 'ready'"),
    ("ix_ledger_open", "ledger", ["project", "id"], OPEN),
    ("ix_ledger_held", "ledger", ["id"], HELD),
    ("ix_ledger_held_project", "ledger", ["project", "id"], HELD),
    ("ix_ledger_held_reason", "ledger", ["project", "reason", "id"], HELD),
    ("ix_ledger_waiting_job", "ledger", ["job_id"], "state IN ('paused', 'queued')"),
    ("ix_deliveries_pending", "deliveries", ["destination", "project", "out_study", "id"], PENDING),
    ("ix_deliveries_next", "deliveries", ["next_try"], PENDING),
    ("ix_deliveries_sending", "deliveries", ["owner"], "state = 'sending'"),
    ("ix_job_items_ledger_id", "job_items", ["ledger_id"], None),
)


def upgrade() -> None:
    sqlite = op.get_context().dialect.name == "sqlite"
    for name in OLD_INDEXES:
        op.drop_index(name, if_exists=True)
    if sqlite:
        _rewrite()
    else:
        _alter()
    for name, table, columns, where in NEW_INDEXES:
        text = None if where is None else sa.text(where)
        op.create_index(name, table, columns, sqlite_where=text, postgresql_where=text)
    _counters()
    for statement in SQLITE if sqlite else POSTGRESQL:
        op.get_bind().exec_driver_sql(statement)


def _rewrite() -> None:
    """Write the tables anew. The children go before their parents, so that no deletion reaches the new ones."""
    bind = op.get_bind()
    driver: Any = bind.connection.driver_connection
    driver.create_function("deid_pack", 1, lambda text: None if text is None else pack(text), deterministic=True)
    kept = []
    for table in COMPACT:
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = ?"
        for name, made in bind.exec_driver_sql(query, (table,)).fetchall():
            kept.append(made)
            bind.exec_driver_sql(f"DROP INDEX {name}")
        bind.exec_driver_sql(f"ALTER TABLE {table} RENAME TO old_{table}")
    for table, columns in COMPACT.items():
        made = bind.exec_driver_sql(f"SELECT sql FROM sqlite_master WHERE name = 'old_{table}'").scalar_one()
        made = made.replace("old_", "")
        for column in columns:
            made, number = re.subn(rf"\b{column} VARCHAR\(\d+\)", f"{column} BLOB", made)
            assert number == 1, column
        made = re.sub(r"\s*\bseries_sealed BLOB NOT NULL,", "", made)
        bind.exec_driver_sql(made + (" WITHOUT ROWID" if table in BY_KEY else ""))
        names = [row[1] for row in bind.exec_driver_sql(f"PRAGMA table_info({table})")]
        values = ", ".join(f"deid_pack({name})" if name in columns else name for name in names)
        bind.exec_driver_sql(f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM old_{table}")
    for table in reversed(COMPACT):
        bind.exec_driver_sql(f"DROP TABLE old_{table}")
    for made in kept:
        bind.exec_driver_sql(made)


def _alter() -> None:
    bind = op.get_bind()
    bind.exec_driver_sql(PACK)
    for table, columns in COMPACT.items():
        changes = ", ".join(f"ALTER {column} TYPE bytea USING deid_pack({column})" for column in columns)
        if changes:
            bind.exec_driver_sql(f"ALTER TABLE {table} {changes}")
    op.drop_column("ledger", "series_sealed")
    bind.exec_driver_sql("DROP FUNCTION deid_pack(text)")


def _counters() -> None:
    def table(name: str, *columns: sa.Column[Any]) -> None:
        key = [column.name for column in columns]
        op.create_table(
            name,
            sa.Column("slot", sa.Integer(), nullable=False),
            *columns,
            sa.Column("number", sa.BigInteger(), nullable=False),
            sa.PrimaryKeyConstraint("slot", *key, name=f"pk_{name}"),
            sqlite_with_rowid=False,
        )

    def text(name: str, length: int) -> sa.Column[Any]:
        return sa.Column(name, sa.String(length=length), nullable=False)

    late: sa.Column[Any] = sa.Column("late", sa.Boolean(), nullable=False)
    table("instance_counts", text("project", 64), text("state", 16), text("reason", 40), late)
    minute = sa.Column("minute", sa.Integer(), nullable=False)
    table("event_counts", text("project", 64), text("state", 16), minute)
    table("delivery_counts", text("project", 64), text("destination", 100), text("state", 16))
    for statement in FILL:
        op.execute(statement)


# What events there have been is not known: each row counts as having come into the state that it is in.
FILL = (
    "INSERT INTO instance_counts SELECT 0, project, state, coalesce(reason, ''), late IS NOT NULL, count(*)"
    " FROM ledger GROUP BY project, state, coalesce(reason, ''), late IS NOT NULL",
    "INSERT INTO event_counts SELECT 0, project, state, 0, count(*) FROM ledger GROUP BY project, state",
    "INSERT INTO delivery_counts SELECT 0, project, destination, state, count(*) FROM deliveries"
    " GROUP BY project, destination, state",
)

# SQLite: one writer at a time, so one row for each number; triggers run for each row.


def _sqlite_instance(row: str, number: int) -> str:
    return (
        f"INSERT INTO instance_counts VALUES (0, {row}.project, {row}.state, coalesce({row}.reason, ''),"
        f" {row}.late IS NOT NULL, {number}) ON CONFLICT DO UPDATE SET number = number + {number};"
    )


def _sqlite_event(condition: str) -> str:
    return (
        "INSERT INTO event_counts SELECT 0, NEW.project, NEW.state, CAST(NEW.updated / 60 AS INTEGER), 1"
        f" WHERE {condition} ON CONFLICT DO UPDATE SET number = number + 1;"
    )


def _sqlite_delivery(row: str, number: int) -> str:
    return (
        f"INSERT INTO delivery_counts VALUES (0, {row}.project, {row}.destination, {row}.state, {number})"
        f" ON CONFLICT DO UPDATE SET number = number + {number};"
    )


SQLITE = (
    f"CREATE TRIGGER count_ledger_insert AFTER INSERT ON ledger BEGIN"
    f" {_sqlite_instance('NEW', 1)} {_sqlite_event('true')} END",
    "CREATE TRIGGER count_ledger_update AFTER UPDATE OF state, reason, late ON ledger"
    " WHEN OLD.state <> NEW.state OR OLD.reason IS NOT NEW.reason OR (OLD.late IS NULL) <> (NEW.late IS NULL) BEGIN"
    f" {_sqlite_instance('OLD', -1)} {_sqlite_instance('NEW', 1)} {_sqlite_event('OLD.state <> NEW.state')}"
    " END",
    f"CREATE TRIGGER count_ledger_delete AFTER DELETE ON ledger BEGIN {_sqlite_instance('OLD', -1)} END",
    f"CREATE TRIGGER count_deliveries_insert AFTER INSERT ON deliveries BEGIN {_sqlite_delivery('NEW', 1)} END",
    "CREATE TRIGGER count_deliveries_update AFTER UPDATE OF state ON deliveries WHEN OLD.state <> NEW.state BEGIN"
    f" {_sqlite_delivery('OLD', -1)} {_sqlite_delivery('NEW', 1)} END",
    f"CREATE TRIGGER count_deliveries_delete AFTER DELETE ON deliveries BEGIN {_sqlite_delivery('OLD', -1)} END",
)

# PostgreSQL: many sessions, so each adds to rows of its own; triggers run for each statement, over what it changed.

PACK = """
CREATE FUNCTION deid_pack(given text) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    number numeric;
    content bytea := '';
BEGIN
    IF given IS NULL THEN
        RETURN NULL;
    ELSIF given ~ '^([0-9a-f]{2})+$' THEN
        RETURN '\\x01'::bytea || decode(given, 'hex');
    ELSIF given ~ '^2[.]25[.](0|[1-9][0-9]{0,38})$' AND substr(given, 6)::numeric < 2::numeric ^ 128 THEN
        number := substr(given, 6)::numeric;
        FOR digit IN 1..16 LOOP
            content := decode(lpad(to_hex(mod(number, 256)::int), 2, '0'), 'hex') || content;
            number := div(number, 256);
        END LOOP;
        RETURN '\\x02'::bytea || content;
    ELSIF given ~ '^[0-9a-f]{8}(-[0-9a-f]{8}){4}$' THEN
        RETURN '\\x03'::bytea || decode(replace(given, '-', ''), 'hex');
    ELSIF given ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' THEN
        RETURN '\\x04'::bytea || decode(replace(given, '-', ''), 'hex');
    END IF;
    RETURN '\\x00'::bytea || convert_to(given, 'UTF8');
END $$
"""


def _postgresql_add(table: str, key: str, rows: str) -> str:
    return (
        f"INSERT INTO {table} AS c (slot, {key}, number) SELECT pg_backend_pid(), {key}, sum(n) FROM ({rows}) AS d"
        f" GROUP BY {key} HAVING sum(n) <> 0"
        f" ON CONFLICT (slot, {key}) DO UPDATE SET number = c.number + excluded.number;"
    )


def _postgresql_function(name: str, body: str) -> str:
    return f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$"


def _postgresql_trigger(event: str, table: str, tables: str) -> str:
    name = f"count_{table}_{event.lower()}"
    return (
        f"CREATE TRIGGER {name} AFTER {event} ON {table} REFERENCING {tables}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION deid_{name}()"
    )


INSTANCE = "project, state, reason, late"
_OF = "SELECT project, state, coalesce(reason, '') AS reason, late IS NOT NULL AS late, {} AS n FROM {}"
_SENDS = "SELECT project, destination, state, {} AS n FROM {}"
_CAME = "SELECT project, state, floor(updated / 60)::int AS minute, 1 AS n FROM fresh"
_MOVED = (
    "SELECT f.project, f.state, floor(f.updated / 60)::int AS minute, 1 AS n"
    " FROM fresh AS f JOIN stale AS s ON s.id = f.id WHERE f.state <> s.state"
)
_OLD, _NEW = "OLD TABLE AS stale", "NEW TABLE AS fresh"
POSTGRESQL = (
    _postgresql_function(
        "deid_count_ledger_insert",
        _postgresql_add("instance_counts", INSTANCE, _OF.format(1, "fresh"))
        + _postgresql_add("event_counts", "project, state, minute", _CAME),
    ),
    _postgresql_trigger("INSERT", "ledger", _NEW),
    _postgresql_function(
        "deid_count_ledger_update",
        _postgresql_add("instance_counts", INSTANCE, _OF.format(1, "fresh") + " UNION ALL " + _OF.format(-1, "stale"))
        + _postgresql_add("event_counts", "project, state, minute", _MOVED),
    ),
    _postgresql_trigger("UPDATE", "ledger", f"{_OLD} {_NEW}"),
    _postgresql_function(
        "deid_count_ledger_delete", _postgresql_add("instance_counts", INSTANCE, _OF.format(-1, "stale"))
    ),
    _postgresql_trigger("DELETE", "ledger", _OLD),
    _postgresql_function(
        "deid_count_deliveries_insert",
        _postgresql_add("delivery_counts", "project, destination, state", _SENDS.format(1, "fresh")),
    ),
    _postgresql_trigger("INSERT", "deliveries", _NEW),
    _postgresql_function(
        "deid_count_deliveries_update",
        _postgresql_add(
            "delivery_counts",
            "project, destination, state",
            _SENDS.format(1, "fresh") + " UNION ALL " + _SENDS.format(-1, "stale"),
        ),
    ),
    _postgresql_trigger("UPDATE", "deliveries", f"{_OLD} {_NEW}"),
    _postgresql_function(
        "deid_count_deliveries_delete",
        _postgresql_add("delivery_counts", "project, destination, state", _SENDS.format(-1, "stale")),
    ),
    _postgresql_trigger("DELETE", "deliveries", _OLD),
)
