"""What workers and relays tell Prometheus."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import update

from app.jobs.tables import StepRow
from gpu_jobs.errors import InputError
from tests.servers.ports import free_ports
from tests.worlds.jobs import World
from workers import metrics, shutdown
from workers.context import Context
from workers.deliveries import deliver
from workers.reaper import reap
from workers.runner import run


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.fixture
def counted() -> Callable[..., float]:
    """How much a number has grown since it was first asked for, as counters of a process never fall."""
    seen: dict[tuple[str, ...], float] = {}

    def growth(name: str, **labels: str) -> float:
        key = (name, *sorted(labels.items()))
        return sample(name, **labels) - seen.setdefault(key, sample(name, **labels))  # type: ignore[arg-type]

    return growth


def raising(error: Exception) -> Callable[..., dict[str, Any]]:
    def step(*_: Any) -> dict[str, Any]:
        raise error

    return step


class TestSteps:
    @pytest.mark.parametrize(
        ("outcome", "step"),
        [
            ("succeeded", lambda *_: {}),
            ("failed", raising(RuntimeError("broke"))),
            ("refused", raising(InputError("no such column"))),
        ],
    )
    def test_are_timed_by_kind_and_outcome(
        self, context: Context, world: World, counted: Callable[..., float], outcome: str, step: Any
    ) -> None:
        labels = {"kind": "finetune", "outcome": outcome}
        counted("lustral_step_duration_seconds_count", **labels)
        counted("lustral_step_attempts_total", kind="finetune")
        [first, *_] = world.steps(world.job("finetune"))
        run(context, first.id, step)
        assert counted("lustral_step_duration_seconds_count", **labels) == 1
        assert counted("lustral_step_attempts_total", kind="finetune") == 1

    def test_that_are_handed_back_or_cancelled_are_told_apart(self, context: Context, world: World, counted: Callable[..., float]) -> None:
        def leave(*_: Any) -> dict[str, Any]:
            shutdown.request()
            raise RuntimeError("interrupted")

        counted("lustral_step_duration_seconds_count", kind="finetune", outcome="handed_back")
        [first, *_] = world.steps(world.job("finetune"))
        run(context, first.id, leave)
        assert counted("lustral_step_duration_seconds_count", kind="finetune", outcome="handed_back") == 1

    def test_whose_lease_was_lost_are_counted(self, context: Context, world: World, counted: Callable[..., float]) -> None:
        counted("lustral_leases_lost_total", kind="finetune")
        [first, *_] = world.steps(world.job("finetune"))

        def be_robbed(*_: Any) -> dict[str, Any]:
            with world.sessions.begin() as session:
                session.execute(update(StepRow).where(StepRow.id == first.id).values(lease_token="another's"))
            return {}

        run(context, first.id, be_robbed)
        assert counted("lustral_leases_lost_total", kind="finetune") == 1

    def test_whose_worker_fell_silent_are_counted_by_the_relay(self, world: World, counted: Callable[..., float]) -> None:
        counted("lustral_leases_expired_total")
        world.claim_next(world.job("finetune"))
        world.pass_time(lease_expires_at=timedelta(hours=1))
        reap(world.sessions)
        assert counted("lustral_leases_expired_total") == 1


def test_webhooks_are_counted_by_outcome(context: Context, world: World, counted: Callable[..., float]) -> None:
    counted("lustral_webhook_attempt_seconds_count", outcome="unreachable")
    world.webhook(["*"])  # where nobody listens
    world.job()
    deliver(context, world.deliveries()[0].id)
    assert counted("lustral_webhook_attempt_seconds_count", outcome="unreachable") == 1


class TestGpu:
    def test_is_not_woken_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Cuda:
            is_initialized = staticmethod(lambda: False)

        monkeypatch.setitem(sys.modules, "torch", type("Torch", (), {"cuda": Cuda}))
        metrics.observe_gpu()
        assert sample("lustral_gpu_memory_total_bytes", gpu="7") == 0

    @pytest.mark.parametrize("torch", [{}, {"cuda": object()}], ids=["torch", "its cuda"])
    def test_is_left_alone_while_another_thread_imports(self, torch: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch", type("Torch", (), torch))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "8")
        metrics.observe_gpu()
        assert sample("lustral_gpu_memory_total_bytes", gpu="8") == 0

    def test_tells_its_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Cuda:
            is_initialized = staticmethod(lambda: True)
            mem_get_info = staticmethod(lambda: (30, 80))

        monkeypatch.setitem(sys.modules, "torch", type("Torch", (), {"cuda": Cuda}))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
        metrics.observe_gpu()
        assert sample("lustral_gpu_memory_used_bytes", gpu="7") == 50
        assert sample("lustral_gpu_memory_total_bytes", gpu="7") == 80


FORKING_WORKER = """
import os, sys
from workers.exporter import exported_metrics
with exported_metrics(int(sys.argv[1])):
    from workers.metrics import ATTEMPTS
    for _ in range(2):
        if os.fork() == 0:
            ATTEMPTS.labels("scan").inc()
            os._exit(0)
        os.wait()
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_a_workers_processes_are_added_up() -> None:
    [port] = free_ports(1)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", FORKING_WORKER, str(port)], **pipes) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        transport = httpx.HTTPTransport(retries=5)
        with httpx.Client(transport=transport) as client:
            text = client.get(f"http://127.0.0.1:{port}/metrics").text
        assert 'lustral_step_attempts_total{kind="scan"} 2.0' in text
        worker.communicate("\n", timeout=10)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/metrics")
