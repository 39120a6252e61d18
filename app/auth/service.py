"""Who calls, and with which keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.audit.service import record_audit
from app.auth import keys, repository
from app.auth.schemas import ALL_SCOPES, CreatedKey, KeyCreate, KeyResource, Scope
from app.auth.tables import ApiKeyRow, TenantRow
from app.errors import Conflict, InvalidInput, Unauthenticated
from app.ids import new_id
from app.repository import get_owned
from app.runtime import Runtime
from app.signing import Signer

PURPOSE = "api-key"
LAST_USED_PRECISION = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request this is. `tenant_id` scopes every query made for it."""

    tenant_id: str
    key_id: str
    scopes: frozenset[str]


def authenticate(runtime: Runtime, key: str) -> Caller:
    """The caller that `key` belongs to.

    Raises:
        Unauthenticated: the key is mistyped, unknown, revoked or expired.
    """
    if not keys.is_well_formed(key):
        raise Unauthenticated("This is not a Lustral API key: it must be `lus_` and 46 more characters, copied whole.")
    now = datetime.now(UTC)
    with runtime.read() as session:
        row = repository.find_key_by_digest(session, runtime.signer.digest(PURPOSE, key).hex())
    if row is None:
        raise Unauthenticated("Nobody has this API key.")
    if row.revoked_at is not None:
        raise Unauthenticated("This API key was revoked.")
    if row.expires_at is not None and row.expires_at <= now:
        raise Unauthenticated(f"This API key expired at {row.expires_at:%Y-%m-%dT%H:%M:%SZ}.")
    if row.last_used_at is None or now - row.last_used_at > LAST_USED_PRECISION:
        _touch(runtime, row.id, now)
    return Caller(row.tenant_id, row.id, frozenset(row.scopes))


def create_key(session: Session, signer: Signer, caller: Caller, body: KeyCreate) -> CreatedKey:
    if body.expires_at is not None and body.expires_at <= datetime.now(UTC):
        raise InvalidInput.at("/expires_at", "lies in the past; leave it out for a key that does not expire")
    created = _new_key(session, signer, caller.tenant_id, body.name, body.scopes, body.expires_at)
    record_audit(session, caller.tenant_id, caller.key_id, "key.created", created.id)
    return created


def revoke_key(session: Session, caller: Caller, key_id: str) -> ApiKeyRow:
    """From now on the key opens nothing. Revoking twice is no error.

    Raises:
        Conflict: a key cannot revoke itself, lest nobody is left who can create one.
    """
    row = get_owned(session, ApiKeyRow, caller.tenant_id, key_id, lock=True)
    if row.id == caller.key_id:
        raise Conflict("A key cannot revoke itself; use another key with the scope `admin`.")
    if row.revoked_at is None:
        row.revoked_at = datetime.now(UTC)
        record_audit(session, caller.tenant_id, caller.key_id, "key.revoked", row.id)
    return row


def bootstrap(session: Session, signer: Signer, *, tenant: str = "default", name: str = "first key") -> CreatedKey:
    """A key with every scope for the tenant of this name, which is created if it is new: how operators let somebody in."""
    owner = repository.find_tenant_by_name(session, tenant)
    if owner is None:
        owner = TenantRow(id=new_id("ten"), name=tenant, created_at=datetime.now(UTC))
        session.add(owner)
        session.flush()
        record_audit(session, owner.id, None, "tenant.created", owner.id)
    created = _new_key(session, signer, owner.id, name, ALL_SCOPES, None)
    record_audit(session, owner.id, None, "key.created", created.id)
    return created


def _new_key(
    session: Session, signer: Signer, tenant_id: str, name: str, scopes: Sequence[Scope], expires_at: datetime | None
) -> CreatedKey:
    key = keys.new_key()
    row = ApiKeyRow(
        id=new_id("key"),
        tenant_id=tenant_id,
        name=name,
        hint=keys.hint_of(key),
        digest=signer.digest(PURPOSE, key).hex(),
        scopes=sorted(set(scopes), key=ALL_SCOPES.index),
        created_at=datetime.now(UTC),
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    return CreatedKey(**KeyResource.of(row).model_dump(), key=key)


def _touch(runtime: Runtime, key_id: str, now: datetime) -> None:
    try:
        with runtime.write.begin() as session:
            repository.touch_key(session, key_id, now=now, unless_since=now - LAST_USED_PRECISION)
    except SQLAlchemyError:
        # A busy or read-only database: when a key was last used is not worth failing a request for.
        return
