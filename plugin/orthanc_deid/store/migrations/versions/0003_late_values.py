"""Outputs know up to when their subject's values were searched for in them, so that late ones are not overlooked."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

LATE = "late IS NOT NULL"


def upgrade() -> None:
    for table in ("subjects", "subject_values"):
        op.add_column(table, sa.Column("revision", sa.Integer(), server_default="0", nullable=False))
    op.add_column("ledger", sa.Column("known_revision", sa.Integer(), nullable=True))
    op.add_column("ledger", sa.Column("late", sa.Float(), nullable=True))
    where = sa.text(LATE)
    op.create_index("ix_ledger_late", "ledger", ["project"], sqlite_where=where, postgresql_where=where)
