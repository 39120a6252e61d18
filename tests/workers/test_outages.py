"""What is an outage, and how it is waited for."""

from __future__ import annotations

import errno
import socket

import httpx
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from workers.outages import is_outage, ride_out

OUTAGES = [
    OperationalError("SELECT", {}, Exception("server closed the connection")),
    DBAPIError("SELECT", {}, Exception("terminating connection"), connection_invalidated=True),
    PoolTimeout("QueuePool limit reached"),
    EndpointConnectionError(endpoint_url="http://store"),
    ClientError({"Error": {"Code": "SlowDown"}}, "PutObject"),
    httpx.ConnectError("refused"),
    ConnectionResetError(),
    socket.gaierror(),
    OSError(errno.ENOSPC, "No space left on device"),
]
FAULTS = [
    RuntimeError("bug"),
    ValueError(),
    FileNotFoundError(errno.ENOENT, "no such file"),
    IntegrityError("INSERT", {}, Exception("twice")),
]


@pytest.mark.parametrize("error", OUTAGES, ids=repr)
def test_what_may_pass_is_an_outage(error: Exception) -> None:
    assert is_outage(error)


@pytest.mark.parametrize("error", FAULTS, ids=repr)
def test_what_a_step_did_wrong_is_none(error: Exception) -> None:
    assert not is_outage(error)


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
