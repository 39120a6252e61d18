"""Which artifact holds the log of an attempt at a step."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("step_attempts", sa.Column("log_artifact_id", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("step_attempts", "log_artifact_id")
