"""The processes under test: `python -m tests.chaos.processes worker|relay …`, as `workers` and `workers.relay`, with three differences.

Steps count in place of answering samples; the points of `tests.chaos.points` lead through the code; and what waits for minutes
in production waits for seconds. `CHAOS_CLOCK` is how many seconds the process's clock is ahead.
"""

from __future__ import annotations

import functools
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import time_machine

from gpu_jobs import steps
from gpu_jobs.config import StepKind
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs
from tests.chaos.points import Point, Points

UNITS = 8
UNIT_SECONDS = 0.02
LINE = "{kind} {shard} {number}\n"


def count(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """A sharded step writes one line for each unit and saves after each; `publish` hands out the lines of all shards."""
    if kind == "publish":
        return _publish(inputs)
    if kind not in ("scan", "purify"):
        return {}
    poison = _control() / f"poison-{inputs.about['job_id']}"
    written = inputs.checkpoint / "lines"
    done = written.read_text().count("\n") if written.exists() else 0
    for number in range(done, UNITS):
        if number == UNITS // 2:
            if poison.exists():
                os.kill(os.getpid(), signal.SIGKILL)
            _points().reach("mid-batch")
        with written.open("a") as lines:
            lines.write(LINE.format(kind=kind, shard=inputs.shard, number=number))
        time.sleep(UNIT_SECONDS)
        reporter.progress(number + 1, UNITS, "samples")
        reporter.checkpoint()
    (inputs.outputs / "lines").write_bytes(written.read_bytes())
    return {"units": UNITS}


def expected_lines(shards: int) -> bytes:
    """What a purify job hands out."""
    return "".join(
        LINE.format(kind=kind, shard=shard, number=number)
        for kind in ("scan", "purify")
        for shard in range(shards)
        for number in range(UNITS)
    ).encode()


def _publish(inputs: StepInputs) -> dict[str, Any]:
    content = b"".join((folder / "lines").read_bytes() for kind in ("scan", "purify") for folder in inputs.previous[kind])
    (inputs.outputs / "lines.txt").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    artifact = {"name": "lines.txt", "step": "publish", "path": "lines.txt", "media_type": "text/plain", "sha256": digest}
    return {"result": {"sha256": digest}, "artifacts": [{**artifact, "bytes": len(content)}]}


def hurry() -> None:
    """Seconds in place of minutes, wherever somebody waits for a lost message or an absent receiver."""
    from app.jobs import leases, states
    from app.webhooks import emit
    from workers import checkpoints, deliveries

    second = timedelta(seconds=1)
    states.RING_AGAIN_AFTER = 2 * second
    states.RING_AGAIN_AT_MOST = 4 * second
    leases.RETRY_AFTER = leases.RETRY_AT_MOST = 0.3 * second
    emit.RING_AGAIN_AFTER = deliveries.RING_AGAIN_AFTER = 2 * second  # type: ignore[attr-defined]
    deliveries.LEASE = 2 * second
    deliveries.RETRY_AFTER = (0.3 * second,) * 50
    checkpoints.SHORTEST_PAUSE, checkpoints.PAUSE_FACTOR = 0.05, 1


def _lead_worker_through_points() -> None:
    from workers import checkpoints, deliveries, inspection, runner
    from workers.cache import ContentCache
    from workers.fetching import fetch
    from workers.heartbeat import Heartbeat

    _before(Heartbeat, "__enter__", "claimed")
    _before(ContentCache, "place", "staging")
    _before(checkpoints, "save_checkpoint", "checkpoint-stored")
    _before(fetch, "keep_files", "checkpoint-stored")
    _after(runner, "upload_folder", "outputs-stored")
    _after(inspection, "upload_folder", "outputs-stored")
    _before(runner, "delete_quietly", "committed")
    _before(deliveries, "record_attempt", "webhook-sent")


def _lead_relay_through_points() -> None:
    from workers.celery_app import app

    _before(app, "send_task", "about-to-publish")
    _after(app, "send_task", "published")


def _before(owner: Any, name: str, point: Point) -> None:
    def around(call: Callable[[], Any]) -> Any:
        _points().reach(point)
        return call()

    _wrap(owner, name, around)


def _after(owner: Any, name: str, point: Point) -> None:
    def around(call: Callable[[], Any]) -> Any:
        found = call()
        _points().reach(point)
        return found

    _wrap(owner, name, around)


def _wrap(owner: Any, name: str, around: Callable[[Callable[[], Any]], Any]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def led(*arguments: Any, **options: Any) -> Any:
        return around(lambda: original(*arguments, **options))

    setattr(owner, name, led)


def _control() -> Path:
    return Path(os.environ["CHAOS_CONTROL"])


@functools.cache
def _points() -> Points:
    return Points(_control())


def main() -> None:
    time_machine.travel(datetime.now(UTC) + timedelta(seconds=float(os.environ["CHAOS_CLOCK"])), tick=True).start()
    role = sys.argv.pop(1)
    hurry()
    if role == "relay":
        from workers import relay

        _lead_relay_through_points()
        relay.main()
    else:
        from workers import __main__ as worker

        _lead_worker_through_points()
        steps.run_step = count
        worker.preload = lambda: None
        worker.main()


if __name__ == "__main__":
    main()
