"""A worker whose steps count slowly, so that there is time to kill it. Started as `python -m tests.chaos.steps`."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

from gpu_jobs import steps
from gpu_jobs.config import StepKind
from gpu_jobs.reporting import Reporter
from gpu_jobs.steps import StepInputs

UNITS = 40
HALF = UNITS // 2


def count(kind: StepKind, inputs: StepInputs, reporter: Reporter) -> dict[str, Any]:
    """Write the numbers up to `UNITS`, one a time, checkpointing after each. A purify step stops half-way until told to go on.

    The file `deaf` has it match a pattern there that takes for ever, in which no other thread of its process has a turn.
    """
    control = Path(os.environ["CHAOS_CONTROL"])
    if kind == "publish":
        return {"result": {"units": [result["units"] for result in inputs.results["purify"]]}, "artifacts": []}
    if kind != "purify":
        return {}
    written = inputs.checkpoint / "numbers.jsonl"
    resumed_from = len(written.read_text().splitlines()) if written.exists() else 0
    for number in range(resumed_from, UNITS):
        with written.open("a") as lines:
            lines.write(json.dumps({"shard": inputs.shard, "number": number}) + "\n")
        reporter.progress(number + 1, UNITS, "samples")
        reporter.checkpoint()
        if number == HALF:
            (control / f"half-way-{inputs.shard}").touch()
            while not (control / "go-on").exists():
                time.sleep(0.02)
                if (control / "deaf").exists():
                    (control / f"deaf-{inputs.shard}").touch()
                    re.search(r"(a+)+$", "a" * 50 + "b")
                reporter.progress(number + 1, UNITS, "samples")
                reporter.checkpoint()
    units = [json.loads(line)["number"] for line in written.read_text().splitlines()]
    (inputs.outputs / "numbers.jsonl").write_text(written.read_text())
    return {"units": units, "resumed_from": resumed_from}


if __name__ == "__main__":
    from workers import __main__ as worker

    steps.run_step = count
    worker.preload = lambda: None
    worker.main()
