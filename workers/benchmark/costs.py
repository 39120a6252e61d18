"""What a step costs beside its own work: measured by `python -m tests.scale.costs`, read by the simulation."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Transaction:
    """seconds: from begin to commit, as long as it holds its locks. database: of these, a core of the database server at work."""

    seconds: float
    database: float


@dataclass(frozen=True, slots=True)
class Costs:
    """All in seconds. `transactions` maps a name to its cost by the number of the job's shards: some read all steps of the job."""

    transactions: Mapping[str, Mapping[int, Transaction]]
    message: float
    """One message from the outbox to the broker, by one relay."""
    put: float
    get: float
    sample: Mapping[str, float]
    """One sample, by stage."""

    @classmethod
    def read(cls, costs: Path, measured: Path) -> Self:
        """From the JSON of `tests.scale.costs`, and from the rows of `lustral bench scale`, whose smallest run tells a sample's time."""
        document, runs = json.loads(costs.read_text()), map(json.loads, measured.read_text().splitlines())
        run = min(runs, key=lambda run: run["processes"])
        return cls(
            transactions={
                name: {int(shards): Transaction(**cost) for shards, cost in by_shards.items()}
                for name, by_shards in document["transactions"].items()
            },
            message=document["message"],
            put=document["put"],
            get=document["get"],
            sample={stage: run["processes"] * run["stages"][stage] / run["samples"] for stage in ("scan", "purify")},
        )

    def transaction(self, name: str, shards: int) -> Transaction:
        """Between two measured numbers of shards in a straight line; beyond the last, as at the last."""
        measured = self.transactions[name]
        numbers = sorted(measured)
        right = min(bisect_left(numbers, shards), len(numbers) - 1)
        left = max(right - 1, 0)
        low, high = measured[numbers[left]], measured[numbers[right]]
        if left == right or shards >= numbers[-1]:
            return high
        share = (shards - numbers[left]) / (numbers[right] - numbers[left])
        return Transaction(low.seconds + share * (high.seconds - low.seconds), low.database + share * (high.database - low.database))
