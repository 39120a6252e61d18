"""The whole service, on both profiles, with the bundled models and small cuts of their data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import pytest

from app.client import Lustral
from app.demo.inputs import Inputs, write_inputs
from app.demo.receiver import Receiver
from app.embedded.folder import DataFolder
from app.embedded.local import run_embedded
from tests.worlds.compose import Production


@dataclass(frozen=True)
class Service:
    """A client of a running service, and a hand on the worker that runs its models (kill -9; it is started again)."""

    lustral: Lustral
    kill_worker: Callable[[], None]


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = DataFolder(tmp_path_factory.mktemp("embedded") / "data")
    with pytest.MonkeyPatch.context() as environment:
        # A dead worker is noticed after this.
        environment.setenv("LUSTRAL_LEASE_SECONDS", "6")
        environment.setenv("LUSTRAL_HEARTBEAT_SECONDS", "1")
        with run_embedded(folder.root) as server, Lustral(server.url, server.api_key) as lustral:
            running = folder.running()
            assert running is not None
            supervisor = psutil.Process(running["pid"])

            def kill_worker() -> None:
                [worker] = [child for child in supervisor.children() if child.cmdline()[-2:] == ["--queues", "gpu"]]
                _kill(worker)  # the supervisor starts it again

            yield Service(lustral, kill_worker)


@pytest.fixture(scope="session")
def production_service(production: Production) -> Iterator[Service]:
    def kill_worker() -> None:
        _kill(psutil.Process(production.processes["worker"].pid))
        production.restart("worker")

    with Lustral(production.url, production.api_key) as lustral:
        yield Service(lustral, kill_worker)


@pytest.fixture(scope="session", params=["embedded", "production_service"])
def service(request: pytest.FixtureRequest) -> Service:
    service: Service = request.getfixturevalue(request.param)
    return service


def _kill(worker: psutil.Process) -> None:
    """kill -9 for the process that holds the models, and with it all that it forked."""
    family = [worker, *worker.children(recursive=True)]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=10)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().listening() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def suspect(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The backdoored model, 400 of the samples it was tuned on, and 100 held-out ones of each kind."""
    return write_inputs(tmp_path_factory.mktemp("suspect"), "--training", "400", "--test", "100")


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The model before the attack, with data nobody poisoned."""
    return write_inputs(tmp_path_factory.mktemp("clean"), "--model", "base", "--training", "120", "--test", "100")


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """As `clean`, with as few samples as a verdict takes."""
    return write_inputs(tmp_path_factory.mktemp("few"), "--model", "base", "--training", "64", "--test", "32")
