"""`/v1/usage`"""

from __future__ import annotations

from fastapi import APIRouter

from app.auth.dependencies import Reader
from app.quotas import service
from app.quotas.schemas import UsageResource
from app.runtime import ReadSession, SettingsDep

router = APIRouter(prefix="/v1/usage", tags=["usage"])


@router.get("")
def get_usage(caller: Reader, session: ReadSession, settings: SettingsDep) -> UsageResource:
    """What the tenant has and how much of it it may have. Past a limit, a request is answered with 429 `quota-exceeded`."""
    return service.show_usage(session, settings, caller.tenant_id)
