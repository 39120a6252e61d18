"""A database that does not answer keeps nobody waiting for ever."""

from __future__ import annotations

import socket
import time

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

from app.db import make_engine


def test_a_statement_that_takes_too_long_is_ended(postgres_url: str) -> None:
    engine = make_engine(postgres_url, statement_seconds=0.1)
    with engine.connect() as connection, pytest.raises(OperationalError, match="statement timeout"):
        connection.execute(text("SELECT pg_sleep(60)"))
    engine.dispose()


def test_a_transaction_that_asks_for_nothing_is_ended(postgres_url: str) -> None:
    idle, watching = make_engine(postgres_url, idle_seconds=0.05), make_engine(postgres_url)
    with idle.connect() as connection, watching.connect() as watcher:
        number = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        there = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :number")
        while watcher.execute(there, {"number": number}).scalar_one():
            watcher.rollback()
            time.sleep(0.02)
        with pytest.raises(DBAPIError) as ended:
            connection.execute(text("SELECT 1"))
        assert ended.value.connection_invalidated
    idle.dispose()
    watching.dispose()


def test_options_of_the_address_are_kept(postgres_url: str) -> None:
    engine = make_engine(f"{postgres_url}?options=-c%20application_name%3Dours", statement_seconds=7)
    with engine.connect() as connection:
        assert connection.execute(text("SHOW application_name")).scalar_one() == "ours"
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "7s"
    engine.dispose()


def test_a_server_that_takes_a_connection_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        engine = make_engine(f"postgresql+psycopg://nobody@127.0.0.1:{silent.getsockname()[1]}/none", connect_seconds=2)
        with pytest.raises(OperationalError, match="timeout"):
            engine.connect()
