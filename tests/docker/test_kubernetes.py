"""docker/kubernetes: what its schemas cannot say. The same services as in docker-compose.yml, closed as far as they go."""

from __future__ import annotations

import importlib.util
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.main import create_app
from app.settings import Settings
from tests.worlds.compose import ROOT

FOLDER = ROOT / "docker" / "kubernetes"
DEPLOYMENTS = ["api", "relay", "worker-io", "worker-gpu"]
IN_COMPOSE = {"worker-gpu": "worker"}


def _load_check() -> Any:
    spec = importlib.util.spec_from_file_location("kubernetes_check", FOLDER / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check = _load_check()
Resources = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def resources() -> Resources:
    return {(each["kind"], each["metadata"]["name"]): each for each in check.build()}


@pytest.fixture(scope="module")
def pods(resources: Resources) -> dict[str, dict[str, Any]]:
    """Pod templates by the name of what makes them."""
    return {name: each["spec"]["template"] for (kind, name), each in resources.items() if kind in ("Deployment", "Job")}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return services


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


class TestCheck:
    """`make lint` runs it."""

    def test_finds_a_field_that_kubernetes_does_not_know(self, resources: Resources) -> None:
        wrong = deepcopy(resources["Deployment", "api"])
        assert check.faults(wrong) == []
        wrong["spec"]["replicaz"] = 2
        assert len(check.faults(wrong)) == len(check.VERSIONS)


class TestPods:
    def test_run_what_compose_runs(self, pods: dict[str, dict[str, Any]], compose: dict[str, Any]) -> None:
        assert pods["migrate"]["spec"]["containers"][0]["args"] == compose["migrate"]["command"]
        for name in ("api", "relay", "worker-io"):
            assert pods[name]["spec"]["containers"][0]["args"] == compose[name]["command"]
        assert pods["worker-gpu"]["spec"]["containers"][0]["args"][:5] == compose["worker"]["command"]

    def test_have_as_long_to_leave_as_in_compose(self, pods: dict[str, dict[str, Any]], compose: dict[str, Any]) -> None:
        for name in DEPLOYMENTS:
            grace = int(compose[IN_COMPOSE.get(name, name)].get("stop_grace_period", "10s").removesuffix("s"))
            assert pods[name]["spec"]["terminationGracePeriodSeconds"] >= grace

    def test_run_as_nobody_and_write_nowhere_but_in_their_volumes(self, pods: dict[str, dict[str, Any]]) -> None:
        assert set(pods) == {*DEPLOYMENTS, "migrate"}
        for pod in pods.values():
            assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
            assert pod["spec"]["automountServiceAccountToken"] is False
            for container in containers(pod):
                context = container["securityContext"]
                assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
                assert context["capabilities"] == {"drop": ["ALL"]}
                assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]

    def test_read_settings_and_secrets_that_are_there(self, pods: dict[str, dict[str, Any]], resources: Resources) -> None:
        for pod in pods.values():
            for container in containers(pod):
                [config, secret] = container["envFrom"]
                assert ("ConfigMap", config["configMapRef"]["name"]) in resources
                assert ("Secret", secret["secretRef"]["name"]) in resources

    def test_get_settings_that_exist_and_all_that_are_needed(self) -> None:
        lines = [*(FOLDER / "example" / "settings.env").open(), *(FOLDER / "example" / "secrets.env.example").open()]
        given = {line.partition("=")[0].removeprefix("LUSTRAL_").lower() for line in lines if line.strip()}
        needed = {name for name, field in Settings.model_fields.items() if field.is_required()}
        assert needed <= given <= set(Settings.model_fields)

    def test_wait_for_the_migration(self, pods: dict[str, dict[str, Any]]) -> None:
        for name in DEPLOYMENTS:
            [first] = pods[name]["spec"]["initContainers"]
            assert first["args"] == ["lustral", "operate", "wait-for-migration"]

    def test_with_a_gpu_go_where_one_is(self, pods: dict[str, dict[str, Any]]) -> None:
        spec = pods["worker-gpu"]["spec"]
        assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert [toleration["key"] for toleration in spec["tolerations"]] == ["nvidia.com/gpu"]

    def test_are_probed_at_addresses_that_exist(self, pods: dict[str, dict[str, Any]], tmp_path: Path) -> None:
        settings = Settings(
            database_url="sqlite://",
            broker_url="memory://",
            storage_url=f"file://{tmp_path}",
            secret_key="0123456789abcdef0123456789abcdef",
        )
        addresses = set(create_app(settings).openapi()["paths"])
        for name in ("api", "relay"):
            [container] = pods[name]["spec"]["containers"]
            ports = {port["name"] for port in container["ports"]}
            for probe in (value for key, value in container.items() if key.endswith("Probe")):
                assert probe["httpGet"]["path"] in addresses
                assert probe["httpGet"]["port"] in ports


class TestSelectors:
    @pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget", "NetworkPolicy"])
    def test_find_pods(self, resources: Resources, pods: dict[str, dict[str, Any]], kind: str) -> None:
        for (each, name), resource in resources.items():
            if each != kind:
                continue
            spec = resource["spec"]
            wanted = spec["selector"] if kind == "Service" else spec.get("selector", spec.get("podSelector"))["matchLabels"]
            assert [pod for pod in pods.values() if wanted.items() <= pod["metadata"]["labels"].items()], f"{kind} {name} selects nothing"

    def test_close_every_pod(self, resources: Resources, pods: dict[str, dict[str, Any]]) -> None:
        closed = resources["NetworkPolicy", "closed"]["spec"]
        assert "ingress" not in closed
        for pod in pods.values():
            assert closed["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
