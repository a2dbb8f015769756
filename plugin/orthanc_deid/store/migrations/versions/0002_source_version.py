"""The ledger knows the stored file of a source, so that another file under the same id is noticed cheaply."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ledger", sa.Column("source_version", sa.String(length=16), nullable=True))
