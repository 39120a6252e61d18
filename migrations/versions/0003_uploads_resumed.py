"""Uploads whose parts are bound to digests, and whose completion may outlast a request."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("part_digests", sa.String(), nullable=True))
    op.add_column("uploads", sa.Column("completing_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("uploads", sa.Column("failure", sa.String(), nullable=True))


def downgrade() -> None:
    for column in ("failure", "completing_until", "part_digests"):
        op.drop_column("uploads", column)
