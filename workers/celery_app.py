"""The Celery application. Its messages carry a row's id and nothing else: they ring a bell, the database says what is to be done."""

from __future__ import annotations

import os
from typing import Any

from billiard.process import current_process
from celery import Task, signals
from celery.exceptions import Reject

from app.logs import configure_logs
from app.settings import load_settings
from app.tracing import Carrier, configure_tracing, flush_traces, travelling
from workers import shutdown
from workers.broker import make_celery
from workers.machine import count_gpus

settings = load_settings()
app = make_celery(settings.broker_url, settings.lease_seconds)


@app.task(name="run_step", bind=True)
def run_step(self: Task[Any, Any], id: str) -> None:
    # Imported in the process that does the work: the main process forks, and must have no threads or connections to pass on.
    from workers.context import context
    from workers.runner import run

    if shutdown.requested():
        raise Reject("this worker is leaving", requeue=True)
    run(context(), id, message=_carrier(self))


@app.task(name="deliver_webhook", bind=True)
def deliver_webhook(self: Task[Any, Any], id: str) -> None:
    from workers.context import context
    from workers.deliveries import deliver
    from workers.observe import observed_message

    with observed_message("deliver_webhook", id, _carrier(self)):
        deliver(context(), id)


def _carrier(task: Task[Any, Any]) -> Carrier:
    return travelling(task.request.headers or {})


@signals.setup_logging.connect
def _configure_logs(**_: Any) -> None:
    configure_logs(settings.log_level)


@signals.worker_process_init.connect
def _take_one_gpu(**_: Any) -> None:
    # Each process of a worker gets a GPU of its own, in turn, before anything asks CUDA what there is.
    gpus = count_gpus()
    if gpus > 1 and "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(getattr(current_process(), "index", 0) % gpus)


@signals.worker_process_init.connect
def _record_traces(**_: Any) -> None:
    configure_tracing("lustral-worker")


@signals.worker_process_shutdown.connect
def _send_traces(**_: Any) -> None:
    flush_traces()


@signals.worker_shutting_down.connect
def _begin_shutdown(**_: Any) -> None:
    shutdown.request()
