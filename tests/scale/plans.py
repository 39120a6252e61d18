"""How PostgreSQL carries out the statements that the service's own functions send it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, event, text
from sqlalchemy.orm import Session, sessionmaker

SMALL_TABLE = 1000
"""Rows up to which reading a whole table is the best plan."""


@dataclass
class Statement:
    """One statement as it was carried out. reads: rows touched by its scans, also those that a filter then dropped."""

    sql: str
    milliseconds: float
    indexes: set[str] = field(default_factory=set)
    scanned: set[str] = field(default_factory=set)
    """Tables that were read from end to end."""
    reads: int = 0


def explain(connection: Connection, work: Callable[[sessionmaker[Session]], object]) -> list[Statement]:
    """Run `work` in a transaction that is taken back, and return the plan of each statement just before it ran."""
    found: list[Statement] = []
    with connection.begin() as transaction, _watching(connection, found):
        work(sessionmaker(connection, join_transaction_mode="create_savepoint", expire_on_commit=False))
        transaction.rollback()
    return found


@contextmanager
def _watching(connection: Connection, found: list[Statement]) -> Iterator[None]:
    def look(_connection: Connection, cursor: Any, sql: str, parameters: Any, _context: object, many: bool) -> None:
        if sql.split(maxsplit=1)[0] not in ("SELECT", "UPDATE", "DELETE"):
            return
        with cursor.connection.cursor() as beside:
            beside.execute("SAVEPOINT explained")
            beside.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", parameters[0] if many else parameters)
            [[[plan]]] = beside.fetchall()
            beside.execute("ROLLBACK TO SAVEPOINT explained")
        statement = Statement(sql, plan["Execution Time"] * (len(parameters) if many else 1))
        _walk(plan["Plan"], statement)
        found.append(statement)

    event.listen(connection, "before_cursor_execute", look)
    try:
        yield
    finally:
        event.remove(connection, "before_cursor_execute", look)


def _walk(node: dict[str, Any], statement: Statement) -> None:
    loops = node["Actual Loops"]
    if index := node.get("Index Name"):
        statement.indexes.add(index)
    if "Scan" in node["Node Type"] and "Relation Name" in node:
        dropped = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        statement.reads += round((node["Actual Rows"] + dropped) * loops)
        if node["Node Type"] == "Seq Scan" and loops:
            statement.scanned.add(node["Relation Name"])
    for child in node.get("Plans", []):
        _walk(child, statement)


def indexes_of_partitions(connection: Connection) -> dict[str, str]:
    """The index of the whole table for each of a partition."""
    query = text(
        "SELECT part.relname, whole.relname FROM pg_inherits JOIN pg_class part ON part.oid = inhrelid "
        "JOIN pg_class whole ON whole.oid = inhparent WHERE part.relkind = 'i'"
    )
    return dict(connection.execute(query).all())


def large_tables(connection: Connection) -> set[str]:
    """Tables with more than `SMALL_TABLE` rows, by the statistics of the last ANALYZE."""
    query = text("SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND reltuples > :rows")
    return set(connection.scalars(query, {"rows": SMALL_TABLE}))
