"""Does the broker answer, and does it keep what it is given?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

from app.doctor.finding import Finding, failed, ok, warning
from app.settings import Settings

CHECK = "broker"
_PATIENCE = 5


def check_broker(settings: Settings) -> Iterator[Finding]:
    # Celery writes `redis+socket://` where the client of the same server wants `unix://`.
    url = settings.broker_url.replace("redis+socket://", "unix://", 1)
    try:
        with redis.Redis.from_url(url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE) as broker:
            info: Any = broker.info()
    except redis.AuthenticationError as error:
        yield failed(CHECK, f"refuses us: {error}", "Set the user and password of LUSTRAL_BROKER_URL to the broker's own.")
        return
    except (redis.RedisError, OSError) as error:
        yield failed(CHECK, f"cannot be reached: {error}", "Is it up, and does LUSTRAL_BROKER_URL name its host and port?")
        return
    yield ok(CHECK, f"{info.get('server_name', 'redis')} {info.get('valkey_version') or info['redis_version']}")
    if info.get("maxmemory") and info.get("maxmemory_policy") != "noeviction":
        yield warning(
            CHECK,
            f"drops messages when its memory is full (maxmemory-policy {info['maxmemory_policy']})",
            "Set maxmemory-policy to noeviction: a lost message is rung for again, but only after a minute.",
        )
