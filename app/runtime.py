"""What one process of ours holds open, and how endpoints ask for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker
from starlette.concurrency import run_in_threadpool

from app.db import make_engine, make_session_factory
from app.provenance.keys import SigningKey
from app.settings import Settings
from app.signing import Signer
from app.storage import ObjectStore, open_store


@dataclass(frozen=True, slots=True)
class Runtime:
    """Database, object store and keys, made once from the settings."""

    settings: Settings
    engine: Engine
    read: sessionmaker[Session]
    write: sessionmaker[Session]
    store: ObjectStore
    signer: Signer
    signing_key: SigningKey

    @classmethod
    def open(cls, settings: Settings) -> Runtime:
        engine = make_engine(
            settings.database_url,
            connect_seconds=settings.database_connect_seconds,
            statement_seconds=settings.database_statement_seconds,
            idle_seconds=settings.database_idle_seconds,
        )
        return cls(
            settings=settings,
            engine=engine,
            read=make_session_factory(engine, read_only=True),
            write=make_session_factory(engine),
            store=open_store(settings),
            signer=Signer.of(settings),
            signing_key=SigningKey.of(settings),
        )

    def close(self) -> None:
        self.engine.dispose()


# `async`, though nothing is waited for: FastAPI sends every other function through a thread, which costs more than it does.
async def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


RuntimeDep = Annotated[Runtime, Depends(_runtime)]


async def _read_session(runtime: RuntimeDep) -> AsyncIterator[Session]:
    session = runtime.read()
    try:
        yield session
    finally:
        await run_in_threadpool(session.close)


async def _write_session(runtime: RuntimeDep) -> AsyncIterator[Session]:
    session = runtime.write()
    try:
        yield session
        await run_in_threadpool(session.commit)
    finally:
        await run_in_threadpool(session.close)  # rolls back what was not committed


async def _store(runtime: RuntimeDep) -> ObjectStore:
    return runtime.store


async def _settings(runtime: RuntimeDep) -> Settings:
    return runtime.settings


# "function": closed, and what was written committed, when the endpoint returns and before its response goes out. A client that
# was told "created" finds what it created, and a long download keeps no transaction open.
ReadSession = Annotated[Session, Depends(_read_session, scope="function")]
WriteSession = Annotated[Session, Depends(_write_session, scope="function")]
StoreDep = Annotated[ObjectStore, Depends(_store)]
SettingsDep = Annotated[Settings, Depends(_settings)]
