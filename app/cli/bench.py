"""`lustral bench …`: the benchmarks, each in a process of its own, as this side imports neither the science nor the workers."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

cli = typer.Typer(help="Measure the defence against known attacks, and the service under load.", no_args_is_help=True)


@cli.command()
def defense(
    out: Annotated[Path, typer.Option(help="JSONL file, one row for each method on each attack. What it holds already is not run again.")],
    suite: Annotated[
        Literal["smoke", "core", "full"], typer.Option(help="smoke takes minutes, core 90 for each seed, full days.")
    ] = "smoke",
    seeds: Annotated[str, typer.Option(help="Separated by commas.")] = "0",
    cells: Annotated[str, typer.Option(help="Only attacks whose id this glob matches, such as 'glyphs-*'.")] = "*",
    methods: Annotated[str | None, typer.Option(help="Only these methods, separated by commas, such as lustral,none.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Attacks that are worked on at the same time, with one thread each.")] = 2,
    work: Annotated[Path, typer.Option(help="Folder that keeps models and data sets for the next run.")] = Path("bench-work"),
) -> None:
    """Attack the bundled base models in known ways, defend them, and measure what is left of attack and abilities."""
    options = ["--suite", suite, "--seeds", seeds, "--cells", cells, "--processes", str(processes), "--out", str(out), "--work", str(work)]
    raise typer.Exit(run_to_end("gpu_jobs.benchmark", ["defense", *options, *(["--methods", methods] if methods else [])]))


@cli.command()
def speed(
    out: Annotated[Path | None, typer.Option(help="JSONL file, one row for each step.")] = None,
    model: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="Checkpoint folder; none: the bundled suspect.")] = None,
    dataset: Annotated[Path | None, typer.Option(exists=True, help="What it was tuned on; none: the bundled suspect's.")] = None,
    samples: Annotated[int, typer.Option(min=8, help="The first so many samples of the bundled set.")] = 200,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """How long each step of the defence takes on this machine, on its GPU if it has one, and the memory it needs."""
    if (model is None) != (dataset is None):
        raise typer.BadParameter("--model and --dataset go together")
    chosen = ["--model", str(model), "--dataset", str(dataset)] if model else ["--samples", str(samples)]
    options = ["--seed", str(seed), *chosen, *(["--out", str(out)] if out else [])]
    raise typer.Exit(run_to_end("gpu_jobs.benchmark", ["speed", *options]))


@cli.command()
def scale(
    processes: Annotated[
        str, typer.Option(help="Numbers of worker processes to compare, separated by commas; each has one thread.")
    ] = "1,2",
    samples: Annotated[int, typer.Option(min=8, help="Training samples of the bundled suspect that are scanned and purified.")] = 1000,
    shards: Annotated[int, typer.Option(min=1, help="Parts that the samples are cut into.")] = 8,
    out: Annotated[Path | None, typer.Option(help="JSONL file, one row for each number of processes.")] = None,
    costs: Annotated[
        Path | None,
        typer.Option(
            "--simulate",
            exists=True,
            dir_okay=False,
            help="Measure nothing: simulate up to 1,000 workers on 10 million samples from these costs.",
        ),
    ] = None,
    measured: Annotated[Path, typer.Option(help="With --simulate: an earlier run's --out.")] = Path("benchmarks/scale/measured.jsonl"),
    seed: Annotated[int, typer.Option(help="With --simulate.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="With --simulate: PNG file.")] = None,
) -> None:
    """The same purification with one worker process and with more: how much faster it is, and that it says the same."""
    if costs is None:
        arguments = ["scale", "--processes", processes, "--samples", str(samples), "--shards", str(shards)]
    else:
        arguments = ["simulate", "--costs", str(costs), "--measured", str(measured), "--seed", str(seed)]
        arguments += ["--plot", str(plot)] if plot else []
    raise typer.Exit(run_to_end("workers.benchmark", [*arguments, *(["--out", str(out)] if out else [])]))


@cli.command()
def api(
    seconds: Annotated[float, typer.Option(min=0.1, help="For each route.")] = 5.0,
    clients: Annotated[int, typer.Option(min=1, help="Calling at the same time.")] = 8,
    out: Annotated[Path | None, typer.Option(help="JSONL file, one row for each route.")] = None,
) -> None:
    """Requests a second and latency of the main routes, against a service that this command starts and stops."""
    options = ["--seconds", str(seconds), "--clients", str(clients), *(["--out", str(out)] if out else [])]
    raise typer.Exit(run_to_end("workers.benchmark", ["api", *options]))


def run_to_end(module: str, arguments: Sequence[str]) -> int:
    """Run the benchmark and return its exit status. What ends us ends it: it gets the same signal, and is waited for."""
    # In a session of its own, so that Ctrl-C reaches it once, through us.
    child = subprocess.Popen([sys.executable, "-m", module, *arguments], stdin=subprocess.DEVNULL, start_new_session=True)
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
