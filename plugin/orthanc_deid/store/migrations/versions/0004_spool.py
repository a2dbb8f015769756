"""The ledger knows sources that wait in the spool of gateway mode instead of in Orthanc."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SPOOLED = "spool IS NOT NULL"


def upgrade() -> None:
    op.add_column("ledger", sa.Column("origin", sa.String(length=8), server_default="orthanc", nullable=False))
    op.add_column("ledger", sa.Column("spool", sa.String(length=32), nullable=True))
    where = sa.text(SPOOLED)
    op.create_index("ix_ledger_spool", "ledger", ["spool"], sqlite_where=where, postgresql_where=where)
    op.create_index("ix_ledger_spool_state", "ledger", ["state"], sqlite_where=where, postgresql_where=where)
