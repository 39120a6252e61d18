"""This machine: its packages, its disk, its GPU."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from app.doctor.finding import Finding, failed, ok, warning
from app.settings import Settings

GIB = 1024**3
SCARCE, TOO_LITTLE = 20 * GIB, 1 * GIB
_TOLD = ("lustral", "sqlalchemy", "celery", "torch", "transformers")
# In a process of its own: the command line never imports torch.
_ASK_TORCH = """
import json, torch
usable = torch.cuda.is_available()
if usable:
    torch.ones(8, 8, device="cuda") @ torch.ones(8, 8, device="cuda")
gpus = [[torch.cuda.get_device_name(i), *torch.cuda.mem_get_info(i)] for i in range(torch.cuda.device_count() if usable else 0)]
print(json.dumps({"cuda": torch.version.cuda, "gpus": gpus}))
"""


def check_packages() -> Iterator[Finding]:
    """Are the installed versions those that the project asks for?"""
    unfit = [problem for line in requires("lustral") or () if (problem := _unfit(Requirement(line)))]
    if unfit:
        yield failed("packages", ", ".join(unfit), "Install again: pip install --constraint constraints.txt .")
    else:
        found = ", ".join(f"{name} {installed}" for name in _TOLD if (installed := _version(name)))
        yield ok("packages", f"Python {platform.python_version()}, {found}")


def check_disk(settings: Settings | None) -> Iterator[Finding]:
    """Is there room where workers keep their cache and scratch files?"""
    folder = (settings.work_dir if settings else None) or Path(tempfile.gettempdir())
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    detail = f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free at {folder}"
    advice = "Make room, or name another disk in LUSTRAL_WORK_DIR: a worker keeps a model, its checkpoints and its outputs there."
    if usage.free < TOO_LITTLE:
        yield failed("disk", detail, advice)
    elif usage.free < SCARCE:
        yield warning("disk", detail, advice)
    else:
        yield ok("disk", detail)
    if settings and settings.work_dir and settings.cache_bytes > usage.total:
        yield warning(
            "disk",
            f"LUSTRAL_CACHE_BYTES ({settings.cache_bytes / GIB:.0f} GiB) is more than the disk has",
            "Set it to half of the disk or less.",
        )


def check_gpu(*, needed: bool, devices: Path = Path("/dev")) -> Iterator[Finding]:
    """Can torch use the GPUs that are there? needed: none at all is a failure."""
    present = sorted(devices.glob("nvidia[0-9]*"))
    if _version("torch") is None:
        if needed:
            yield failed("gpu", "torch is not installed", "Install the extra `gpu`, or use the worker's image.")
        else:
            yield ok("gpu", "torch is not installed: this machine can serve the API and relay, not run models")
        return
    if not present:
        if needed:
            yield failed("gpu", "no GPU is visible", "Hand one to the container: docker/compose.gpu.yml, or nvidia.com/gpu in Kubernetes.")
        else:
            yield ok("gpu", "none: models run on the CPU")
        return
    asked = subprocess.run([sys.executable, "-c", _ASK_TORCH], check=False, capture_output=True, text=True)
    if asked.returncode != 0:
        last = asked.stderr.strip().splitlines()[-1:] or ["no message"]
        yield failed("gpu", f"torch cannot use it: {last[0]}", "Do driver and CUDA version of torch fit together? See nvidia-smi.")
        return
    found = json.loads(asked.stdout)
    if not found["gpus"]:
        why = "this torch was built without CUDA" if found["cuda"] is None else f"torch (CUDA {found['cuda']}) finds no usable driver"
        yield failed("gpu", f"{len(present)} there, but {why}", "Install torch's CUDA build, and a driver that is recent enough for it.")
    for name, free, total in found["gpus"]:
        yield ok("gpu", f"{name}, {free / GIB:.0f} of {total / GIB:.0f} GiB free, CUDA {found['cuda']}")


def _unfit(requirement: Requirement) -> str | None:
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return None
    installed = _version(requirement.name)
    if installed is None:
        return f"{requirement.name} is missing"
    if not requirement.specifier.contains(installed, prereleases=True):
        return f"{requirement.name} {installed} is not {requirement.specifier}"
    return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
