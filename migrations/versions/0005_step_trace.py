"""Where a step came from: the request's id and trace, kept with the step so that retries and lost bells do not lose them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), "postgresql")
    op.add_column("steps", sa.Column("trace", json, nullable=True))


def downgrade() -> None:
    op.drop_column("steps", "trace")
