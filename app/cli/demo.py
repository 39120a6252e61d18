"""`lustral demo`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(cli: typer.Typer) -> None:
    cli.command()(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report, the purified weights, and the data of the service.")] = Path("demo-out"),
) -> None:
    """Watch the bundled suspect model go in over HTTP and a purified one come out, with the proof."""
    from app.demo import run_demo

    run_demo(out.resolve())
