"""Commands against a real server, as separate processes where it matters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.cli.failures import Failure
from tests.worlds.api import Tenant, expect
from tests.worlds.artifacts import finished_job, leave

Lustral = Callable[..., str]


@pytest.fixture
def lustral(tenant: Tenant) -> Lustral:
    """Run `lustral …` as this tenant. Returns what it printed."""

    def run(*arguments: str) -> str:
        result = _start(*arguments, LUSTRAL_SERVER=tenant.server.url, LUSTRAL_API_KEY=tenant.key)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


class TestKeys:
    def test_a_created_key_opens_the_door_until_it_is_revoked(self, lustral: Lustral, tenant: Tenant) -> None:
        key = lustral("keys", "create", "ci", "--scope", "read").strip()
        assert key.startswith("lus_")
        [listed] = [entry for entry in json.loads(lustral("keys", "list", "--json")) if entry["name"] == "ci"]
        assert listed["scopes"] == ["read"]
        assert json.loads(lustral("keys", "revoke", listed["id"], "--json"))["revoked_at"] is not None
        assert tenant.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 401

    def test_a_key_ends_when_it_was_said_to(self, lustral: Lustral) -> None:
        created = json.loads(lustral("keys", "create", "ci", "--expires-at", "2999-01-01T01:00:00+01:00", "--json"))
        assert created["expires_at"] == "2999-01-01T00:00:00Z"
        columns, newest, _ = (line.split("\t") for line in lustral("keys", "list").splitlines())
        assert newest[columns.index("expires_at")] == "2999-01-01T00:00:00Z"

    def test_a_time_that_is_none_is_pointed_at(self, tenant: Tenant) -> None:
        where = {"LUSTRAL_SERVER": tenant.server.url, "LUSTRAL_API_KEY": tenant.key}
        assert "/expires_at" in _fails("keys", "create", "ci", "--expires-at", "tomorrow", **where)

    def test_the_list_shows_no_secret(self, lustral: Lustral, tenant: Tenant) -> None:
        assert tenant.key not in lustral("keys", "list")


@pytest.mark.parametrize("server", ["embedded"], indirect=True)
def test_the_logs_of_a_job_are_printed_attempt_by_attempt(lustral: Lustral, tenant: Tenant) -> None:
    job_id = finished_job(tenant)
    for step in ("scan-0", "verdict"):
        begun = {"at": "2026-01-01T00:00:00.000+00:00", "event": "begun", "step": step.partition("-")[0]}
        leave(tenant, job_id, f"logs/{step}.attempt-1.jsonl", f"{json.dumps(begun)}\n".encode(), kind="log")
    first, second = lustral("jobs", "logs", job_id).splitlines()
    assert first.split() == ["2026-01-01T00:00:00.000+00:00", "scan-0.attempt-1", "begun", "step=scan"]
    assert "verdict.attempt-1" in second
    [line] = lustral("jobs", "logs", job_id, "--step", "verdict", "--json").splitlines()
    assert json.loads(line)["log"] == "verdict.attempt-1"


class TestDownload:
    """`lustral jobs download`"""

    @pytest.fixture
    def job_id(self, tenant: Tenant) -> str:
        made = finished_job(tenant)
        leave(tenant, made, "model/model.safetensors", b"weights")
        leave(tenant, made, "report.json", b"{}", kind="report")
        leave(tenant, made, "logs/scan.attempt-1.jsonl", b"{}", kind="log")
        return made

    def test_fetches_all_that_the_job_hands_out(self, lustral: Lustral, job_id: str, tmp_path: Path) -> None:
        said = lustral("jobs", "download", job_id, str(tmp_path)).splitlines()
        assert sorted(said) == [str(tmp_path / "model" / "model.safetensors"), str(tmp_path / "report.json")]
        assert (tmp_path / "model" / "model.safetensors").read_bytes() == b"weights"

    def test_fetches_the_kinds_asked_for(self, lustral: Lustral, job_id: str, tmp_path: Path) -> None:
        fetched = json.loads(lustral("jobs", "download", job_id, str(tmp_path), "--kind", "report", "--kind", "log", "--json"))
        assert [(one["kind"], Path(one["path"]).read_bytes()) for one in fetched] == [("report", b"{}"), ("log", b"{}")]
        assert not (tmp_path / "model").exists()

    def test_of_nothing_is_a_failure(self, tenant: Tenant, job_id: str, tmp_path: Path) -> None:
        where = {"LUSTRAL_SERVER": tenant.server.url, "LUSTRAL_API_KEY": tenant.key}
        said = _fails("jobs", "download", job_id, str(tmp_path), "--kind", "adapter", **where)
        assert said == f"lustral: {job_id} hands out nothing of this kind. Its status is succeeded.\n"


@pytest.mark.parametrize("server", ["embedded"], indirect=True)
class TestWebhooks:
    def test_come_and_go(self, lustral: Lustral, tenant: Tenant) -> None:
        webhook_id, secret = lustral("webhooks", "create", "https://example.com/hook", "--event", "job.failed").split()
        assert secret.startswith("whsec_")
        assert expect(tenant.get(f"/v1/webhooks/{webhook_id}"), 200)["events"] == ["job.failed"]
        assert "https://example.com/hook" in lustral("webhooks", "list")
        deleted = json.loads(lustral("webhooks", "delete", webhook_id, "--json"))
        assert deleted == {"id": webhook_id, "object": "webhook", "deleted": True}
        assert json.loads(lustral("webhooks", "list", "--json")) == []

    def test_are_tried_out_and_looked_after(self, lustral: Lustral) -> None:
        webhook = json.loads(lustral("webhooks", "create", "https://example.com/hook", "--json"))
        delivery_id, status = lustral("webhooks", "test", webhook["id"]).split()
        assert status == "pending"
        [listed] = json.loads(lustral("webhooks", "deliveries", webhook["id"], "--status", "pending", "--json"))
        assert (listed["id"], listed["type"]) == (delivery_id, "webhook.test")
        assert json.loads(lustral("webhooks", "deliveries", webhook["id"], "--status", "failed", "--json")) == []
        again = json.loads(lustral("webhooks", "redeliver", webhook["id"], delivery_id, "--json"))
        assert (again["id"], again["status"]) == (delivery_id, "pending")
        secret = lustral("webhooks", "rotate", webhook["id"]).strip()
        assert secret.startswith("whsec_")
        assert secret != webhook["secret"]

    def test_are_listed_in_a_pipe_one_on_a_line(self, lustral: Lustral) -> None:
        url = f"https://example.com/{'long/' * 40}"
        webhook_id = lustral("webhooks", "create", url).split()[0]
        assert lustral("webhooks", "list") == f"id\turl\tevents\n{webhook_id}\t{url}\t*\n"


class TestCredentials:
    def test_are_set_listed_without_their_secret_and_deleted(self, lustral: Lustral) -> None:
        credential_id = lustral(
            "credentials", "set", "s3", "--scope", "mine", "--access-key-id", "AKIA7", "--secret-access-key", "hush"
        ).strip()
        listed = lustral("credentials", "list", "--json")
        assert [(one["id"], one["scope"], one["hint"]) for one in json.loads(listed)] == [(credential_id, "mine", "AKIA…")]
        assert "hush" not in listed
        assert json.loads(lustral("credentials", "delete", credential_id, "--json"))["deleted"]
        assert json.loads(lustral("credentials", "list", "--json")) == []


class TestJobs:
    def test_an_empty_list_is_a_list(self, lustral: Lustral) -> None:
        assert json.loads(lustral("jobs", "list", "--json")) == []

    def test_one_is_json_whether_asked_for_or_not(self, lustral: Lustral, tenant: Tenant) -> None:
        job_id = finished_job(tenant)
        assert json.loads(lustral("jobs", "show", job_id, "--json")) == json.loads(lustral("jobs", "show", job_id))


class TestFailures:
    """As a user sees them: one line on standard error, status 2, no traceback."""

    def test_an_unknown_job(self, tenant: Tenant) -> None:
        said = _fails("jobs", "show", "job_unknown", LUSTRAL_SERVER=tenant.server.url, LUSTRAL_API_KEY=tenant.key)
        assert said.startswith("lustral: Not found")

    def test_a_server_without_a_key(self, tenant: Tenant) -> None:
        assert "set LUSTRAL_API_KEY" in _fails("jobs", "list", LUSTRAL_SERVER=tenant.server.url)

    @pytest.mark.parametrize("server", ["127.0.0.1:18473", "localhost:8000", "lustral.example", "ftp://lustral.example", "http://[::1"])
    def test_a_server_without_an_address(self, server: str) -> None:
        said = _runs_into_failure("jobs", "list", LUSTRAL_SERVER=server, LUSTRAL_API_KEY="key")
        assert said.startswith(f"{server!r} is no address")
        assert said.endswith("Name the server by --server or LUSTRAL_SERVER.")

    def test_a_server_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.client.retries.time.sleep", lambda _: None)
        said = _runs_into_failure("jobs", "list", LUSTRAL_SERVER="http://127.0.0.1:1", LUSTRAL_API_KEY="key")
        assert said.startswith("http://127.0.0.1:1 does not answer: [Errno 111] Connection refused.")
        assert "LUSTRAL_SERVER" in said

    def test_a_path_that_does_not_exist(self, tenant: Tenant) -> None:
        said = _fails("scan", "/does/not/exist", "/neither", LUSTRAL_SERVER=tenant.server.url, LUSTRAL_API_KEY=tenant.key)
        assert said.strip() == "lustral: /does/not/exist does not exist"

    def test_a_missing_data_set(self) -> None:
        assert "needs MODEL and DATASET" in _fails("scan", "model_1")

    def test_a_kind_of_job_that_has_no_verdict_to_write_as_sarif(self) -> None:
        assert "--sarif needs a verdict" in _fails("finetune", "model_1", "dset_1", "--sarif", "lustral.sarif")

    def test_a_kind_of_job_that_has_no_verdict_to_fail_on(self) -> None:
        assert "--fail-on needs a verdict" in _fails("finetune", "model_1", "dset_1", "--fail-on", "backdoored")

    def test_an_unknown_verdict_to_fail_on(self) -> None:
        assert "--fail-on takes `backdoored`" in _fails("scan", "model_1", "dset_1", "--fail-on", "anything")


def test_the_command_line_starts_without_torch_or_the_server() -> None:
    program = (
        "import sys; from app.cli import cli; import typer; typer.main.get_command(cli); "
        "print([name for name in ('torch', 'transformers', 'sqlalchemy', 'fastapi', 'celery') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout == "[]\n"


def _fails(*arguments: str, **environment: str) -> str:
    run = _start(*arguments, **environment)
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    return run.stderr


def _runs_into_failure(*arguments: str, **environment: str) -> str:
    """What `report_failures` says, of a command that needs no process of its own."""
    error = CliRunner().invoke(cli, arguments, env=environment).exception
    assert isinstance(error, Failure)
    return str(error)


def _start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
