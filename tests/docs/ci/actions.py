"""A GitHub runner in small: the steps of a composite action, in their order, run as GitHub runs them.

Scripts are executed; actions of others are only noted, for they need GitHub.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Step = dict[str, Any]
MACHINE = {
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    # pip installs without an index; what Lustral needs is here already.
    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path.endswith("-packages")),
    **dict.fromkeys(("PIP_NO_INDEX", "PIP_NO_DEPS", "PIP_IGNORE_INSTALLED"), "1"),
    "PIP_NO_BUILD_ISOLATION": "0",  # yes, no isolation: to pip, the variable is the value of what the option switches off
}
SHA = "0a1b2c3d" * 5


@dataclass
class Run:
    """What became of an action. uses: the actions of others that it called, with what they were given."""

    code: int = 0
    log: str = ""
    summary: str = ""
    steps: dict[str, dict[str, str]] = field(default_factory=dict)
    uses: dict[str, dict[str, str]] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)


def run_action(path: Path, workspace: Path, given: Mapping[str, str], *, done: Mapping[str, dict[str, str]] | None = None) -> Run:
    """Run the action of the file `path` in the checkout `workspace`.

    given: its inputs.
    done: outputs of steps, by their ids, that are taken as run already.
    """
    action = yaml.safe_load(path.read_text())
    inputs = {name: given.get(name, declared.get("default", "")) for name, declared in action["inputs"].items()}
    assert given.keys() <= inputs.keys()
    run = Run(steps=dict(done or {}))
    values: dict[str, str] = {f"inputs.{name}": value for name, value in inputs.items()}
    for id, outputs in run.steps.items():
        _keep(values, id, outputs, "success")
    for step in action["runs"]["steps"]:
        if step.get("id") in run.steps or not _applies(step.get("if", "success()"), values, failed=run.code != 0):
            continue
        if "uses" in step:
            run.uses[step["uses"].partition("@")[0]] = {name: _fill(value, values) for name, value in step["with"].items()}
            continue
        code, outputs = _execute(step, path, workspace, {name: _fill(value, values) for name, value in step["env"].items()}, run)
        run.code = run.code or code
        if "id" in step:
            run.steps[step["id"]] = outputs
            _keep(values, step["id"], outputs, "failure" if code else "success")
    run.outputs = {name: _fill(output["value"], values) for name, output in action["outputs"].items()}
    return run


def _execute(step: Step, path: Path, workspace: Path, variables: Mapping[str, str], run: Run) -> tuple[int, dict[str, str]]:
    assert step["shell"] == "bash"
    runner = workspace.parent / "runner"
    runner.mkdir(exist_ok=True)
    script, output, summary = runner / "script.sh", runner / "output", runner / "summary"
    script.write_text(step["run"])
    output.write_text("")
    summary.write_text("")
    context = {
        "GITHUB_ACTION_PATH": str(path.parent),
        "GITHUB_OUTPUT": str(output),
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_REPOSITORY": "acme/vision",
        "GITHUB_SHA": SHA,
        "RUNNER_TEMP": str(runner),
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
    environment = {**MACHINE, **context, **variables}
    ran = subprocess.run(command, cwd=workspace, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    run.log += ran.stdout
    run.summary += summary.read_text()
    return ran.returncode, dict(line.split("=", 1) for line in output.read_text().splitlines())


def _keep(values: dict[str, str], id: str, outputs: Mapping[str, str], outcome: str) -> None:
    values[f"steps.{id}.outcome"] = outcome
    values.update({f"steps.{id}.outputs.{name}": value for name, value in outputs.items()})


def _fill(text: str, values: Mapping[str, str]) -> str:
    """`${{ name }}` as its value; what is unknown is empty, as on GitHub."""
    return re.sub(r"\$\{\{ *([\w.-]+) *\}\}", lambda match: values.get(match[1], ""), text)


def _applies(condition: str, values: Mapping[str, str], *, failed: bool) -> bool:
    """Comparisons joined by `&&`. Without a word on how the job stands, a step is skipped after a failure."""
    terms = condition.split(" && ")
    if "!cancelled()" not in terms and failed:
        return False
    return all(_holds(term, values) for term in terms if term not in ("!cancelled()", "success()"))


def _holds(term: str, values: Mapping[str, str]) -> bool:
    match = re.fullmatch(r"([\w.-]+) (==|!=) '(.*)'", term)
    assert match, f"this runner does not know the condition {term!r}"
    return (values.get(match[1], "") == match[3]) == (match[2] == "==")
