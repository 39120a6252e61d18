"""Reading a large file may outlast a request; nothing is lost over it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.settings import MIB
from app.uploads import completion, repository
from app.uploads.service import drop_expired
from tests.worlds.api import Server, Tenant, expect, expect_problem

LARGE = bytes(5 * MIB)


@pytest.fixture
def busy() -> Iterator[ExitStack]:
    """Until it is closed, the server reads other uploads, and no request waits for it."""
    with ExitStack() as busy:
        patched = busy.enter_context(pytest.MonkeyPatch.context())
        patched.setattr(completion, "ANSWER_AFTER", 0.0)
        patched.setattr(completion, "BEAT_EVERY", 0.01)
        for _ in range(4):
            busy.enter_context(completion._AT_ONCE)
        yield busy


def sent(tenant: Tenant, data: bytes, **fields: Any) -> str:
    upload = tenant.announce(data, **fields)
    tenant.send_parts(upload, data)
    return f"/v1/uploads/{upload['id']}"


class TestCompleteUpload:
    def test_answers_before_the_client_loses_patience_and_goes_on(self, tenant: Tenant, busy: ExitStack) -> None:
        url = sent(tenant, b"large")
        for _ in range(2):  # the second finds the first at work
            assert expect(tenant.post(f"{url}/complete"), 202)["status"] == "completing"
        assert expect(tenant.get(url), 200)["status"] == "completing"
        busy.close()
        completed = expect(tenant.post(f"{url}/complete"), 200)
        assert completed["sha256"] == hashlib.sha256(b"large").hexdigest()
        assert len(tenant.stored()) == 1

    def test_tells_a_wrong_digest_to_whoever_asks_later(self, tenant: Tenant, busy: ExitStack) -> None:
        url = sent(tenant, b"wrong", sha256=hashlib.sha256(b"right").hexdigest())
        expect(tenant.post(f"{url}/complete"), 202)
        busy.close()
        problem = expect_problem(tenant.post(f"{url}/complete"), 422, "/sha256")
        assert hashlib.sha256(b"wrong").hexdigest() in problem["detail"]
        upload = expect(tenant.get(url), 200)
        assert upload["failure"] == problem["detail"]
        tenant.send_parts(upload, b"right")
        assert expect(tenant.post(f"{url}/complete"), 200)["failure"] is None

    def test_is_not_swept_away_under_its_hands(self, server: Server, tenant: Tenant, busy: ExitStack) -> None:
        url = sent(tenant, b"large")
        expect(tenant.post(f"{url}/complete"), 202)
        with server.runtime.write.begin() as session:
            upload = repository.lock_upload(session, url.rpartition("/")[2])
            assert upload is not None
            upload.expires_at = datetime.now(UTC) - timedelta(seconds=1)
        drop_expired(server.runtime)
        busy.close()
        expect(tenant.post(f"{url}/complete"), 200)

    def test_leaves_nothing_of_an_upload_that_is_deleted_meanwhile(self, tenant: Tenant, busy: ExitStack) -> None:
        url = sent(tenant, b"large")
        expect(tenant.post(f"{url}/complete"), 202)
        assert tenant.delete(url).status_code == 204
        busy.close()
        expect_problem(tenant.post(f"{url}/complete"), 404)
        assert tenant.stored() == set()

    def test_takes_up_what_a_process_left_that_died(self, server: Server, tenant: Tenant) -> None:
        """After it put the parts together, before it had read them."""
        url = sent(tenant, b"large")
        with server.runtime.write.begin() as session:
            upload = repository.lock_upload(session, url.rpartition("/")[2])
            assert upload is not None
            upload.completing_until = datetime.now(UTC) - timedelta(seconds=1)
        completion._assemble(server.runtime, upload)
        assert [part["received"] for part in expect(tenant.get(url), 200)["parts"]] == [True]
        assert expect(tenant.post(f"{url}/complete"), 200)["status"] == "completed"

    def test_reads_on_where_the_store_breaks_off(self, server: Server, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
        url = sent(tenant, LARGE)
        store = server.runtime.store
        whole, asked = store.open_range, list[int]()

        def breaks_off(key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
            asked.append(start)
            yield next(whole(key, start, stop))
            raise OSError("connection reset")

        with monkeypatch.context() as patched:
            patched.setattr(store, "open_range", lambda *range: whole(*range) if len(asked) == 3 else breaks_off(*range))
            completed = expect(tenant.post(f"{url}/complete"), 200)
        assert completed["sha256"] == hashlib.sha256(LARGE).hexdigest()
        assert asked == sorted(set(asked))

    def test_says_that_the_store_failed_and_can_be_tried_again(
        self, server: Server, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = sent(tenant, b"data")

        def fails(*_: object) -> Iterator[bytes]:
            raise OSError("connection refused")

        with monkeypatch.context() as patched:
            patched.setattr(completion, "LOOK_EVERY", 0.0)
            patched.setattr(server.runtime.store, "open_range", fails)
            expect_problem(tenant.post(f"{url}/complete"), 503)
        expect(tenant.post(f"{url}/complete"), 200)
