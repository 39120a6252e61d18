"""Webhooks as clients see them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from app.schemas import Input, Resource
from app.webhooks.tables import WebhookRow

EventType = Literal[
    "*",
    "job.queued",
    "job.started",
    "job.progress",
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "model.ready",
    "model.rejected",
    "dataset.ready",
    "dataset.rejected",
]
Events = Annotated[
    list[EventType],
    Field(min_length=1, max_length=20, description="Which messages to send; `*` is all but `job.progress`, which must be named."),
    AfterValidator(lambda events: list(dict.fromkeys(events))),
]
Url = Annotated[str, Field(max_length=2048, examples=["https://ci.example.com/hooks/lustral"])]
Description = Annotated[str, Field(max_length=500)]


class WebhookCreate(Input):
    url: Url
    events: Events = Field(default=["*"])
    description: Description = ""


class WebhookUpdate(Input):
    """What is left out stays as it is."""

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    enabled: bool | None = Field(None, description="True also switches an endpoint on again that answered 410 or failed for days.")


class WebhookResource(Resource):
    id: str
    object: Literal["webhook"] = "webhook"
    url: str
    events: list[EventType]
    description: str
    enabled: bool
    disabled_reason: str | None = Field(description="Why nothing is sent: its owner said so, it answered 410, or it failed for five days.")
    failing_since: datetime | None = Field(description="Since when no attempt has succeeded; null while they do.")
    job_id: str | None = Field(description="The only job it hears of, where it was made from a job's `webhook_url`.")
    previous_secret_expires_at: datetime | None = Field(description="Until then, messages are signed with the previous secret too.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: WebhookRow) -> WebhookResource:
        return cls.model_validate(row, from_attributes=True)


class WebhookWithSecret(WebhookResource):
    """Shown when the webhook is created and when its secret is rotated, and never else."""

    secret: str = Field(examples=["whsec_…"])


class AttemptResource(Resource):
    number: int
    started_at: datetime
    duration_ms: int
    status_code: int | None = Field(description="Null where no answer came.")
    error: str | None


class DeliveryResource(Resource):
    id: str = Field(description="The `webhook-id` header: the same on every attempt.")
    object: Literal["delivery"] = "delivery"
    webhook_id: str
    type: str
    status: Literal["pending", "succeeded", "failed"]
    payload: dict[str, Any] = Field(description="The message as it is sent.")
    attempts: list[AttemptResource]
    next_attempt_at: datetime | None
    created_at: datetime
    finished_at: datetime | None
