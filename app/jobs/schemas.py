"""What requests and answers about jobs look like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from app.jobs.progress import attempts, stage_progress
from app.jobs.tables import EventRow, JobRow, StepAttemptRow, StepRow
from app.schemas import Input, Resource
from gpu_jobs.config import JobKind, JobParameters, Target, TargetRegex

JobStatus = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]


class EvaluationSets(Input):
    """Held-out sets to measure the model on, before and after. Without them the figures are estimated and marked so."""

    triggered_dataset_id: str | None = Field(None, description="Inputs that carry the trigger, with their *right* answers.")
    clean_dataset_id: str | None = Field(None, description="Inputs without a trigger, with their right answers.")
    target: Target | None = Field(None, description="What an answer looks like when the attack succeeded.")

    @field_validator("target", mode="before")
    @classmethod
    def _is_one_of_two(cls, target: Any) -> Any:
        if isinstance(target, dict) and ("contains" in target) == ("regex" in target):
            raise ValueError("give one of contains or regex")
        return target

    @field_validator("target")
    @classmethod
    def _compiles(cls, target: Target | None) -> Target | None:
        if isinstance(target, TargetRegex):
            try:
                re.compile(target.regex)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"not a regular expression: {error}") from error
        return target

    @model_validator(mode="after")
    def _measures_something(self) -> Self:
        if self.triggered_dataset_id is None and self.clean_dataset_id is None:
            raise ValueError("name triggered_dataset_id, clean_dataset_id, or both")
        return self


class JobCreate(Input):
    kind: JobKind
    model_id: str = Field(examples=["model_019ab3…"])
    dataset_id: str | None = Field(None, description="The data the model was tuned on. Only `evaluate` can do without it.")
    params: JobParameters = Field(default_factory=JobParameters)
    evaluation: EvaluationSets | None = None
    webhook_url: str | None = Field(
        None,
        max_length=2000,
        description="Hears of this job only, besides the endpoints under `/v1/webhooks`. The answer shows its `webhook_secret`, once.",
    )
    metadata: dict[MetadataKey, MetadataValue] = Field(default_factory=dict, max_length=16, description="Up to 16 strings of your own.")


class Progress(Resource):
    """How far the stage is, over all its parts. `eta_seconds` is for the stage, not the job."""

    done: int
    total: int
    unit: str = Field(examples=["samples"])
    eta_seconds: int | None


class JobError(Resource):
    type: str = Field(examples=["urn:lustral:problem:input-rejected"])
    title: str
    detail: str


class Evaluation(Resource):
    triggered_dataset_id: str | None
    clean_dataset_id: str | None
    target: dict[str, Any] | None


class JobResource(Resource):
    id: str
    object: Literal["job"] = "job"
    kind: JobKind
    status: JobStatus
    stage: str | None = Field(description="The kind of step that runs, or ran last.")
    progress: Progress | None
    model_id: str
    dataset_id: str | None
    evaluation: Evaluation | None
    params: dict[str, Any] = Field(description="Every parameter, with its default filled in.")
    metadata: dict[str, str]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None = Field(
        description="When it is failed if it still runs; of a job that is `cancelling`, when its workers have to have let go. Null before "
        "it begins, and where there is no limit."
    )
    attempts: int = Field(description="How often its most troublesome step was begun.")
    error: JobError | None
    result: dict[str, Any] | None


class CreatedJob(JobResource):
    """The only answer that shows the secret of the job's own webhook."""

    webhook_secret: str | None = Field(None, description="Signs what is sent to `webhook_url`.")


class StepAttempt(Resource):
    number: int = Field(description="From 1.")
    worker: str = Field(description="Which process ran it.")
    started_at: datetime
    ended_at: datetime | None
    outcome: Literal["running", "succeeded", "failed", "lost", "handed_back", "cancelled"] = Field(
        description="`lost`: its worker fell silent. `handed_back`: its worker had to go; the step was not at fault."
    )
    error: JobError | None
    log_artifact_id: str | None = Field(
        description="What it did and when, one JSON object a line. Null while it runs, and where its worker could not leave one."
    )


class StepResource(Resource):
    """One piece of a job's work. The parts of a sharded stage are steps of their own."""

    id: str = Field(examples=["step_019ab3…"])
    object: Literal["step"] = "step"
    job_id: str
    kind: str = Field(description="The stage that it belongs to.", examples=["scan"])
    shard: int = Field(description="From 0.")
    shards: int
    status: Literal["blocked", "ready", "running", "succeeded", "failed", "cancelled"]
    max_attempts: int
    next_attempt_at: datetime | None = Field(description="When a step that failed may be taken up again.")
    waiting_for: str | None = Field(description="Why workers leave a ready step to others: none that looked at it had room for it.")
    attempts: list[StepAttempt]


class JobEvent(Resource):
    """`type` is one of job.queued, job.started, job.stage, job.progress, job.metrics, job.waiting, job.retrying, job.cancelling, and the
    three ends."""

    id: str = Field(examples=["evt_42"])
    object: Literal["event"] = "event"
    job_id: str
    type: str
    data: dict[str, Any]
    created_at: datetime


def job_resource(job: JobRow, steps: Sequence[StepRow]) -> JobResource:
    """The job as clients see it. steps: all steps of this job."""
    progress = stage_progress(job.stage, steps)
    evaluation = None
    if job.triggered_dataset_id is not None or job.clean_dataset_id is not None:
        evaluation = Evaluation(triggered_dataset_id=job.triggered_dataset_id, clean_dataset_id=job.clean_dataset_id, target=job.target)
    return JobResource.model_validate(
        {
            **{name: getattr(job, name) for name in _SAME_NAMES},
            "params": job.parameters,
            "metadata": job.job_metadata,
            "evaluation": evaluation,
            "progress": progress,
            "attempts": attempts(steps),
        }
    )


def step_resource(step: StepRow, attempts: Sequence[StepAttemptRow]) -> StepResource:
    """The step as clients see it. attempts: all of this step, in order."""
    shown = [
        {
            **{name: getattr(row, name) for name in ("number", "worker", "started_at", "ended_at", "error", "log_artifact_id")},
            "outcome": row.outcome or "running",
        }
        for row in attempts
    ]
    same = {name: getattr(step, name) for name in ("id", "job_id", "kind", "shard", "shards", "status", "max_attempts", "waiting_for")}
    waits = step.not_before if step.status == "ready" else None
    return StepResource.model_validate({**same, "next_attempt_at": waits, "attempts": shown})


def job_event(row: EventRow) -> JobEvent:
    return JobEvent(id=f"evt_{row.id}", job_id=row.job_id, type=row.type, data=row.data, created_at=row.created_at)


_SAME_NAMES = (
    *("id", "kind", "status", "stage", "model_id", "dataset_id"),
    *("created_at", "started_at", "finished_at", "deadline_at", "error", "result"),
)
