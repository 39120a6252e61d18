"""`lustral up`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.embedded.folder import DataFolder, default_folder


def register(cli: typer.Typer) -> None:
    cli.command()(up)


def up(
    data_dir: Annotated[Path | None, typer.Option(help="Where everything is kept; $LUSTRAL_DATA_DIR, else ~/.local/share/lustral.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8000,
) -> None:
    """Run API and workers on this machine until Ctrl-C."""
    from app.embedded.up import run_until_stopped

    run_until_stopped(DataFolder((data_dir or default_folder()).resolve()), port, typer.echo)
