"""Clocks that do not agree. Leases go by the database's clock alone, but signatures of links and webhooks go by ours."""

from __future__ import annotations

from datetime import timedelta

from app.doctor.finding import Finding, failed, ok, warning

CHECK = "clock"
NOTABLE = timedelta(seconds=5)
HARMFUL = timedelta(seconds=60)
"""S3 refuses a signature after 15 minutes, a receiver of webhooks after 5; half-way there nobody should wait any longer."""


def compare(whose: str, ahead: timedelta) -> Finding:
    """ahead: by how much the other clock is ahead of ours."""
    seconds = ahead.total_seconds()
    detail = f"{whose} is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine"
    advice = "Let both machines keep time by NTP (chrony, systemd-timesyncd)."
    if abs(ahead) >= HARMFUL:
        return failed(CHECK, detail, advice)
    return warning(CHECK, detail, advice) if abs(ahead) >= NOTABLE else ok(CHECK, detail)
