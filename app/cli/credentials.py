"""`lustral credentials …`"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.cli.connection import connect
from app.cli.console import print_deleted, print_json, print_table
from app.cli.failures import Failure
from app.cli.options import ApiKey, AsJson, Server

cli = typer.Typer(help="What the server reads your own buckets and repositories with.", no_args_is_help=True)

S3 = ("access_key_id", "secret_access_key", "session_token")


@cli.command("set")
def set_credential(
    type: Annotated[str, typer.Argument(help="s3 or huggingface")],
    scope: Annotated[str | None, typer.Option(help="Only for this bucket, or this owner on the hub.")] = None,
    endpoint_url: Annotated[str | None, typer.Option(envvar="AWS_ENDPOINT_URL", help="Of an S3 other than AWS.")] = None,
    region: Annotated[str | None, typer.Option(envvar="AWS_REGION")] = None,
    access_key_id: Annotated[str | None, typer.Option(envvar="AWS_ACCESS_KEY_ID")] = None,
    secret_access_key: Annotated[str | None, typer.Option(envvar="AWS_SECRET_ACCESS_KEY", help="Asked for if not given.")] = None,
    session_token: Annotated[str | None, typer.Option(envvar="AWS_SESSION_TOKEN")] = None,
    token: Annotated[str | None, typer.Option(envvar="HF_TOKEN", help="Asked for if not given.")] = None,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Hand over credentials, in place of those of the same type and scope. Secrets are better kept in the variables, or typed."""
    body: dict[str, Any] = {"type": type, "scope": scope}
    if type == "s3":
        if access_key_id is None:
            raise Failure("Give --access-key-id, or set AWS_ACCESS_KEY_ID.")
        secret = secret_access_key or typer.prompt("Secret access key", hide_input=True)
        body |= {"endpoint_url": endpoint_url, "region": region, **dict(zip(S3, (access_key_id, secret, session_token), strict=True))}
    elif type == "huggingface":
        body["token"] = token or typer.prompt("Token", hide_input=True)
    else:
        raise Failure(f"`lustral credentials set` takes s3 or huggingface, not {type!r}.")
    with connect(server, api_key) as connection:
        kept = connection.lustral.call("POST", "/v1/credentials", {name: value for name, value in body.items() if value is not None})
    if as_json:
        print_json(kept)
    else:
        typer.echo(kept["id"])


@cli.command("list")
def list_credentials(as_json: AsJson = False, server: Server = None, api_key: ApiKey = None) -> None:
    """All credentials, without their secrets."""
    with connect(server, api_key) as connection:
        credentials = list(connection.lustral.pages("/v1/credentials"))
    if as_json:
        print_json(credentials)
        return
    columns = ["id", "type", "scope", "endpoint_url", "hint", "updated_at"]
    print_table(columns, ([credential[column] or "" for column in columns] for credential in credentials))


@cli.command()
def delete(
    credential_id: Annotated[str, typer.Argument(help="cred_…")], as_json: AsJson = False, server: Server = None, api_key: ApiKey = None
) -> None:
    """Have the server forget them."""
    with connect(server, api_key) as connection:
        connection.lustral.call("DELETE", f"/v1/credentials/{credential_id}")
    print_deleted("credential", credential_id, as_json=as_json)
