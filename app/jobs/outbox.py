"""Messages that are decided together with a state change. The relay hands them to the broker after the commit."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy.orm import Session

from app.jobs.plan import Queue
from app.jobs.tables import OutboxRow
from app.tracing import Carrier, current_carrier

# run_step: a step; deliver_webhook: a delivery; sweep: what was deleted (of an upload, its key), a model or data set that has been
# inspected, or what a late worker may have stored something for: of that, what nothing names may go. Of what was deleted the message is
# all that is left, so it goes to no broker: the relay keeps it until that is done.
Topic = Literal["run_step", "deliver_webhook", "sweep"]


def ring(session: Session, topic: Topic, queue: Queue, id: str, *, now: datetime, carrier: Carrier | None = None) -> None:
    """Ask a worker of `queue` to look at the row `id`. A bell only: ringing twice, or in vain, changes nothing.

    carrier: whose doing it is; null: that of the request or step which rings.
    """
    session.add(OutboxRow(topic=topic, payload={**(carrier or current_carrier()), "queue": queue, "id": id}, created_at=now))
