"""What ends unasked is started again, ever more patiently; what all others need is stopped last."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.embedded.supervisor import FIRST_PAUSE, LASTING, LONGEST_PAUSE, Service, Supervisor


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ended() -> list[tuple[str, int]]:
    return []


@pytest.fixture
def supervisor(clock: Clock, ended: list[tuple[str, int]]) -> Iterator[Supervisor]:
    with Supervisor(lambda service, status: ended.append((service.name, status)), clock=clock) as supervisor:
        yield supervisor


def test_a_crashed_service_is_started_again_after_a_pause(
    supervisor: Supervisor, clock: Clock, ended: list[tuple[str, int]], tmp_path: Path
) -> None:
    supervisor.start(_crashing(tmp_path))
    _look_until_ended(supervisor, ended, 1)
    supervisor.look()
    assert _starts(tmp_path) == 1, "it must not come back before its pause is over"
    clock.now += FIRST_PAUSE
    supervisor.look()
    _look_until_ended(supervisor, ended, 2)
    assert _starts(tmp_path) == 2
    assert ended == [("crashing", 3), ("crashing", 3)]


def test_each_pause_is_twice_the_last_up_to_a_limit(
    supervisor: Supervisor, clock: Clock, ended: list[tuple[str, int]], tmp_path: Path
) -> None:
    supervisor.start(_crashing(tmp_path))
    for number, pause in enumerate([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, LONGEST_PAUSE, LONGEST_PAUSE], 1):
        _look_until_ended(supervisor, ended, number)
        clock.now += pause - 0.01
        supervisor.look()
        assert _starts(tmp_path) == number
        clock.now += 0.02
        supervisor.look()
    _look_until_ended(supervisor, ended, 10)


def test_a_service_that_lasted_comes_back_at_once(
    supervisor: Supervisor, clock: Clock, ended: list[tuple[str, int]], tmp_path: Path
) -> None:
    supervisor.start(_crashing(tmp_path))
    for number in (1, 2, 3):
        _look_until_ended(supervisor, ended, number)
        clock.now += LONGEST_PAUSE
        supervisor.look()
    clock.now += LASTING
    _look_until_ended(supervisor, ended, 4)
    clock.now += FIRST_PAUSE
    supervisor.look()
    _look_until_ended(supervisor, ended, 5)


def test_the_first_service_outlives_the_others(tmp_path: Path) -> None:
    order = tmp_path / "order"
    program = """
import signal, sys, time
def leave(*_):
    open(sys.argv[1], "a").write(sys.argv[2] + " ")
    sys.exit()
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
time.sleep(60)
"""
    with Supervisor(lambda *_: None) as supervisor:
        for name in ("broker", "api", "worker"):
            log = tmp_path / name
            supervisor.start(Service(name, [sys.executable, "-c", program, str(order), name], log))
            while "ready" not in log.read_text():
                pass
    assert sorted(order.read_text().split()[:2]) == ["api", "worker"]
    assert order.read_text().endswith(" broker ")


def _crashing(folder: Path) -> Service:
    return Service("crashing", [sys.executable, "-c", "print('started', flush=True); raise SystemExit(3)"], folder / "log")


def _starts(folder: Path) -> int:
    return (folder / "log").read_text().count("started")


def _look_until_ended(supervisor: Supervisor, ended: list[tuple[str, int]], times: int) -> None:
    while len(ended) < times:
        supervisor.look()
