"""How an outage is waited for."""

from __future__ import annotations

import pytest

from workers.outages import ride_out


def test_whoever_waits_can_be_called_off() -> None:
    def away() -> None:
        raise ConnectionResetError

    def no_longer_wanted() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        ride_out(away, check=no_longer_wanted)


def test_patience_ends() -> None:
    def away() -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        ride_out(away, patience=0.05)
