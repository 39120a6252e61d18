"""What a job's events say about the time of its stages."""

from __future__ import annotations

from typing import Any

from workers.benchmark.scale import stage_seconds


def test_a_stage_lasts_until_the_next_begins_and_the_last_to_the_end() -> None:
    events = [event("job.queued", 0), event("job.stage", 1, "scan"), event("job.progress", 2, "scan"), event("job.stage", 4.5, "verdict")]
    assert stage_seconds([*events, event("job.succeeded", 5)]) == {"scan": 3.5, "verdict": 0.5}


def event(type: str, second: float, stage: str | None = None) -> dict[str, Any]:
    return {"type": type, "data": {"stage": stage}, "created_at": f"2026-01-01T00:00:{second:09.6f}Z"}
