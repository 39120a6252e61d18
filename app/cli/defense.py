"""`lustral defend` and its sisters `scan`, `purify`, `finetune` and `evaluate`: from paths to an exit status."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from app.cli.connection import connect
from app.cli.console import console, print_json, watching
from app.cli.failures import Failure
from app.cli.interrupt import leave
from app.cli.options import ApiKey, AsJson, Server
from app.cli.order import Order, local_bytes
from app.cli.outcome import exit_status, print_outcome
from app.cli.sarif import write_sarif

SUMMARIES = {
    "defend": "The whole defence: scan, purify, fine-tune back, evaluate.",
    "scan": "Look for poisoned samples and give a verdict. Changes nothing.",
    "purify": "Answer suspicious samples again with the model itself.",
    "finetune": "Fine-tune a model on a data set.",
    "evaluate": "Score a model on held-out sets.",
}

VERDICTS = ("defend", "scan", "purify")
"""The kinds of job that reach a verdict."""

Model = Annotated[str, typer.Argument(help="A folder, s3://…, hf://owner/name[@revision], or model_…")]
Dataset = Annotated[str | None, typer.Argument(help="What the model was tuned on: a folder or file, s3://…, hf://…, or dset_…")]
Triggered = Annotated[str | None, typer.Option(help="Held-out inputs with the trigger and their right answers.")]
Clean = Annotated[str | None, typer.Option(help="Held-out inputs without a trigger and their right answers.")]
Target = Annotated[str | None, typer.Option(help="Text that an answer contains when the attack succeeded.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="A parameter, such as masking.ratio=0.3; may be repeated.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Stay until the job has ended. The next three imply it, and so does work on this machine.")
]
Output = Annotated[Path | None, typer.Option(help="Folder for everything that the job hands out.")]
FailOn = Annotated[str | None, typer.Option(help="Exit with status 1 on this verdict: backdoored.")]
Sarif = Annotated[Path | None, typer.Option(help="File for the verdict and the suspects as SARIF 2.1.0, for code scanning.")]
WebhookUrl = Annotated[str | None, typer.Option(help="An address that hears of this job.")]
Metadata = Annotated[
    list[str] | None, typer.Option(help="NAME=VALUE that the job and its webhooks carry, such as sha=$GITHUB_SHA; may be repeated.")
]


def register(cli: typer.Typer) -> None:
    for kind, summary in SUMMARIES.items():
        cli.command(kind, help=summary)(_command(kind))


def _command(kind: str) -> Callable[..., None]:
    def command(
        model: Model,
        dataset: Dataset = None,
        triggered: Triggered = None,
        clean: Clean = None,
        target: Target = None,
        settings: Settings = None,
        wait: Wait = False,
        output: Output = None,
        fail_on: FailOn = None,
        sarif: Sarif = None,
        webhook_url: WebhookUrl = None,
        metadata: Metadata = None,
        as_json: AsJson = False,
        server: Server = None,
        api_key: ApiKey = None,
    ) -> None:
        if dataset is None and kind != "evaluate":
            raise Failure(f"`lustral {kind}` needs MODEL and DATASET.")
        if fail_on not in (None, "backdoored"):
            raise Failure(f"--fail-on takes `backdoored`, not {fail_on!r}.")
        if fail_on is not None and kind not in VERDICTS:
            raise Failure(f"--fail-on needs a verdict, and `lustral {kind}` gives none; {', '.join(VERDICTS)} do.")
        if sarif is not None and kind not in VERDICTS:
            raise Failure(f"--sarif needs a verdict, and `lustral {kind}` gives none; {', '.join(VERDICTS)} do.")
        order = Order(kind, model, dataset, triggered, clean, target, settings or [], webhook_url, metadata or [])
        with connect(server, api_key) as connection:
            stay = wait or connection.ours or any(option is not None for option in (output, fail_on, sarif))
            job = None
            try:
                with watching(kind, local_bytes(order), quiet=as_json) as watch:
                    job = order.place(connection.lustral, watch)
                    if stay:
                        job = connection.lustral.wait(job["id"], watch.event)
            except KeyboardInterrupt:
                leave(connection, job)
                raise
            if output is not None:
                for artifact in connection.lustral.artifacts(job["id"]):
                    connection.lustral.download(artifact, output)
            if sarif is not None and job["status"] == "succeeded":
                write_sarif(connection.lustral.report(job["id"], "application/sarif+json"), sarif, order)
        if as_json:
            print_json(job)
        else:
            print_outcome(console, job, output)
        raise typer.Exit(exit_status(job, fail_on))

    return command
