"""Requests a second and latency of the main routes, against a service on this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from app.client import Lustral
from app.demo.inputs import write_inputs
from app.embedded.local import Server, run_embedded
from workers.benchmark.scale import environment

JOBS = 20
"""Jobs that the lists show. They are cancelled at once, so that nothing computes beside the measurement."""

UNLIMITED = {"LUSTRAL_REQUESTS_PER_SECOND": "1e6", "LUSTRAL_REQUEST_BURST": "1000000", "LUSTRAL_MAX_OPEN_UPLOADS": "1000000"}
UPLOAD = {"filename": "file.bin", "bytes": 1024}

Call = Callable[[httpx.Client], httpx.Response]


def measure(scratch: Path, *, seconds: float, clients: int, say: Callable[[str], object]) -> list[dict[str, Any]]:
    """One row for each route, called for so many seconds by so many clients at once. Latencies in milliseconds; all share the cores.

    Raises:
        httpx.HTTPStatusError: a request was refused.
    """
    inputs = write_inputs(scratch / "inputs", "--training", "20", "--test", "1")
    with environment(**UNLIMITED), run_embedded(scratch / "service") as server, Lustral(server.url, server.api_key) as lustral:
        model, dataset = lustral.register_model(inputs.model), lustral.register_dataset(inputs.training)
        for _ in range(JOBS):
            job = lustral.create_job("scan", model_id=model["id"], dataset_id=dataset["id"])
            lustral.cancel(job["id"])
        lustral.wait(job["id"])
        rows = [_measure(server, route, call, seconds, clients) for route, call in _routes(model["id"], job["id"]).items()]
    for row in rows:
        say(f"{row['route']:<28} {row['requests_per_second']:>8,.0f} /s   p50 {row['p50_ms']:>6.1f} ms   p99 {row['p99_ms']:>6.1f} ms")
    return [{"clients": clients, "seconds": seconds, **row} for row in rows]


def _routes(model_id: str, job_id: str) -> Mapping[str, Call]:
    return {
        "GET /healthz": lambda client: client.get("/healthz"),
        "GET /v1/models/{id}": lambda client: client.get(f"/v1/models/{model_id}"),
        "GET /v1/jobs": lambda client: client.get("/v1/jobs", params={"limit": JOBS}),
        "GET /v1/jobs/{id}": lambda client: client.get(f"/v1/jobs/{job_id}"),
        "GET /v1/jobs/{id}/events": lambda client: client.get(f"/v1/jobs/{job_id}/events"),
        "POST /v1/uploads": lambda client: client.post("/v1/uploads", json=UPLOAD),
    }


def _measure(server: Server, route: str, call: Call, seconds: float, clients: int) -> dict[str, Any]:
    latencies: list[float] = []
    failures: list[Exception] = []
    ends = time.monotonic() + seconds

    def work() -> None:
        own = []
        try:
            with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.api_key}"}, timeout=30) as client:
                while (begun := time.monotonic()) < ends:
                    call(client).raise_for_status()
                    own.append(time.monotonic() - begun)
        except httpx.HTTPError as error:
            failures.append(error)
        latencies.extend(own)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    latencies.sort()
    return {
        "route": route,
        "requests": len(latencies),
        "requests_per_second": round(len(latencies) / seconds, 1),
        "p50_ms": round(1000 * latencies[len(latencies) // 2], 2),
        "p99_ms": round(1000 * latencies[len(latencies) * 99 // 100], 2),
    }
