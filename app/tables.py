"""Imports every table, so that `Base.metadata` is complete."""

from app.artifacts.tables import ArtifactRow
from app.audit.tables import AuditRow
from app.auth.tables import ApiKeyRow, TenantRow
from app.blobs.tables import BlobReferenceRow, BlobRow
from app.credentials.tables import CredentialRow
from app.datasets.tables import DatasetRow
from app.db import Base
from app.idempotency.tables import IdempotencyKeyRow
from app.jobs.tables import EventRow, JobRow, OutboxRow, StepAttemptRow, StepRow
from app.models.tables import ModelRow
from app.uploads.tables import UploadRow
from app.webhooks.tables import DeliveryAttemptRow, DeliveryRow, WebhookRow

metadata = Base.metadata

__all__ = [
    "ApiKeyRow",
    "ArtifactRow",
    "AuditRow",
    "BlobReferenceRow",
    "BlobRow",
    "CredentialRow",
    "DatasetRow",
    "DeliveryAttemptRow",
    "DeliveryRow",
    "EventRow",
    "IdempotencyKeyRow",
    "JobRow",
    "ModelRow",
    "OutboxRow",
    "StepAttemptRow",
    "StepRow",
    "TenantRow",
    "UploadRow",
    "WebhookRow",
    "metadata",
]
