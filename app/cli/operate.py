"""`lustral operate …`: what the operator of a production server runs beside it, with the server's own settings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.console import print_either, print_json, print_table
from app.cli.failures import Failure
from app.cli.options import AsJson

if TYPE_CHECKING:
    from app.settings import Settings
    from app.storage import ObjectStore

cli = typer.Typer(help="For operators: needs the server's LUSTRAL_… settings, not an API key.", no_args_is_help=True)

Limit = Annotated[str | None, typer.Option(help="A number, none or default.")]


@cli.command()
def migrate(as_json: AsJson = False) -> None:
    """Bring the database up to date and make the bucket where it is missing. Safe to repeat."""
    from app.migrate import upgrade
    from app.settings import load_settings

    settings = load_settings()
    upgrade(settings.database_url)
    _store_with_bucket(settings)
    print_either("Database and object store are ready.", {"migrated": True}, as_json=as_json)


@cli.command("wait-for-migration")
def wait_for_migration(
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 600.0,
    as_json: AsJson = False,
) -> None:
    """Wait until the database has the schema that this version needs, or a later one. For what starts beside `migrate`."""
    from app.migrate import is_migrated
    from app.settings import load_settings

    deadline = time.monotonic() + timeout
    while not is_migrated(load_settings().database_url):
        if time.monotonic() >= deadline:
            raise Failure("The database is not migrated. Run `lustral operate migrate`; `lustral doctor` says what keeps it from working.")
        time.sleep(min(2.0, timeout))
    print_either("The database has the schema that this version needs.", {"migrated": True}, as_json=as_json)


@cli.command("create-key")
def create_key(
    tenant: Annotated[str, typer.Option(help="Whose key; a new name makes a new tenant.")] = "default",
    name: Annotated[str, typer.Option(help="What it is for.")] = "first key",
    as_json: AsJson = False,
) -> None:
    """Let somebody in: print a key with every scope."""
    from app.auth.service import bootstrap
    from app.runtime import Runtime
    from app.settings import load_settings

    runtime = Runtime.open(load_settings())
    with runtime.write.begin() as session:
        created = bootstrap(session, runtime.signer, tenant=tenant, name=name)
    runtime.close()
    print_either(created.key, created.model_dump(mode="json"), as_json=as_json)


@cli.command("reseal-credentials")
def reseal_credentials(as_json: AsJson = False) -> None:
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
    print_either(f"{count} credentials are encrypted with the first key.", {"credentials": count}, as_json=as_json)


@cli.command()
def limits(
    tenant: Annotated[str, typer.Argument(help="Name of the tenant.")],
    stored_bytes: Limit = None,
    open_uploads: Limit = None,
    unfinished_jobs: Limit = None,
    job_seconds: Limit = None,
    as_json: AsJson = False,
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
    if as_json:
        print_json(now.model_dump())
        return
    print_table(["", "limit"], [(name, "none" if value is None else value) for name, value in now.model_dump().items()])


@cli.command("export-objects")
def export_objects(
    folder: Annotated[Path, typer.Argument(help="Where to; what is there already is not copied again.")], as_json: AsJson = False
) -> None:
    """Copy the object store. Dump the database first: docs/operate.md says why."""
    from app.backup import export_objects
    from app.settings import load_settings
    from app.storage import open_store

    count = export_objects(open_store(load_settings()), folder)
    print_either(f"{count} objects copied to {folder}.", {"objects": count, "folder": str(folder)}, as_json=as_json)


@cli.command("import-objects")
def import_objects(
    folder: Annotated[Path, typer.Argument(help="What export-objects made.", exists=True, file_okay=False)], as_json: AsJson = False
) -> None:
    """Put a copy of the object store back, before the database is restored. Safe to repeat."""
    from app.backup import import_objects
    from app.settings import load_settings

    count = import_objects(_store_with_bucket(load_settings()), folder)
    print_either(f"{count} objects put back.", {"objects": count}, as_json=as_json)


@cli.command("check-objects")
def check_objects(as_json: AsJson = False) -> None:
    """Has the object store all that the database names? Exit status 1: no, and the keys are printed."""
    from app.backup import missing_objects
    from app.runtime import Runtime
    from app.settings import load_settings

    runtime = Runtime.open(load_settings())
    with runtime.read() as session:
        missing = missing_objects(session, runtime.store)
    runtime.close()
    if as_json:
        print_json({"missing": missing})
        raise typer.Exit(1 if missing else 0)
    for key in missing:
        typer.echo(key)
    typer.echo(f"{len(missing)} objects are missing." if missing else "Every object that the database names is there.", err=True)
    raise typer.Exit(1 if missing else 0)


def _store_with_bucket(settings: Settings) -> ObjectStore:
    from app.storage import open_store
    from app.storage_s3 import S3Store

    store = open_store(settings)
    if isinstance(store, S3Store):
        store.ensure_bucket()
    return store
