"""`lustral operate …`: what the operator of a production server runs beside it, with the server's own settings."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.console import print_table
from app.cli.failures import Failure

cli = typer.Typer(help="For operators: needs the server's LUSTRAL_… settings, not an API key.", no_args_is_help=True)

Limit = Annotated[str | None, typer.Option(help="A number, none or default.")]


@cli.command()
def migrate() -> None:
    """Bring the database up to date and make the bucket where it is missing. Safe to repeat."""
    from app.migrate import upgrade
    from app.settings import load_settings
    from app.storage import open_store
    from app.storage_s3 import S3Store

    settings = load_settings()
    upgrade(settings.database_url)
    store = open_store(settings)
    if isinstance(store, S3Store):
        store.ensure_bucket()
    typer.echo("Database and object store are ready.")


@cli.command("create-key")
def create_key(
    tenant: Annotated[str, typer.Option(help="Whose key; a new name makes a new tenant.")] = "default",
    name: Annotated[str, typer.Option(help="What it is for.")] = "first key",
) -> None:
    """Let somebody in: print a key with every scope."""
    from app.auth.service import bootstrap
    from app.runtime import Runtime
    from app.settings import load_settings

    runtime = Runtime.open(load_settings())
    with runtime.write.begin() as session:
        typer.echo(bootstrap(session, runtime.signer, tenant=tenant, name=name).key)
    runtime.close()


@cli.command("reseal-credentials")
def reseal_credentials() -> None:
    """Encrypt every tenant's credentials with the first of LUSTRAL_CREDENTIAL_KEYS. Then the other keys can be taken out."""
    from app.credentials.service import reseal_credentials
    from app.credentials.vault import Vault
    from app.runtime import Runtime
    from app.settings import load_settings

    settings = load_settings()
    vault = Vault.of(settings)
    if vault is None:
        raise Failure("LUSTRAL_CREDENTIAL_KEYS is not set.")
    runtime = Runtime.open(settings)
    with runtime.write.begin() as session:
        count = reseal_credentials(session, vault)
    runtime.close()
    typer.echo(f"{count} credentials are encrypted with the first key.")


@cli.command()
def limits(
    tenant: Annotated[str, typer.Argument(help="Name of the tenant.")],
    stored_bytes: Limit = None,
    open_uploads: Limit = None,
    unfinished_jobs: Limit = None,
    job_seconds: Limit = None,
) -> None:
    """Show what a tenant may have, after setting what is named. Each value: a number, none (no limit), or default (as the settings say)."""
    from pydantic import ValidationError

    from app.errors import NotFound
    from app.quotas.service import set_limits
    from app.runtime import Runtime
    from app.settings import load_settings

    named = {"stored_bytes": stored_bytes, "open_uploads": open_uploads, "unfinished_jobs": unfinished_jobs, "job_seconds": job_seconds}
    given = {name: value for name, value in named.items() if value is not None}
    defaults = {name for name, value in given.items() if value == "default"}
    runtime = Runtime.open(load_settings())
    try:
        changes = {name: None if value == "none" else int(value) for name, value in given.items() if name not in defaults}
        with runtime.write.begin() as session:
            now = set_limits(session, runtime.settings, tenant, changes, defaults)
    except (NotFound, ValidationError, ValueError) as error:
        raise Failure(str(error)) from error
    finally:
        runtime.close()
    print_table(["", "limit"], [(name, "none" if value is None else value) for name, value in now.model_dump().items()])
