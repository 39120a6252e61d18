"""Prefixed, unguessable, time-ordered ids: `job_019a…`. Newest-first lists are then a descending scan of the primary key."""

from __future__ import annotations

import secrets
import time


def new_id(prefix: str) -> str:
    """`prefix_` and 26 hexadecimal digits: 48 bits of milliseconds, then 56 random bits."""
    return f"{prefix}_{int(time.time() * 1000):012x}{secrets.token_hex(7)}"
