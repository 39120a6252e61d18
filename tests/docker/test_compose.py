"""docker-compose.yml and the images, as far as they can be tried where no Docker engine runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from app.client import Lustral
from tests.worlds.compose import ROOT, Production

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


class TestServices:
    """The commands and environments of the file, running."""

    def test_the_api_passes_its_health_check(self, production: Production) -> None:
        kind, *command = production.services["api"]["healthcheck"]["test"]
        assert kind == "CMD"
        assert production.run(*command).returncode == 0

    def test_the_worker_image_passes_its_health_check(self, production: Production) -> None:
        [check] = re.findall(r"HEALTHCHECK .*\\\n\s+CMD (\[.*\])", (ROOT / "docker" / "worker.Dockerfile").read_text())
        deadline = time.monotonic() + 60
        while production.run(*yaml.safe_load(check)).returncode != 0:  # as Docker does, until it is up
            assert time.monotonic() < deadline

    def test_migrating_again_changes_nothing(self, production: Production) -> None:
        assert production.run(*production.services["migrate"]["command"]).returncode == 0

    def test_a_key_for_a_new_tenant_opens_the_api(self, production: Production) -> None:
        key = production.run("lustral", "operate", "create-key", "--tenant", "another").stdout.strip()
        with Lustral(production.url, key) as lustral:
            assert lustral.call("GET", "/v1/jobs")["data"] == []


class TestFile:
    def test_every_variable_it_asks_for_is_in_the_example(self) -> None:
        asked = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
        given = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
        assert asked == given

    def test_every_image_is_built_here_or_has_a_version(self, production: Production) -> None:
        built = {service["image"] for service in production.services.values() if "build" in service}
        for service in production.services.values():
            assert service["image"] in built or re.search(r":v?\d", service["image"])

    def test_no_password_stands_in_it(self) -> None:
        text = (ROOT / "docker-compose.yml").read_text()
        for name, value in re.findall(r"(\w*(?:PASSWORD|SECRET|KEY)\w*): (\S+)", text):
            assert value.startswith("${"), name


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
class TestImages:
    def test_does_not_run_as_root(self, path: Path) -> None:
        assert re.search(r"^USER 10001$", path.read_text(), re.MULTILINE)

    def test_copies_only_what_the_build_context_has(self, path: Path) -> None:
        text: str = path.read_text()
        allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
            assert set(sources.split()) <= allowed
            assert all((ROOT / source).exists() for source in sources.split())


def test_what_the_api_image_runs_needs_nothing_of_the_extras() -> None:
    """That image installs the project without its `gpu` extra."""
    extras = ["torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "scipy", "pyarrow", "matplotlib"]
    program = f"import sys; sys.modules.update(dict.fromkeys({extras})); import app.main, app.migrate, app.cli, workers.relay"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | _ANY_SETTINGS)
    assert run.returncode == 0, run.stderr


_ANY_SETTINGS = {
    "LUSTRAL_DATABASE_URL": "sqlite://",
    "LUSTRAL_BROKER_URL": "redis://127.0.0.1",
    "LUSTRAL_STORAGE_URL": "file:///nowhere",
    "LUSTRAL_SECRET_KEY": "x" * 32,
}
