"""The same purification by one worker process and by more: how much faster, and whether all of them say the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from app.client import Lustral
from app.demo.inputs import Inputs, write_inputs
from app.embedded.local import run_embedded

SHARDED = ("scan", "purify")
COMPARED = ("dataset.zip", "samples.jsonl")
"""Artifacts that must not depend on who made them. (Reports name their job.)"""


class Differs(Exception):
    """Two runs over the same samples did not say the same."""


def measure(scratch: Path, processes: Sequence[int], *, samples: int, shards: int, say: Callable[[str], object]) -> list[dict[str, Any]]:
    """One row for each number of processes, each in a service of its own. Times in seconds; `speed_up` is against the first.

    Raises:
        Differs: the purified data or the fate of a sample is not the same in all runs.
    """
    inputs = write_inputs(scratch / "inputs", "--training", str(samples), "--test", "1")
    runs = [_run(scratch / f"service-{count}", inputs, count, shards) for count in processes]
    for run in runs:
        run["speed_up"] = round(runs[0]["sharded_seconds"] / run["sharded_seconds"], 2)
        times = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in run["stages"].items())
        say(f"{run['processes']} processes: {run['sharded_seconds']:.1f} s in scan and purify, × {run['speed_up']} ({times})")
    first = runs[0]
    for run in runs[1:]:
        if run["digests"] != first["digests"]:
            raise Differs(f"with {run['processes']} processes: {run['digests']}, with {first['processes']}: {first['digests']}")
    say(f"All runs say the same: {', '.join(first['digests'])} are equal to the byte")
    return [{"samples": samples, "shards": shards, "cores": len(os.sched_getaffinity(0)), **run} for run in runs]


def _run(service: Path, inputs: Inputs, processes: int, shards: int) -> dict[str, Any]:
    with (
        environment(LUSTRAL_WORKER_PROCESSES=str(processes), LUSTRAL_WORKER_THREADS="1"),
        run_embedded(service) as server,
        Lustral(server.url, server.api_key) as lustral,
    ):
        model, dataset = lustral.register_model(inputs.model), lustral.register_dataset(inputs.training)
        job = lustral.create_job("purify", model_id=model["id"], dataset_id=dataset["id"], params={"shards": shards})
        events = list(lustral.events(job["id"]))
        job = lustral.job(job["id"])
        if job["status"] != "succeeded":
            raise RuntimeError(f"the job {job['status']}: {job['error']}")
        digests = {artifact["name"]: artifact["sha256"] for artifact in lustral.artifacts(job["id"]) if artifact["name"] in COMPARED}
    stages = stage_seconds(events)
    sharded = sum(stages[stage] for stage in SHARDED)
    return {"processes": processes, "stages": stages, "sharded_seconds": round(sharded, 3), "digests": digests}


def stage_seconds(events: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How long each stage took, from the first claim in it to the first in the next, or to the end of the job."""
    begun = [(event["data"]["stage"], _time(event)) for event in events if event["type"] == "job.stage"]
    ends = [time for _, time in begun[1:]] + [_time(events[-1])]
    return {stage: round((end - start).total_seconds(), 3) for (stage, start), end in zip(begun, ends, strict=True)}


def _time(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["created_at"])


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
