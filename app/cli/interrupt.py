"""Ctrl-C while something long happens on a server: what stays, how to go on, and whether to cancel it."""

from __future__ import annotations

import sys
from typing import Any

import typer

from app.cli.connection import Connection
from app.cli.console import console


def leave(connection: Connection, job: dict[str, Any] | None) -> None:
    """Say how to go on with what was left off; job: None where the server has not confirmed one. On a terminal, ask whether to cancel it.

    Without somebody to ask, nothing is cancelled: a runner that stops a build may well start it again.
    """
    if job is None:
        _say("\nWhat was uploaded stays for a day: the same command sends only the rest. If a job was started, lustral jobs list shows it.")
        return
    job_id = job["id"]
    if sys.stdin.isatty() and console.is_terminal and _confirmed(f"\nCancel {job_id}?"):
        _say(f"{job_id} {connection.lustral.cancel(job_id)['status']}")
        return
    if connection.ours:
        _say(f"\n{job_id} is put by with the service that this command started, and goes on with the next: lustral up")
    else:
        _say(f"\n{job_id} goes on.")
    _say(f"Follow it: lustral jobs events {job_id}")
    _say(f"Cancel it: lustral jobs cancel {job_id}")


def _confirmed(question: str) -> bool:
    try:
        return typer.confirm(question, default=False, err=True)
    except typer.Abort:  # Ctrl-C once more, or the end of input
        return False


def _say(text: str) -> None:
    typer.echo(text, err=True)
