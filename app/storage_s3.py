"""The object store as any S3: AWS, SeaweedFS, and their like."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from app.metrics import STORAGE_ERRORS
from app.storage import CHUNK, Multipart, ObjectNotFound, Part, PartLink, PartMissing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, PartTypeDef

_DIGEST_HEADER = "x-amz-checksum-sha256"
_MISSING = {"404", "NoSuchKey", "NoSuchUpload", "NotFound"}


class S3Store:
    """Links are signed for `public_endpoint`, the name by which clients reach the same store."""

    def __init__(
        self,
        bucket: str,
        endpoint: str | None,
        public_endpoint: str | None,
        region: str,
        access_key_id: str | None,
        secret_access_key: str | None,
    ) -> None:
        def client(url: str | None) -> S3Client:
            # Optional checksums are sent by a trailer that not every S3 understands; our own sha256 guards the bytes.
            config = Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"} if url else {},
                retries={"mode": "standard", "max_attempts": 5},
                connect_timeout=5,
                read_timeout=60,
                max_pool_connections=32,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            )
            made = boto3.client(
                "s3",
                endpoint_url=url,
                region_name=region,
                aws_access_key_id=access_key_id,
                aws_secret_access_key=secret_access_key,
                config=config,
            )
            for event in ("after-call.s3", "after-call-error.s3"):
                made.meta.events.register(event, _count_failure)
            return made

        self._bucket = bucket
        self._s3 = client(endpoint)
        self._public = client(public_endpoint) if public_endpoint else self._s3

    def ensure_bucket(self) -> None:
        """Create the bucket where it is missing: for a store of our own, such as the one in compose."""
        try:
            self._s3.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"404", "NoSuchBucket", "NotFound"}:
                raise
            self._s3.create_bucket(Bucket=self._bucket)

    def put_file(self, key: str, path: Path) -> None:
        self._s3.upload_file(str(path), self._bucket, key)

    def put_bytes(self, key: str, data: bytes) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=data)

    def get_file(self, key: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
        try:
            self._s3.download_file(self._bucket, key, str(partial))
            partial.replace(path)
        except ClientError as error:
            raise _translated(error, key) from error
        finally:
            partial.unlink(missing_ok=True)

    def open_range(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        if stop is not None and stop <= start:
            return iter(())
        span = {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"} if start or stop is not None else {}
        try:
            body: Any = self._s3.get_object(Bucket=self._bucket, Key=key, **span)["Body"]  # type: ignore[arg-type]
        except ClientError as error:
            raise _translated(error, key) from error

        def chunks() -> Iterator[bytes]:
            try:
                yield from body.iter_chunks(CHUNK)
            finally:
                body.close()

        return chunks()

    def size(self, key: str) -> int:
        try:
            return self._s3.head_object(Bucket=self._bucket, Key=key)["ContentLength"]
        except ClientError as error:
            raise _translated(error, key) from error

    def delete(self, key: str) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=key)

    def keys(self, prefix: str) -> Iterator[str]:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                yield item["Key"]

    def start_multipart(self, key: str, *, digests: bool = False) -> str:
        # AWS takes parts with a digest only where that was said at the beginning.
        if digests:
            return self._s3.create_multipart_upload(Bucket=self._bucket, Key=key, ChecksumAlgorithm="SHA256")["UploadId"]
        return self._s3.create_multipart_upload(Bucket=self._bucket, Key=key)["UploadId"]

    def part_link(
        self, key: str, multipart_id: str, number: int, expires_seconds: int, *, bytes: int, sha256: str | None
    ) -> PartLink | None:
        parameters = {"Bucket": self._bucket, "Key": key, "UploadId": multipart_id, "PartNumber": number, "ContentLength": bytes}
        headers = {}
        if sha256 is not None:
            parameters["ChecksumSHA256"] = headers[_DIGEST_HEADER] = _in_base64(sha256)
        # Every header named here is signed: a PUT with another length or digest has another signature.
        url = self._public.generate_presigned_url("upload_part", Params=parameters, ExpiresIn=expires_seconds, HttpMethod="PUT")
        return PartLink(url, headers)

    def put_part(self, key: str, multipart_id: str, number: int, path: Path) -> Part:
        try:
            with path.open("rb") as body:
                answer = self._s3.upload_part(Bucket=self._bucket, Key=key, UploadId=multipart_id, PartNumber=number, Body=body)
        except ClientError as error:
            raise _translated(error, multipart_id) from error
        return Part(number, path.stat().st_size, answer["ETag"])

    def list_parts(self, key: str, multipart_id: str) -> list[Part]:
        latest: dict[int, PartTypeDef] = {}
        try:
            for page in self._s3.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=key, UploadId=multipart_id):
                for part in page.get("Parts", []):
                    # SeaweedFS lists every version of a part that was sent again, in no order.
                    known = latest.get(part["PartNumber"])
                    if known is None or part["LastModified"] >= known["LastModified"]:
                        latest[part["PartNumber"]] = part
        except ClientError as error:
            raise _translated(error, multipart_id) from error
        return [Part(number, part["Size"], part["ETag"]) for number, part in sorted(latest.items())]

    def complete_multipart(self, key: str, multipart_id: str, parts: Iterable[Part]) -> None:
        listed: list[CompletedPartTypeDef] = [
            {
                "PartNumber": part.number,
                "ETag": part.etag,
                **({"ChecksumSHA256": _in_base64(part.sha256)} if part.sha256 is not None else {}),
            }
            for part in parts
        ]
        try:
            self._s3.complete_multipart_upload(Bucket=self._bucket, Key=key, UploadId=multipart_id, MultipartUpload={"Parts": listed})
        except ClientError as error:
            if error.response["Error"]["Code"] in {"InvalidPart", "InvalidPartOrder"}:
                raise PartMissing(str(error)) from error
            raise _translated(error, multipart_id) from error

    def abort_multipart(self, key: str, multipart_id: str) -> None:
        try:
            self._s3.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=multipart_id)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _MISSING:
                raise

    def open_multiparts(self) -> Iterator[Multipart]:
        for page in self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket):
            for upload in page.get("Uploads", []):
                yield Multipart(upload["Key"], upload["UploadId"], upload["Initiated"])

    def drop_leftovers(self) -> int:
        return 0  # a request that breaks off leaves nothing but multipart uploads

    def signed_url(self, key: str, filename: str, media_type: str, expires_seconds: int) -> str | None:
        parameters = {
            "Bucket": self._bucket,
            "Key": key,
            "ResponseContentType": media_type,
            "ResponseContentDisposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
        }
        return self._public.generate_presigned_url("get_object", Params=parameters, ExpiresIn=expires_seconds)

    def scratch(self) -> Path:
        import tempfile

        return Path(tempfile.gettempdir())

    def probe(self) -> None:
        key = f"probes/{secrets.token_hex(8)}"
        self.put_bytes(key, b"probe")
        try:
            if b"".join(self.open_range(key)) != b"probe":
                raise OSError(f"the bucket {self._bucket} returned other bytes than were written")
        finally:
            self.delete(key)


def _in_base64(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def _count_failure(event_name: str, http_response: Any = None, **_: Any) -> None:
    """Called by botocore once for each call, after its retries: with what came back, or with the exception in place of an answer."""
    if http_response is None or (http_response.status_code >= 400 and http_response.status_code != 404):
        STORAGE_ERRORS.labels(event_name.rpartition(".")[2]).inc()


def _translated(error: ClientError, name: str) -> Exception:
    return ObjectNotFound(name) if error.response["Error"]["Code"] in _MISSING else error
