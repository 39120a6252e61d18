"""`Idempotency-Key`: the same request, sent again, does nothing twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.auth.dependencies import AnyCaller
from app.auth.service import Caller
from app.errors import Conflict, InvalidInput
from app.idempotency import repository
from app.idempotency.tables import IdempotencyKeyRow
from app.runtime import RuntimeDep, WriteSession
from app.signing import Signer

KEPT = timedelta(hours=24)
PURPOSE = "idempotency"


class _Once:
    """Runs what creates, and keeps its answer in the same transaction: either both are there or neither."""

    def __init__(self, session: Session, signer: Signer, caller: Caller, key: str | None, request_digest: str) -> None:
        self._session = session
        self._signer = signer
        self._caller = caller
        self._key = key
        self._request_digest = request_digest

    def created(self, create: Callable[[], BaseModel], status: int = 201) -> Response:
        """The answer to a request that creates: a new one, or the first again.

        Raises:
            Conflict: the first request with this key is still running.
            InvalidInput: the key was used for another request.
        """
        if self._key is None:
            return _json(status, create().model_dump_json().encode())
        tenant_id = self._caller.tenant_id
        if not repository.lock_key(self._session, tenant_id, self._key):
            raise Conflict("The first request with this Idempotency-Key is still running. Ask again in a moment.")
        now = datetime.now(UTC)
        first = repository.find(self._session, tenant_id, self._key, now=now)
        if first is not None:
            if first.request_digest != self._request_digest:
                raise InvalidInput.at("header/Idempotency-Key", "was used for a different request; take a new one for a new request")
            return _json(first.status_code, self._signer.decrypt(PURPOSE, first.response), replayed=True)
        body = create().model_dump_json().encode()
        self._session.add(
            IdempotencyKeyRow(
                tenant_id=tenant_id,
                key=self._key,
                request_digest=self._request_digest,
                status_code=status,
                response=self._signer.encrypt(PURPOSE, body),
                expires_at=now + KEPT,
            )
        )
        return _json(status, body)


async def _request_digest(request: Request) -> str:
    """What makes two requests the same: method, address and body; JSON bodies whatever their spacing."""
    body = await request.body()
    with contextlib.suppress(ValueError, RecursionError):  # not JSON, or nested too deep: where one is needed, another check refuses it
        body = json.dumps(json.loads(body), sort_keys=True).encode()
    address = f"{request.method} {request.url.path}?{request.url.query}\n"
    return hashlib.sha256(address.encode() + body).hexdigest()


async def _once(
    runtime: RuntimeDep,
    session: WriteSession,
    caller: AnyCaller,
    request_digest: Annotated[str, Depends(_request_digest)],
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            description="Any text of your own, new for each thing to create. Kept for 24 hours.",
        ),
    ] = None,
) -> _Once:
    return _Once(session, runtime.signer, caller, idempotency_key, request_digest)


def _json(status: int, body: bytes, *, replayed: bool = False) -> Response:
    return Response(body, status, {"Idempotent-Replayed": "true"} if replayed else None, media_type="application/json")


Once = Annotated[_Once, Depends(_once)]
