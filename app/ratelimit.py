"""How often a tenant may call: a token bucket for each, in this process."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from app.errors import TooManyRequests


class RateLimiter:
    """`burst` requests at once, `per_second` on average. Every API process counts for itself, so the limit grows with their number."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def spend(self, tenant_id: str) -> None:
        """Count one request.

        Raises:
            TooManyRequests: the bucket is empty; `Retry-After` says when it no longer is.
        """
        with self._lock:
            now = self._clock()
            tokens, filled_at = self._buckets.get(tenant_id, (self._burst, now))
            tokens = min(self._burst, tokens + (now - filled_at) * self._per_second)
            self._buckets[tenant_id] = (max(tokens - 1, 0.0) if tokens >= 1 else tokens, now)
        if tokens < 1:
            wait = math.ceil((1 - tokens) / self._per_second)
            raise TooManyRequests(f"This tenant may make {self._per_second:g} requests a second.", retry_after_seconds=wait)
