"""Processes that each work on one cell after the other and send back a row for every method."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from gpu_jobs.benchmark.attack import Settings
from gpu_jobs.benchmark.cells import Cell
from gpu_jobs.benchmark.rows import Row

DIED = "the process that worked on this cell died"


@dataclass(frozen=True, slots=True)
class Task:
    """A cell and the methods to measure on it, one after the other in one process: they share its models."""

    cell: Cell
    methods: tuple[str, ...]


@dataclass(slots=True)
class Worker:
    """`task` is what it works on, `remaining` the methods of it that no row came for yet."""

    process: SpawnProcess
    connection: Connection
    task: Task | None = None
    remaining: tuple[str, ...] = ()

    def start(self, task: Task) -> None:
        self.task, self.remaining = task, task.methods
        self.connection.send(task)


def work_on(tasks: Sequence[Task], work: Path, settings: Settings, processes: int) -> Generator[Row]:
    """The rows of all tasks as they are finished. Tasks are begun in their order, `processes` at a time.

    A worker that dies costs the rows of its task, which say so, and is replaced. No process is left when this ends, however
    it ends: also if this process is killed.
    """
    waiting = list(tasks)
    workers = [_start(work, settings) for _ in range(min(processes, len(waiting)))]
    try:
        for worker in workers:
            worker.start(waiting.pop(0))
        while workers:
            ready = wait([worker.connection for worker in workers])
            for worker in [worker for worker in workers if worker.connection in ready]:
                try:
                    row: Row = worker.connection.recv()
                except (EOFError, ConnectionError):
                    yield from _lost(worker)
                    workers.remove(worker)
                    if waiting:
                        workers.append(_start(work, settings))
                        workers[-1].start(waiting.pop(0))
                    continue
                worker.remaining = tuple(method for method in worker.remaining if method != row.method)
                if not worker.remaining and waiting:
                    worker.start(waiting.pop(0))
                elif not worker.remaining:
                    _stop(worker)
                    workers.remove(worker)
                yield row
    finally:
        for worker in workers:
            _stop(worker)


def _start(work: Path, settings: Settings) -> Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work, settings), daemon=True)
    process.start()
    theirs.close()  # so that the death of the process closes the pipe
    return Worker(process, ours)


def _stop(worker: Worker) -> None:
    # Nothing has to be put away: the store keeps only what is whole.
    worker.process.kill()
    worker.process.join()
    worker.connection.close()


def _lost(worker: Worker) -> Iterator[Row]:
    _stop(worker)
    if worker.task is not None:
        for method in worker.remaining:
            yield Row.of(worker.task.cell, method, error=DIED)


def _serve(connection: Connection, work: Path, settings: Settings) -> None:
    """The worker's side."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()

    import torch

    from gpu_jobs.benchmark.attack import prepare
    from gpu_jobs.benchmark.methods import measure
    from gpu_jobs.benchmark.store import Store

    torch.set_num_threads(1)
    store = Store(work)
    while True:
        task: Task = connection.recv()
        attacked = None
        for method in task.methods:
            try:
                attacked = attacked or prepare(task.cell, store, settings)
                row = measure(method, attacked, store)
            except Exception as failure:  # noqa: BLE001 - one cell's trouble, whatever it is, must not end the others' run
                row = Row.of(task.cell, method, error=f"{type(failure).__name__}: {failure}")
            connection.send(row)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
