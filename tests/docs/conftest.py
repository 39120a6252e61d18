"""One service on this machine, for all pages whose examples need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.embedded.local import Server, run_embedded


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_embedded(tmp_path_factory.mktemp("docs") / "data") as server:
        yield server
