"""Is a folder of downloads what the service handed out, all of it and nothing else?"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from app.provenance.bundle import SIGNATURE, NotGenuine, verify_bundle
from app.provenance.keys import PublicKey

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Verified:
    """`files` counts what was signed, `bytes` adds up its sizes."""

    job_id: str
    files: int
    bytes: int


def verify_folder(folder: Path, key: PublicKey) -> Verified:
    """Check the signature first, then the manifest, then that every signed file is there, unchanged, and no other.

    Raises:
        NotGenuine: something is wrong; the message says what comes first.
        NotADirectoryError: there is no such folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()}
    for name, path in found.items():
        if path.is_symlink() or not path.is_file():
            raise NotGenuine(f"{name} is not a plain file; nothing else was handed out.")
    if SIGNATURE not in found:
        raise NotGenuine(f"{SIGNATURE} is missing: nothing vouches for these files.")
    signed = verify_bundle(found.pop(SIGNATURE).read_bytes(), key)
    for name in sorted(signed, key=lambda name: (name != MANIFEST, name)):
        if name not in found:
            raise NotGenuine(f"{name} was signed and is missing.")
        if (digest := _sha256_of(found[name])) != signed[name]:
            raise NotGenuine(f"{name} was changed: its SHA-256 is {digest}, and {signed[name]} was signed.")
    if extra := sorted(found.keys() - signed.keys()):
        raise NotGenuine(f"{extra[0]} is there and was not signed.")
    manifest = json.loads(found[MANIFEST].read_bytes())
    return Verified(manifest["about"]["job_id"], len(signed), sum(found[name].stat().st_size for name in signed))


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
