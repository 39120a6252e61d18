"""`lustral bench …`: the benchmark of the defence, in a process of its own, as this side imports none of the science."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

cli = typer.Typer(help="Measure the defence against known attacks and known rivals.", no_args_is_help=True)


@cli.callback()
def bench() -> None:
    """Keeps `defense` a command with a name of its own, although it is the only one."""


@cli.command()
def defense(
    out: Annotated[Path, typer.Option(help="JSONL file, one row for each method on each attack. What it holds already is not run again.")],
    suite: Annotated[Literal["smoke", "core", "full"], typer.Option(help="smoke takes minutes, core hours, full days.")] = "smoke",
    seeds: Annotated[str, typer.Option(help="Separated by commas.")] = "0",
    cells: Annotated[str, typer.Option(help="Only attacks whose id this glob matches, such as 'glyphs-*'.")] = "*",
    methods: Annotated[str | None, typer.Option(help="Only these methods, separated by commas, such as lustral,none.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Attacks that are worked on at the same time, with one thread each.")] = 2,
    work: Annotated[Path, typer.Option(help="Folder that keeps models and data sets for the next run.")] = Path("bench-work"),
) -> None:
    """Attack the bundled base models in known ways, defend them, and measure what is left of attack and abilities."""
    options = ["--suite", suite, "--seeds", seeds, "--cells", cells, "--processes", str(processes), "--out", str(out), "--work", str(work)]
    raise typer.Exit(run_to_end(["defense", *options, *(["--methods", methods] if methods else [])]))


def run_to_end(arguments: Sequence[str]) -> int:
    """Run the benchmark and return its exit status. What ends us ends it: it gets the same signal, and is waited for."""
    # In a session of its own, so that Ctrl-C reaches it once, through us.
    child = subprocess.Popen([sys.executable, "-m", "gpu_jobs.benchmark", *arguments], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        return child.wait()
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        raise
    except SystemExit:
        child.send_signal(signal.SIGTERM)
        raise
    finally:
        child.wait()
