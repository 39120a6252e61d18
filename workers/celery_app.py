"""The Celery application. Its messages carry a row's id and nothing else: they ring a bell, the database says what is to be done."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Celery, signals
from kombu import Exchange, Queue

from app.logs import configure_logs
from app.settings import load_settings
from workers import shutdown

log = structlog.get_logger()

QUEUES = ("gpu", "io")


def make_celery(broker_url: str, lease_seconds: float) -> Celery:
    """Late acknowledgement, one message at a time. A message lost or delivered twice changes nothing, so losing them is only slow."""
    celery = Celery("lustral", broker=broker_url)
    celery.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_queues=[Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
        task_default_queue="io",
        task_create_missing_queues=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"visibility_timeout": max(3600.0, 10 * lease_seconds), "socket_keepalive": True},
    )
    return celery


settings = load_settings()
app = make_celery(settings.broker_url, settings.lease_seconds)


@app.task(name="run_step")
def run_step(id: str) -> None:
    # Imported in the process that does the work: the main process forks, and must have no threads or connections to pass on.
    from workers.context import context
    from workers.runner import run

    run(context(), id)


@app.task(name="deliver_webhook")
def deliver_webhook(id: str) -> None:
    from workers.context import context
    from workers.deliveries import deliver

    deliver(context(), id)


@app.task(name="sweep")
def sweep(id: str) -> None:
    from workers.context import context
    from workers.sweeper import sweep_deleted

    sweep_deleted(context(), id)


@signals.setup_logging.connect
def _configure_logs(**_: Any) -> None:
    configure_logs(settings.log_level)


@signals.worker_shutting_down.connect
def _begin_shutdown(**_: Any) -> None:
    shutdown.request()
