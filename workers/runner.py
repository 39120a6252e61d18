"""One step from claim to completion."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.orm import Session

from app.jobs.inspections import Inspection, record_inspection
from app.jobs.leases import Lease, LeaseLost, claim_step, complete_step, drop_step, fail_step, hand_back_step, pass_step_by, postpone_step
from app.jobs.states import problem
from app.jobs.tables import StepRow
from app.outages import is_outage
from app.tracing import Carrier
from gpu_jobs import steps
from gpu_jobs.config import StepKind
from gpu_jobs.errors import InputError
from gpu_jobs.reporting import Cancelled, Reporter
from gpu_jobs.steps import StepInputs
from workers.capacity import find_shortage
from workers.checkpoints import Checkpoints, delete_quietly
from workers.context import Context
from workers.faults import describe_fault
from workers.heartbeat import Heartbeat, Stop
from workers.inspection import fetch_and_inspect
from workers.interruption import Interrupted, Interruption
from workers.journal import Journal, publish_log
from workers.metrics import PASSED_BY
from workers.observe import Outcome, observed, origin_of
from workers.outages import PATIENCE, ride_out
from workers.outputs import upload_folder
from workers.publish import publish_job, sign_job
from workers.reporter import StepReporter
from workers.staging import stage_step
from workers.sweeper import ask_for_sweep
from workers.work import load_inspection, load_work

log = structlog.get_logger()

RunStep = Callable[[StepKind, StepInputs, Reporter], dict[str, Any]]


def run(context: Context, step_id: str, run_step: RunStep | None = None, *, message: Carrier | None = None) -> bool:
    """Claim the step and see it through, or do nothing if it is not to be had, or leave it to another if this machine has no room for it.

    Never raises for what a step does wrong.

    run_step: stands in for `gpu_jobs.steps.run_step`.
    message: what the bell carried (`app.tracing`).

    Returns:
        False when the step had to be interrupted: then this process is not fit to run another.
    """
    settings = context.settings
    shortage = find_shortage(context, step_id)
    if shortage is not None:
        with context.sessions.begin() as session:
            passed = pass_step_by(session, step_id, shortage.problem())
        if passed:
            log.warning("step.passed_by", step_id=step_id, of=shortage.of, needed=shortage.needed, free=shortage.free)
            PASSED_BY.labels(shortage.step, shortage.of).inc()
        return True
    with context.sessions.begin() as session:
        lease = claim_step(session, step_id, worker=context.worker, lease_seconds=settings.lease_seconds)
        if lease is None:
            return True
        origin = origin_of(session, lease)
    with (
        observed(context.sessions, lease, origin, message or {}) as attempt,
        Heartbeat(context.sessions, lease, lease_seconds=settings.lease_seconds, every=settings.heartbeat_seconds) as heartbeat,
    ):
        log.info("step.claimed")
        journal = Journal()
        try:
            with context.scratch(f"{step_id}-{lease.attempt}") as folder:
                if lease.job_id is None:
                    _inspect(context, lease, heartbeat, folder)
                else:
                    _run_step(context, lease, heartbeat, folder, journal, run_step or steps.run_step)
            log.info("step.finished")
            attempt.outcome = "succeeded"
        except LeaseLost:
            log.warning("step.lease_lost")
            attempt.outcome = "lease_lost"
        except (Exception, Interrupted) as error:  # noqa: BLE001  (a step may fail in any way; each way ends in its row)
            attempt.outcome = _end_early(context, lease, heartbeat, journal, error)
            return not isinstance(error, Interrupted)
        finally:
            if attempt.outcome == "lease_lost":
                ask_for_sweep(context, lease)
    return True


def _inspect(context: Context, lease: Lease, heartbeat: Heartbeat, folder: Path) -> None:
    with context.reads() as session:
        work = load_inspection(session, lease)
    if work is None:
        with context.sessions.begin() as session:
            drop_step(session, lease)
        return
    with Interruption(heartbeat):
        found = fetch_and_inspect(context, lease, heartbeat, work, folder)
    _write(context, lambda session: _complete_inspection(session, lease, found))


def _complete_inspection(session: Session, lease: Lease, found: Inspection) -> None:
    complete_step(session, lease, result={"accepted": found.accepted}, outputs={"files": found.facts.get("thumbnails", [])})
    record_inspection(session, session.get_one(StepRow, lease.step_id), found)


def _run_step(context: Context, lease: Lease, heartbeat: Heartbeat, folder: Path, journal: Journal, run_step: RunStep) -> None:
    with context.reads() as session:
        work = load_work(session, lease)
    journal.write("begun", step=work.kind, shard=work.shard, shards=work.shards, attempt=lease.attempt, worker=context.worker)
    checkpoints = Checkpoints(context, lease, folder / "checkpoint", f"{work.prefix}/checkpoints", work.checkpoint)
    reporter = StepReporter(context.sessions, lease, heartbeat, checkpoints, journal, stage=work.kind, shard=work.shard)
    with Interruption(heartbeat, saving=lambda: reporter.saving):
        inputs = stage_step(context, work, folder, check=reporter.check)
        journal.write("inputs laid out", resuming=any(inputs.checkpoint.iterdir()))
        result = run_step(work.kind, inputs, reporter)
        if work.kind == "publish":
            sign_job(context.runtime.signing_key, work.job_id, result, inputs.outputs)
        prefix = f"{work.prefix}/attempts/{lease.attempt}"
        files = upload_folder(context.store, inputs.outputs, prefix, cache=context.cache, before_each=reporter.check, patience=PATIENCE)
        logged = journal.store(context.store, lease, "finished", files=len(files), bytes=sum(file["bytes"] for file in files))

    def complete(session: Session) -> None:
        if work.kind == "publish":
            publish_job(session, lease, work, result, files)
        else:
            complete_step(session, lease, result=result, outputs={"files": files})
        if logged is not None:
            publish_log(session, lease, logged)

    _write(context, complete)
    delete_quietly(context.store, checkpoints.keys)


def _end_early(context: Context, lease: Lease, heartbeat: Heartbeat, journal: Journal, error: BaseException) -> Outcome:
    """Write down why the attempt came to nothing. If even that fails, the lease runs out and the reaper does it."""
    ending = _choose_ending(lease, heartbeat.stop, error)
    logged = None
    # Where something is away nobody waits for the store, and of a step that another worker has nobody takes a log.
    if lease.job_id is not None and ending.outcome != "postponed" and heartbeat.stop is not Stop.LEASE_LOST:
        hurried = heartbeat.stop is Stop.CANCELLED
        logged = journal.store(context.store, lease, ending.outcome.replace("_", " "), hurried=hurried, **ending.told)

    def end(session: Session) -> None:
        ending.write(session)
        if logged is not None:
            publish_log(session, lease, logged)

    try:
        _write(context, end)
    except LeaseLost:
        return "lease_lost"
    except Exception as trouble:  # noqa: BLE001  (whatever it is, it must not end the worker)
        log.warning("step.end_not_written", error=f"{type(trouble).__name__}: {trouble}")
    return ending.outcome


@dataclass(frozen=True, slots=True)
class _Ending:
    """How an attempt ends that came to nothing. told: what its log says of it beside the outcome."""

    outcome: Outcome
    write: Callable[[Session], object]
    told: dict[str, Any] = field(default_factory=dict)


def _choose_ending(lease: Lease, stop: Stop | None, error: BaseException) -> _Ending:
    if isinstance(error, InputError):
        log.info("step.input_refused", detail=str(error))
        refusal = problem("input-refused", "An input cannot be used", str(error))
        return _Ending("refused", partial(fail_step, lease=lease, error=refusal, final=True), {"error": refusal})
    if stop is Stop.CANCELLED:
        log.info("step.cancelled")
        return _Ending("cancelled", partial(drop_step, lease=lease))
    if stop is not None or isinstance(error, (Cancelled, Interrupted)):
        # Also where the lease seems lost: if nobody has taken the step yet, somebody may have it at once.
        log.info("step.handed_back", reason=stop and stop.name.lower())
        return _Ending("handed_back", partial(hand_back_step, lease=lease))
    reference = f"err_{secrets.token_hex(6)}"
    log.error("step.failed", reference=reference, exc_info=error)
    fault = describe_fault(error, reference)
    if is_outage(error):
        return _Ending("postponed", partial(postpone_step, lease=lease, error=fault))
    return _Ending("failed", partial(fail_step, lease=lease, error=fault, final=False), {"error": fault})


def _write(context: Context, write: Callable[[Session], None]) -> None:
    """One transaction, once the database is there for it. If the first try did commit, the second finds the lease gone: harmless."""

    def attempt() -> None:
        with context.sessions.begin() as session:
            write(session)

    ride_out(attempt)
