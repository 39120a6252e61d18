"""Steps of several containers that share one volume: the folders of the living stay, those of the dead go."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workers import scratch
from workers.scratch import remove_scratch_of_the_dead, scratch_folder

# In a container of its own a process sees other ids than its neighbours do: `pid` stands for what it sees.
WORKS_FOR_EVER = """
import os, sys, time
from pathlib import Path
from workers.scratch import scratch_folder
os.getpid = lambda: int(sys.argv[2])
with scratch_folder(Path(sys.argv[1]), "step_1-1") as folder:
    (folder / "half").write_text("work of an hour")
    print(folder, flush=True)
    time.sleep(600)
"""
ALIVE_HERE, NEVER_ALIVE = 1, 2**22 + 1

Begin = Callable[[int], tuple[subprocess.Popen[str], Path]]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    processes: list[subprocess.Popen[str]] = []

    def start(pid: int) -> tuple[subprocess.Popen[str], Path]:
        command = [sys.executable, "-c", WORKS_FOR_EVER, str(tmp_path), str(pid)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_of_processes_that_live_and_die_only_the_dead_ones_folders_go_whatever_their_ids(begin: Begin, tmp_path: Path) -> None:
    _, kept = begin(NEVER_ALIVE)
    _, same_id = begin(NEVER_ALIVE)
    killed, lost = begin(ALIVE_HERE)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    remove_scratch_of_the_dead(tmp_path)
    assert not lost.exists()
    assert [(folder / "half").read_text() for folder in (kept, same_id)] == ["work of an hour"] * 2
    assert sorted(path.name for path in tmp_path.glob("*.lock")) == sorted(f"{folder.name}.lock" for folder in (kept, same_id))


def test_nothing_is_left_of_a_folder_that_is_done_with(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, "step_1-1") as folder:
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_lock_was_taken_for_a_dead_ones_is_made_under_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    opened = Path.open

    def open_and_be_overtaken(path: Path, mode: str) -> object:
        file = opened(path, mode)
        if mode == "xb":
            made.append(path)
            if len(made) == 1:
                remove_scratch_of_the_dead(tmp_path)
        return file

    monkeypatch.setattr(Path, "open", open_and_be_overtaken)
    with scratch_folder(tmp_path, "step_1-1") as folder:
        remove_scratch_of_the_dead(tmp_path)
        assert folder.is_dir()
    assert len(made) == 2


def test_a_folder_without_a_lock_goes_once_it_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "63-step"
    (old / "checkpoint").mkdir(parents=True)
    remove_scratch_of_the_dead(tmp_path)
    assert old.is_dir()
    monkeypatch.setattr(scratch, "KEPT", -1.0)
    with scratch_folder(tmp_path, "mine") as mine:
        remove_scratch_of_the_dead(tmp_path)
        assert mine.is_dir()
    assert not old.exists()
