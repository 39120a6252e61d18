"""Logs tell what happened and keep every secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from app.auth.keys import new_key
from app.logs import configure_logs

KEY = new_key()


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, configuration = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers, root.level = handlers, level
    structlog.configure(**configuration)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


class TestLogs:
    @pytest.mark.parametrize(
        ("text", "secret"),
        [
            (f"key {KEY} refused", KEY),
            ("signed with whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "C2FVsBQIhrscChlQIMV"),
            ("read with hf_AbCdEfGhIjKlMnOpQrStUvWx", "AbCdEfGhIjKl"),
            ("PUT /parts/1?expires=1&signature=0123456789abcdef done", "0123456789abcdef"),
            ("https://s3/x?X-Amz-Signature=0123456789abcdef&y=1", "0123456789abcdef"),
            ("https://s3/x?X-Amz-Security-Token=FwoGZXIvYXdzEBY&y=1", "FwoGZXIvYXdzEBY"),
            ("cannot reach postgresql+psycopg://lustral:hunter2@db/lustral", "hunter2"),
            ("cannot reach redis://:hunter2@broker:6379/0", "hunter2"),
        ],
        # Names that are the same in every worker of the test run: a key is random.
        ids=[
            "API key",
            "webhook secret",
            "hub token",
            "link to a part",
            "link to S3",
            "token of temporary credentials",
            "database password",
            "broker password",
        ],
    )
    def test_hide_secrets_in_any_text(self, capsys: pytest.CaptureFixture[str], text: str, secret: str) -> None:
        configure_logs()
        structlog.get_logger().info("said", text=text)
        logging.getLogger("some.library").error("%s", text)
        try:
            raise RuntimeError(text)
        except RuntimeError as error:
            structlog.get_logger().error("crashed", exc_info=error)
        written = capsys.readouterr().err
        assert secret not in written
        assert written.count("[hidden]") >= 3

    def test_hide_what_is_named_a_secret(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logs()
        structlog.get_logger().info("said", authorization="Bearer x", secret_key="y", name="z")
        [line] = lines(capsys)
        assert (line["authorization"], line["secret_key"], line["name"]) == ("[hidden]", "[hidden]", "z")

    def test_hide_secrets_inside_of_lists_and_objects(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logs()
        structlog.get_logger().info("said", request={"headers": [f"Bearer {KEY}"], "token": "x", "bytes": 1})
        [line] = lines(capsys)
        assert line["request"] == {"headers": ["Bearer lus_[hidden]"], "token": "[hidden]", "bytes": 1}

    def test_are_json_with_time_and_level(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logs()
        logging.getLogger("uvicorn.error").warning("started %d", 1)
        [line] = lines(capsys)
        assert (line["event"], line["level"]) == ("started 1", "warning")
        assert line["timestamp"].endswith("Z")
