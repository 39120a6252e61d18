"""Structured logs: one JSON object a line, with the ids of request, job, step and trace, and nothing secret."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

from app.tracing import add_trace_ids

_SECRET = re.compile(
    r"(lus_|whsec_|hf_(?=[A-Za-z0-9]{16}))[A-Za-z0-9+/=_-]{8,}|((?:X-Amz-)?[Ss]ignature=|X-Amz-Security-Token=)[^&\s\"']+|(://[^:/@\s]*:)[^@/\s]+@"
)
_SECRET_NAMES = frozenset({"authorization", "secret", "secret_key", "password", "key", "token", "secret_access_key"})


def configure_logs(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send this process's logs, those of libraries too, to `stream`; null: to standard error."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        add_trace_ids,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        hide_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True  # the middleware's line says more
    for name in ("boto3", "botocore", "urllib3", "s3transfer", "httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank out whatever looks like a key, a signature or a password, wherever in the event it stands."""
    for name, value in event.items():
        event[name] = "[hidden]" if name.lower() in _SECRET_NAMES else _hidden(value)
    return event


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return _SECRET.sub(lambda match: f"{match[1] or match[2] or match[3]}[hidden]" + ("@" if match[3] else ""), value)
    if isinstance(value, Mapping):
        return {name: "[hidden]" if str(name).lower() in _SECRET_NAMES else _hidden(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hidden(item) for item in value]
    return value
