"""Whether this machine has room for a step, asked before it is claimed: one that cannot run here is left to a larger worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import psutil
from sqlalchemy.orm import Session

from app.jobs.states import problem
from app.jobs.tables import NO_ROOM, JobRow, StepRow
from app.models.tables import ModelRow
from gpu_jobs.config import JobParameters, StepKind
from gpu_jobs.memory import least_memory
from workers.context import Context
from workers.machine import count_gpus

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


def find_shortage(context: Context, session: Session, step_id: str) -> Shortage | None:
    """Why the step cannot run here; None if it can, as far as that can be told, or if it is not to be had anyway."""
    step = session.get(StepRow, step_id)
    job = session.get(JobRow, step.job_id) if step is not None and step.status == "ready" and step.job_id is not None else None
    model = session.get(ModelRow, job.model_id) if job is not None else None
    if step is None or job is None or model is None:
        return None
    kind, accelerator = cast(StepKind, step.kind), count_gpus() > 0
    parameters = JobParameters.model_validate(job.parameters)
    needed = least_memory(kind, parameters, model.inspection.get("parameters", 0), accelerator=accelerator)
    if needed == 0:
        return None
    free = free_gpu_memory() if accelerator else free_memory()
    if needed > free:
        return Shortage(kind, "GPU memory" if accelerator else "memory", needed, free)
    room, missing = context.cache.room(), context.cache.missing_bytes(model.files)
    return Shortage(kind, "disk", missing, room) if missing > room else None


def free_memory(cgroup: Path = CGROUP) -> int:
    """Bytes that a step could have: what the machine and the container leave (cgroup v2), and what this process holds of steps before."""
    free = psutil.virtual_memory().available
    try:
        limit = (cgroup / "memory.max").read_text(encoding="ascii").strip()
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        statistics = dict(line.split() for line in (cgroup / "memory.stat").read_text(encoding="ascii").splitlines())
        if limit != "max":
            # The cache of files that nobody reads just now goes first when memory is asked for.
            free = min(free, int(limit) - used + int(statistics["inactive_file"]))
    except (OSError, ValueError, KeyError):
        pass  # no container, or one that limits nothing
    return max(0, free) + int(psutil.Process().memory_info().rss)


def free_gpu_memory() -> int:
    """The same for this process's GPU. Wakes CUDA up, as the step would."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    return int(free + torch.cuda.memory_reserved())
