"""Webhook messages on their way to a real HTTP receiver."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from sqlalchemy import select
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.audit.tables import AuditRow
from app.db import database_now
from app.webhooks.emit import attempt_now, emit
from app.webhooks.secrets import secret_of
from app.webhooks.tables import DeliveryAttemptRow, DeliveryRow, WebhookRow
from tests.worlds.jobs import World
from workers import deliveries
from workers.context import Context
from workers.deliveries import RETRY_AFTER, Outcome, deliver, pause_after
from workers.reaper import ring_for_due_deliveries


@dataclass
class Receiver:
    """Answers with `status` and `headers`, and remembers what came."""

    url: str
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(made.status)
            for name, value in made.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Receiver(f"http://127.0.0.1:{server.server_port}/hook?from=lustral")
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Mail:
    """Messages of a world with one endpoint."""

    context: Context
    world: World
    webhook_id: str

    def owe(self) -> str:
        with self.world.sessions.begin() as session:
            emit(session, tenant_id="ten_1", type="job.succeeded", data={"id": "job_1"}, now=database_now(session))
            session.flush()
            return session.scalars(select(DeliveryRow.id).order_by(DeliveryRow.id.desc())).first() or ""

    def get(self, delivery_id: str) -> DeliveryRow:
        with self.world.sessions() as session:
            return session.get_one(DeliveryRow, delivery_id)

    def attempts(self, delivery_id: str) -> list[DeliveryAttemptRow]:
        with self.world.sessions() as session:
            query = select(DeliveryAttemptRow).where(DeliveryAttemptRow.delivery_id == delivery_id).order_by(DeliveryAttemptRow.number)
            return list(session.scalars(query))

    def webhook(self) -> WebhookRow:
        with self.world.sessions() as session:
            return session.get_one(WebhookRow, self.webhook_id)


@pytest.fixture
def mail(context: Context, world: World, receiver: Receiver) -> Mail:
    return Mail(context, world, world.webhook(["*"], url=receiver.url))


class TestSuccess:
    def test_is_verified_by_the_standard_library_of_receivers(self, mail: Mail, receiver: Receiver) -> None:
        delivery_id = mail.owe()
        deliver(mail.context, delivery_id)
        [(headers, body)] = receiver.received
        secret = secret_of(mail.context.runtime.signer, mail.webhook())
        payload = Webhook(secret).verify(body, headers)
        assert (payload["type"], payload["data"]) == ("job.succeeded", {"id": "job_1"})
        assert headers["webhook-id"] == delivery_id
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body.replace(b"job_1", b"job_2"), headers)

    def test_is_noted_and_final(self, mail: Mail, receiver: Receiver) -> None:
        delivery_id = mail.owe()
        deliver(mail.context, delivery_id)
        deliver(mail.context, delivery_id)
        assert len(receiver.received) == 1
        delivery = mail.get(delivery_id)
        assert (delivery.status, delivery.next_attempt_at) == ("succeeded", None)
        [attempt] = mail.attempts(delivery_id)
        assert (attempt.number, attempt.status_code, attempt.error) == (1, 204, None)

    def test_carries_both_signatures_while_the_secret_is_rotated(self, mail: Mail, receiver: Receiver) -> None:
        old = secret_of(mail.context.runtime.signer, mail.webhook())
        with mail.world.sessions.begin() as session:
            row = session.get_one(WebhookRow, mail.webhook_id)
            row.secret_generation = 2
            row.previous_secret_expires_at = datetime.now(UTC) + timedelta(hours=1)
        deliver(mail.context, mail.owe())
        [(headers, body)] = receiver.received
        new = secret_of(mail.context.runtime.signer, mail.webhook())
        assert old != new
        Webhook(old).verify(body, headers)
        Webhook(new).verify(body, headers)

    def test_of_two_workers_at_once_is_one_message(self, mail: Mail, receiver: Receiver) -> None:
        delivery_id = mail.owe()
        together = threading.Barrier(4)

        def worker() -> None:
            together.wait()
            deliver(mail.context, delivery_id)

        threads = [threading.Thread(target=worker) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(receiver.received) == 1


class TestFailure:
    def test_is_tried_again_when_its_pause_is_over(self, mail: Mail, receiver: Receiver) -> None:
        receiver.status = 500
        delivery_id = mail.owe()
        deliver(mail.context, delivery_id)
        assert mail.get(delivery_id).status == "pending"
        deliver(mail.context, delivery_id)
        assert len(receiver.received) == 1, "its pause is not over"
        mail.world.bells()
        mail.world.pass_time(next_attempt_at=timedelta(seconds=6), ring_again_at=timedelta(seconds=6))
        assert ring_for_due_deliveries(mail.world.sessions) == 1
        assert mail.world.bells("deliver_webhook") == [delivery_id]
        receiver.status = 200
        deliver(mail.context, delivery_id)
        assert mail.get(delivery_id).status == "succeeded"
        assert [attempt.status_code for attempt in mail.attempts(delivery_id)] == [500, 200]

    def test_is_given_up_after_the_last_attempt_and_can_be_sent_again_by_hand(self, mail: Mail, receiver: Receiver) -> None:
        receiver.status = 503
        delivery_id = mail.owe()
        for _ in range(10):
            mail.world.pass_time(next_attempt_at=timedelta(hours=30))
            deliver(mail.context, delivery_id)
        delivery = mail.get(delivery_id)
        assert (delivery.status, delivery.attempts) == ("failed", 10)
        receiver.status = 200
        with mail.world.sessions.begin() as session:
            attempt_now(session, session.get_one(DeliveryRow, delivery_id), now=database_now(session))
        deliver(mail.context, delivery_id)
        assert mail.get(delivery_id).status == "succeeded"
        assert len(mail.attempts(delivery_id)) == 11

    @pytest.mark.parametrize("status", [200, 500])
    def test_or_success_of_an_attempt_under_way_does_not_undo_that_it_was_asked_for_again(
        self, mail: Mail, receiver: Receiver, status: int
    ) -> None:
        delivery_id = mail.owe()
        with mail.world.sessions.begin() as session:
            first = deliveries.claim_message(session, mail.context, delivery_id)
            assert first is not None
        with mail.world.sessions.begin() as session:
            attempt_now(session, session.get_one(DeliveryRow, delivery_id), now=database_now(session))
        with mail.world.sessions.begin() as session:
            deliveries.record_attempt(session, first, Outcome(status, None), started=database_now(session), duration_ms=1)
        assert mail.get(delivery_id).status == "pending"
        deliver(mail.context, delivery_id)
        assert len(receiver.received) == 1
        assert [attempt.status_code for attempt in mail.attempts(delivery_id)] == [status, 204]
        assert mail.get(delivery_id).status == "succeeded"

    def test_by_redirect_is_not_followed(self, mail: Mail, receiver: Receiver) -> None:
        receiver.status, receiver.headers = 307, {"Location": receiver.url}
        delivery_id = mail.owe()
        deliver(mail.context, delivery_id)
        assert len(receiver.received) == 1
        assert mail.get(delivery_id).status == "pending"

    def test_with_410_disables_the_endpoint(self, mail: Mail, receiver: Receiver) -> None:
        receiver.status = 410
        first, second = mail.owe(), mail.owe()
        deliver(mail.context, first)
        assert (mail.get(first).status, mail.webhook().enabled) == ("failed", False)
        assert mail.webhook().disabled_reason == "the receiver answered 410 Gone"
        with mail.world.sessions() as session:
            assert [entry.action for entry in session.scalars(select(AuditRow))] == ["webhook.disabled"]
        deliver(mail.context, second)
        assert len(receiver.received) == 1
        assert mail.get(second).status == "failed"

    def test_of_a_worker_in_mid_delivery_is_made_up_for(self, mail: Mail, receiver: Receiver) -> None:
        delivery_id = mail.owe()
        with mail.world.sessions.begin() as session:
            assert deliveries.claim_message(session, mail.context, delivery_id) is not None
        deliver(mail.context, delivery_id)
        assert receiver.received == [], "the lease of the dead worker still runs"
        mail.world.bells()
        mail.world.pass_time(lease_expires_at=timedelta(minutes=2), ring_again_at=timedelta(minutes=2))
        assert ring_for_due_deliveries(mail.world.sessions) == 1
        deliver(mail.context, delivery_id)
        assert len(receiver.received) == 1

    def test_of_the_connection_is_noted_with_its_reason(self, mail: Mail) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            with mail.world.sessions.begin() as session:
                session.get_one(WebhookRow, mail.webhook_id).url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
            delivery_id = mail.owe()
            deliver(mail.context, delivery_id)
        [attempt] = mail.attempts(delivery_id)
        assert attempt.status_code is None
        assert attempt.error is not None
        assert "ConnectError" in attempt.error

    @pytest.mark.parametrize("host", ["xn--", "xn--a", "xn--zz--.com"])
    def test_to_an_address_that_cannot_be_called_is_an_attempt(self, mail: Mail, host: str) -> None:
        with mail.world.sessions.begin() as session:
            session.get_one(WebhookRow, mail.webhook_id).url = f"https://{host}/"
        delivery_id = mail.owe()
        deliver(mail.context, delivery_id)
        [attempt] = mail.attempts(delivery_id)
        assert (attempt.status_code, bool(attempt.error)) == (None, True)
        assert (mail.get(delivery_id).status, mail.get(delivery_id).lease_token) == ("pending", None)

    @pytest.mark.parametrize("error", [RuntimeError("a fault of ours"), UnicodeError("\0 and \ud800")], ids=["any", "unstorable"])
    def test_that_nobody_expected_is_an_attempt(self, mail: Mail, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def crash(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(deliveries, "send", crash)
        delivery_id = mail.owe()
        for _ in range(10):
            mail.world.pass_time(next_attempt_at=timedelta(hours=30))
            deliver(mail.context, delivery_id)
        assert mail.get(delivery_id).status == "failed", "no message is retried without limit"
        assert len(mail.attempts(delivery_id)) == 10
        text = mail.attempts(delivery_id)[0].error or ""
        assert text.startswith(f"{type(error).__name__}: ")
        assert "\0" not in text
        text.encode()


class TestGivingUp:
    """An endpoint that refuses everything for days is left alone until its owner says otherwise."""

    def fail(self, mail: Mail, attempts: int, *, days_ago: int = 0) -> None:
        for _ in range(attempts):
            deliver(mail.context, mail.owe())
        with mail.world.sessions.begin() as session:
            webhook = session.get_one(WebhookRow, mail.webhook_id)
            if webhook.failing_since is not None:
                webhook.failing_since -= timedelta(days=days_ago)

    def test_takes_days_and_many_attempts(self, mail: Mail, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(deliveries, "DISABLE_AFTER_ATTEMPTS", 4)
        receiver.status = 500
        self.fail(mail, 5)
        assert mail.webhook().enabled, "many attempts of one day"
        self.fail(mail, 0, days_ago=6)
        last = mail.owe()
        deliver(mail.context, last)
        webhook = mail.webhook()
        assert not webhook.enabled
        assert webhook.disabled_reason is not None
        assert webhook.disabled_reason.startswith("all 6 attempts since 20")
        assert webhook.disabled_reason.endswith("the last time: it answered 500")
        assert mail.get(last).status == "failed"
        with mail.world.sessions() as session:
            [entry] = session.scalars(select(AuditRow))
        assert (entry.action, entry.subject_id, entry.key_id) == ("webhook.disabled", webhook.id, None)

    def test_does_not_follow_from_days_with_few_attempts(self, mail: Mail, receiver: Receiver) -> None:
        receiver.status = 500
        self.fail(mail, 1, days_ago=30)
        self.fail(mail, 1)
        assert mail.webhook().enabled

    def test_begins_again_after_a_success(self, mail: Mail, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(deliveries, "DISABLE_AFTER_ATTEMPTS", 2)
        receiver.status = 500
        self.fail(mail, 3, days_ago=6)
        receiver.status = 200
        self.fail(mail, 1)
        assert (mail.webhook().failures, mail.webhook().failing_since) == (0, None)
        receiver.status = 500
        self.fail(mail, 3)
        assert mail.webhook().enabled


class TestPauses:
    def test_are_those_of_the_contract(self) -> None:
        planned = [pause_after(number, None, jitter=0).total_seconds() for number in range(1, len(RETRY_AFTER) + 1)]
        assert planned == [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]

    def test_vary_a_little_so_that_receivers_do_not_get_everything_at_once(self) -> None:
        pauses = {pause_after(2, None) for _ in range(20)}
        assert len(pauses) > 1
        assert all(timedelta(minutes=5) <= pause <= timedelta(minutes=5.5) for pause in pauses)

    @pytest.mark.parametrize("asked", ["soon", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 2999 00:00:00 +9" + "9" * 20])
    def test_are_the_planned_ones_where_nobody_can_tell_what_the_receiver_asks(self, mail: Mail, receiver: Receiver, asked: str) -> None:
        receiver.status, receiver.headers = 429, {"Retry-After": asked}
        delivery_id = mail.owe()
        deliver(mail.context, delivery_id)
        [attempt] = mail.attempts(delivery_id)
        assert (attempt.status_code, mail.get(delivery_id).status) == (429, "pending")

    @pytest.mark.parametrize(
        ("asked", "least"),
        [
            ("120", timedelta(seconds=120)),
            (timedelta(hours=2), timedelta(minutes=110)),  # as a date
            ("999999999", timedelta(hours=24)),
        ],
        ids=["seconds", "date", "too long"],
    )
    def test_are_never_shorter_than_the_receiver_asks_up_to_a_day(
        self, mail: Mail, receiver: Receiver, asked: str | timedelta, least: timedelta
    ) -> None:
        wait = asked if isinstance(asked, str) else format_datetime(datetime.now(UTC) + asked, usegmt=True)
        receiver.status, receiver.headers = 429, {"Retry-After": wait}
        delivery_id = mail.owe()
        deliver(mail.context, delivery_id)
        delivery = mail.get(delivery_id)
        assert delivery.next_attempt_at is not None
        assert least - timedelta(minutes=1) < delivery.next_attempt_at - datetime.now(UTC) <= timedelta(hours=26)


class TestAddresses:
    def test_are_looked_up_once_and_the_checked_one_is_called(
        self, mail: Mail, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        port = receiver.url.split(":")[2].split("/")[0]
        asked = []

        def look_up(host: str, *_: object, **__: object) -> list[object]:
            asked.append(host)
            if host == "hooks.example":
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port)))]
            return original(host, *_, **__)  # type: ignore[arg-type, return-value]

        original = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        with mail.world.sessions.begin() as session:
            session.get_one(WebhookRow, mail.webhook_id).url = f"http://hooks.example:{port}/hook"
        deliver(mail.context, mail.owe())
        [(headers, _)] = receiver.received
        assert headers["host"] == f"hooks.example:{port}"
        assert asked.count("hooks.example") == 1

    def test_of_messages_are_those_that_this_server_may_call(self, mail: Mail, receiver: Receiver) -> None:
        with mail.world.sessions.begin() as session:
            session.get_one(WebhookRow, mail.webhook_id).url = "https://169.254.169.254/latest/meta-data"
        delivery_id = mail.owe()
        deliver(mail.context, delivery_id)
        [attempt] = mail.attempts(delivery_id)
        assert (attempt.status_code, "clouds" in (attempt.error or "")) == (None, True)


def test_a_body_is_json_with_type_timestamp_and_data(mail: Mail) -> None:
    body = json.loads(mail.get(mail.owe()).body)
    assert set(body) == {"type", "timestamp", "data"}
    assert body["timestamp"].endswith("Z")
