"""What a running step tells the world, thinned to what the world needs, and how it learns that it must stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.leases import Lease, LeaseLost, save_metrics, save_progress
from gpu_jobs.reporting import Cancelled
from workers import shutdown
from workers.checkpoints import Checkpoints
from workers.heartbeat import Heartbeat, Stop
from workers.journal import Journal

log = structlog.get_logger()

PROGRESS_EVERY = 1.0
METRICS_EVERY = 2.0
# A worker that is asked to go waits this long for the step to reach its next checkpoint.
CHECKPOINT_GRACE = 5.0


class StepReporter:
    """The `gpu_jobs.reporting.Reporter` of one attempt."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        lease: Lease,
        heartbeat: Heartbeat,
        checkpoints: Checkpoints,
        journal: Journal,
        *,
        stage: str,
        shard: int,
    ) -> None:
        self._sessions = sessions
        self._lease = lease
        self._heartbeat = heartbeat
        self._checkpoints = checkpoints
        self._journal = journal
        self._stage = stage
        self._shard = shard
        self._progress_due = 0.0
        self._metrics_due = 0.0
        self._begun: tuple[float, int] | None = None
        self._saving = False

    @property
    def saving(self) -> bool:
        """Whether a checkpoint is being written, or is on its way to the store."""
        return self._saving

    def progress(self, done: int, total: int, unit: str) -> None:
        self.check()
        now = time.monotonic()
        if self._begun is None:
            # An attempt that resumes starts with what the one before it had done: only its own work shows its pace.
            self._begun = (now, done)
        if now < self._progress_due and done < total:
            return
        self._progress_due = now + PROGRESS_EVERY
        seconds, units = now - self._begun[0], done - self._begun[1]
        told = {"done": done, "total": total, "unit": unit, "per_second": units / seconds if units > 0 and seconds > 0 else None}
        self._journal.write("progress", **told)
        self._write(lambda session: save_progress(session, self._lease, told))

    def metrics(self, **values: float) -> None:
        self.check()
        now = time.monotonic()
        if now < self._metrics_due:
            return
        self._metrics_due = now + METRICS_EVERY
        # JSON knows no NaN, which a training that diverges has to tell.
        plain = {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
        self._journal.write("metrics", **plain)
        self._write(lambda session: save_metrics(session, self._lease, self._stage, self._shard, plain))

    def checkpoint(self) -> None:
        self._stop_unless_saving()
        leaving = self._heartbeat.stop is Stop.SHUTDOWN
        if leaving or self._checkpoints.due:
            self._save_checkpoint()
        if leaving:
            raise Cancelled("the worker is shutting down; the step is saved")

    def leaving(self) -> bool:
        # Told so, the step has its checkpoint to write before there is anything to store: it is left to it.
        self._saving = self._heartbeat.stop is Stop.SHUTDOWN
        return self._saving

    def check(self) -> None:
        """Raise `Cancelled` if the step must stop now."""
        self._stop_unless_saving()
        if self._heartbeat.stop is Stop.SHUTDOWN and not self._saving and shutdown.seconds_ago() > CHECKPOINT_GRACE:
            raise Cancelled("the worker is shutting down")

    def _stop_unless_saving(self) -> None:
        if self._heartbeat.stop in (Stop.LEASE_LOST, Stop.CANCELLED):
            raise Cancelled(f"the step must stop: {self._heartbeat.stop.name.lower().replace('_', ' ')}")

    def _save_checkpoint(self) -> None:
        self._saving = True
        try:
            self._checkpoints.save(self._stop_unless_saving)
            self._journal.write("checkpoint saved")
        except Cancelled:
            raise
        except LeaseLost as error:
            self._lost(error)
        except Exception as error:  # noqa: BLE001  (stores fail in many ways, and work goes on without a checkpoint)
            log.warning("checkpoint.not_saved", error=f"{type(error).__name__}: {error}")
            self._journal.write("checkpoint not saved")
        finally:
            self._saving = False

    def _write(self, write: Callable[[Session], None]) -> None:
        try:
            with self._sessions.begin() as session:
                write(session)
        except LeaseLost as error:
            self._lost(error)
        except SQLAlchemyError as error:
            # No step ends because nobody could be told how far it is. Whether the lease still holds is the heartbeat's to find out.
            log.warning("report.not_written", error=str(error))

    def _lost(self, error: LeaseLost) -> None:
        self._heartbeat.lose()
        raise Cancelled("the step must stop: lease lost") from error
