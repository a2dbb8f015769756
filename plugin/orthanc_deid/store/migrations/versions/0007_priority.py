"""What has just arrived goes before what jobs bring in; what is queued has small indexes of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

QUEUE = "state = 'queued'"


def upgrade() -> None:
    for table in ("ledger", "deliveries"):
        op.add_column(table, sa.Column("priority", sa.SmallInteger(), server_default="0", nullable=False))
    # What a job brought in and nobody has begun: few rows, which have an index of their own.
    op.execute("UPDATE ledger SET priority = 10 WHERE state IN ('queued', 'paused') AND job_id IS NOT NULL")
    op.drop_index("ix_ledger_queued", "ledger")
    where = sa.text(QUEUE)
    for name, columns in (
        ("ix_ledger_queue", ["state", "priority", "id", "project", "series_index"]),
        ("ix_ledger_queue_of_series", ["state", "project", "series_index", "priority", "id"]),
    ):
        op.create_index(name, "ledger", columns, sqlite_where=where, postgresql_where=where)
