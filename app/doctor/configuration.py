"""Settings that are missing, wrong or dangerous. No value of a setting is ever shown: it may be a secret."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError
from sqlalchemy.engine import make_url

from app.doctor.finding import Finding, failed, ok, warning
from app.settings import Settings

CHECK = "settings"
_PLACEHOLDERS = ("changeme", "change-me", "change me", "default", "example", "insecure", "only for tests", "12345678")
_FEWEST_CHARACTERS = 10
_WEAK_PASSWORDS = frozenset({"", "admin", "changeme", "lustral", "password", "postgres", "redis", "secret", "test"})
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


def explain(error: ValidationError) -> Iterator[Finding]:
    """What keeps the settings from being read."""
    for fault in error.errors(include_input=False, include_url=False):
        name = "LUSTRAL_" + "_".join(str(part) for part in fault["loc"]).upper()
        yield failed(CHECK, f"{name}: {fault['msg']}", f"Set {name} for every process: docs/operate.md says what it takes.")


def no_settings(folder: Path) -> Finding:
    """There is no service here to be examined."""
    return failed(
        CHECK,
        f"there are no LUSTRAL_… settings here, and no `lustral up` runs in {folder}",
        "Run this where the server's environment is (docker compose exec api lustral doctor), or start `lustral up`.",
    )


def check_settings(settings: Settings) -> Iterator[Finding]:
    """What no validation refuses, but nobody should run."""
    findings = [*_secrets(settings), *_addresses(settings), *_leases(settings)]
    yield from findings or [ok(CHECK, "nothing dangerous")]


def _secrets(settings: Settings) -> Iterator[Finding]:
    secret = settings.secret_key.get_secret_value()
    if len(set(secret)) < _FEWEST_CHARACTERS or any(word in secret.lower() for word in _PLACEHOLDERS):
        yield failed(
            CHECK,
            "LUSTRAL_SECRET_KEY can be guessed: whoever does makes API keys and links of their own",
            "Make one: openssl rand -hex 32. All API keys and webhook secrets have to be made anew after the change.",
        )
    if settings.credential_keys is None:
        yield warning(
            CHECK,
            "LUSTRAL_CREDENTIAL_KEYS is not set: tenants cannot store credentials for their buckets and hubs",
            "Make one: openssl rand -base64 32 | tr '+/' '-_'",
        )
    for name, url in (("LUSTRAL_DATABASE_URL", settings.database_url), ("LUSTRAL_BROKER_URL", settings.broker_url)):
        parts = urlsplit(url)
        if parts.hostname and parts.hostname not in _LOCAL and (parts.password or "").lower() in _WEAK_PASSWORDS:
            yield warning(CHECK, f"{name} has no password, or one that everybody tries first", "Give that server a password of its own.")


def _addresses(settings: Settings) -> Iterator[Finding]:
    if _is_local(settings.public_url):
        return
    if urlsplit(settings.public_url).scheme != "https":
        yield warning(
            CHECK, "LUSTRAL_PUBLIC_URL is not https: API keys cross the network in the clear", "Put a proxy that ends TLS before the API."
        )
    for name, allowed in (
        ("LUSTRAL_ALLOW_PRIVATE_WEBHOOKS", settings.allow_private_webhooks),
        ("LUSTRAL_ALLOW_PRIVATE_SOURCES", settings.allow_private_sources),
        ("LUSTRAL_ALLOW_LOOPBACK_WEBHOOKS", settings.allow_loopback_webhooks),
        ("LUSTRAL_ALLOW_LOOPBACK_SOURCES", settings.allow_loopback_sources),
    ):
        if allowed:
            yield failed(CHECK, f"{name} is on: tenants reach what is yours through this server", "Unset it on a shared server.")
    if settings.s3_public_endpoint and _is_local(settings.s3_public_endpoint):
        yield failed(
            CHECK,
            "LUSTRAL_S3_PUBLIC_ENDPOINT is this machine's own: clients elsewhere cannot upload or download",
            "Name the object store as clients reach it.",
        )
    if make_url(settings.database_url).get_backend_name() == "sqlite":
        yield warning(CHECK, "SQLite serves one machine only", "Use PostgreSQL where API or workers run on several.")


def _leases(settings: Settings) -> Iterator[Finding]:
    if settings.heartbeat_seconds * 3 > settings.lease_seconds:
        yield failed(
            CHECK,
            "LUSTRAL_LEASE_SECONDS is shorter than three heartbeats: one slow answer of the database and a step is taken from its worker",
            "Make LUSTRAL_LEASE_SECONDS at least three times LUSTRAL_HEARTBEAT_SECONDS.",
        )


def _is_local(url: str) -> bool:
    return urlsplit(url).hostname in _LOCAL
