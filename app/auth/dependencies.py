"""What endpoints write to say who may call them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.auth.schemas import Scope
from app.auth.service import Caller, authenticate
from app.errors import Forbidden, Unauthenticated
from app.ratelimit import RateLimiter
from app.runtime import RuntimeDep

_bearer = HTTPBearer(auto_error=False, scheme_name="API key", description="`Authorization: Bearer lus_…`")


def _caller(request: Request, runtime: RuntimeDep, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
    if credentials is None:
        raise Unauthenticated("Send your API key as `Authorization: Bearer lus_…`.")
    caller = authenticate(runtime, credentials.credentials)
    limiter: RateLimiter = request.app.state.rate_limiter
    limiter.spend(caller.tenant_id)
    return caller


AnyCaller = Annotated[Caller, Depends(_caller)]


def _with_scope(scope: Scope) -> Callable[[Caller], Awaitable[Caller]]:
    async def check(caller: AnyCaller) -> Caller:
        if scope not in caller.scopes:
            raise Forbidden(f"This key lacks the scope `{scope}`; it has {', '.join(sorted(caller.scopes))}.")
        return caller

    return check


Reader = Annotated[Caller, Security(_with_scope("read"), scopes=["read"])]
Writer = Annotated[Caller, Security(_with_scope("write"), scopes=["write"])]
Admin = Annotated[Caller, Security(_with_scope("admin"), scopes=["admin"])]
