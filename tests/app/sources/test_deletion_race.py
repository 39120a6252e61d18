"""A model is deleted at the moment at which its inspection ends, and neither is in the other's way."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select

from app.auth.service import Caller
from app.jobs.inspections import Inspection, record_inspection
from app.jobs.leases import complete_step
from app.jobs.tables import StepRow
from app.models.tables import ModelRow
from app.sources.service import remove
from tests.worlds.api import Server, Tenant
from tests.worlds.jobs import World


# SQLite lets one writer in at a time: there is no such moment.
@pytest.mark.parametrize("server", ["production"], indirect=True)
def test_neither_waits_for_the_other(server: Server, tenant: Tenant) -> None:
    world = World(server.runtime.write, tenant.tenant_id)
    model_id = world.model(status="inspecting")
    lease = world.claimed(world.inspect(model_id))
    failures: list[BaseException] = []

    def delete() -> None:
        try:
            remove(server.runtime, Caller(tenant.tenant_id, "key_1", frozenset()), ModelRow, model_id)
        except Exception as failure:  # noqa: BLE001  (a deadlock, as whatever it comes)
            failures.append(failure)

    deleting = threading.Thread(target=delete)
    with server.runtime.write.begin() as session:
        complete_step(session, lease, result={}, outputs={})
        deleting.start()
        deleting.join(0.3)
        assert deleting.is_alive(), "it waits for what the inspection is about to say"
        record_inspection(session, session.get_one(StepRow, lease.step_id), Inspection(accepted=True))
    deleting.join()
    assert failures == []
    with server.runtime.read() as session:
        assert session.get(ModelRow, model_id) is None
        assert session.scalars(select(StepRow).where(StepRow.subject_id == model_id)).all() == []
