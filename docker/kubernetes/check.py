"""Build the example overlay as `kubectl apply --kustomize` does, and check each resource against Kubernetes' schemas. Needs no cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

EXAMPLE = Path(__file__).parent / "example"
VERSIONS = ("1.33", "1.37")
"""The oldest and the newest Kubernetes that are meant."""


def build(overlay: Path = EXAMPLE) -> list[dict[str, Any]]:
    """The resources of an overlay.

    Raises:
        subprocess.CalledProcessError: Kustomize refuses it; its words are on standard error.
    """
    kubectl = Path(sys.executable).with_name("kubectl")
    built = subprocess.run([kubectl, "kustomize", overlay], check=True, stdout=subprocess.PIPE, text=True)
    return list(yaml.safe_load_all(built.stdout))


def faults(resource: dict[str, Any]) -> list[str]:
    """Where a resource is not what Kubernetes takes; unknown fields count."""
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            found.append(f"{resource['kind']} {resource['metadata']['name']}, Kubernetes {version}: {error.message}")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(fault for resource in build() for fault in faults(resource)) or None)
