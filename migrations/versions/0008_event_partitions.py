"""On PostgreSQL, events are cut into partitions by the time that they happened at, so that old ones go by dropping tables.

What is stored becomes the first partition as it is, but for what is in the future. `app.jobs.partitions` adds and drops the later ones.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

INDEX = "ix_events_job_id_events_id"


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    _lock()
    now = connection.scalar(sa.text("SELECT clock_timestamp()")).astimezone(UTC)
    end = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=7 - now.weekday())
    first = f"events_until_{end:%Y%m%d}"
    op.rename_table("events", first)
    op.execute(f"ALTER TABLE {first} DROP CONSTRAINT pk_events, ADD CONSTRAINT {first}_pkey PRIMARY KEY (id, created_at)")
    op.execute(f"ALTER INDEX {INDEX} RENAME TO {first}_job_id_id_idx")
    op.execute(f"CREATE TABLE events (LIKE {first} INCLUDING DEFAULTS) PARTITION BY RANGE (created_at)")
    op.execute("ALTER TABLE events ADD CONSTRAINT pk_events PRIMARY KEY (id, created_at)")
    op.execute("ALTER TABLE events ADD CONSTRAINT fk_events_job_id_jobs FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE")
    op.execute(f"CREATE INDEX {INDEX} ON events (job_id, id)")
    op.execute("ALTER SEQUENCE events_id_seq OWNED BY events.id")
    op.execute(f"ALTER TABLE {first} ALTER COLUMN id DROP DEFAULT")
    op.execute("CREATE TABLE events_other PARTITION OF events DEFAULT")
    # A clock that once was wrong must not decide where the partitions begin.
    later = f"DELETE FROM {first} WHERE created_at >= '{end.isoformat()}' RETURNING *"  # noqa: S608
    op.execute(f"WITH later AS ({later}) INSERT INTO events_other SELECT * FROM later")  # noqa: S608
    op.execute(f"ALTER TABLE events ATTACH PARTITION {first} FOR VALUES FROM (MINVALUE) TO ('{end.isoformat()}')")


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    _lock()
    op.execute("CREATE TABLE events_whole (LIKE events INCLUDING DEFAULTS)")
    op.execute("INSERT INTO events_whole SELECT * FROM events")
    op.execute("ALTER SEQUENCE events_id_seq OWNED BY events_whole.id")
    op.drop_table("events")
    op.rename_table("events_whole", "events")
    op.create_primary_key("pk_events", "events", ["id"])
    op.create_foreign_key("fk_events_job_id_jobs", "events", "jobs", ["job_id"], ["id"], ondelete="CASCADE")
    op.create_index(INDEX, "events", ["job_id", "id"])


def _lock() -> None:
    """Keep others out at once, in the order in which they lock, or give up before all of them queue behind this."""
    op.execute("SET LOCAL lock_timeout = '10s'")
    op.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
    op.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
    op.execute("SET LOCAL lock_timeout = DEFAULT")
