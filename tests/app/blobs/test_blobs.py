"""Bytes stay as long as somebody needs them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.blobs import repository
from app.blobs.service import adopt, release, sweep
from app.housekeeping import keep_house
from app.storage import ObjectNotFound
from app.uploads.service import drop_orphans
from app.uploads.tables import UploadRow
from tests.worlds.api import Tenant, expect_problem


def put(tenant: Tenant, name: str, *owners: str) -> str:
    runtime = tenant.server.runtime
    key = f"tenants/{tenant.tenant_id}/{name}"
    runtime.store.put_bytes(key, b"x")
    with runtime.write.begin() as session:
        for owner in owners:
            adopt(session, tenant_id=tenant.tenant_id, owner_id=owner, key=key, sha256="00", bytes=1)
    return key


class TestSweep:
    def test_takes_what_the_last_owner_let_go(self, tenant: Tenant) -> None:
        runtime = tenant.server.runtime
        key = put(tenant, "a", "one", "other")
        for owner, left in (("one", {key}), ("other", set())):
            with runtime.write.begin() as session:
                release(session, owner)
            sweep(runtime.write, runtime.store)
            assert tenant.stored() == left

    def test_tries_again_what_the_store_refused(self, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
        runtime = tenant.server.runtime
        put(tenant, "a", "one")
        with runtime.write.begin() as session:
            release(session, "one")

        def refuse(_key: str) -> None:
            raise OSError("the disk is read-only")

        with monkeypatch.context() as patched:
            patched.setattr(runtime.store, "delete", refuse)
            assert sweep(runtime.write, runtime.store) == 0
        assert sweep(runtime.write, runtime.store) == 1
        assert tenant.stored() == set()

    def test_is_not_outrun_by_a_new_owner(self, tenant: Tenant) -> None:
        """What is about to be deleted is never taken up again, even by equal bytes."""
        runtime = tenant.server.runtime
        put(tenant, "a", "one")
        with runtime.write.begin() as session:
            release(session, "one")
            assert repository.lock_needed(session, tenant.tenant_id, ["00"]) == {}


class TestHousekeeping:
    @pytest.mark.parametrize("completed", [True, False])
    def test_drops_uploads_that_nobody_used(self, tenant: Tenant, completed: bool) -> None:
        runtime = tenant.server.runtime
        upload: dict[str, Any] = tenant.announce(b"data")
        tenant.send_parts(upload, b"data")
        if completed:
            tenant.post(f"/v1/uploads/{upload['id']}/complete")
        with runtime.write.begin() as session:
            row = session.get_one(UploadRow, upload["id"])
            row.expires_at = datetime.now(UTC) - timedelta(seconds=1)
            key, multipart_id = row.key, row.multipart_id
        keep_house(runtime)
        expect_problem(tenant.get(f"/v1/uploads/{upload['id']}"), 404)
        assert tenant.stored() == set()
        with pytest.raises(ObjectNotFound):
            runtime.store.list_parts(key, multipart_id)

    def test_aborts_multipart_uploads_that_no_row_stands_for(self, tenant: Tenant) -> None:
        """As a process leaves them that dies between the store and the commit, or while it stores a large result."""
        runtime = tenant.server.runtime
        upload = tenant.announce(b"data")
        keys = [f"tenants/{tenant.tenant_id}/uploads/upl_nobody", f"jobs/{tenant.tenant_id}/steps/step_1/model.safetensors"]
        for key in keys:
            runtime.store.start_multipart(key)

        def begun() -> list[str]:
            return sorted(multipart.key for multipart in runtime.store.open_multiparts() if tenant.tenant_id in multipart.key)

        keep_house(runtime)
        assert len(begun()) == 3  # a worker may be at it
        assert drop_orphans(runtime, older_than=timedelta(0)) >= 2
        assert begun() == [f"tenants/{tenant.tenant_id}/uploads/{upload['id']}"]
