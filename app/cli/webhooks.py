"""`lustral webhooks …`"""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

import typer

from app.cli.connection import connect
from app.cli.console import print_deleted, print_json, print_table
from app.cli.options import ApiKey, AsJson, Server

cli = typer.Typer(help="Addresses that are told when something happens (Standard Webhooks).", no_args_is_help=True)
WebhookId = Annotated[str, typer.Argument(help="wh_…")]


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
def delete(webhook_id: WebhookId, as_json: AsJson = False, server: Server = None, api_key: ApiKey = None) -> None:
    """Tell this address nothing more."""
    with connect(server, api_key) as connection:
        connection.lustral.call("DELETE", f"/v1/webhooks/{webhook_id}")
    print_deleted("webhook", webhook_id, as_json=as_json)


@cli.command()
def rotate(webhook_id: WebhookId, as_json: AsJson = False, server: Server = None, api_key: ApiKey = None) -> None:
    """Print a new secret. For 24 hours messages are signed with the one before it too; rotating twice ends the first at once."""
    with connect(server, api_key) as connection:
        webhook = connection.lustral.call("POST", f"/v1/webhooks/{webhook_id}/rotate-secret")
    if as_json:
        print_json(webhook)
    else:
        typer.echo(webhook["secret"])


@cli.command("test")
def send_test(webhook_id: WebhookId, as_json: AsJson = False, server: Server = None, api_key: ApiKey = None) -> None:
    """Send the address a message of the type `webhook.test`."""
    with connect(server, api_key) as connection:
        delivery = connection.lustral.call("POST", f"/v1/webhooks/{webhook_id}/test")
    _print_delivery(delivery, as_json=as_json)


@cli.command()
def deliveries(
    webhook_id: WebhookId,
    status: Annotated[str | None, typer.Option(help="pending, succeeded or failed.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """The newest messages to the address, and what came of them."""
    with connect(server, api_key) as connection:
        found = list(islice(connection.lustral.pages(f"/v1/webhooks/{webhook_id}/deliveries", status=status), limit))
    if as_json:
        print_json(found)
        return
    print_table(
        ["id", "type", "status", "attempts", "last answer", "next attempt", "created"],
        (
            (
                delivery["id"],
                delivery["type"],
                delivery["status"],
                len(delivery["attempts"]),
                _last_answer(delivery["attempts"]),
                delivery["next_attempt_at"],
                delivery["created_at"],
            )
            for delivery in found
        ),
    )


@cli.command()
def redeliver(
    webhook_id: WebhookId,
    delivery_id: Annotated[str, typer.Argument(help="The `webhook-id` of the message.")],
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Send a message once more, now."""
    with connect(server, api_key) as connection:
        delivery = connection.lustral.call("POST", f"/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver")
    _print_delivery(delivery, as_json=as_json)


def _print_delivery(delivery: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(delivery)
    else:
        typer.echo(f"{delivery['id']}  {delivery['status']}")


def _last_answer(attempts: list[dict[str, Any]]) -> object:
    """The HTTP status of the last attempt, or why there was none."""
    return (attempts[-1]["status_code"] or attempts[-1]["error"]) if attempts else None
