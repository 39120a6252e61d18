"""The rules of credentials: set by a tenant, opened only where a worker reads that tenant's source."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.audit.service import record_audit
from app.auth.service import Caller
from app.credentials import repository
from app.credentials.schemas import CredentialResource, CredentialSet, S3Credentials
from app.credentials.tables import CredentialRow
from app.credentials.vault import Sealed, Vault
from app.errors import Conflict, InvalidInput
from app.ids import new_id
from app.repository import get_owned
from app.runtime import Runtime
from app.settings import Reach
from app.webhooks.addresses import AddressRefused, parse_url

MOST_CREDENTIALS = 100
HINT = 4


@dataclass(frozen=True, slots=True)
class OpenCredential:
    """Credentials in use. `secrets`: `access_key_id`, `secret_access_key` and perhaps `session_token`; or `token`."""

    endpoint_url: str | None
    region: str | None
    secrets: dict[str, str] = field(repr=False)


def set_credential(session: Session, runtime: Runtime, caller: Caller, body: CredentialSet) -> CredentialResource:
    """Keep these credentials, in place of those that the tenant has of the same type and scope.

    Raises:
        Conflict: the operator set no key to encrypt them with, or the tenant has as many as it may.
        InvalidInput: `endpoint_url` is not one that this server may call.
    """
    vault = Vault.of(runtime.settings)
    if vault is None:
        raise Conflict("This server keeps no credentials: its operator has to set LUSTRAL_CREDENTIAL_KEYS first.")
    shown, endpoint_url, region, secrets = _taken_apart(body)
    if endpoint_url is not None:
        _check_endpoint(endpoint_url, reach=runtime.settings.source_reach)
    now = datetime.now(UTC)
    row = repository.find(session, caller.tenant_id, body.type, body.scope or "", lock=True)
    if row is None:
        if repository.count(session, caller.tenant_id) >= MOST_CREDENTIALS:
            raise Conflict(f"There are {MOST_CREDENTIALS} credentials already. Delete some first.")
        row = CredentialRow(id=new_id("cred"), tenant_id=caller.tenant_id, type=body.type, scope=body.scope or "", created_at=now)
    row.endpoint_url, row.region, row.hint, row.updated_at = endpoint_url, region, f"{shown[:HINT]}…", now
    row.sealed = vault.seal(secrets)
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError as error:
        raise Conflict("Somebody else set credentials of this type and scope at the same moment. Look, and set them again.") from error
    record_audit(session, caller.tenant_id, caller.key_id, "credential.set", row.id)
    return CredentialResource.of(row)


def delete_credential(session: Session, caller: Caller, credential_id: str) -> None:
    """Forget them. What was fetched with them stays."""
    session.delete(get_owned(session, CredentialRow, caller.tenant_id, credential_id, lock=True))
    record_audit(session, caller.tenant_id, caller.key_id, "credential.deleted", credential_id)


def open_credential(session: Session, vault: Vault | None, tenant_id: str, type: str, scope: str) -> OpenCredential | None:
    """The tenant's credentials for this bucket or owner, or else those for all; None if there are none.

    Raises:
        Sealed: they were closed with a key that the operator has since taken away.
    """
    row = repository.find(session, tenant_id, type, scope) or repository.find(session, tenant_id, type, "")
    if row is None:
        return None
    if vault is None:
        raise Sealed("the operator has taken LUSTRAL_CREDENTIAL_KEYS away, so nobody can open your credentials")
    return OpenCredential(row.endpoint_url, row.region, vault.open(row.sealed))


def reseal_credentials(session: Session, vault: Vault) -> int:
    """Close everybody's credentials with the operator's first key, so that the others can go. Returns how many there are.

    Raises:
        Sealed: one opens with none of the keys.
    """
    rows = repository.lock_all(session)
    for row in rows:
        row.sealed = vault.reseal(row.sealed)
        record_audit(session, row.tenant_id, None, "credential.resealed", row.id)
    return len(rows)


def _taken_apart(body: CredentialSet) -> tuple[str, str | None, str | None, dict[str, str]]:
    """What the hint is made of, endpoint, region, and the secrets."""
    if not isinstance(body, S3Credentials):
        token = body.token.get_secret_value()
        return token, None, None, {"token": token}
    named = {name: getattr(body, name) for name in ("access_key_id", "secret_access_key", "session_token")}
    secrets = {name: value.get_secret_value() for name, value in named.items() if value is not None}
    return secrets["access_key_id"], body.endpoint_url and body.endpoint_url.rstrip("/"), body.region, secrets


def _check_endpoint(endpoint_url: str, *, reach: Reach) -> None:
    try:
        parse_url(endpoint_url, reach=reach)
    except AddressRefused as error:
        raise InvalidInput.at("/endpoint_url", str(error)) from error
    if urlsplit(endpoint_url).path or urlsplit(endpoint_url).query:
        raise InvalidInput.at("/endpoint_url", "must end after the host and port; the bucket stands in the source's uri")
