"""The SARIF of a job as a file whose paths code scanning can follow."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from app.cli.order import Order


def write_sarif(text: str, target: Path, order: Order) -> None:
    """Write the log that the server sent, its paths relative to the working folder where model or data set lie below it.

    Code scanning takes paths from the root of the repository, where a step of CI runs, and knows no other base.
    """
    log = json.loads(text)
    folders = {"MODEL": _below_here(order.model), "DATASET": order.dataset and _below_here(order.dataset)}
    for run in log["runs"]:
        for result in run["results"]:
            for location in result["locations"]:
                _rebase(location["physicalLocation"]["artifactLocation"], folders)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(log, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _rebase(location: dict[str, Any], folders: dict[str, str | None]) -> None:
    folder = folders.get(location["uriBaseId"])
    if folder is not None:
        location["uri"] = quote(os.fsencode(folder)) + location["uri"]
        del location["uriBaseId"]


def _below_here(source: str) -> str | None:
    """The folder that a source stands for, relative to the working folder and with a slash at its end; None for any other source."""
    path = Path(source)
    folder = path if path.is_dir() else path.parent if path.is_file() and path.suffix.lower() != ".zip" else None
    if folder is None or not folder.resolve().is_relative_to(Path.cwd()):
        return None
    relative = folder.resolve().relative_to(Path.cwd()).as_posix()
    return "" if relative == "." else f"{relative}/"
