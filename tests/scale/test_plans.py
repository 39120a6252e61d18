"""No query that somebody waits for reads a large table from end to end."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import sessionmaker

from app.db import make_engine
from app.migrate import upgrade
from tests.scale.explain import explain_all
from tests.scale.filling import fill
from tests.worlds.partitions import as_after_years


def test_every_hot_query_finds_its_rows_by_an_index(postgres_url: str) -> None:
    upgrade(postgres_url)
    engine = make_engine(postgres_url)
    with engine.begin() as connection:
        fill(connection, jobs=10_000, events=50_000)
    as_after_years(sessionmaker(engine))
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    with engine.connect() as connection:
        rows = explain_all(connection)
    engine.dispose()
    assert {row["query"]: row["faults"] for row in rows if row["faults"]} == {}
