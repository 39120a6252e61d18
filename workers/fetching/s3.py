"""Objects below a prefix of a tenant's bucket, read with the tenant's own credentials."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote_plus

import boto3
import httpx
import stamina
from botocore import UNSIGNED
from botocore.config import Config
from botocore.parsers import ResponseParserError, create_parser

from app.credentials.service import OpenCredential
from app.settings import Reach
from app.webhooks.addresses import AddressRefused
from workers.fetching.origin import Advance, Listing, RemoteFile, SourceRefused
from workers.guarded_http import Check, GuardedTransport

CHUNK = 1024 * 1024
MOST_OBJECTS = 1_000_000
LONGEST_ANSWER = 8 * 1024 * 1024
LINK_SECONDS = 3600
SILENCE_SECONDS = 60.0
LONGEST_PAUSE = 2.0
_WRONG_REGION = {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "AuthorizationQueryParametersError"}
_CHANGED = "was changed or deleted while it was being read; register the source again once nothing writes to it"


class _MayPass(ConnectionError):
    """The store is busy or out of order."""


class S3Prefix:
    """boto3 signs the requests and reads the answers; they travel by a transport that checks where they go."""

    def __init__(self, uri: str, credential: OpenCredential | None, *, reach: Reach, check: Check = lambda: None) -> None:
        self._bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        self._prefix = prefix.rstrip("/")
        self._uri = uri
        self._known = credential is not None
        secrets = credential.secrets if credential else {}
        # Never the server's own credentials: a tenant who gave none reads what the whole world may read.
        signature: Any = "s3v4" if credential else UNSIGNED
        self._s3 = boto3.client(
            "s3",
            endpoint_url=credential.endpoint_url if credential else None,
            region_name=(credential.region if credential else None) or "us-east-1",
            aws_access_key_id=secrets.get("access_key_id"),
            aws_secret_access_key=secrets.get("secret_access_key"),
            aws_session_token=secrets.get("session_token"),
            config=Config(signature_version=signature, s3={"addressing_style": "path"}),
        )
        transport = GuardedTransport(reach=reach, check=check)
        self._http = httpx.Client(transport=transport, timeout=SILENCE_SECONDS, headers={"Accept-Encoding": "identity"})

    def list_files(self) -> Listing:
        files: list[RemoteFile] = []
        parameters: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix}
        while True:
            page = self._list_page(parameters)
            files += [file for item in page.get("Contents", []) if (file := self._remote_file(item)) is not None]
            if len(files) > MOST_OBJECTS:
                raise SourceRefused("too_large", f"there are more than {MOST_OBJECTS:,} objects below {self._uri}; name a narrower prefix")
            token = page.get("NextContinuationToken")
            if not token or not page.get("Contents"):
                break
            parameters["ContinuationToken"] = token
        if not files:
            raise SourceRefused("no_such_prefix", f"there is no object below {self._uri}; the bucket is there")
        return Listing(files)

    def fetch(self, file: RemoteFile, target: Path, advance: Advance) -> str | None:
        version = None
        with target.open("wb") as out:
            for attempt in stamina.retry_context(on=(httpx.TransportError, _MayPass), attempts=5, timeout=None, wait_max=LONGEST_PAUSE):
                with attempt:
                    version = self._read_on(file, out, advance)
        return version

    def close(self) -> None:
        self._http.close()

    @stamina.retry(on=(httpx.TransportError, _MayPass), attempts=4, wait_max=LONGEST_PAUSE)
    def _list_page(self, parameters: dict[str, Any]) -> dict[str, Any]:
        with self._get("list_objects_v2", parameters, {}) as response:
            return self._parsed("ListObjectsV2", response, self._read_whole(response))

    def _remote_file(self, item: dict[str, Any]) -> RemoteFile | None:
        key = unquote_plus(item["Key"])  # boto3 asks for names in an encoding that XML can hold
        if key == self._prefix:
            path = key.rpartition("/")[2]
        elif not self._prefix or key.startswith(f"{self._prefix}/"):
            path = key[len(self._prefix) :].removeprefix("/")
        else:
            return None  # `folder2/…` where `folder` was named
        if key.endswith("/"):
            return None  # how some tools mark a folder
        return RemoteFile(path=path, address=key, bytes=item["Size"], etag=item["ETag"])

    def _read_on(self, file: RemoteFile, out: BinaryIO, advance: Advance) -> str | None:
        """Append what is still missing. Returns the version that was read from, where the bucket keeps them."""
        if out.tell() == file.bytes > 0:
            return None  # all had arrived when the connection broke
        headers = {"If-Match": file.etag}
        if out.tell():
            headers["Range"] = f"bytes={out.tell()}-"
        with self._get("get_object", {"Bucket": self._bucket, "Key": file.address}, headers) as response:
            if response.headers.get("ETag") != file.etag:
                raise SourceRefused("changed_while_reading", f"the object {_CHANGED}", file.path)
            if response.status_code != 206 and out.tell():
                advance(-out.tell())
                out.seek(0)
                out.truncate()
            for chunk in response.iter_raw(CHUNK):
                out.write(chunk)
                advance(len(chunk))
                if out.tell() > file.bytes:
                    break
            if out.tell() != file.bytes:
                raise SourceRefused("changed_while_reading", f"the object {_CHANGED}", file.path)
            version_id: str | None = response.headers.get("x-amz-version-id")
            return version_id

    @contextmanager
    def _get(self, operation: str, parameters: dict[str, Any], headers: dict[str, str]) -> Iterator[httpx.Response]:
        url = self._s3.generate_presigned_url(operation, Params=parameters, ExpiresIn=LINK_SECONDS)
        try:
            with self._http.stream("GET", url, headers=headers) as response:
                if not response.is_success:
                    self._refuse(response, self._read_whole(response))
                yield response
        except AddressRefused as refusal:
            raise SourceRefused("address_refused", f"the endpoint of your credentials: {refusal}") from refusal

    def _read_whole(self, response: httpx.Response) -> bytes:
        """The answer, as it was sent: whoever packs a large one small is not let unpack it here."""
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > LONGEST_ANSWER:
                raise SourceRefused("not_s3", f"an answer about {self._uri} has no end")
        return bytes(body)

    def _refuse(self, response: httpx.Response, body: bytes) -> None:
        """Raises:
        SourceRefused: for good.
        _MayPass: for now.
        """
        status = response.status_code
        if status >= 500 or status in (408, 429):
            raise _MayPass(f"the store of {self._uri} answered {status}")
        error = self._parsed("ListObjectsV2", response, body).get("Error", {})
        code = error.get("Code") or str(status)
        if status == 412 or code in ("NoSuchKey", "NoSuchVersion"):
            raise SourceRefused("changed_while_reading", f"an object below {self._uri} {_CHANGED}")
        if code in _WRONG_REGION or status in (301, 307):
            region = response.headers.get("x-amz-bucket-region") or error.get("Region") or "another one"
            raise SourceRefused("wrong_region", f"the bucket {self._bucket} lies in the region {region}; set credentials that say so")
        if status == 404:
            raise SourceRefused("no_such_bucket", f"there is no bucket {self._bucket} at the endpoint of your credentials")
        if status in (401, 403) or code in ("InvalidAccessKeyId", "ExpiredToken", "InvalidToken"):
            which = "your credentials do not allow it" if self._known else "you have set no credentials for this bucket"
            raise SourceRefused("forbidden", f"{self._uri} may not be read ({code}): {which}; reading takes s3:ListBucket and s3:GetObject")
        raise SourceRefused("refused", f"the store refused to let {self._uri} be read: {code}: {error.get('Message', '')}"[:500])

    def _parsed(self, operation: str, response: httpx.Response, body: bytes) -> dict[str, Any]:
        shape = self._s3.meta.service_model.operation_model(operation).output_shape
        assert shape is not None  # noqa: S101  (boto3's description of S3 has one for each)
        answer = {"status_code": response.status_code, "headers": dict(response.headers), "body": body}
        try:
            parsed: dict[str, Any] = create_parser("rest-xml").parse(answer, shape)
        except ResponseParserError as fault:
            raise SourceRefused("not_s3", f"what answers for {self._uri} does not speak S3") from fault
        return parsed
