"""Ctrl-C: what was uploaded stays, and a job ends only when somebody says so."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli, console
from app.client import uploads
from app.datasets.tables import DatasetRow
from app.models.tables import ModelRow
from tests.worlds.api import PART, Tenant, expect

pytestmark = pytest.mark.parametrize("server", ["embedded"], indirect=True)


@pytest.fixture
def scan(tenant: Tenant) -> list[str]:
    """A command that waits for a job that nobody works on."""
    ids = {noun: tenant.register(noun, tenant.upload(b"data"))["id"] for noun in ("models", "datasets")}
    with tenant.server.runtime.write.begin() as session:
        for row in (session.get_one(ModelRow, ids["models"]), session.get_one(DatasetRow, ids["datasets"])):
            row.status = "ready"
    return [sys.executable, "-m", "app.cli", "scan", ids["models"], ids["datasets"], "--wait"]


def environment(tenant: Tenant) -> dict[str, str]:
    return {**os.environ, "LUSTRAL_SERVER": tenant.server.url, "LUSTRAL_API_KEY": tenant.key, "TERM": "xterm", "COLUMNS": "200"}


def only_job(tenant: Tenant) -> tuple[str, str]:
    [job] = expect(tenant.get("/v1/jobs"), 200)["data"]
    return job["id"], job["status"]


class TestJob:
    def test_goes_on_where_nobody_can_be_asked(self, tenant: Tenant, scan: list[str]) -> None:
        with subprocess.Popen(scan, env=environment(tenant), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert process.stderr.readline().endswith("scan queued\n")
            process.send_signal(signal.SIGINT)
            said = process.stderr.read()
        job_id, status = only_job(tenant)
        assert (process.returncode, status) == (130, "queued")
        assert f"{job_id} goes on." in said
        assert f"lustral jobs events {job_id}" in said
        assert f"lustral jobs cancel {job_id}" in said
        assert "Traceback" not in said

    @pytest.mark.parametrize(("answer", "status"), [(b"y\n", "cancelled"), (b"\n", "queued"), (b"\x03", "queued")])
    def test_is_cancelled_on_a_terminal_only_if_its_owner_says_so(
        self, tenant: Tenant, scan: list[str], answer: bytes, status: str
    ) -> None:
        process, terminal = pty.fork()
        if process == 0:
            os.execve(scan[0], scan, environment(tenant))  # noqa: S606
        try:
            _read_until(terminal, b"scan queued")
            os.write(terminal, b"\x03")
            _read_until(terminal, b"[y/N]")
            os.write(terminal, answer)
            said = _read_until(terminal, None)
        finally:
            os.close(terminal)  # hangs up, should it still be there
            _, ended = os.waitpid(process, 0)
        assert os.waitstatus_to_exitcode(ended) == 130, said
        job_id, now = only_job(tenant)
        assert now == status
        assert (f"lustral jobs cancel {job_id}".encode() in said) == (status == "queued")


def test_an_upload_is_gone_on_with(tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"ab" * PART + b"the end")
    monkeypatch.setattr(uploads, "PART_SIZE", PART)
    monkeypatch.setattr(uploads, "PARALLEL_PARTS", 1)

    def interrupt(_watch: object, _count: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(console._Lines, "uploaded", interrupt)
    said = []
    for _ in range(2):
        result = CliRunner().invoke(cli, ["scan", str(tmp_path / "model"), "dset_1"], env=environment(tenant))
        assert result.exit_code == 130
        said.append(result.stderr)
    assert "the same command sends only the rest" in said[0]
    assert "resuming" not in said[0]
    assert "model.safetensors: resuming, 1 of 3 parts there" in said[1]


def _read_until(descriptor: int, text: bytes | None) -> bytes:
    """What a terminal shows up to `text`, or to the end."""
    shown = b""
    while text is None or text not in shown:
        try:
            chunk = os.read(descriptor, 4096)
        except OSError:  # the other side is closed
            chunk = b""
        if not chunk:
            assert text is None, shown
            break
        shown += chunk
    return shown
