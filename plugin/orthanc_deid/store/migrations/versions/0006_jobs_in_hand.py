"""Jobs count what has come to an outcome, keep their resources in parts, and fetch cohorts from elsewhere."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

OPEN = "outcome IS NULL"
FETCHED = "fetched"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("priority", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("tidied", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_index("ix_jobs_state", "jobs", ["state"])
    op.add_column("job_items", sa.Column("outcome", sa.String(length=16), nullable=True))
    op.add_column("job_items", sa.Column("reason", sa.String(length=40), nullable=True))
    op.add_column("job_items", sa.Column("fetched", sa.Boolean(), server_default=sa.false(), nullable=False))
    for name, where in (("open", sa.text(OPEN)), ("fetched", sa.text(FETCHED))):
        columns = ["job_id", "ledger_id"]
        op.create_index(f"ix_job_items_{name}", "job_items", columns, sqlite_where=where, postgresql_where=where)
    _table(
        "job_counts",
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        key=["state", "reason"],
    )
    _table(
        "job_parts",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        key=["number"],
    )
    _table(
        "job_lines",
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("progress", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=True),
        sa.Column("studies", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fetched", sa.Integer(), server_default="0", nullable=False),
        sa.Column("handed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_try", sa.Float(), server_default="0", nullable=False),
        key=["line"],
    )
    op.create_index("ix_job_lines_job_id_state_next_try", "job_lines", ["job_id", "state", "next_try"])
    _table(
        "job_studies",
        sa.Column("out_study", sa.String(length=64), nullable=False),
        sa.Column("out_patient", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        key=["out_study", "out_patient", "outcome", "reason"],
    )


def _table(name: str, *columns: sa.Column[object], key: list[str]) -> None:
    op.create_table(
        name,
        sa.Column("job_id", sa.String(length=36), nullable=False),
        *columns,
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=f"fk_{name}_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", *key, name=f"pk_{name}"),
    )
