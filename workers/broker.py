"""How messages travel: which queues there are, and what is promised about delivery."""

from __future__ import annotations

from celery import Celery
from kombu import Exchange, Queue

QUEUES = ("gpu", "io")

# A server that is there answers within milliseconds; the longest that a worker asks it to wait for a message is a second.
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
CHECK_SECONDS = 15


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
        # The relay tries again by itself, and must not hold its transaction open meanwhile.
        task_publish_retry=False,
        broker_connection_timeout=CONNECT_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": max(3600.0, 10 * lease_seconds),
            "socket_keepalive": True,
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": ANSWER_SECONDS,
            "health_check_interval": CHECK_SECONDS,
            "max_retries": 0,  # of a publisher's connection: the relay's transaction again; a worker's own is tried for ever
        },
    )
    return celery
