"""`lustral audit` and `lustral usage`: what happened in your tenant, and how much of it you may have."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from app.cli.connection import connect
from app.cli.console import print_json, print_table
from app.cli.options import ApiKey, AsJson, Server


def register(cli: typer.Typer) -> None:
    cli.command()(audit)
    cli.command()(usage)


def audit(
    action: Annotated[str | None, typer.Option(help="Only such changes, as job.cancelled.")] = None,
    object_id: Annotated[str | None, typer.Option("--object", help="Only changes of this object, as job_….")] = None,
    key_id: Annotated[str | None, typer.Option("--key", help="Only changes made with this key, as key_….")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """The newest changes: who made them, what they were, when, and from where. Needs a key with the scope admin."""
    with connect(server, api_key) as connection:
        pages = connection.lustral.pages("/v1/audit", action=action, object_id=object_id, key=key_id)
        entries = list(islice(pages, limit))
    if as_json:
        print_json(entries)
        return
    columns = ["created_at", "action", "object_id", "key_id", "address", "request_id"]
    print_table(columns, ([entry[column] for column in columns] for entry in entries))


def usage(as_json: AsJson = False, server: Server = None, api_key: ApiKey = None) -> None:
    """What you have, and how much of it you may have."""
    with connect(server, api_key) as connection:
        found = connection.lustral.call("GET", "/v1/usage")
    if as_json:
        print_json(found)
        return
    rows = [(name, found[name]["used"], found[name]["limit"]) for name in ("stored_bytes", "open_uploads", "unfinished_jobs")]
    table = [*rows, ("job_seconds", None, found["job_seconds"])]
    print_table(["", "used", "limit"], [(name, used, "none" if limit is None else limit) for name, used, limit in table])
