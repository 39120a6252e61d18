"""API keys as clients see them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from app.auth.tables import ApiKeyRow
from app.schemas import Input, Instant, Name, Resource

Scope = Literal["read", "write", "admin"]
ALL_SCOPES: tuple[Scope, ...] = ("read", "write", "admin")


class KeyCreate(Input):
    name: Name
    scopes: list[Scope] = Field(
        default=["read", "write"], min_length=1, description="`read` looks, `write` changes, `admin` manages keys and credentials."
    )
    expires_at: Instant | None = Field(None, description="After this the key opens nothing; null: it does not expire.")


class KeyResource(Resource):
    id: str
    object: Literal["key"] = "key"
    name: str
    hint: str = Field(description="How the key begins.")
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, row: ApiKeyRow) -> KeyResource:
        return cls.model_validate(row, from_attributes=True)


class CreatedKey(KeyResource):
    """The only answer that shows the key itself."""

    key: str
