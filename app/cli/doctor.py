"""`lustral doctor`"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.console import print_json
from app.embedded.folder import DataFolder, default_folder

if TYPE_CHECKING:
    from app.doctor.finding import Finding

_COLOURS = {"ok": typer.colors.GREEN, "warning": typer.colors.YELLOW, "failed": typer.colors.RED}


def register(cli: typer.Typer) -> None:
    cli.command()(doctor)


def doctor(
    gpu: Annotated[bool, typer.Option("--gpu", help="This machine is to run models: no usable GPU is a failure.")] = False,
    data_dir: Annotated[
        Path | None, typer.Option(help="Examine the `lustral up` of this folder, where LUSTRAL_DATABASE_URL is not set.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Check database, broker, storage, clocks, GPU, packages, disk and settings, and say what to do. Exit status 1: something failed."""
    findings = _examine((data_dir or default_folder()).resolve(), gpu=gpu)
    if as_json:
        found = list(findings)
        print_json({"object": "examination", "ok": _is_ok(found), "findings": [asdict(finding) for finding in found]})
    else:
        found = [_say(finding) for finding in findings]
    raise typer.Exit(0 if _is_ok(found) else 1)


def _examine(folder: Path, *, gpu: bool) -> Iterator[Finding]:
    from pydantic import ValidationError

    from app.doctor.configuration import explain, no_settings
    from app.doctor.examine import examine
    from app.embedded.services import settings_of
    from app.settings import load_settings

    data = DataFolder(folder)
    if "LUSTRAL_DATABASE_URL" not in os.environ and (running := data.running()):
        os.environ.update(settings_of(data, running["url"], data.work / "valkey.sock"))
    if not any(name.startswith("LUSTRAL_") for name in os.environ):
        yield no_settings(folder)
        yield from examine(None, gpu=gpu)
        return
    try:
        settings = load_settings()
    except ValidationError as error:
        yield from explain(error)
        settings = None
    yield from examine(settings, gpu=gpu)


def _say(finding: Finding) -> Finding:
    status = typer.style(f"{finding.status:<9}", fg=_COLOURS[finding.status])
    typer.echo(f"{status}{finding.check:<10}{finding.detail}")
    if finding.advice:
        typer.echo(f"{'':<19}→ {finding.advice}")
    return finding


def _is_ok(findings: list[Finding]) -> bool:
    return all(finding.status != "failed" for finding in findings)
