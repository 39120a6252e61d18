"""`lustral jobs …`"""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from app.cli.connection import connect
from app.cli.console import print_json, print_table
from app.cli.failures import Failure
from app.cli.options import ApiKey, AsJson, Server

cli = typer.Typer(help="Look at jobs, follow them, fetch what they made, cancel them.", no_args_is_help=True)
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
def show(
    job_id: JobId,
    as_json: AsJson = True,  # noqa: ARG001  (there is no other form; scripts may ask for it as of every command)
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
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
def logs(
    job_id: JobId,
    step: Annotated[str | None, typer.Option(help="Only of this kind of step: scan, verdict, finetune, …")] = None,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """What each attempt at each of the job's steps did and when; those of attempts that are over."""
    with connect(server, api_key) as connection, TemporaryDirectory(prefix="lustral-logs-") as scratch:
        for artifact in reversed(connection.lustral.artifacts(job_id, kind="log")):
            name = artifact["name"].removeprefix("logs/").removesuffix(".jsonl")
            if step is not None and re.split(r"[-.]", name)[0] != step:
                continue
            with connection.lustral.download(artifact, Path(scratch)).open(encoding="utf-8") as lines:
                for line in map(json.loads, lines):
                    typer.echo(json.dumps({"log": name, **line}) if as_json else f"{line.pop('at')}  {name:<22} {_told(line)}")


@cli.command()
def download(
    job_id: JobId,
    folder: Annotated[Path, typer.Argument(help="Where to; files of the same names there are replaced.")],
    kind: Annotated[list[str] | None, typer.Option(help="Only artifacts of this kind: report, weights, log, …; may be repeated.")] = None,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Fetch what a job hands out, each file checked by its SHA-256."""
    fetched = []
    kinds: list[str | None] = [*kind] if kind else [None]
    with connect(server, api_key) as connection:
        for wanted in kinds:
            for artifact in connection.lustral.artifacts(job_id, kind=wanted):
                path = connection.lustral.download(artifact, folder)
                fetched.append({**artifact, "path": str(path)})
                if not as_json:
                    typer.echo(path)
        if not fetched:
            status = connection.lustral.job(job_id)["status"]
            raise Failure(f"{job_id} hands out nothing{' of this kind' if kind else ''}. Its status is {status}.")
    if as_json:
        print_json(fetched)


@cli.command()
def cancel(job_id: JobId, as_json: AsJson = False, server: Server = None, api_key: ApiKey = None) -> None:
    """Stop a job. What it has finished stays readable."""
    with connect(server, api_key) as connection:
        job = connection.lustral.cancel(job_id)
    if as_json:
        print_json(job)
    else:
        typer.echo(job["status"])


def _told(line: dict[str, Any]) -> str:
    event = line.pop("event")
    return f"{event:<16} {_brief(line)}".rstrip()


def _brief(data: dict[str, Any]) -> str:
    return "  ".join(f"{name}={value}" for name, value in data.items() if value is not None)
