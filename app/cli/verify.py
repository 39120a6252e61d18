"""`lustral verify`"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.console import print_either, print_json
from app.cli.failures import Failure
from app.cli.options import ApiKey, AsJson, Server
from app.embedded.folder import DataFolder, default_folder

if TYPE_CHECKING:
    from app.provenance.keys import PublicKey


def register(cli: typer.Typer) -> None:
    cli.command()(verify)


def verify(
    folder: Annotated[Path, typer.Argument(help="What `lustral defend --output` or a sister of it wrote.")],
    key: Annotated[
        Path | None, typer.Option(help="The service's public key (PEM). Without one: that of the server, or of this machine's service.")
    ] = None,
    as_json: AsJson = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Check a download against its signature: 0 it is genuine, 1 it is not, 2 it could not be checked."""
    from app.provenance.bundle import NotGenuine
    from app.provenance.folder import verify_folder

    public_key = _find_key(key, server, api_key)
    try:
        verified = verify_folder(folder, public_key)
    except NotGenuine as problem:
        if as_json:
            print_json({"genuine": False, "detail": str(problem)})
        else:
            typer.echo(f"{folder} is not genuine. {problem}", err=True)
        raise typer.Exit(1) from problem
    print_either(
        f"{folder} is genuine: {verified.files} files, {verified.bytes:,} bytes of {verified.job_id}, signed with {public_key.fingerprint}",
        {"genuine": True, **asdict(verified), "key": public_key.fingerprint},
        as_json=as_json,
    )


def _find_key(path: Path | None, server: str | None, api_key: str | None) -> PublicKey:
    """The key in the file `path`, else that of the server, else that of this machine's service.

    Raises:
        Failure: there is none to be had, or what is named is none.
        app.client.ApiError, httpx.TransportError: the server did not tell.
    """
    from app.provenance.keys import PublicKey, SigningKey

    if path is not None:
        try:
            return PublicKey.from_pem(path.read_bytes())
        except ValueError as error:
            raise Failure(f"{path} cannot be used as --key: {error}.") from error
    local = DataFolder(default_folder())
    if server is not None or local.running() is not None:
        from app.cli.connection import connect

        with connect(server, api_key) as connection:
            return PublicKey.from_pem(connection.lustral.signing_key()["public_key"].encode())
    if local.signing_key.exists():
        return SigningKey.from_file(local.signing_key).public
    raise Failure("No key to check with: name the service's public key by --key, or its address by --server.")
