"""Pictures of a training set: where a row's reference leads to, and opening what lies there without trusting it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from gpu_jobs.errors import InputError

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Decoders an untrusted file may reach. Pillow's full list holds some that start other programs (EPS)."""

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"})

MAX_PIXELS = 64_000_000
"""Width × height that is decoded at most: 192 MB as RGB."""

MAX_EMBEDDED_BYTES = 64 * 2**20
"""Size at most of one image that stands inside a row."""

_REMOTE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:")  # two letters at least, so that "C:" is a missing file and not a scheme
_DATA_URL = re.compile(r"data:image/[a-zA-Z0-9.+-]+;base64,")


class ImageProblem(Exception):
    """This image cannot be used; the message says why."""


def open_image(path: Path) -> Image.Image:
    """The picture at `path`, fully decoded, as RGB; of an animation the first frame.

    Raises:
        InputError: it is no picture, of another format, truncated, or larger than `MAX_PIXELS`.
    """
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise InputError(f"{path.name} has {width} × {height} pixels; at most {MAX_PIXELS:,} are decoded")
            return image.convert("RGB")
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{path.name} is no picture of a known format ({', '.join(IMAGE_FORMATS)})") from None
    except Exception as error:  # a damaged file makes the decoders raise almost anything
        raise InputError(f"{path.name} cannot be decoded: {error}") from error


class ImageFolder:
    """Turns what a row says about an image into a local file.

    Embedded images are written to `cache` under the name of their digest, so a second reading finds them there.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self._root = folder.resolve()
        self._cache = cache.resolve()
        self._found: dict[tuple[str, Path], Path] = {}  # links are resolved once for each image, not for each row

    def locate(self, reference: object, base: Path) -> Path:
        """The absolute path of the image that a row of a file in folder `base` refers to.

        reference: a path, a data URL, the encoded bytes, or a mapping with `bytes`, `path` or `url` (the struct of
            Hugging Face's Image feature, the `image_url` of OpenAI messages).

        Raises:
            ImageProblem: it leads nowhere, out of the folder, or to another machine.
        """
        match reference:
            case bytes():
                return self._keep(reference)
            case str() if reference.startswith("data:"):
                return self._keep(_decode_data_url(reference))
            case str():
                path = self._found.get((reference, base)) or self._find(reference, base)
                self._found[reference, base] = path
                return path
            case Mapping():
                return self.locate(_reference_in(reference), base)
            case _:
                raise ImageProblem(f"an image is a path, a data URL or embedded bytes, not {type(reference).__name__}")

    def inside(self, path: Path) -> Path | None:
        """The path relative to the data set's folder, or None where the image was embedded in a row."""
        return path.relative_to(self._root) if path.is_relative_to(self._root) and not path.is_relative_to(self._cache) else None

    def _find(self, reference: str, base: Path) -> Path:
        if not reference.strip() or "\0" in reference:
            raise ImageProblem("the image's path is empty or not a path")
        if _REMOTE.match(reference) or reference.startswith("//"):
            raise ImageProblem(
                f"{_short(reference)!r} is a remote address; nothing is fetched: put the image into the data set and give its path"
            )
        if Path(reference).is_absolute():
            raise ImageProblem(f"{_short(reference)!r} is absolute; image paths are relative to the data set's folder")
        escaped = False
        # LLaVA's files do not say what their paths are relative to; these are the layouts people use.
        for start in dict.fromkeys((base, self._root, base / "images", self._root / "images")):
            try:
                path = (start / reference).resolve()
                if not path.is_relative_to(self._root):
                    escaped = True
                elif path.is_file():
                    return path
            except (OSError, RuntimeError, ValueError):  # too long a name, a loop of links, no valid Unicode
                continue
        if escaped:
            raise ImageProblem(f"{_short(reference)!r} leaves the data set's folder")
        raise ImageProblem(f"{_short(reference)!r} is not in the data set")

    def _keep(self, content: bytes) -> Path:
        if not content:
            raise ImageProblem("the embedded image is empty")
        if len(content) > MAX_EMBEDDED_BYTES:
            raise ImageProblem(f"the embedded image has {len(content):,} bytes; at most {MAX_EMBEDDED_BYTES:,} are taken")
        digest = hashlib.sha256(content).hexdigest()
        path = self._cache / digest[:2] / f"{digest}{_suffix(content)}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f".{uuid.uuid4().hex}")
            unfinished.write_bytes(content)
            os.replace(unfinished, path)  # noqa: PTH105 (another process may keep the same image at this moment)
        return path


def _reference_in(reference: Mapping[str, Any]) -> object:
    for key in ("bytes", "url", "path"):
        if reference.get(key) is not None:
            return reference[key]
    raise ImageProblem("the image has neither `bytes` nor `path` nor `url`")


def _decode_data_url(url: str) -> bytes:
    header = _DATA_URL.match(url)
    if header is None:
        raise ImageProblem(f"{_short(url)!r} is not of the form data:image/…;base64,…")
    try:
        return base64.b64decode(url[header.end() :], validate=True)
    except binascii.Error as error:
        raise ImageProblem(f"the data URL is not valid base64: {error}") from None


def _suffix(content: bytes) -> str:
    if content.startswith(b"\x89PNG"):
        return ".png"
    if content.startswith(b"\xff\xd8\xff"):
        return ".jpg"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return ".webp"
    if content.startswith(b"GIF8"):
        return ".gif"
    return ".bmp" if content.startswith(b"BM") else ".unknown"


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:120]}…"
