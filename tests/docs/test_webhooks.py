"""docs/webhooks.md: what it shows verifies what Lustral sends, and what it says of messages is so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from app.settings import Settings
from app.webhooks.schemas import EventType
from app.webhooks.tables import DeliveryRow
from tests.docs.markdown import ROOT, blocks
from tests.worlds.jobs import make_world
from workers.deliveries import DISABLE_AFTER, DISABLE_AFTER_ATTEMPTS, RETRY_AFTER, sign

PAGE = "docs/webhooks.md"
TEXT = (ROOT / PAGE).read_text()
SECRET, NEXT = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDC2FVsBQIhrs=", "whsec_D2FVsBQIhrscChlQIMV+b5sSYspob7oDC2FVsBQIhrs="
BODY = '{"type":"job.succeeded","timestamp":"2026-01-01T00:00:00Z","data":{"id":"job_1","error":"Ärger"}}'

Reader = Callable[[str, dict[str, str], bytes], dict[str, Any] | None]


def signed(*secrets: str, age: timedelta = timedelta()) -> dict[str, str]:
    """The headers that the worker sends with BODY, now."""
    return sign(DeliveryRow(id="msg_1", body=BODY), list(secrets), now=datetime.now(UTC) - age)


@pytest.fixture(params=blocks(PAGE, "python"), ids=["with the library", "by hand"])
def read_message(request: pytest.FixtureRequest) -> Reader:
    """The function that the page shows."""
    shown: dict[str, Any] = {}
    exec(request.param, shown)  # noqa: S102  running what the page shows is the point
    reader: Reader = shown["read_message"]
    return reader


class TestVerification:
    def test_lets_through_what_the_worker_signs(self, read_message: Reader) -> None:
        assert read_message(SECRET, signed(SECRET), BODY.encode()) == json.loads(BODY)

    def test_takes_either_secret_while_one_is_rotated(self, read_message: Reader) -> None:
        both = signed(NEXT, SECRET)
        assert read_message(SECRET, both, BODY.encode()) == read_message(NEXT, both, BODY.encode()) == json.loads(BODY)

    @pytest.mark.parametrize(
        ("headers", "body"),
        [
            (lambda: signed(NEXT), BODY),
            (lambda: signed(SECRET), BODY.replace("succeeded", "failed")),
            (lambda: signed(SECRET) | {"webhook-id": "msg_2"}, BODY),
            (lambda: signed(SECRET) | {"webhook-signature": "v1,"}, BODY),
            (lambda: signed(SECRET) | {"webhook-signature": "nonsense"}, BODY),
            (lambda: signed(SECRET) | {"webhook-timestamp": "yesterday"}, BODY),
            (lambda: signed(SECRET, age=timedelta(minutes=6)), BODY),
            (lambda: signed(SECRET, age=timedelta(minutes=-6)), BODY),
            (dict, BODY),
        ],
        ids=[
            "another secret",
            "another body",
            "another id",
            "empty",
            "no signature",
            "no time",
            "too old",
            "from the future",
            "no headers",
        ],
    )
    def test_refuses_everything_else(self, read_message: Reader, headers: Callable[[], dict[str, str]], body: str) -> None:
        assert read_message(SECRET, headers(), body.encode()) is None


class TestPage:
    def test_lists_every_event(self) -> None:
        listed = set(re.findall(r"`((?:job|model|dataset)\.\w+)`", TEXT.partition("## A message")[0]))
        assert listed == set(get_args(EventType)) - {"*"}

    def test_shows_a_message_as_it_is_sent(self, tmp_path: Path) -> None:
        with make_world(f"sqlite:///{tmp_path / 'lustral.db'}") as world:
            world.webhook(["job.succeeded", "model.rejected"])
            job = world.job("scan")
            world.run_to(job, "publish")
            world.complete(world.claim_next(job))
            world.finish_inspection(world.inspect(world.model(status="inspecting")), accepted=False)
            sent = {delivery.event_type: json.loads(delivery.body) for delivery in world.deliveries()}
        [shown] = [json.loads(block) for block in blocks(PAGE, "json")]
        assert shown.keys() == sent["job.succeeded"].keys()
        assert list(shown["data"]) == list(sent["job.succeeded"]["data"])
        assert list(sent["model.rejected"]["data"]) == ["id", "object", "name", "status", "findings"]
        assert "| `id`, `object`, `name`, `status`, `findings` |" in TEXT

    def test_lists_the_pauses_between_attempts(self) -> None:
        units = {"s": "seconds", "min": "minutes", "h": "hours"}
        pauses = re.findall(r"^\| \d+ \| (\d+) (s|min|h) \|$", TEXT, re.MULTILINE)
        assert [timedelta(**{units[unit]: int(number)}) for number, unit in pauses] == list(RETRY_AFTER)

    def test_says_after_what_an_address_is_switched_off(self) -> None:
        assert f"{DISABLE_AFTER_ATTEMPTS} or more attempts over {DISABLE_AFTER.days} days" in TEXT

    def test_names_settings_that_exist(self) -> None:
        named = {name.lower() for name in re.findall(r"LUSTRAL_(\w+)", TEXT)}
        assert named
        assert named <= Settings.model_fields.keys()
