"""`python -m tests.scale.explain --jobs 1000000 --events 20000000 --out FILE`: the plans and times of the hot queries on large tables.

Fills a PostgreSQL of its own (10 GB and a quarter of an hour for these numbers), and exits with 1 if a query reads a large table
from end to end.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session, sessionmaker

from app.db import make_engine
from app.jobs.retention import keep_events
from app.migrate import upgrade
from tests.scale.filling import DAYS, fill
from tests.scale.plans import Statement, explain, indexes_of_partitions, large_tables
from tests.scale.queries import HOT, READS_ALL
from tests.servers.postgres import run_postgres
from tests.worlds.partitions import as_after_years

BEFORE_PARTITIONS = "0007"
MOST_READ = 3000
"""Rows that a statement may touch: the largest batch asked for here has 1,000, and a million jobs have 2,100 that are not over."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.explain", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    arguments = parser.parse_args()
    with run_postgres() as postgres, postgres.database() as url:
        measured = measure(url, jobs=arguments.jobs, events=arguments.events)
    arguments.out.write_text(json.dumps(measured, indent=1) + "\n")
    bad = [row["query"] for row in measured["queries"] if row["faults"]]
    sys.stderr.write(f"These read too much: {', '.join(bad)}\n" if bad else "Every hot query uses an index.\n")
    return 1 if bad else 0


def measure(url: str, *, jobs: int, events: int) -> dict[str, Any]:
    """Fill the empty database at `url` and look at every query on it."""
    upgrade(url, BEFORE_PARTITIONS)
    engine = make_engine(url)
    begun = time.monotonic()
    with engine.begin() as connection:
        fill(connection, jobs=jobs, events=events)
    filled = time.monotonic() - begun
    begun = time.monotonic()
    upgrade(url)
    upgraded = time.monotonic() - begun
    as_after_years(sessionmaker(engine))
    keep_events(sessionmaker(engine), kept=None)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    with engine.connect() as connection:
        rows = explain_all(connection)
        size = connection.scalar(text("SELECT pg_database_size(current_database())"))
        connection.rollback()
    retention = forget(sessionmaker(engine))
    engine.dispose()
    return {
        "jobs": jobs,
        "events": events,
        "bytes": size,
        "filled_seconds": round(filled),
        "partitioned_seconds": round(upgraded, 1),
        "queries": rows,
        "retention": retention,
    }


def forget(sessions: sessionmaker[Session]) -> dict[str, Any]:
    """Forget half of the events, as housekeeping does."""
    with sessions() as session:
        before = session.scalars(text("SELECT count(*) FROM events")).one()
    begun = time.monotonic()
    keep_events(sessions, kept=timedelta(days=DAYS // 2))
    seconds = time.monotonic() - begun
    with sessions() as session:
        left = session.scalars(text("SELECT count(*) FROM events")).one()
    return {"forgotten": before - left, "seconds": round(seconds, 1)}


def explain_all(connection: Connection) -> list[dict[str, Any]]:
    large, whole = large_tables(connection), indexes_of_partitions(connection)
    connection.rollback()
    rows = []
    for name, work in {**HOT, **READS_ALL}.items():
        explain(connection, work)  # once to have the pages in memory, as they are on a server at work
        statements = explain(connection, work)
        rows.append(
            {
                "query": name,
                "statements": len(statements),
                "milliseconds": round(sum(statement.milliseconds for statement in statements), 2),
                "rows_read": sum(statement.reads for statement in statements),
                "indexes": sorted({whole.get(index, index) for statement in statements for index in statement.indexes}),
                "faults": [] if name in READS_ALL else sorted({fault for each in statements for fault in faults_of(each, large)}),
            }
        )
    return rows


def faults_of(statement: Statement, large: set[str]) -> list[str]:
    """What is wrong with the plan of a hot query."""
    found = [f"reads all of {table}: {statement.sql}" for table in statement.scanned & large]
    if statement.reads > MOST_READ:
        found.append(f"reads {statement.reads} rows: {statement.sql}")
    return found


if __name__ == "__main__":
    sys.exit(main())
