"""What other receivers than Orthanc need: bytes made for one of them, and storage commitments that are waited for."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STORED = "state = 'stored'"


def upgrade() -> None:
    op.create_table(
        "variants",
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=100), nullable=False),
        sa.Column("out_sop", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("variant_digest", sa.LargeBinary(), nullable=False),
        sa.Column("made", sa.String(length=80), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("project", "destination", "out_sop", "digest", "variant_digest", name="pk_variants"),
    )
    op.create_table(
        "commitments",
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=100), nullable=False),
        sa.Column("asked", sa.Float(), nullable=False),
        sa.Column("due", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("transaction_uid", name="pk_commitments"),
    )
    op.add_column("deliveries", sa.Column("transaction_uid", sa.String(length=64), nullable=True))
    where = sa.text(STORED)
    op.create_index("ix_deliveries_stored", "deliveries", ["destination"], sqlite_where=where, postgresql_where=where)
