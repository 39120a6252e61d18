"""Indexes for queries that read whole tables once these are large: docs/scale.md lists the queries and their plans."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ADDED = (
    ("ix_jobs_tenant_id_jobs_status_jobs_id", "jobs", ["tenant_id", "status", "id"]),
    ("ix_jobs_tenant_id_jobs_model_id_jobs_id", "jobs", ["tenant_id", "model_id", "id"]),
    ("ix_jobs_status", "jobs", ["status"]),
    ("ix_webhooks_tenant_id_webhooks_job_id", "webhooks", ["tenant_id", "job_id"]),
    ("ix_webhooks_job_id", "webhooks", ["job_id"]),
    ("ix_uploads_expires_at", "uploads", ["expires_at"]),
)
# The first of the new ones does what this one did.
REPLACED = ("ix_jobs_tenant_id_jobs_status", "jobs", ["tenant_id", "status"])


def upgrade() -> None:
    for name, table, columns in ADDED:
        op.create_index(name, table, columns)
    op.create_index("ix_blobs_key_pattern", "blobs", ["key"], postgresql_ops={"key": "text_pattern_ops"})
    op.drop_index(REPLACED[0], table_name=REPLACED[1])


def downgrade() -> None:
    op.create_index(*REPLACED)
    op.drop_index("ix_blobs_key_pattern", table_name="blobs")
    for name, table, _ in reversed(ADDED):
        op.drop_index(name, table_name=table)
