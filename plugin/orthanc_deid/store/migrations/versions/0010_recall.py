"""Deliveries can be taken back and replaced."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TAKEN_BACK = "recall IS NOT NULL"


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("recall", sa.String(length=8), nullable=True))
    op.add_column("deliveries", sa.Column("there", sa.Text(), nullable=True))
    where = sa.text(TAKEN_BACK)
    op.create_index("ix_deliveries_recall", "deliveries", ["id"], sqlite_where=where, postgresql_where=where)
