"""One step from claim to completion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import stamina
import structlog
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.jobs.inspections import record_inspection
from app.jobs.leases import Lease, LeaseLost, claim_step, complete_step, drop_step, fail_step, hand_back_step
from app.jobs.states import problem
from app.jobs.tables import StepRow
from app.tracing import Carrier
from gpu_jobs import steps
from gpu_jobs.config import StepKind
from gpu_jobs.errors import InputError
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs
from workers.checkpoints import Checkpoints, delete_quietly
from workers.context import Context
from workers.heartbeat import Heartbeat, Stop
from workers.inspection import fetch_and_inspect
from workers.observe import Outcome, observed, origin_of
from workers.outputs import upload_folder
from workers.publish import publish_job, sign_job
from workers.reporter import StepReporter
from workers.staging import stage_step
from workers.work import load_inspection, load_work

log = structlog.get_logger()

RunStep = Callable[[StepKind, StepInputs, Reporter], dict[str, Any]]


def run(context: Context, step_id: str, run_step: RunStep | None = None, *, message: Carrier | None = None) -> None:
    """Claim the step and see it through, or do nothing if it is not to be had. Never raises for what a step does wrong.

    run_step: stands in for `gpu_jobs.steps.run_step`.
    message: what the bell carried (`app.tracing`).
    """
    settings = context.settings
    with context.sessions.begin() as session:
        lease = claim_step(session, step_id, worker=context.worker, lease_seconds=settings.lease_seconds)
        if lease is None:
            return
        origin = origin_of(session, lease)
    with (
        observed(context.sessions, lease, origin, message or {}) as attempt,
        Heartbeat(context.sessions, lease, lease_seconds=settings.lease_seconds, every=settings.heartbeat_seconds) as heartbeat,
        context.scratch(f"{step_id}-{lease.attempt}") as folder,
    ):
        log.info("step.claimed")
        try:
            if lease.job_id is None:
                _inspect(context, lease, heartbeat, folder)
            else:
                _run_step(context, lease, heartbeat, folder, run_step or steps.run_step)
            log.info("step.finished")
            attempt.outcome = "succeeded"
        except LeaseLost:
            log.warning("step.lease_lost")
            attempt.outcome = "lease_lost"
        except Exception as error:  # noqa: BLE001  (a step may fail in any way; each way ends in its row)
            attempt.outcome = _end_early(context, lease, heartbeat, error)


def _inspect(context: Context, lease: Lease, heartbeat: Heartbeat, folder: Path) -> None:
    with context.reads() as session:
        work = load_inspection(session, lease)
    if work is None:
        with context.sessions.begin() as session:
            drop_step(session, lease)
        return
    found = fetch_and_inspect(context, lease, heartbeat, work, folder)
    with context.sessions.begin() as session:
        complete_step(session, lease, result={"accepted": found.accepted}, outputs={"files": found.facts.get("thumbnails", [])})
        record_inspection(session, session.get_one(StepRow, lease.step_id), found)


def _run_step(context: Context, lease: Lease, heartbeat: Heartbeat, folder: Path, run_step: RunStep) -> None:
    with context.reads() as session:
        work = load_work(session, lease)
    checkpoints = Checkpoints(context, lease, folder / "checkpoint", f"{work.prefix}/checkpoints", work.checkpoint)
    reporter = StepReporter(context.sessions, lease, heartbeat, checkpoints, stage=work.kind, shard=work.shard)
    inputs = stage_step(context, work, folder, check=reporter.check)
    result = run_step(work.kind, inputs, reporter)
    if work.kind == "publish":
        sign_job(context.runtime.signing_key, work.job_id, result, inputs.outputs)
    prefix = f"{work.prefix}/attempts/{lease.attempt}"
    files = upload_folder(context.store, inputs.outputs, prefix, cache=context.cache, before_each=reporter.check)
    # An hour's work is not thrown away because the database was away for a moment. If the first try did commit, the second finds
    # the lease gone, which is harmless.
    for attempt in stamina.retry_context(on=OperationalError, timeout=context.settings.lease_seconds):
        with attempt, context.sessions.begin() as session:
            if work.kind == "publish":
                publish_job(session, lease, work, result, files)
            else:
                complete_step(session, lease, result=result, outputs={"files": files})
    delete_quietly(context.store, checkpoints.keys)


def _end_early(context: Context, lease: Lease, heartbeat: Heartbeat, error: Exception) -> Outcome:
    """Write down why the attempt came to nothing. If even that fails, the lease runs out and the reaper does it."""
    if heartbeat.stop is Stop.LEASE_LOST:
        log.warning("step.lease_lost")
        return "lease_lost"
    try:
        with context.sessions.begin() as session:
            return _give_up(session, context, lease, heartbeat.stop, error)
    except LeaseLost:
        return "lease_lost"


def _give_up(session: Session, context: Context, lease: Lease, stop: Stop | None, error: Exception) -> Outcome:
    if isinstance(error, InputError):
        log.info("step.input_refused", detail=str(error))
        fail_step(session, lease, problem("input-refused", "An input cannot be used", str(error)), final=True)
        return "refused"
    if stop is Stop.SHUTDOWN:
        log.info("step.handed_back")
        hand_back_step(session, lease)
        return "handed_back"
    if stop is Stop.CANCELLED:
        log.info("step.cancelled")
        drop_step(session, lease)
        return "cancelled"
    log.error("step.failed", exc_info=error)
    fail_step(session, lease, problem("step-error", "A step failed", _describe(error, context)), final=False)
    return "failed"


def _describe(error: Exception, context: Context) -> str:
    """The error for its owner to read: short, and without this machine's folders."""
    return f"{type(error).__name__}: {error}".replace(f"{context.work}/", "")[:1000]
