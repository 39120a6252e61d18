"""`lustral keys …`"""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.connection import connect
from app.cli.console import print_json, print_table
from app.cli.options import ApiKey, AsJson, Server

cli = typer.Typer(help="API keys of your tenant.", no_args_is_help=True)


@cli.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[list[str] | None, typer.Option(help="read, write or admin; may be repeated. Default: read and write.")] = None,
    expires_at: Annotated[
        str | None, typer.Option(help="After this it opens nothing; as 2027-01-01T00:00:00Z. Default: it does not expire.")
    ] = None,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Make a key and print it, this once."""
    body = {"name": name, **({"scopes": scope} if scope else {}), **({"expires_at": expires_at} if expires_at else {})}
    with connect(server, api_key) as connection:
        created = connection.lustral.call("POST", "/v1/keys", body)
    if as_json:
        print_json(created)
    else:
        typer.echo(created["key"])


@cli.command("list")
def list_keys(as_json: AsJson = False, server: Server = None, api_key: ApiKey = None) -> None:
    """All keys, without their secret part."""
    with connect(server, api_key) as connection:
        keys = list(connection.lustral.pages("/v1/keys"))
    if as_json:
        print_json(keys)
        return
    columns = ["id", "name", "hint", "expires_at", "last_used_at", "revoked_at"]
    print_table([*columns, "scopes"], ([*(key[column] for column in columns), ", ".join(key["scopes"])] for key in keys))


@cli.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="key_…")], as_json: AsJson = False, server: Server = None, api_key: ApiKey = None
) -> None:
    """Make a key useless, at once and for good."""
    with connect(server, api_key) as connection:
        key = connection.lustral.call("DELETE", f"/v1/keys/{key_id}")
    if as_json:
        print_json(key)
    else:
        typer.echo(f"{key_id} is revoked")
