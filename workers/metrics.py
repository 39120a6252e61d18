"""What Prometheus is told by workers and relays.

A worker is several processes. `prometheus_client` lets them share their numbers through files in `PROMETHEUS_MULTIPROC_DIR`,
which has to be set before it is first imported: `workers.__main__` does that, and `workers.exporter` adds them up.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

MINUTES, HOURS = 60, 3600

ATTEMPTS = Counter("lustral_step_attempts_total", "Steps claimed. More than were finished: workers died.", ["kind"])
STEP_SECONDS = Histogram(
    "lustral_step_duration_seconds",
    "From the claim of a step to the end of the attempt.",
    ["kind", "outcome"],
    buckets=(1, 5, 15, MINUTES, 5 * MINUTES, 15 * MINUTES, HOURS, 2 * HOURS, 4 * HOURS, 8 * HOURS, 24 * HOURS),
)
PASSED_BY = Counter("lustral_steps_passed_by_total", "Steps that a worker left to another because they do not fit into it.", ["kind", "of"])
LEASES_LOST = Counter("lustral_leases_lost_total", "Attempts that a worker gave up because its lease was gone.", ["kind"])
LEASES_EXPIRED = Counter("lustral_leases_expired_total", "Steps that a relay took away from workers that fell silent.")
WEBHOOK_SECONDS = Histogram(
    "lustral_webhook_attempt_seconds",
    "Time of one attempt to deliver a webhook message. outcome: delivered, refused (a status that is no success), unreachable.",
    ["outcome"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
)
PUBLISHED = Counter("lustral_relay_messages_total", "Messages handed to the broker.", ["topic", "queue"])
ROUND_FAILURES = Counter("lustral_relay_round_failures_total", "Rounds of the relay that ended in an error and are made again.", ["round"])
ROUND_TIME = Gauge("lustral_relay_round_timestamp_seconds", "When the relay last made this round without an error.", ["round"])
GPU_USED = Gauge("lustral_gpu_memory_used_bytes", "Memory in use on the GPU, by anybody.", ["gpu"], multiprocess_mode="mostrecent")
GPU_TOTAL = Gauge("lustral_gpu_memory_total_bytes", "Memory of the GPU.", ["gpu"], multiprocess_mode="mostrecent")
INFO = Gauge("lustral_worker_info", "Always 1; the labels say what runs.", ["version", "queues"], multiprocess_mode="max")


def observe_gpu() -> None:
    """Note the memory of this process's GPU. Does nothing where torch has not begun to use one: asking must not wake CUDA up."""
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
    # Another thread may be in the middle of importing it.
    if not getattr(cuda, "is_initialized", bool)():
        return
    free, total = cuda.mem_get_info()
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    GPU_USED.labels(gpu).set(total - free)
    GPU_TOTAL.labels(gpu).set(total)
