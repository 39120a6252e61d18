"""A discrete-event simulation of workers on sharded jobs: who waits for whom.

Three things are shared and can run out: the row of a job, which is locked by whoever claims or completes one of its steps, and once a
second by one of those that report; the cores of the database; and the relay. All else (a sample's work, the store) grows with the workers.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field

from workers.benchmark.costs import Costs

# As in the workers: how often a step reports and saves, a job is told of it, a lease is renewed, and the relay looks.
PROGRESS_EVERY = 1.0
TOLD_EVERY = 1.0
HEARTBEAT_EVERY = 2.0
RELAY_LOOKS_EVERY = 0.2
STAGES = ("scan", "purify")
SPREAD = 0.05
"""Standard deviation of a shard's time, as a share of it."""

Process = Generator[float, None, None]


@dataclass
class Resource:
    """`servers` that serve in the order of arrival. busy: seconds of service so far."""

    servers: int
    busy: float = 0.0
    _free: list[float] = field(default_factory=list)

    def serve(self, now: float, seconds: float) -> float:
        """When a request that comes now, and needs so long, is done."""
        begins = max(now, heapq.heappop(self._free)) if len(self._free) == self.servers else now
        heapq.heappush(self._free, begins + seconds)
        self.busy += seconds
        return begins + seconds


@dataclass
class Job:
    """`waiting`: shards of the present stage that nobody has, `open`: those that are not done. `told`: when progress last was."""

    shards: int
    samples_per_shard: float
    row: Resource = field(default_factory=lambda: Resource(1))
    stage: int = 0
    waiting: int = 0
    open: int = 0
    told: float = -TOLD_EVERY


class Simulation:
    """`workers` on `jobs`; run once, by `run`."""

    def __init__(self, costs: Costs, jobs: Iterable[Job], *, workers: int, database_cores: int, seed: int) -> None:
        self.now = 0.0
        self.jobs = list(jobs)
        self.database = Resource(database_cores)
        self.relay = Resource(1)
        self.waited = 0.0
        """Seconds that workers spent waiting to report, claim and complete, all together."""
        self._costs = costs
        self._rng = random.Random(seed)  # noqa: S311  (nothing secret about it)
        self._idle = list(range(workers))
        self._events: list[tuple[float, int, Process]] = []
        self._number = 0
        self._ringing: list[Job] = []

    def run(self) -> float:
        """The seconds until all jobs are done."""
        for job in self.jobs:
            self._open_stage(job)
        while self._events:
            self.now, _, process = heapq.heappop(self._events)
            self._step(process)
        return self.now

    def _open_stage(self, job: Job) -> None:
        job.waiting = job.open = job.shards
        for _ in range(job.shards):
            self._start(self._bell(job))

    def _bell(self, job: Job) -> Process:
        yield self._rng.uniform(0, RELAY_LOOKS_EVERY)
        yield self.relay.serve(self.now, self._costs.message) - self.now
        self._ringing.append(job)
        self._match()

    def _match(self) -> None:
        while self._idle and self._ringing:
            self._idle.pop()
            self._start(self._shard(self._ringing.pop(0)))

    def _shard(self, job: Job) -> Process:
        """One worker on one shard, from the bell to the commit."""
        job.waiting -= 1
        yield from self._locked(job, "claim")
        yield self._costs.get * 2  # its inputs, which are in the cache but for a file or two
        work = job.samples_per_shard * self._costs.sample[STAGES[job.stage]] * max(0.1, self._rng.gauss(1, SPREAD))
        renew, save = self._costs.transaction("renew", job.shards), self._costs.transaction("checkpoint", job.shards)
        while work > 0:
            piece = min(work, PROGRESS_EVERY)
            yield piece
            work -= piece
            # The heartbeat has a thread of its own: it costs the database, and the step does not wait for it.
            self.database.serve(self.now, renew.database * piece / HEARTBEAT_EVERY)
            if piece == PROGRESS_EVERY:
                yield from self._report(job)
                yield self._costs.put + max(save.seconds, self.database.serve(self.now, save.database) - self.now)
        yield self._costs.put
        yield from self._locked(job, "complete")
        job.open -= 1
        if job.open == 0 and job.stage + 1 < len(STAGES):
            job.stage += 1
            self._open_stage(job)
        self._idle.append(0)
        self._match()

    def _report(self, job: Job) -> Process:
        if self.now - job.told >= TOLD_EVERY:
            job.told = self.now
            yield from self._locked(job, "report for the job")
        else:
            cost = self._costs.transaction("report", job.shards)
            yield max(cost.seconds, self.database.serve(self.now, cost.database) - self.now)

    def _locked(self, job: Job, name: str) -> Process:
        """A transaction that holds the job's row."""
        cost = self._costs.transaction(name, job.shards)
        done = max(job.row.serve(self.now, cost.seconds), self.database.serve(self.now, cost.database))
        self.waited += done - self.now - cost.seconds
        yield done - self.now

    def _start(self, process: Process) -> None:
        self._step(process)

    def _step(self, process: Process) -> None:
        try:
            pause = next(process)
        except StopIteration:
            return
        self._number += 1
        heapq.heappush(self._events, (self.now + pause, self._number, process))
