"""Limits of single tenants, every attempt at a step, where a change came from, and how long a webhook has been failing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
RESERVING = sa.text("reserved_bytes IS NOT NULL")


def upgrade() -> None:
    op.add_column("audit_log", sa.Column("address", sa.String(), nullable=True))
    op.add_column("tenants", sa.Column("limits", JSON, nullable=True))
    op.add_column("jobs", sa.Column("timeout_seconds", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_jobs_status_jobs_deadline_at", "jobs", ["status", "deadline_at"])
    op.add_column("steps", sa.Column("reserved_bytes", sa.BigInteger(), nullable=True))
    op.create_index("ix_steps_tenant_id", "steps", ["tenant_id"], sqlite_where=RESERVING, postgresql_where=RESERVING)
    op.add_column("webhooks", sa.Column("failures", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("webhooks", sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "step_attempts",
        sa.Column("step_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.ForeignKeyConstraint(["step_id"], ["steps.id"], name="fk_step_attempts_step_id_steps", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("step_id", "number", name="pk_step_attempts"),
    )


def downgrade() -> None:
    op.drop_table("step_attempts")
    op.drop_column("webhooks", "failing_since")
    op.drop_column("webhooks", "failures")
    op.drop_index("ix_steps_tenant_id", "steps")
    op.drop_column("steps", "reserved_bytes")
    op.drop_index("ix_jobs_status_jobs_deadline_at", "jobs")
    op.drop_column("jobs", "deadline_at")
    op.drop_column("jobs", "timeout_seconds")
    op.drop_column("tenants", "limits")
    op.drop_column("audit_log", "address")
