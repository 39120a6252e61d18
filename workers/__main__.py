"""Start a worker: `python -m workers [--queues gpu,io] [--processes N]`.

Each process runs one step at a time. The cores are shared out among the processes before anything imports torch, because
threads that compete for a core are several times slower than one.
"""

from __future__ import annotations

import argparse
import os
import re
from importlib import import_module
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workers", description="Run steps of jobs, inspections and webhook deliveries.")
    parser.add_argument("--queues", default="gpu,io", help="which work to take: gpu (steps of jobs), io (inspections, reports, webhooks)")
    parser.add_argument("--processes", type=int, default=None, help="steps at a time; one per GPU, or up to two on a machine without")
    arguments = parser.parse_args()
    processes = arguments.processes or default_processes()
    threads = os.environ.get("LUSTRAL_WORKER_THREADS") or str(max(1, usable_cores() // processes))
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = threads
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    preload()

    from workers.celery_app import app

    app.worker_main(
        [
            "worker",
            "--pool=prefork",
            f"--concurrency={processes}",
            f"--queues={arguments.queues}",
            f"--hostname={arguments.queues.replace(',', '-')}-{os.getpid()}@%h",
            "--loglevel=INFO",
            "--without-gossip",
            "--without-mingle",
        ]
    )


def preload() -> None:
    """Import what steps need before the processes fork: they share its memory, and no job waits for it. Nothing is computed here."""
    from gpu_jobs.steps import STEPS

    for module in (*(module for module, _ in STEPS.values()), "gpu_jobs.inspection.models", "gpu_jobs.inspection.datasets"):
        import_module(module)


def default_processes() -> int:
    gpus = [device for device in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", device.name)]
    return len(gpus) or min(2, usable_cores())


def usable_cores() -> int:
    """Cores this process may use, by its affinity and by the quota of its container (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


if __name__ == "__main__":
    main()
