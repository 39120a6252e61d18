"""However large a part is, the API holds little of it."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from app.auth.service import bootstrap
from app.main import create_app
from app.migrate import upgrade
from app.settings import MIB, Settings

SIZE = 96 * MIB


class TestPutPart:
    def test_streams_to_disk(self, tmp_path: Path) -> None:
        settings = Settings.model_validate(
            {
                "database_url": f"sqlite:///{tmp_path / 'lustral.db'}",
                "broker_url": "redis://127.0.0.1:1/0",
                "storage_url": f"file://{tmp_path / 'objects'}",
                "secret_key": "s" * 32,
                "public_url": "http://test",
                "part_size": SIZE,
            }
        )
        upgrade(settings.database_url)
        app = create_app(settings)
        runtime = app.state.runtime
        with runtime.write.begin() as session:
            key = bootstrap(session, runtime.signer).key
        chunk = b"x" * 65536

        async def body() -> AsyncIterator[bytes]:
            for _ in range(SIZE // len(chunk)):
                yield chunk

        async def upload() -> tuple[int, int]:
            headers = {"Authorization": f"Bearer {key}"}
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", headers=headers) as client:
                created = (await client.post("/v1/uploads", json={"filename": "x", "bytes": SIZE})).json()
                tracemalloc.start()
                try:
                    answer = await client.put(created["parts"][0]["url"], content=body())
                    completed = await client.post(f"/v1/uploads/{created['id']}/complete")
                    peak = tracemalloc.get_traced_memory()[1]
                finally:
                    tracemalloc.stop()
                assert (answer.status_code, completed.status_code) == (200, 200)
                return completed.json()["bytes"], peak

        stored, peak = asyncio.run(upload())
        runtime.close()
        assert stored == SIZE
        assert peak < SIZE / 8
