"""The cache on disk: whole entries or none, each made once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gpu_jobs.benchmark import store as store_module
from gpu_jobs.benchmark.store import Store, code_digest, folder_digest

SLOW = """
import sys, time
from pathlib import Path
from gpu_jobs.benchmark.store import Store

def make(folder: Path) -> None:
    (folder / "half").write_text("x")
    print("half done", flush=True)
    time.sleep(60)

Store(Path(sys.argv[1])).entry("things", {"a": 1}, make)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


class TestEntries:
    def test_are_made_once_for_each_key(self, store: Store) -> None:
        made: list[Path] = []
        first = store.entry("things", {"a": 1}, made.append)
        assert store.entry("things", {"a": 1}, made.append) == first
        assert store.entry("things", {"a": 2}, made.append) != first
        assert len(made) == 2

    def test_a_failure_leaves_nothing_and_the_next_attempt_succeeds(self, store: Store) -> None:
        def fail(folder: Path) -> None:
            (folder / "half").touch()
            raise RuntimeError("no")

        with pytest.raises(RuntimeError):
            store.entry("things", {}, fail)
        folder = store.entry("things", {}, lambda out: (out / "whole").touch())
        assert sorted(path.name for path in folder.iterdir()) == ["key.json", "whole"]
        assert [path for path in folder.parent.iterdir() if path.is_dir()] == [folder]

    def test_what_a_killed_process_left_half_done_counts_for_nothing(self, store: Store) -> None:
        with subprocess.Popen([sys.executable, "-c", SLOW, str(store.root)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "half done\n"
            os.kill(process.pid, signal.SIGKILL)
        folder = store.entry("things", {"a": 1}, lambda out: (out / "whole").touch())
        assert sorted(path.name for path in folder.iterdir()) == ["key.json", "whole"]
        assert [path for path in folder.parent.iterdir() if path.is_dir()] == [folder]

    def test_two_that_want_the_same_entry_make_it_once(self, store: Store) -> None:
        made: list[Path] = []
        begun, go_on = threading.Event(), threading.Event()

        def make(folder: Path) -> None:
            made.append(folder)
            begun.set()
            go_on.wait(30)

        threads = [threading.Thread(target=store.entry, args=("things", {}, make)) for _ in range(2)]
        threads[0].start()
        assert begun.wait(30)
        threads[1].start()
        go_on.set()
        for thread in threads:
            thread.join(30)
        assert len(made) == 1


class TestDigests:
    def test_of_code_follow_what_it_does_and_not_what_it_says(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store_module, "GPU_JOBS", tmp_path)

        def of(source: str) -> str:
            (tmp_path / "module.py").write_text(source)
            code_digest.cache_clear()
            return code_digest("module.py")

        plain = of("def f():\n    return 1\n")
        assert of('def f():\n    """Says one."""\n    return 1  # one\n') == plain
        assert of("def f():\n    return 2\n") != plain

    def test_of_folders_follow_names_and_content(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("1")
        first = folder_digest(tmp_path)
        (tmp_path / "a").write_text("2")
        second = folder_digest(tmp_path)
        (tmp_path / "a").rename(tmp_path / "b")
        assert len({first, second, folder_digest(tmp_path)}) == 3
