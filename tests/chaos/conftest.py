"""The seed of the random schedules, and the cluster that all of them share."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from tests.chaos.cluster import Cluster, run_cluster

# Read here, before the settings of the caller are cleared away; processes of a parallel run inherit them.
SEED = int(os.environ.setdefault("LUSTRAL_CHAOS_SEED", str(secrets.randbelow(10**6))))
SCHEDULES = int(os.environ.get("LUSTRAL_CHAOS_SCHEDULES", "6"))
OUTAGE_SECONDS = float(os.environ.get("LUSTRAL_CHAOS_OUTAGE_SECONDS", "4"))


def pytest_report_header() -> str:
    return f"chaos: LUSTRAL_CHAOS_SEED={SEED} LUSTRAL_CHAOS_SCHEDULES={SCHEDULES} LUSTRAL_CHAOS_OUTAGE_SECONDS={OUTAGE_SECONDS:g}"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with run_cluster(tmp_path_factory.mktemp("chaos")) as running:
        yield running
