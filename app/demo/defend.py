"""One defence from upload to verified webhook, as any client of the API would run it."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

from app.cli.console import Watch
from app.cli.failures import Failure
from app.client import Lustral
from app.demo.inputs import Inputs
from app.demo.receiver import Receiver

WEBHOOK_WITHIN = 60.0
Say = Callable[[str], object]


def register(lustral: Lustral, inputs: Inputs, watch: Watch) -> dict[str, Any]:
    """Upload model and data sets. Returns the body of a job that reads them, but for its kind and parameters."""
    model = lustral.register_model(inputs.model, advance=watch.uploaded, resumed=watch.resumed)
    training, triggered, clean = (
        lustral.register_dataset(folder, name=folder.name, advance=watch.uploaded, resumed=watch.resumed)["id"]
        for folder in (inputs.training, inputs.triggered, inputs.clean)
    )
    evaluation = {"triggered_dataset_id": triggered, "clean_dataset_id": clean, "target": inputs.target}
    return {"model_id": model["id"], "dataset_id": training, "evaluation": evaluation}


def defend(lustral: Lustral, inputs: Inputs, receiver: Receiver, watch: Watch, say: Say) -> dict[str, Any]:
    """Register a webhook, upload, start, watch, and hear of the end by a signed message. Returns the finished job.

    Raises:
        Failure: the job did not succeed, or nobody told the receiver.
    """
    webhook = lustral.call("POST", "/v1/webhooks", {"url": receiver.url})
    receiver.secret = webhook["secret"]
    job = lustral.create_job("defend", **register(lustral, inputs, watch))
    job = lustral.wait(job["id"], watch.event)
    if job["status"] != "succeeded":
        error = job["error"] or {"title": "It ended early", "detail": "see its events"}
        raise Failure(f"{job['id']} {job['status']}: {error['title']}: {error['detail']}")
    try:
        message = receiver.wait_for("job.succeeded", job["id"], WEBHOOK_WITHIN)
    except queue.Empty:
        raise Failure(f"no webhook told of the end of {job['id']} within {WEBHOOK_WITHIN:.0f} s") from None
    say(f"Webhook {message['type']} received at {receiver.url}; its signature is good")
    return job
