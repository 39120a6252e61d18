"""Hand out stored bytes: by a link to the object store, or as a stream of our own."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from app.artifacts.digests import repr_digest
from app.artifacts.ranges import parse_range
from app.artifacts.tables import ArtifactRow
from app.errors import NotFound
from app.runtime import Runtime
from app.storage import ObjectNotFound


def artifact_content(request: Request, runtime: Runtime, artifact: ArtifactRow) -> Response:
    """The answer to a download.

    Raises:
        RangeNotSatisfiable: the range lies outside of the file.
    """
    filename = artifact.name.rpartition("/")[2]
    link = runtime.store.signed_url(artifact.key, filename, artifact.media_type, runtime.settings.link_lifetime_seconds)
    if link is not None:
        return RedirectResponse(link, 302, headers={"Cache-Control": "no-store"})
    etag = f'"{artifact.sha256}"'
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
        "ETag": etag,
        "Repr-Digest": repr_digest(artifact.sha256),
        # Never run in the browser what a model may have written.
        "Content-Security-Policy": "sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    if _matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    # A range of another version than the client began with would join two files.
    fresh = request.headers.get("if-range") in (None, etag)
    span = parse_range(request.headers.get("range"), artifact.bytes) if fresh else None
    start, stop = span or (0, artifact.bytes)
    if span:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{artifact.bytes}"
    headers["Content-Length"] = str(stop - start)
    try:
        chunks = runtime.store.open_range(artifact.key, start, stop)
    except ObjectNotFound as error:
        raise NotFound("The bytes of this artifact were deleted.") from error
    return StreamingResponse(chunks, 206 if span else 200, headers, media_type=artifact.media_type)


def _matches(header: str | None, etag: str) -> bool:
    return header is not None and (header.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in header.split(",")))
