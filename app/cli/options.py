"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Server = Annotated[
    str | None,
    typer.Option("--server", envvar="LUSTRAL_SERVER", help="Address of a running server; without one, this machine does the work."),
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", envvar="LUSTRAL_API_KEY", help="Key for it. Better kept in the variable: others can read command lines."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]
