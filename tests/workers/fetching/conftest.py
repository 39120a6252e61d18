"""A small data set and a small model to fetch, and credentials to fetch them with."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any, Protocol

import pytest
from PIL import Image

import gpu_jobs.bundled
from app.credentials.tables import CredentialRow
from app.credentials.vault import Vault
from app.db import database_now
from app.ids import new_id
from tests.servers.hub import Hub
from tests.workers.conftest import context, world
from tests.worlds.jobs import World
from workers.context import Context

__all__ = ["context", "world"]

MODEL = Path(gpu_jobs.bundled.__file__).parent / "base"


def picture(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue() + colour.encode()


@pytest.fixture(scope="session")
def dataset_files() -> dict[str, bytes]:
    """A LLaVA data set of three pictures, with files beside it that no format reads."""
    names = ["red one.png", "green+blue.png", "bläulich.png"]
    rows = [
        {"id": name, "image": f"images/{name}", "conversations": [{"from": "human", "value": "<image>\n?"}, {"from": "gpt", "value": "x"}]}
        for name in names
    ]
    pictures = {f"images/{name}": picture(name) for name in names}
    return {"data.json": json.dumps(rows).encode(), **pictures, "loader.py": b"print('run me')", ".gitattributes": b"*"}


@pytest.fixture(scope="session")
def model_files() -> dict[str, bytes]:
    """The bundled model, with pickled weights and code beside it."""
    files = {path.relative_to(MODEL).as_posix(): path.read_bytes() for path in MODEL.rglob("*") if path.is_file()}
    return {**files, "pytorch_model.bin": b"\x80\x04pickle", "modeling.py": b"import os"}


class SetCredential(Protocol):
    def __call__(self, type: str, secrets: dict[str, str], **fields: Any) -> None: ...


@pytest.fixture
def set_credential(context: Context, world: World) -> SetCredential:
    vault = Vault.of(context.settings)
    assert vault is not None

    def keep(type: str, secrets: dict[str, str], **fields: Any) -> None:
        with context.sessions.begin() as session:
            now = database_now(session)
            values = {"scope": "", "endpoint_url": None, "region": None, "hint": "", "created_at": now, "updated_at": now, **fields}
            session.add(CredentialRow(id=new_id("cred"), tenant_id=world.tenant_id, type=type, sealed=vault.seal(secrets), **values))

    return keep


@pytest.fixture
def hub_context(context: Context, hub: Hub) -> Context:
    return with_settings(context, huggingface_endpoint=hub.endpoint)


def with_settings(context: Context, **changes: Any) -> Context:
    """The same worker under other settings."""
    settings = context.settings.model_copy(update=changes)
    return dataclasses.replace(context, runtime=dataclasses.replace(context.runtime, settings=settings))
