"""The first tables: ledger, subjects, studies, deliveries, jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "expected",
        sa.Column("orthanc_id", sa.String(length=44), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("orthanc_id", name="pk_expected"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("completed", sa.Float(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_created", "jobs", ["created"])
    op.create_table(
        "ledger",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("source_index", sa.String(length=32), nullable=False),
        sa.Column("source_digest", sa.String(length=64), nullable=False),
        sa.Column("source_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("series_index", sa.String(length=32), nullable=False),
        sa.Column("series_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("study_index", sa.String(length=32), nullable=False),
        sa.Column("subject_index", sa.String(length=32), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=True),
        sa.Column("tag", sa.BigInteger(), nullable=True),
        sa.Column("findings", sa.Text(), nullable=True),
        sa.Column("out_patient", sa.String(length=64), nullable=True),
        sa.Column("out_study", sa.String(length=64), nullable=True),
        sa.Column("out_series", sa.String(length=64), nullable=True),
        sa.Column("out_sop", sa.String(length=64), nullable=True),
        sa.Column("out_orthanc_id", sa.String(length=44), nullable=True),
        sa.Column("out_digest", sa.String(length=64), nullable=True),
        sa.Column("out_size", sa.BigInteger(), nullable=True),
        sa.Column("plan_digest", sa.String(length=64), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("push", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("updated", sa.Float(), nullable=False),
        sa.Column("confirmed", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_ledger"),
        sa.UniqueConstraint(
            "project", "source_index", "source_digest", name="uq_ledger_project_source_index_source_digest"
        ),
    )
    op.create_index("ix_ledger_job_id", "ledger", ["job_id"])
    op.create_index("ix_ledger_project_out_study", "ledger", ["project", "out_study"])
    op.create_index("ix_ledger_project_state_series_index", "ledger", ["project", "state", "series_index"])
    op.create_index("ix_ledger_project_study_index_state", "ledger", ["project", "study_index", "state"])
    op.create_index("ix_ledger_project_subject_index", "ledger", ["project", "subject_index"])
    op.create_index("ix_ledger_state_id", "ledger", ["state", "id"])
    op.create_table(
        "meta",
        sa.Column("key", sa.String(length=100), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )
    op.create_table(
        "outputs",
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("out_sop", sa.String(length=64), nullable=False),
        sa.Column("source_index", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("project", "out_sop", name="pk_outputs"),
    )
    op.create_table(
        "projects",
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.Integer(), nullable=False),
        sa.Column("key_fingerprint", sa.String(length=16), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("project", name="pk_projects"),
    )
    op.create_table(
        "sent",
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=100), nullable=False),
        sa.Column("out_sop", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project", "destination", "out_sop", "digest", name="pk_sent"),
    )
    op.create_table(
        "studies",
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("study_index", sa.String(length=32), nullable=False),
        sa.Column("study_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("subject_index", sa.String(length=32), nullable=True),
        sa.Column("out_patient", sa.String(length=64), nullable=True),
        sa.Column("out_study", sa.String(length=64), nullable=True),
        sa.Column("last_arrival", sa.Float(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("project", "study_index", name="pk_studies"),
    )
    op.create_index("ix_studies_project_out_study", "studies", ["project", "out_study"])
    op.create_index("ix_studies_state_last_arrival", "studies", ["state", "last_arrival"])
    op.create_table(
        "subject_values",
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("subject_index", sa.String(length=32), nullable=False),
        sa.Column("value_index", sa.String(length=32), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("project", "subject_index", "value_index", name="pk_subject_values"),
    )
    op.create_table(
        "subjects",
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("subject_index", sa.String(length=32), nullable=False),
        sa.Column("pseudonym", sa.String(length=64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("birth_hash", sa.String(length=32), nullable=True),
        sa.Column("sex_hash", sa.String(length=32), nullable=True),
        sa.Column("first_seen", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("project", "subject_index", name="pk_subjects"),
        sa.UniqueConstraint("project", "pseudonym", name="uq_subjects_project_pseudonym"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("ledger_id", Id, nullable=False),
        sa.Column("destination", sa.String(length=100), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("out_study", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("sent_digest", sa.String(length=64), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_try", sa.Float(), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.String(length=40), nullable=True),
        sa.Column("updated", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["ledger_id"], ["ledger.id"], name="fk_deliveries_ledger_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.UniqueConstraint("ledger_id", "destination", name="uq_deliveries_ledger_id_destination"),
    )
    op.create_index("ix_deliveries_state_destination_next_try", "deliveries", ["state", "destination", "next_try"])
    op.create_table(
        "job_items",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("ledger_id", Id, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_items_job_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["ledger_id"], ["ledger.id"], name="fk_job_items_ledger_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "ledger_id", name="pk_job_items"),
    )
    op.create_index("ix_job_items_ledger_id", "job_items", ["ledger_id"])
