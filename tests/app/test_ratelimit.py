"""A tenant may call so often, and is told when to come again."""

from __future__ import annotations

import pytest

from app.errors import TooManyRequests
from app.ratelimit import RateLimiter


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class TestRateLimiter:
    def test_lets_a_burst_pass_and_then_the_rate(self) -> None:
        clock = Clock()
        limiter = RateLimiter(per_second=2, burst=3, clock=clock)
        for _ in range(3):
            limiter.spend("one")
        with pytest.raises(TooManyRequests):
            limiter.spend("one")
        clock.now += 0.5
        limiter.spend("one")
        with pytest.raises(TooManyRequests):
            limiter.spend("one")

    def test_says_when_to_come_again(self) -> None:
        clock = Clock()
        limiter = RateLimiter(per_second=0.1, burst=1, clock=clock)
        limiter.spend("one")
        with pytest.raises(TooManyRequests) as refusal:
            limiter.spend("one")
        assert refusal.value.headers["Retry-After"] == "10"
        clock.now += 10
        limiter.spend("one")

    def test_counts_each_tenant_alone(self) -> None:
        limiter = RateLimiter(per_second=1, burst=1, clock=Clock())
        limiter.spend("one")
        limiter.spend("other")

    def test_saves_up_no_more_than_the_burst(self) -> None:
        clock = Clock()
        limiter = RateLimiter(per_second=1, burst=2, clock=clock)
        clock.now += 1000
        limiter.spend("one")
        limiter.spend("one")
        with pytest.raises(TooManyRequests):
            limiter.spend("one")
