"""Is it the work that failed, or something that all work needs?"""

from __future__ import annotations

import errno
import socket

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_AWAY = _FULL | {errno.EIO, errno.EROFS, errno.ESTALE, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}
# SQLSTATE: a standby, or a server that is one since a failover.
_READ_ONLY = "25006"
_REFUSED = frozenset(range(400, 500)) - {408, 429}
# Clients of stores and hubs. Named, not imported: boto3 takes a third of a second, and most processes never need all of them.
_CLIENTS = frozenset({"boto3", "botocore", "s3transfer", "httpx", "httpx2", "huggingface_hub"})


def is_outage(error: BaseException) -> bool:
    """Whether the database, a store or a network was away, or a disk was full: then trying again later may help."""
    if isinstance(error, DBAPIError):
        # Its class does not always tell: to psycopg a connection that was ended over an idle transaction is an InternalError.
        known = isinstance(error, (OperationalError, InterfaceError)) or error.connection_invalidated
        return known or getattr(error.orig, "sqlstate", None) == _READ_ONLY
    if isinstance(error, OSError) and (isinstance(error, (ConnectionError, TimeoutError, socket.gaierror)) or error.errno in _AWAY):
        return True
    if getattr(getattr(error, "response", None), "status_code", 500) in _REFUSED:
        return False  # a hub that answers is there
    # Asked of every OSError too: botocore's ReadTimeoutError is one, of no number.
    return isinstance(error, PoolTimeout) or any(kind.__module__.partition(".")[0] in _CLIENTS for kind in type(error).__mro__)


def is_disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _FULL


def is_of_database(error: BaseException) -> bool:
    return isinstance(error, SQLAlchemyError)


def cause_of(error: BaseException) -> str:
    """A line for the log. Of the database only its own words: those of SQLAlchemy hold the values of the statement."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return f"{type(cause).__name__}: {cause}"
