"""Reading a large file may outlast a request; nothing is lost over it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.exc import InternalError, OperationalError

from app.auth.service import Caller
from app.blobs.service import sweep
from app.jobs.tables import OutboxRow
from app.settings import MIB
from app.uploads import completion, repository
from app.uploads.service import drop_expired
from app.uploads.tables import UploadRow
from tests.worlds.api import Server, Tenant, expect, expect_problem
from workers.cache import ContentCache
from workers.context import Context
from workers.sweeper import GRACE, sweep_after_deletions

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


def change_upload(server: Server, upload_id: str, **values: datetime | None) -> UploadRow:
    with server.runtime.write.begin() as session:
        upload = repository.lock_upload(session, upload_id)
        assert upload is not None
        for name, value in values.items():
            setattr(upload, name, value)
        return upload


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
        change_upload(server, url.rpartition("/")[2], expires_at=datetime.now(UTC) - timedelta(seconds=1))
        drop_expired(server.runtime)
        busy.close()
        expect(tenant.post(f"{url}/complete"), 200)

    def test_is_not_swept_away_though_it_began_when_that_was_decided(
        self, server: Server, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = sent(tenant, b"large")
        upload_id = url.rpartition("/")[2]
        change_upload(server, upload_id, expires_at=datetime.now(UTC) - timedelta(seconds=1))
        find_expired = repository.expired

        def begin_meanwhile(*arguments: Any, **options: Any) -> Any:
            found = find_expired(*arguments, **options)
            assert upload_id in [upload.id for upload in found]
            change_upload(server, upload_id, completing_until=datetime.now(UTC) + timedelta(minutes=1))
            return found

        with monkeypatch.context() as patched:
            patched.setattr(repository, "expired", begin_meanwhile)
            drop_expired(server.runtime)
        change_upload(server, upload_id, completing_until=None)
        expect(tenant.post(f"{url}/complete"), 200)

    def test_leaves_nothing_of_an_upload_that_is_deleted_meanwhile(self, tenant: Tenant, busy: ExitStack) -> None:
        url = sent(tenant, b"large")
        expect(tenant.post(f"{url}/complete"), 202)
        assert tenant.delete(url).status_code == 204
        busy.close()
        expect_problem(tenant.post(f"{url}/complete"), 404)
        assert tenant.stored() == set()

    def test_leaves_nothing_either_where_its_process_died_before_it_heard_of_that(
        self, server: Server, tenant: Tenant, tmp_path: Path
    ) -> None:
        url = sent(tenant, b"large")
        upload = change_upload(server, url.rpartition("/")[2], completing_until=datetime.now(UTC) + timedelta(minutes=1))
        assert tenant.delete(url).status_code == 204
        context = Context(server.runtime, tmp_path, ContentCache(tmp_path / "cache", limit_bytes=1))
        sweep_after_deletions(context)
        server.runtime.store.put_bytes(upload.key, b"large")  # the last that it had asked of the store
        with server.runtime.write.begin() as session:
            for message in session.scalars(select(OutboxRow).where(OutboxRow.topic == "sweep")):
                message.created_at -= GRACE
        sweep_after_deletions(context)
        assert tenant.stored() == set()

    def test_takes_up_what_a_process_left_that_died(self, server: Server, tenant: Tenant) -> None:
        """After it put the parts together, before it had read them."""
        url = sent(tenant, b"large")
        upload = change_upload(server, url.rpartition("/")[2], completing_until=datetime.now(UTC) - timedelta(seconds=1))
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
        with monkeypatch.context() as patched:
            patched.setattr(completion, "LOOK_EVERY", 0.0)
            patched.setattr(server.runtime.store, "open_range", fail)
            expect_failure(tenant.post(f"{url}/complete"), "object store")
        expect(tenant.post(f"{url}/complete"), 200)

    def test_finds_what_was_put_together_though_the_answer_was_lost(
        self, server: Server, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = sent(tenant, b"data")
        store = server.runtime.store
        put_together = store.complete_multipart

        def lose_the_answer(*upload: Any) -> None:
            put_together(*upload)
            fail()

        with monkeypatch.context() as patched:
            patched.setattr(store, "complete_multipart", lose_the_answer)
            expect_failure(tenant.post(f"{url}/complete"), "object store")
        assert expect(tenant.get(url), 200)["status"] == "open"
        for _ in range(2):
            assert expect(tenant.post(f"{url}/complete"), 200)["status"] == "completed"

    def test_says_that_the_database_failed_and_can_be_tried_again(
        self, server: Server, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = sent(tenant, b"data")

        def lose_the_connection(*_: object) -> None:
            raise InternalError("INSERT", {}, Exception("terminating connection"), connection_invalidated=True)

        with monkeypatch.context() as patched:
            patched.setattr(completion, "record_audit", lose_the_connection)
            expect_failure(tenant.post(f"{url}/complete"), "database")
        expect(tenant.post(f"{url}/complete"), 200)

    def test_is_taken_up_by_another_where_it_could_not_even_say_that_it_failed(
        self, server: Server, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = sent(tenant, b"data")

        def lose_the_connection(*_: object) -> None:
            raise OperationalError("UPDATE", {}, Exception("the database is shutting down"))

        with monkeypatch.context() as patched:
            patched.setattr(completion, "LEASE", timedelta(seconds=1))
            patched.setattr(server.runtime.store, "list_parts", fail)
            patched.setattr(repository, "lease_completion", lose_the_connection)
            expect_failure(tenant.post(f"{url}/complete"), "object store")
        expect(tenant.post(f"{url}/complete"), 200)

    def test_is_done_though_the_store_will_not_delete_what_is_there_twice(
        self, server: Server, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = (sent(tenant, b"twice") for _ in range(2))
        expect(tenant.post(f"{first}/complete"), 200)
        with monkeypatch.context() as patched:
            patched.setattr(server.runtime.store, "delete", fail)
            expect(tenant.post(f"{second}/complete"), 200)
        assert len(tenant.stored()) == 2
        sweep(server.runtime.write, server.runtime.store)
        assert len(tenant.stored()) == 1

    def test_that_wakes_up_late_leaves_what_a_model_has_taken_meanwhile(self, server: Server, tenant: Tenant) -> None:
        """Its process was frozen for longer than its word counts, another completed the upload, and it was used and deleted."""
        url = sent(tenant, b"data")
        with server.runtime.read() as session:
            upload = repository.find_upload(session, url.rpartition("/")[2])
        assert upload is not None
        expect(tenant.post(f"{url}/complete"), 200)
        tenant.register("models", upload.id)
        assert tenant.delete(url).status_code == 204
        late = completion._Completion(server.runtime, Caller(tenant.tenant_id, "key_1", frozenset()), upload)
        late.start()
        late.join()
        assert late.error is None
        assert tenant.stored() == {upload.key}

    def test_of_wrong_bytes_opens_the_upload_again_once_the_store_is_back(
        self, server: Server, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = sent(tenant, b"wrong", sha256=hashlib.sha256(b"right").hexdigest())
        for name in ("start_multipart", "delete"):
            with monkeypatch.context() as patched:
                patched.setattr(server.runtime.store, name, fail)
                expect_failure(tenant.post(f"{url}/complete"), "object store")
        expect_problem(tenant.post(f"{url}/complete"), 422, "/sha256")
        tenant.send_parts(expect(tenant.get(url), 200), b"right")
        expect(tenant.post(f"{url}/complete"), 200)


def fail(*_: object, **__: object) -> NoReturn:
    raise OSError("connection refused")


def expect_failure(answer: httpx.Response, what: str) -> None:
    """A 503 that names `what` and says when to come again."""
    assert what in expect_problem(answer, 503)["detail"]
    assert int(answer.headers["retry-after"]) > 0
