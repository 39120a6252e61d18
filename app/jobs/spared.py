"""What is not held against a step: attempts that ended by something that was away, or by a worker that died or had to go."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

from app.jobs.tables import StepRow

# An attempt that lived this long was not part of the outage before it.
OUTAGE_OVER = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Spared:
    """Attempts that were no fault of the step; each raised its `max_attempts` by one. Kept in the step's `error`, under `spared`.

    `outages` in all, `in_row` of them since `since` (RFC 3339); `losses` are workers that fell silent, `hand_backs` those that had to go.
    """

    outages: int = 0
    losses: int = 0
    hand_backs: int = 0
    in_row: int = 0
    since: str | None = None

    @classmethod
    def of(cls, step: StepRow) -> Self:
        return cls(**(step.error or {}).get("spared", {}))

    @property
    def attempts(self) -> int:
        return self.outages + self.losses + self.hand_backs

    def attach(self, error: dict[str, Any]) -> dict[str, Any]:
        return {**error, "spared": asdict(self)}

    @staticmethod
    def detach(error: dict[str, Any] | None) -> dict[str, Any] | None:
        """The error alone, as tenants see it; None where there is nothing but what was spared."""
        return {name: value for name, value in (error or {}).items() if name != "spared"} or None

    def one_outage_more(self, step: StepRow, now: datetime) -> Spared:
        new = self.since is None or step.started_at is None or now - step.started_at > OUTAGE_OVER
        return replace(self, outages=self.outages + 1, in_row=1 if new else self.in_row + 1, since=now.isoformat() if new else self.since)

    def has_lasted(self, now: datetime) -> timedelta:
        return now - datetime.fromisoformat(self.since) if self.since else timedelta()
