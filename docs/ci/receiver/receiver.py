"""Sets the status of a commit on GitHub when the Lustral job about it ends.

A receiver of Standard Webhooks. The job says by its metadata which commit it is about: `repository` (owner/name) and `sha`.

    LUSTRAL_WEBHOOK_SECRET  whsec_…, as `lustral webhooks create` printed it
    GITHUB_TOKEN            may write commit statuses of these repositories
    GITHUB_REPOSITORIES     owner/name, several apart by spaces; others are ignored, whatever a job says
    GITHUB_API              another API than that of github.com, such as https://github.example.com/api/v3
"""

from __future__ import annotations

import os
import re
import time
from typing import Any

import httpx
from fastapi import FastAPI, HTTPException, Request
from standardwebhooks import Webhook, WebhookVerificationError

LARGEST_BODY = 64 * 1024
REMEMBER_SECONDS = 600
"""Longer than a signature is good for (five minutes, by a clock that may be five minutes off), so no message works twice."""

webhook = Webhook(os.environ["LUSTRAL_WEBHOOK_SECRET"])
repositories = set(os.environ["GITHUB_REPOSITORIES"].split())
github = httpx.AsyncClient(
    base_url=os.environ.get("GITHUB_API", "https://api.github.com"),
    headers={"Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}", "Accept": "application/vnd.github+json"},
    timeout=10,
)
app = FastAPI()
handled: dict[str, float] = {}
"""When each message came."""


@app.post("/lustral", status_code=204)
async def receive(request: Request) -> None:
    """204: done, or nothing to do. 401: not from Lustral, or too old. 502: GitHub did not take it; Lustral will try again."""
    message = verify(await read(request), dict(request.headers))
    message_id, now = request.headers["webhook-id"], time.monotonic()
    for old in [id for id, came in handled.items() if now - came > REMEMBER_SECONDS]:
        del handled[old]
    if message_id in handled:
        return
    handled[message_id] = now  # before the first await: a second delivery may come meanwhile
    try:
        if (status := status_of(message["data"])) is not None:
            (await github.post(**status)).raise_for_status()
    except httpx.HTTPError as error:
        del handled[message_id]
        raise HTTPException(502, "GitHub did not take the status") from error


async def read(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise HTTPException(413, "no message of Lustral is that long")
    return body


def verify(body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    try:
        message: dict[str, Any] = webhook.verify(body, headers)
    except (WebhookVerificationError, ValueError) as error:  # ValueError: a header that is no signature at all
        raise HTTPException(401, "the signature is missing, wrong, or too old") from error
    return message


def status_of(job: dict[str, Any]) -> dict[str, Any] | None:
    """The call that sets the status; None unless the job has ended, can have a verdict, and is about a commit of ours."""
    metadata = job.get("metadata", {})
    repository, sha = metadata.get("repository"), metadata.get("sha", "")
    if repository not in repositories or not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", sha):
        return None
    match job["status"], (job["result"] or {}).get("verdict"):
        case "succeeded", "clean":
            state, text = "success", "No backdoor was found"
        case "succeeded", "backdoored":
            state, text = "failure", f"A backdoor was found; suspect samples: {job['result']['suspects']['count']}"
        case "succeeded", "inconclusive":
            state, text = "error", "It could not be told whether there is a backdoor"
        case "failed", _:
            state, text = "error", "The job failed"
        case "cancelled", _:
            state, text = "error", "The job was cancelled"
        case _:
            return None
    return {
        "url": f"/repos/{repository}/statuses/{sha}",
        "json": {"state": state, "description": f"{text} ({job['id']})", "context": f"lustral/{job['kind']}"},
    }
