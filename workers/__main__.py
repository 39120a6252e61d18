"""Start a worker: `python -m workers [--queues gpu,io] [--processes N]`.

Each process runs one step at a time. The cores are shared out among the processes before anything imports torch, because
threads that compete for a core are several times slower than one.
"""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from importlib.metadata import version

from app.settings import load_settings
from workers.exporter import exported_metrics
from workers.machine import count_gpus, default_processes, usable_cores


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workers", description="Run steps of jobs, inspections and webhook deliveries.")
    parser.add_argument("--queues", default="gpu,io", help="which work to take: gpu (steps of jobs), io (inspections, reports, webhooks)")
    at_a_time = "steps at a time; the default is LUSTRAL_WORKER_PROCESSES, else one per GPU, or up to two on a machine without"
    parser.add_argument("--processes", type=int, default=None, help=at_a_time)
    arguments = parser.parse_args()
    processes = arguments.processes or int(os.environ.get("LUSTRAL_WORKER_PROCESSES", "0")) or default_processes()
    threads = os.environ.get("LUSTRAL_WORKER_THREADS") or str(max(1, usable_cores() // processes))
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = threads
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with exported_metrics(load_settings().metrics_port):
        if not count_gpus():
            preload()
        run_worker(arguments.queues, processes)


def run_worker(queues: str, processes: int) -> None:
    """Take messages until told to stop."""
    from workers.celery_app import app
    from workers.metrics import INFO

    INFO.labels(version("lustral"), queues).set(1)
    app.worker_main(
        [
            "worker",
            "--pool=prefork",
            f"--concurrency={processes}",
            f"--queues={queues}",
            f"--hostname={queues.replace(',', '-')}-{os.getpid()}@%h",
            "--loglevel=INFO",
            "--without-gossip",
            "--without-mingle",
        ]
    )


def preload() -> None:
    """Import what steps need before the processes fork: they share its memory, and no job waits for it. Nothing is computed here.

    Not where there are GPUs: CUDA does not survive a fork, and an import may have touched it.
    """
    from gpu_jobs.steps import STEPS

    for module in (*(module for module, _ in STEPS.values()), "gpu_jobs.inspection.models", "gpu_jobs.inspection.datasets"):
        import_module(module)


if __name__ == "__main__":
    main()
