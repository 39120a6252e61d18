"""`lustral webhooks …`"""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.connection import connect
from app.cli.console import print_json, print_table
from app.cli.options import ApiKey, AsJson, Server

cli = typer.Typer(help="Addresses that are told when something happens (Standard Webhooks).", no_args_is_help=True)


@cli.command()
def create(
    url: str,
    event: Annotated[list[str] | None, typer.Option(help="Type to hear of, such as job.succeeded; may be repeated. Default: all.")] = None,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Register an address and print the secret that its messages are signed with."""
    body = {"url": url, **({"events": event} if event else {})}
    with connect(server, api_key) as connection:
        created = connection.lustral.call("POST", "/v1/webhooks", body)
    if as_json:
        print_json(created)
    else:
        typer.echo(f"{created['id']}  {created['secret']}")


@cli.command("list")
def list_webhooks(as_json: AsJson = False, server: Server = None, api_key: ApiKey = None) -> None:
    """All addresses."""
    with connect(server, api_key) as connection:
        webhooks = list(connection.lustral.pages("/v1/webhooks"))
    if as_json:
        print_json(webhooks)
    else:
        print_table(["id", "url", "events"], [(webhook["id"], webhook["url"], ", ".join(webhook["events"])) for webhook in webhooks])


@cli.command()
def delete(webhook_id: Annotated[str, typer.Argument(help="wh_…")], server: Server = None, api_key: ApiKey = None) -> None:
    """Tell this address nothing more."""
    with connect(server, api_key) as connection:
        connection.lustral.call("DELETE", f"/v1/webhooks/{webhook_id}")
    typer.echo(f"{webhook_id} is deleted")
