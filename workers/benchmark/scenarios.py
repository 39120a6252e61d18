"""What is simulated, and what is shown of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workers.benchmark.costs import Costs
from workers.benchmark.simulation import STAGES, Job, Simulation

DATABASE_CORES = 8
# How the samples are cut into jobs: (jobs, shards of each).
SCENARIOS = {"one job": (1, 1024), "100 jobs": (100, 16)}


def simulate_all(costs: Costs, workers: Sequence[int], *, samples: int, seed: int, say: Callable[[str], object]) -> list[dict[str, Any]]:
    """A row for each scenario and number of workers. `efficiency` is the share of the workers' time that goes into samples."""
    rows = [_simulate(costs, name, count, samples, seed) for name in SCENARIOS for count in workers]
    for row in rows:
        busy = ", ".join(f"{name} {share:.0%}" for name, share in row["busy"].items())
        say(
            f"{row['scenario']}, {row['workers']} workers: {row['samples_per_second']:,.0f} samples/s, "
            f"efficiency {row['efficiency']:.0%}; busy: {busy}"
        )
    given = {"samples": samples, "seed": seed, "database_cores": DATABASE_CORES, "sample_seconds": dict(costs.sample)}
    return [{**given, **row} for row in rows]


def _simulate(costs: Costs, name: str, workers: int, samples: int, seed: int) -> dict[str, Any]:
    count, shards = SCENARIOS[name]
    jobs = [Job(shards, samples / count / shards) for _ in range(count)]
    simulation = Simulation(costs, jobs, workers=workers, database_cores=DATABASE_CORES, seed=seed)
    seconds = simulation.run()
    ideal = samples * sum(costs.sample[stage] for stage in STAGES) / workers
    return {
        "scenario": name,
        "jobs": count,
        "shards": shards,
        "workers": workers,
        "seconds": round(seconds, 1),
        "samples_per_second": round(samples / seconds, 1),
        "efficiency": round(ideal / seconds, 3),
        "waiting": round(simulation.waited / (seconds * workers), 3),
        "busy": {
            "row of the busiest job": round(max(job.row.busy for job in jobs) / seconds, 3),
            "database": round(simulation.database.busy / seconds / DATABASE_CORES, 3),
            "relay": round(simulation.relay.busy / seconds, 3),
        },
    }


def draw(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Throughput over workers, one line for each scenario, and what perfect scaling would be."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    ideal = 1 / sum(found[0]["sample_seconds"].values())
    counts = sorted({row["workers"] for row in found})
    axes.loglog(counts, [count * ideal for count in counts], "--", color="0.6", label="perfect")
    for name, (jobs, shards) in SCENARIOS.items():
        rows = [row for row in found if row["scenario"] == name]
        axes.loglog(
            [row["workers"] for row in rows],
            [row["samples_per_second"] for row in rows],
            "o-",
            label=f"{name}, {shards} shards {'each' if jobs > 1 else ''}".strip(),
        )
    axes.set_xlabel("worker processes")
    axes.set_ylabel("samples scanned and purified a second")
    axes.set_title(f"{found[0]['samples']:,} samples, simulated from measured costs")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)
