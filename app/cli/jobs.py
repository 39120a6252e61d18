"""`lustral jobs …`"""

from __future__ import annotations

import json
from itertools import islice
from typing import Annotated, Any

import typer

from app.cli.connection import connect
from app.cli.console import print_json, print_table
from app.cli.options import ApiKey, AsJson, Server

cli = typer.Typer(help="Look at jobs, follow them, cancel them.", no_args_is_help=True)
JobId = Annotated[str, typer.Argument(help="job_…")]


@cli.command("list")
def list_jobs(
    status: Annotated[str | None, typer.Option(help="queued, running, cancelling, succeeded, failed or cancelled.")] = None,
    kind: Annotated[str | None, typer.Option(help="scan, purify, finetune, evaluate or defend.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """The newest jobs."""
    with connect(server, api_key) as connection:
        jobs = list(islice(connection.lustral.pages("/v1/jobs", status=status, kind=kind), limit))
    if as_json:
        print_json(jobs)
        return
    print_table(
        ["id", "kind", "status", "stage", "verdict", "created"],
        [(job["id"], job["kind"], job["status"], job["stage"], (job["result"] or {}).get("verdict"), job["created_at"]) for job in jobs],
    )


@cli.command()
def show(job_id: JobId, server: Server = None, api_key: ApiKey = None) -> None:
    """A job, as JSON."""
    with connect(server, api_key) as connection:
        print_json(connection.lustral.job(job_id))


@cli.command()
def events(job_id: JobId, as_json: AsJson = False, server: Server = None, api_key: ApiKey = None) -> None:
    """What happened so far, and what happens until the job ends."""
    with connect(server, api_key) as connection:
        for event in connection.lustral.events(job_id):
            typer.echo(json.dumps(event) if as_json else f"{event['created_at']}  {event['type']:<16} {_brief(event['data'])}")


@cli.command()
def cancel(job_id: JobId, as_json: AsJson = False, server: Server = None, api_key: ApiKey = None) -> None:
    """Stop a job. What it has finished stays readable."""
    with connect(server, api_key) as connection:
        job = connection.lustral.cancel(job_id)
    if as_json:
        print_json(job)
    else:
        typer.echo(job["status"])


def _brief(data: dict[str, Any]) -> str:
    return "  ".join(f"{name}={value}" for name, value in data.items() if value is not None)
