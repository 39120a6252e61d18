"""A repository of the Hugging Face hub at one commit."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpcore2
import httpx2
from huggingface_hub import HfApi, constants, hf_hub_download, set_client_factory
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._http import default_client_factory
from huggingface_hub.utils.tqdm import tqdm

from workers.cache import CorruptObject, digest_of
from workers.fetching.origin import Advance, Listing, RemoteFile, SourceRefused
from workers.guarded_http import Check, GuardedBackend

LIBRARY = "lustral"
SILENCE_SECONDS = 60.0


# What hf_xet downloads, nobody can stop, and nobody minds how slowly it arrives.
constants.HF_HUB_DISABLE_XET = True


def _client(check: Check) -> httpx2.Client:
    # Without the library's check of HF_HUB_OFFLINE, by which our images keep everything that loads models away from the network:
    # fetching what a tenant named is the one reason to go there.
    client = httpx2.Client(follow_redirects=True, timeout=SILENCE_SECONDS)
    # Set into the pools that the library made: it finds the proxies that the operator's environment names.
    for transport in (client._transport, *client._mounts.values()):  # noqa: SLF001
        if isinstance(transport, httpx2.HTTPTransport):
            transport._pool._network_backend = GuardedBackend(httpcore2, reach="private", check=check)  # type: ignore[assignment]  # noqa: SLF001
    return client


class HubRepository:
    """The hub is the operator's choice, so it may redirect to where it keeps its files. One at a time in a process: the library
    has one client for all."""

    def __init__(
        self,
        endpoint: str,
        repo_type: Literal["model", "dataset"],
        repo_id: str,
        revision: str,
        token: str | None,
        *,
        check: Check = lambda: None,
    ) -> None:
        set_client_factory(partial(_client, check))
        self._endpoint = endpoint
        self._repo_type = repo_type
        self._repo_id = repo_id
        self._revision = revision
        # False: never a token that the operator's own account has on this machine.
        self._token: str | Literal[False] = token or False
        self._api = HfApi(endpoint=endpoint, token=self._token, library_name=LIBRARY)

    def list_files(self) -> Listing:
        with self._refusals():
            commit = self._api.repo_info(self._repo_id, revision=self._revision, repo_type=self._repo_type).sha
            if commit is None:
                raise SourceRefused("empty", f"{self._repo_id} has no commit at {self._revision}")
            tree = self._api.list_repo_tree(self._repo_id, recursive=True, revision=commit, repo_type=self._repo_type)
            files = [_remote_file(entry, commit) for entry in tree if isinstance(entry, RepoFile)]
        if not files:
            raise SourceRefused("empty", f"{self._repo_id} has no files at {self._revision}")
        return Listing(files, {"commit": commit})

    def fetch(self, file: RemoteFile, target: Path, advance: Advance) -> str | None:
        folder = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
        arrived = 0

        def count(received: int) -> None:
            nonlocal arrived
            arrived += received
            if arrived > file.bytes:  # the library reads for as long as something comes
                raise CorruptObject(f"{file.path} has more than the {file.bytes:,} bytes that the hub lists it with")
            advance(received)

        try:
            with self._refusals():
                fetched = hf_hub_download(
                    self._repo_id,
                    file.address,
                    repo_type=self._repo_type,
                    revision=file.commit,
                    endpoint=self._endpoint,
                    token=self._token,
                    library_name=LIBRARY,
                    local_dir=folder,
                    cache_dir=folder / ".cache",  # not the operator's own, which others may not read
                    tqdm_class=_bar(count),
                )
            _verify(Path(fetched), file)
            Path(fetched).replace(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return None

    def close(self) -> None:
        # Else whatever this process asks the hub for next goes there too, past HF_HUB_OFFLINE and at the word of this step's `check`.
        set_client_factory(default_client_factory)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """The library's errors in our terms; those that may pass go through."""
        what = f"{self._repo_type} {self._repo_id}"
        try:
            try:
                yield
            except LocalEntryNotFoundError as hidden:
                raise hidden.__cause__ or hidden from None
        except GatedRepoError as error:
            detail = f"the {what} is gated: accept its terms on the hub, then set credentials of type huggingface with that account's token"
            raise SourceRefused("gated", detail) from error
        except RevisionNotFoundError as error:
            raise SourceRefused("no_such_revision", f"the {what} has no revision {self._revision!r}") from error
        except (RepositoryNotFoundError, HFValidationError) as error:
            detail = f"there is no {what}, or it is private and {self._whose_token()} may not see it"
            raise SourceRefused("no_such_repo", detail) from error
        except EntryNotFoundError as error:
            raise SourceRefused("changed_while_reading", f"a file of the {what} is gone: its history was rewritten") from error
        except HfHubHTTPError as error:
            if isinstance(error, DisabledRepoError) or error.response.status_code in (401, 403):
                raise SourceRefused("forbidden", f"the hub does not let {self._whose_token()} read the {what}") from error
            raise

    def _whose_token(self) -> str:
        return "your token" if self._token else "a reader without a token"


def _remote_file(entry: RepoFile, commit: str) -> RemoteFile:
    lfs = entry.lfs
    return RemoteFile(
        path=entry.path,
        address=entry.path,
        bytes=entry.size,
        etag=lfs.sha256 if lfs else entry.blob_id,
        sha256=lfs.sha256 if lfs else None,
        commit=commit,
    )


def _verify(path: Path, file: RemoteFile) -> None:
    """Large files are named by their SHA-256, all others by git's digest of a header and the content.

    Raises:
        CorruptObject: it is another file.
    """
    found = digest_of(path) if file.sha256 is not None else _git_digest(path)
    if found != file.etag:
        raise CorruptObject(f"{file.path} arrived with the digest {found}; the hub lists it with {file.etag}")


def _git_digest(path: Path) -> str:
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as content:
        while chunk := content.read(1024 * 1024):
            digest.update(chunk)
    return digest.hexdigest()


def _bar(advance: Advance) -> type[tqdm]:
    """What the library takes for a progress bar: it shows nothing and tells `advance`."""

    class Bar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            advance(int(n or 0))
            shown: bool | None = super().update(n)
            return shown

    return Bar
