"""`/v1/webhooks`: Standard Webhooks (https://www.standardwebhooks.com)."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from app.auth.dependencies import Reader, Writer
from app.errors import Conflict, NotFound, problem_responses
from app.idempotency.dependencies import Once
from app.pagination import PageQuery, as_page
from app.repository import get_owned, list_owned
from app.runtime import ReadSession, RuntimeDep, WriteSession
from app.schemas import Page
from app.webhooks import repository, service
from app.webhooks.schemas import DeliveryResource, WebhookCreate, WebhookResource, WebhookUpdate, WebhookWithSecret
from app.webhooks.tables import DeliveryRow, WebhookRow

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


@router.post("", status_code=201, response_model=WebhookWithSecret, responses=problem_responses(Conflict))
def create_webhook(body: WebhookCreate, caller: Writer, session: WriteSession, runtime: RuntimeDep, once: Once) -> Response:
    """Register an endpoint. The answer shows the secret that its messages are signed with; no later GET does."""
    return once.created(lambda: service.create_webhook(session, runtime, caller, body))


@router.get("")
def list_webhooks(caller: Reader, session: ReadSession, page: PageQuery) -> Page[WebhookResource]:
    """The tenant's endpoints, newest first, with those made from jobs' `webhook_url`."""
    return as_page(list_owned(session, WebhookRow, caller.tenant_id, page), page, WebhookResource.of, lambda row: row.id)


@router.get("/{webhook_id}", responses=problem_responses(NotFound))
def get_webhook(webhook_id: str, caller: Reader, session: ReadSession) -> WebhookResource:
    """One endpoint, without its secret."""
    return WebhookResource.of(get_owned(session, WebhookRow, caller.tenant_id, webhook_id))


@router.patch("/{webhook_id}", responses=problem_responses(NotFound))
def update_webhook(webhook_id: str, body: WebhookUpdate, caller: Writer, session: WriteSession, runtime: RuntimeDep) -> WebhookResource:
    """Change address, event types or description, or switch the endpoint off and on."""
    return service.update_webhook(session, runtime, caller, webhook_id, body)


@router.delete("/{webhook_id}", status_code=204, responses=problem_responses(NotFound))
def delete_webhook(webhook_id: str, caller: Writer, session: WriteSession) -> None:
    """Delete an endpoint and its deliveries. Nothing more is sent to it."""
    service.delete_webhook(session, caller, webhook_id)


@router.post("/{webhook_id}/rotate-secret", response_model=WebhookWithSecret, responses=problem_responses(NotFound, Conflict))
def rotate_secret(webhook_id: str, caller: Writer, session: WriteSession, runtime: RuntimeDep, once: Once) -> Response:
    """Make a new secret. For 24 hours messages carry a signature by the one before it too, and never by a third: rotating twice ends
    the first at once."""
    return once.created(lambda: service.rotate_secret(session, runtime, caller, webhook_id), status=200)


@router.post("/{webhook_id}/test", status_code=202, response_model=DeliveryResource, responses=problem_responses(NotFound, Conflict))
def test_webhook(webhook_id: str, caller: Writer, session: WriteSession, once: Once) -> Response:
    """Send a `webhook.test` message."""
    return once.created(lambda: service.send_test(session, caller, webhook_id), status=202)


@router.get("/{webhook_id}/deliveries", responses=problem_responses(NotFound))
def list_deliveries(
    webhook_id: str,
    caller: Reader,
    session: ReadSession,
    page: PageQuery,
    status: Annotated[Literal["pending", "succeeded", "failed"] | None, Query()] = None,
) -> Page[DeliveryResource]:
    """What was sent or is still owed, newest first, with every attempt."""
    get_owned(session, WebhookRow, caller.tenant_id, webhook_id)
    where = [DeliveryRow.webhook_id == webhook_id, *([DeliveryRow.status == status] if status else [])]
    rows = list_owned(session, DeliveryRow, caller.tenant_id, page, *where)
    shown = dict(zip((row.id for row in rows), service.show_deliveries(session, rows), strict=True))
    return as_page(rows, page, lambda row: shown[row.id], lambda row: row.id)


@router.get("/{webhook_id}/deliveries/{delivery_id}", responses=problem_responses(NotFound))
def get_delivery(webhook_id: str, delivery_id: str, caller: Reader, session: ReadSession) -> DeliveryResource:
    """One message and its attempts."""
    return service.show_deliveries(session, [repository.get_delivery(session, caller.tenant_id, webhook_id, delivery_id)])[0]


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    response_model=DeliveryResource,
    responses=problem_responses(NotFound, Conflict),
)
def redeliver(webhook_id: str, delivery_id: str, caller: Writer, session: WriteSession, once: Once) -> Response:
    """Send a message once more, now."""
    return once.created(lambda: service.redeliver(session, caller, webhook_id, delivery_id), status=202)
