"""What a running step tells the world: progress, measurements, checkpoints; and how it learns that it must stop."""

from __future__ import annotations

from typing import Protocol


class Cancelled(Exception):
    """The step was told to stop: its job was cancelled or its lease was lost. Nothing more may be written."""


class Reporter(Protocol):
    """Handed to every step. Cheap to call often: an implementation limits how much it passes on.

    Each call raises `Cancelled` once the step must stop, so a step that reports after every batch stops in time.
    """

    def progress(self, done: int, total: int, unit: str) -> None:
        """`done` of `total` units ("samples", "optimiser steps", …) are finished."""

    def metrics(self, **values: float) -> None:
        """Measurements worth a line in the job's events, such as a training loss."""

    def checkpoint(self) -> None:
        """Make the present content of `StepInputs.checkpoint` survive the death of this machine."""

    def leaving(self) -> bool:
        """Whether this machine is about to go. A step that saves seldom asks often: once told so, it saves and calls `checkpoint`."""


class SilentReporter:
    """For callers that watch nothing: scripts and unit tests."""

    def progress(self, done: int, total: int, unit: str) -> None: ...

    def metrics(self, **values: float) -> None: ...

    def checkpoint(self) -> None: ...

    def leaving(self) -> bool:
        return False
