"""What the services of docker-compose.yml tell those who watch them: metrics and traces, across processes."""

from __future__ import annotations

import json
import re
import secrets
import time

import httpx
import pytest

from tests.worlds.compose import Production

CONTENT = b"[{}]"


@pytest.fixture(scope="module")
def refused(production: Production) -> str:
    """A trace in which a data set was handed in, looked at by a worker, and found wanting."""
    trace = secrets.token_hex(16)
    headers = {"Authorization": f"Bearer {production.api_key}", "traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Request-Id": trace}
    with httpx.Client(base_url=production.url) as storage, httpx.Client(base_url=production.url, headers=headers) as api:
        upload = api.post("/v1/uploads", json={"filename": "train.json", "bytes": len(CONTENT)}).raise_for_status().json()
        [part] = upload["parts"]
        storage.put(part["url"], content=CONTENT, headers=part["headers"]).raise_for_status()
        api.post(f"/v1/uploads/{upload['id']}/complete").raise_for_status()
        source = {"type": "upload", "files": [{"path": "train.json", "upload_id": upload["id"]}]}
        made = api.post("/v1/datasets", json={"name": "bad", "source": source}).raise_for_status().json()
        deadline = time.monotonic() + 60
        while api.get(f"/v1/datasets/{made['id']}").json()["status"] == "inspecting":
            assert time.monotonic() < deadline
            time.sleep(0.1)
    return trace


def test_one_trace_leads_through_all_processes(production: Production, refused: str) -> None:
    wait_for = production.collector.wait_for
    request = wait_for("lustral-api", "POST /v1/datasets", trace=refused)
    publish = wait_for("lustral-relay", "publish run_step", trace=refused)
    step = wait_for("lustral-worker", "step inspect_dataset", trace=refused)
    assert request.parent == "b7ad6b7169203331"
    assert publish.parent == request.id
    assert step.parent == publish.id


def test_the_worker_logs_the_id_of_the_request(production: Production, refused: str) -> None:
    lines = [line for line in (production.scratch / "worker-io.log").read_text().splitlines() if refused in line]
    claimed = next(line for line in map(json.loads, lines) if line["event"] == "step.claimed")
    assert claimed["request_id"] == claimed["trace_id"] == refused
    assert claimed["step_id"].startswith("step_")


def test_workers_and_relay_serve_metrics(production: Production, refused: str) -> None:
    def metrics(service: str) -> str:
        return httpx.get(f"http://127.0.0.1:{production.metrics_ports[service]}/metrics").raise_for_status().text

    assert re.search(
        r'^lustral_step_duration_seconds_count\{kind="inspect_dataset",outcome="succeeded"\} [1-9]', metrics("worker-io"), re.MULTILINE
    )
    assert re.search(r'^lustral_worker_info\{queues="gpu",version="[^"]+"\} 1', metrics("worker"), re.MULTILINE)
    relay = metrics("relay")
    assert re.search(r'^lustral_relay_messages_total\{queue="io",topic="run_step"\} [1-9]', relay, re.MULTILINE)
    assert re.search(r'^lustral_relay_round_timestamp_seconds\{round="reap"\}', relay, re.MULTILINE)


def test_the_api_tells_what_waits(production: Production) -> None:
    text = httpx.get(f"{production.url}/metrics").text
    assert 'lustral_queue_steps{queue="gpu",state="ready"}' in text
    assert "lustral_database_up 1.0" in text
