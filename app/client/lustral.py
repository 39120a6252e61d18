"""One class with one method for each thing a client does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import httpx

from app.client import files
from app.client.errors import Rejected
from app.client.events import follow_events
from app.client.transport import Transport
from app.client.uploads import Advance, Resumed, ignore, upload_file

PAGE_SIZE = 100
FINAL = frozenset({"succeeded", "failed", "cancelled"})
Noun = Literal["models", "datasets"]


class Lustral:
    """A client of one server, with one key. Resources are the JSON documents of the API, as dicts.

    Every method that asks the server raises `ApiError` where it refuses, and `httpx.TransportError` where it cannot be reached for
    the better part of a minute. docs/client.md has examples.
    """

    def __init__(self, server: str, api_key: str, *, transport: httpx.BaseTransport | None = None) -> None:
        """server: its address, such as `https://lustral.example`. transport: another way to send requests, as httpx takes it.

        Raises:
            BadAddress: `server` is none.
        """
        self.server = server.rstrip("/")
        self._transport = Transport(self.server, api_key, transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of its connections. Leaving a `with` does so too."""
        self._transport.close()

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, **query: Any) -> dict[str, Any]:
        """Any call that has no method of its own here: the JSON of its answer, {} where there is none.

        query: parameters of the address; None is left out.
        """
        return self._transport.call(method, path, body, **query)

    def pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """All entries of a list such as `/v1/jobs`, newest first, fetched page by page as they are asked for."""
        after = None
        while True:
            page = self.call("GET", path, limit=PAGE_SIZE, after=after, **query)
            yield from page["data"]
            if not page["has_more"]:
                return
            after = page["last_id"]

    # -- models and data sets ------------------------------------------------------------------------------------------

    def register_model(
        self, source: str | Path, *, name: str | None = None, advance: Advance = ignore, resumed: Resumed = ignore
    ) -> dict[str, Any]:
        """A usable model out of a folder, an `s3://` or `hf://` address, or the id of one that is registered.

        What is uploaded stays on the server for a day where something breaks off, and is not sent again by the next call.

        name: what to call it; null: as the folder or the address.
        advance: told how many bytes were just uploaded, or found to be there already.
        resumed: told the name of a file of which parts are there already, how many these are, and how many it has.

        Raises:
            Rejected: inspection found that it cannot be used.
            FileNotFoundError: there is no such folder, or nothing in it.
            FileChanged: a file was written to meanwhile.
        """
        return self._register("models", "model_", source, name, partial(upload_file, self._transport, advance=advance, resumed=resumed))

    def register_dataset(
        self, source: str | Path, *, name: str | None = None, advance: Advance = ignore, resumed: Resumed = ignore
    ) -> dict[str, Any]:
        """A usable data set, as `register_model`; a single file (JSON, JSONL, Parquet, tar, zip) will do as well.

        Raises:
            Rejected, FileNotFoundError, FileChanged: as `register_model`.
        """
        return self._register("datasets", "dset_", source, name, partial(upload_file, self._transport, advance=advance, resumed=resumed))

    def register_artifact(self, noun: Noun, artifact_id: str, name: str) -> dict[str, Any]:
        """A model or data set made of what a job left behind. The bytes are shared, not copied.

        Raises:
            Rejected: inspection found that it cannot be used.
        """
        return self._create_and_inspect(noun, name, {"type": "artifact", "artifact_id": artifact_id})

    def _register(self, noun: Noun, prefix: str, source: str | Path, name: str | None, send: Callable[[Path], str]) -> dict[str, Any]:
        text = str(source)
        if text.startswith(prefix) and not Path(text).exists():
            return self._inspected(self.call("GET", f"/v1/{noun}/{text}"))
        if text.startswith("s3://"):
            return self._create_and_inspect(noun, name or text, {"type": "s3", "uri": text})
        if text.startswith("hf://"):
            repository, _, revision = text.removeprefix("hf://").removeprefix(f"{noun}/").partition("@")
            return self._create_and_inspect(
                noun, name or repository, {"type": "huggingface", "repo_id": repository, "revision": revision or "main"}
            )
        path = Path(source)
        return self._create_and_inspect(noun, name or path.resolve().name, {"type": "upload", "files": _upload(noun, path, send)})

    def _create_and_inspect(self, noun: Noun, name: str, source: dict[str, Any]) -> dict[str, Any]:
        return self._inspected(self.call("POST", f"/v1/{noun}", {"name": name, "source": source}))

    def _inspected(self, resource: dict[str, Any]) -> dict[str, Any]:
        noun = "models" if resource["object"] == "model" else "datasets"
        wait = 0.1
        while resource["status"] == "inspecting":
            time.sleep(wait)
            wait = min(1.0, wait * 1.5)
            resource = self.call("GET", f"/v1/{noun}/{resource['id']}")
        if resource["status"] == "rejected":
            raise Rejected(resource)
        return resource

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def create_job(self, kind: str, *, model_id: str, dataset_id: str | None = None, **options: Any) -> dict[str, Any]:
        """Start a job. options: `params`, `evaluation`, `webhook_url`, `metadata`, as the API takes them; None is left out."""
        body = {"kind": kind, "model_id": model_id, "dataset_id": dataset_id, **options}
        return self.call("POST", "/v1/jobs", {name: value for name, value in body.items() if value is not None})

    def job(self, job_id: str) -> dict[str, Any]:
        """A job as it is at this moment."""
        return self.call("GET", f"/v1/jobs/{job_id}")

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Stop a job and return it: `cancelling` until its workers have let go, for five seconds at most. What is over stays as it is."""
        return self.call("POST", f"/v1/jobs/{job_id}/cancel")

    def events(self, job_id: str, *, after: str | None = None) -> Iterator[dict[str, Any]]:
        """Every event of the job, as it happens; ends when the job does. Survives lost connections.

        after: the id of the last event that is known already.
        """
        return follow_events(self._transport, job_id, after)

    def wait(self, job_id: str, watch: Callable[[dict[str, Any]], object] = ignore) -> dict[str, Any]:
        """The finished job. watch: called with each of its events."""
        for event in self.events(job_id):
            watch(event)
        return self.job(job_id)

    def report(self, job_id: str, media_type: str = "application/json") -> str:
        """The report as `application/json`, `text/html` or, of a job with a verdict, `application/sarif+json`."""
        return self._transport.text(f"/v1/jobs/{job_id}/report", media_type)

    # -- artifacts -----------------------------------------------------------------------------------------------------

    def artifacts(self, job_id: str, kind: str | None = None) -> list[dict[str, Any]]:
        """All that the job hands out: `name`, `bytes`, `sha256`, `media_type` of each. `download` takes one of them.

        kind: only those of this kind; `log`: the logs of its steps, which are not among what it hands out.
        """
        return list(self.pages(f"/v1/jobs/{job_id}/artifacts", kind=kind))

    def signing_key(self) -> dict[str, Any]:
        """The public key that downloads are verified with."""
        return self.call("GET", "/v1/signing-key")

    def download(self, artifact: dict[str, Any], folder: Path) -> Path:
        """Write an artifact into `folder` under its own name, its digest checked. Goes on where a lost connection broke off.

        Raises:
            CorruptDownload: what arrived is not what the server announced.
            ValueError: its name leads out of the folder.
        """
        target = folder / artifact["name"]
        if not target.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"the artifact's name {artifact['name']!r} leads out of {folder}")
        return files.download(self._transport, artifact, target)


def _upload(noun: Noun, path: Path, send: Callable[[Path], str]) -> list[dict[str, str]]:
    """The `files` of an upload source: a file, each of a folder, or a folder of pictures as one zip. send: returns an upload's id."""
    if path.is_file():
        return [{"path": path.name, "upload_id": send(path)}]
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist")
    if noun == "models":
        return [{"path": file.relative_to(path).as_posix(), "upload_id": send(file)} for file in files.files_in(path)]
    with files.zipped(path) as archive:
        return [{"path": archive.name, "upload_id": send(archive)}]
