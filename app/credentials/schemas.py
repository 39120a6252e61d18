"""Credentials as clients see them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from app.credentials.tables import CredentialRow
from app.schemas import Input, Resource

BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
OWNER = r"[\w.-]{1,100}"


def _header_safe(secret: SecretStr) -> SecretStr:
    if not all("!" <= character <= "~" for character in secret.get_secret_value()):
        raise ValueError("must be printable ASCII without spaces: copy it whole, and nothing around it")
    return secret


Secret = Annotated[SecretStr, Field(min_length=1, max_length=4096), AfterValidator(_header_safe)]


class S3Credentials(Input):
    """For `s3://` sources. `access_key_id` is shown by its beginning only, the secrets never."""

    type: Literal["s3"]
    scope: str | None = Field(None, pattern=f"^{BUCKET}$", description="The bucket they are for; null: every bucket without its own.")
    endpoint_url: str | None = Field(
        None, max_length=2048, description="Of an S3 other than AWS; https, and not a private address.", examples=["https://s3.example.com"]
    )
    region: str = Field("us-east-1", pattern=r"^[a-z0-9-]{1,40}$")
    access_key_id: Secret
    secret_access_key: Secret
    session_token: Secret | None = Field(None, description="Of temporary credentials.")


class HuggingFaceCredentials(Input):
    """For `hf://` sources: a token that may read, and no more."""

    type: Literal["huggingface"]
    scope: str | None = Field(
        None, pattern=f"^{OWNER}$", description="The owner of repositories it is for; null: every owner without its own."
    )
    token: Secret


CredentialSet = Annotated[S3Credentials | HuggingFaceCredentials, Field(discriminator="type")]


class CredentialResource(Resource):
    """What is known of credentials without showing them."""

    id: str
    object: Literal["credential"] = "credential"
    type: Literal["s3", "huggingface"]
    scope: str | None
    endpoint_url: str | None
    region: str | None
    hint: str = Field(description="How the access key id or token begins.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: CredentialRow) -> CredentialResource:
        values = {name: getattr(row, name) for name in cls.model_fields if name != "object"}
        return cls.model_validate(values | {"scope": row.scope or None})
