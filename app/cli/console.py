"""What a person sees while something long happens: bars on a terminal, plain lines elsewhere, nothing for machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.table import Table

console = Console()


def print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_either(text: str, document: dict[str, Any], *, as_json: bool) -> None:
    """The same for people and for machines."""
    if as_json:
        print_json(document)
    else:
        typer.echo(text)


def print_deleted(noun: str, id: str, *, as_json: bool) -> None:
    """What is gone, where the server has nothing more to say about it."""
    print_either(f"{id} is deleted", {"id": id, "object": noun, "deleted": True}, as_json=as_json)


def print_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """On a terminal folded to its width; elsewhere a line for each row, whatever its length, with tabs between its cells."""
    if not console.is_terminal:
        for row in (columns, *rows):
            typer.echo("\t".join(_plain(cell) for cell in row))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape("" if cell is None else str(cell)) for cell in row))
    console.print(table)


def _plain(cell: object) -> str:
    return "" if cell is None else " ".join(str(cell).split())


def _resuming(name: str, there: int, parts: int) -> str:
    return f"{name}: resuming, {there} of {parts} parts there"


class Watch(Protocol):
    """Told of everything that happens on the way to a finished job."""

    def uploaded(self, count: int) -> None:
        """`count` more bytes have been sent, or are there already."""

    def resumed(self, name: str, there: int, parts: int) -> None:
        """Of the `parts` of a file, so many are there already."""

    def event(self, event: dict[str, Any]) -> None:
        """The job has something to say."""


@contextmanager
def watching(what: str, upload_bytes: int, *, quiet: bool) -> Iterator[Watch]:
    """The watch that suits where the output goes. upload_bytes: how many will be sent; 0 for none."""
    if quiet:
        yield Silence()
    elif console.is_terminal:
        with _Bars(what, upload_bytes) as bars:
            yield bars
    else:
        yield _Lines(what)


class Silence:
    """For machines."""

    def uploaded(self, count: int) -> None: ...

    def resumed(self, name: str, there: int, parts: int) -> None: ...

    def event(self, event: dict[str, Any]) -> None: ...


class _Lines:
    """One line for each stage and each tenth of it, for the logs of CI."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._said: tuple[str | None, int] = (None, -1)

    def uploaded(self, count: int) -> None: ...

    def resumed(self, name: str, there: int, parts: int) -> None:
        typer.echo(_resuming(name, there, parts), err=True)

    def event(self, event: dict[str, Any]) -> None:
        data = event["data"]
        if event["type"] == "job.progress":
            tenth = 10 * data["done"] // max(1, data["total"])
            if (data["stage"], tenth) != self._said:
                self._said = (data["stage"], tenth)
                self._say(event, f"{data['stage']}: {data['done']} of {data['total']} {data['unit']}")
        elif event["type"] == "job.stage":
            self._say(event, data["stage"])
        elif event["type"] in ("job.waiting", "job.retrying"):
            self._say(event, f"{event['type'].removeprefix('job.')}: {data['detail']}")
        elif event["type"] != "job.metrics":
            self._say(event, event["type"].removeprefix("job."))

    def _say(self, event: dict[str, Any], text: str) -> None:
        typer.echo(f"{event['created_at'][11:19]} {self._what} {text}", err=True)


class _Bars:
    """One bar for the upload and one for each stage."""

    def __init__(self, what: str, upload_bytes: int) -> None:
        self._what = what
        name, unit = TextColumn("{task.description:<20}"), TextColumn("{task.fields[unit]}")
        self._uploads = Progress(name, BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console)
        self._stages = Progress(name, BarColumn(), MofNCompleteColumn(), unit, TimeElapsedColumn(), console=console)
        self._upload = self._uploads.add_task("upload", total=upload_bytes) if upload_bytes else None
        self._tasks: dict[str, TaskID] = {}
        self._stage: str | None = None

    def __enter__(self) -> Self:
        (self._uploads if self._upload is not None else self._stages).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._uploads.stop()
        self._stages.stop()

    def uploaded(self, count: int) -> None:
        if self._upload is not None:
            self._uploads.advance(self._upload, count)

    def resumed(self, name: str, there: int, parts: int) -> None:
        self._uploads.console.print(_resuming(name, there, parts), highlight=False, markup=False)

    def event(self, event: dict[str, Any]) -> None:
        self._uploads.stop()
        self._stages.start()
        data = event["data"]
        if event["type"] in ("job.stage", "job.progress"):
            if data["stage"] != self._stage:
                self._finish_stage()
                self._stage = data["stage"]
                self._tasks[self._stage] = self._stages.add_task(f"{self._what}: {self._stage}", total=None, unit="")
            if event["type"] == "job.progress":
                self._stages.update(self._tasks[data["stage"]], completed=data["done"], total=data["total"], unit=data["unit"])
        elif event["type"] in ("job.succeeded", "job.failed", "job.cancelled"):
            if event["type"] == "job.succeeded":
                self._finish_stage()
            self._stages.stop()
        elif event["type"] == "job.queued":
            self._stages.console.print(f"{self._what} queued")
        elif event["type"] in ("job.waiting", "job.retrying", "job.cancelling"):
            self._stages.console.print(f"{event['type'].removeprefix('job.')}: {data}")

    def _finish_stage(self) -> None:
        if self._stage is None:
            return
        task = next(task for task in self._stages.tasks if task.id == self._tasks[self._stage])
        total = task.total or 1
        self._stages.update(task.id, total=total, completed=total)
