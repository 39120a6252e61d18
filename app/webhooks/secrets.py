"""The secrets that webhook messages are signed with. None is stored: it follows from the server's key, the endpoint's id and a counter."""

from __future__ import annotations

import base64
from datetime import datetime

from app.signing import Signer
from app.webhooks.tables import WebhookRow

PURPOSE = "webhook-secret"


def secret_of(signer: Signer, webhook: WebhookRow, generation: int | None = None) -> str:
    """`whsec_…` of an endpoint, the present one or that of another `generation`."""
    digest = signer.digest(PURPOSE, f"{webhook.id}:{generation or webhook.secret_generation}")
    return f"whsec_{base64.b64encode(digest).decode()}"


def signing_secrets(signer: Signer, webhook: WebhookRow, *, now: datetime) -> list[str]:
    """Every secret a receiver may be checking with, the present one first: while a rotation is under way the one before is good too."""
    secrets = [secret_of(signer, webhook)]
    if webhook.previous_secret_expires_at is not None and now < webhook.previous_secret_expires_at:
        secrets.append(secret_of(signer, webhook, webhook.secret_generation - 1))
    return secrets
