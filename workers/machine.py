"""What this machine has to offer."""

from __future__ import annotations

import os
import re
from pathlib import Path


def default_processes() -> int:
    """Steps at a time: one for each GPU, or up to two on a machine without."""
    return count_gpus() or min(2, usable_cores())


def count_gpus() -> int:
    """NVIDIA devices, counted without waking CUDA up."""
    return sum(1 for device in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", device.name))


def usable_cores() -> int:
    """Cores this process may use, by its affinity and by the quota of its container (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
