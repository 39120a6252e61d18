"""Whether this machine has room for a step, asked before it is claimed: one that cannot run here is left to a larger worker."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import psutil
import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.jobs.states import problem
from app.jobs.tables import NO_ROOM, JobRow, StepRow
from app.models.tables import ModelRow
from gpu_jobs.config import JobParameters, StepKind
from gpu_jobs.memory import least_memory
from workers.context import Context
from workers.machine import count_gpus

log = structlog.get_logger()

GIB = 1024**3
CGROUP = Path("/sys/fs/cgroup")
Kind = Literal["memory", "GPU memory", "disk"]


@dataclass(frozen=True, slots=True)
class Shortage:
    """What a step needs at the least and this machine has not got, bytes."""

    step: str
    of: Kind
    needed: int
    free: int

    def problem(self) -> dict[str, Any]:
        """For the owner of the job. It names no machine."""
        detail = (
            f"The step {self.step} needs {self.needed / GIB:.1f} GiB of {self.of} at the least; the last worker that looked at it had "
            f"{self.free / GIB:.1f} GiB free. It waits for one that has room."
        )
        return problem(NO_ROOM, "No worker has room for it", detail)


def find_shortage(context: Context, step_id: str) -> Shortage | None:
    """Why the step cannot run here; None if it can, as far as that can be told, or if it is not to be had anyway."""
    try:
        return _find_shortage(context, step_id)
    except Exception as error:  # noqa: BLE001  (a step that is claimed and fails says why; one that nobody claims says nothing)
        log.warning("capacity.not_known", step_id=step_id, error=f"{type(error).__name__}: {error}")
        return None


def _find_shortage(context: Context, step_id: str) -> Shortage | None:
    with context.reads() as session:
        step = session.get(StepRow, step_id)
        job = session.get(JobRow, step.job_id) if step is not None and step.status == "ready" and step.job_id is not None else None
        model = session.get(ModelRow, job.model_id) if job is not None else None
        if step is None or job is None or model is None:
            return None
        results = _results(session, job.id) if step.kind == "finetune" else {}
    kind, accelerator = cast(StepKind, step.kind), has_accelerator()
    weights, parameters = model.inspection.get("parameters", 0), JobParameters.model_validate(job.parameters)
    needed = least_memory(kind, parameters, weights, results, accelerator=accelerator)
    if needed == 0:
        return None
    free = free_gpu_memory() if accelerator else free_memory()
    if needed > free:
        _release_warm_model()
        return Shortage(kind, "GPU memory" if accelerator else "memory", needed, free)
    missing = context.cache.missing_bytes(model.files)
    if missing and missing > (room := context.cache.room()):
        return Shortage(kind, "disk", missing, room)
    return None


def _results(session: Session, job_id: str) -> dict[StepKind, list[dict[str, Any]]]:
    """What decides whether there is anything to train."""
    found = select(StepRow.kind, StepRow.result).where(StepRow.job_id == job_id, StepRow.kind.in_(("verdict", "merge")))
    return {cast(StepKind, kind): [result] for kind, result in session.execute(found) if result is not None}


def _release_warm_model() -> None:
    """What this process keeps of the step before may be what a larger one is short of, here or in the process beside it."""
    loaded = sys.modules.get("gpu_jobs.defense.subject")
    if loaded is not None:
        loaded.release_warm_model()


def has_accelerator() -> bool:
    """Whether models are loaded to a GPU: one is there, and torch can use it. Asks torch, which takes seconds to import, only then."""
    if count_gpus() == 0:
        return False
    import torch

    return torch.cuda.is_available()


def free_memory(cgroup: Path = CGROUP) -> int:
    """Bytes that a step could have: what the machine and the container leave (cgroup v2), and what this process holds of steps before."""
    free = psutil.virtual_memory().available
    try:
        limit = (cgroup / "memory.max").read_text(encoding="ascii").strip()
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        statistics = dict(line.split() for line in (cgroup / "memory.stat").read_text(encoding="ascii").splitlines())
        if limit != "max":
            # Cached files go first when memory is asked for.
            free = min(free, int(limit) - used + int(statistics["inactive_file"]) + int(statistics["active_file"]))
    except (OSError, ValueError, KeyError):
        pass  # no container, or one that limits nothing
    return max(0, free) + int(psutil.Process().memory_info().rss)


def free_gpu_memory() -> int:
    """The same for this process's GPU. Wakes CUDA up, as the step would."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    return int(free + torch.cuda.memory_reserved())
