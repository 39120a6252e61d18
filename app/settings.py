"""What an operator decides, read from `LUSTRAL_…` environment variables and checked once, at start."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from pathlib import Path
from typing import Literal

from cryptography.fernet import Fernet
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024

Reach = Literal["public", "loopback", "private"]
"""Which addresses tenants may have us connect to: public ones, this machine's own as well, or private networks as well."""


class Settings(BaseSettings):
    """`s3://bucket?endpoint=…` in `storage_url` names any S3; without `endpoint` it is AWS and boto3 finds its own credentials."""

    model_config = SettingsConfigDict(env_prefix="LUSTRAL_", extra="ignore", frozen=True)

    database_url: str = Field(description="`postgresql+psycopg://user:password@host/name` or `sqlite:////absolute/file.db`.")
    broker_url: str = Field(description="`redis://host:6379/0`, or `redis+socket:///path` in the embedded profile.")
    storage_url: str = Field(description="`file:///folder` or `s3://bucket?endpoint=https://host&region=name`.")
    secret_key: SecretStr = Field(
        min_length=32, description="Signs upload links, keys API keys and webhook secrets. Changing it makes all of them invalid."
    )
    signing_key_file: Path | None = Field(
        None,
        description="Private key (EC, PEM) that signs what jobs hand out; null: one derived from `secret_key`, which changes with it.",
    )
    public_url: str = Field("http://127.0.0.1:8000", description="Where clients reach this API; links in answers start with it.")

    s3_access_key_id: SecretStr | None = Field(None, description="Who we are to the object store; null: boto3 looks as AWS's tools do.")
    s3_secret_access_key: SecretStr | None = Field(None, description="That user's secret.")
    s3_public_endpoint: str | None = Field(
        None, description="Endpoint in links handed to clients, where it differs from the one this server uses."
    )

    lease_seconds: float = Field(60.0, gt=0, description="A step whose worker is silent for this long is given to another.")
    heartbeat_seconds: float = Field(2.0, gt=0, description="How often a worker renews its lease, and learns that its job was cancelled.")
    database_connect_seconds: int = Field(5, ge=2, description="How long PostgreSQL may take to accept a connection.")
    database_statement_seconds: float = Field(60.0, gt=0, description="PostgreSQL ends a statement that takes longer.")
    database_idle_seconds: float = Field(
        600.0, gt=0, description="PostgreSQL ends a transaction in which nothing is asked for so long, with its connection."
    )
    work_dir: Path | None = Field(None, description="A worker's cache and scratch folder; null: the system's temporary folder.")
    cache_bytes: int = Field(100 * 1024 * MIB, gt=0, description="What a worker's cache may hold; the files used longest ago go first.")
    worker_processes: int | None = Field(
        None, ge=1, description="Steps that a worker runs at a time; null: one for each GPU, or up to two on a machine without."
    )
    worker_threads: int | None = Field(None, ge=1, description="Torch threads of a worker; null: the cores this process may use.")

    part_size: int = Field(16 * MIB, ge=5 * MIB, description="Smallest size of an upload's parts, bytes.")
    upload_lifetime_seconds: int = Field(24 * 3600, gt=0, description="An upload that no model or data set uses is deleted after this.")
    link_lifetime_seconds: int = Field(900, gt=0, description="How long a download link works.")
    max_upload_bytes: int = Field(512 * 1024 * MIB, gt=0, description="Largest single file.")
    max_stored_bytes: int | None = Field(None, description="Bytes a tenant may keep; null: no limit.")
    max_source_bytes: int = Field(512 * 1024 * MIB, gt=0, description="What a model or data set fetched from S3 or a hub may have.")
    huggingface_endpoint: str = Field("https://huggingface.co", description="The hub that `huggingface` sources are read from.")
    max_request_bytes: int = Field(8 * MIB, gt=0, description="Largest JSON body. Upload parts are not JSON and stream to storage.")
    max_open_uploads: int = Field(10_000, gt=0, description="Uploads a tenant may have open at once.")
    max_running_jobs: int = Field(100, gt=0, description="Unfinished jobs a tenant may have.")
    max_job_seconds: int | None = Field(7 * 24 * 3600, gt=0, description="How long a job may run; null: for ever.")
    max_event_streams: int = Field(100, gt=0, description="Streams of events a tenant may hold open on each API process.")
    max_fetch_seconds: int = Field(24 * 3600, gt=0, description="How long fetching a model or data set from S3 or a hub may take.")
    requests_per_second: float = Field(200.0, gt=0, description="Rate a tenant may call at, on average, on each API process.")
    request_burst: int = Field(1000, gt=0, description="Requests a tenant may make at once before the rate counts.")

    trusted_proxies: str = Field(
        "",
        description="Addresses and networks, by commas, whose `X-Forwarded-For` is believed. Start uvicorn with --no-proxy-headers.",
    )

    events_kept_days: int = Field(
        90,
        ge=0,
        description="Events of jobs older than this are forgotten (on PostgreSQL with the last of their week); jobs, reports and artifacts "
        "stay. 0: they are kept for good.",
    )

    allow_private_webhooks: bool = Field(False, description="Let webhooks reach private addresses: never on a server that strangers share.")
    allow_private_sources: bool = Field(False, description="Let tenants name an S3 on private addresses: never on a shared server.")
    allow_loopback_webhooks: bool = Field(False, description="Let webhooks reach this machine itself: for a machine of one user.")
    allow_loopback_sources: bool = Field(False, description="Let tenants name an S3 on this machine itself: for a machine of one user.")
    credential_keys: SecretStr | None = Field(
        None,
        description="Fernet keys, by commas, that close tenants' credentials: the first encrypts, all decrypt. Null: none are kept.",
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="Port at which a relay or worker serves its metrics; null: none. The API has `/metrics`."
    )
    log_level: str = Field("INFO", description="`DEBUG`, `INFO`, `WARNING` or `ERROR`.")

    @field_validator("public_url")
    @classmethod
    def _strip_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @field_validator("credential_keys")
    @classmethod
    def _are_fernet_keys(cls, value: SecretStr | None) -> SecretStr | None:
        try:
            for key in _split(_revealed(value)):
                Fernet(key)
        except ValueError:
            raise ValueError("must be keys of 32 bytes in URL-safe base64, separated by commas") from None
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for text in _split(value):
            ipaddress.ip_network(text, strict=False)
        return value

    @property
    def trusted_proxy_networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        return [ipaddress.ip_network(text, strict=False) for text in _split(self.trusted_proxies)]

    @property
    def webhook_reach(self) -> Reach:
        """How far a webhook's address may lead."""
        return _reach(private=self.allow_private_webhooks, loopback=self.allow_loopback_webhooks)

    @property
    def source_reach(self) -> Reach:
        """How far the endpoint of a tenant's S3 may lead."""
        return _reach(private=self.allow_private_sources, loopback=self.allow_loopback_sources)

    @property
    def credential_key_list(self) -> list[str]:
        """The keys of `credential_keys`, the one that encrypts first; empty where there is none."""
        return _split(_revealed(self.credential_keys))

    @property
    def sign_key(self) -> bytes:
        return self.secret_key.get_secret_value().encode()


def _split(values: str) -> list[str]:
    return [value.strip() for value in values.split(",") if value.strip()]


def _revealed(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""


def _reach(*, private: bool, loopback: bool) -> Reach:
    return "private" if private else "loopback" if loopback else "public"


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """The settings of this process, from its environment.

    Raises:
        pydantic.ValidationError: something required is missing or out of range; the message names the variable.
    """
    return Settings()  # pyright: ignore[reportCallIssue]
