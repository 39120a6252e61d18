"""Bytes travel once, and only the right ones are handed out."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine

from app.storage_folder import FolderStore
from tests.killed import run_until_killed
from workers.cache import ContentCache, CorruptObject, ManifestFile, digest_of

MIB = 1024 * 1024


class CountingStore(FolderStore):
    """Remembers what was fetched."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.fetched: list[str] = []

    def get_file(self, key: str, path: Path) -> None:
        self.fetched.append(key)
        super().get_file(key, path)

    def keep(self, content: bytes, folder: Path) -> ManifestFile:
        source = folder / "source"
        source.write_bytes(content)
        sha256 = digest_of(source)
        self.put_file(f"objects/{sha256}", source)
        return ManifestFile(path="file.bin", key=f"objects/{sha256}", sha256=sha256, bytes=len(content))


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(tmp_path / "store")


def test_a_file_is_fetched_once(store: CountingStore, tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "cache", 100 * MIB)
    file = store.keep(b"weights", tmp_path)
    for name in ("first", "second/nested"):
        cache.place(store, file, tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"weights"
    assert store.fetched == [file["key"]]


def test_a_file_made_here_is_not_fetched_at_all(store: CountingStore, tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "cache", 100 * MIB)
    file = store.keep(b"weights", tmp_path)
    cache.keep(tmp_path / "source", file["sha256"])
    cache.place(store, file, tmp_path / "again")
    assert store.fetched == []


def test_other_bytes_than_were_stored_are_not_handed_out(store: CountingStore, tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "cache", 100 * MIB)
    file = store.keep(b"weights", tmp_path)
    store.put_bytes(file["key"], b"weighty")
    with pytest.raises(CorruptObject):
        cache.place(store, file, tmp_path / "target")
    assert not (tmp_path / "target").exists()
    store.put_bytes(file["key"], b"weights")
    cache.place(store, file, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"weights", "the wrong bytes were not kept"


def test_what_was_used_longest_ago_makes_room(store: CountingStore, tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "cache", 3 * MIB)
    files = [store.keep(bytes([number]) * MIB, tmp_path) for number in range(4)]
    for age, file in enumerate(files):
        cache.place(store, file, tmp_path / f"staged-{age}")
        os.utime(tmp_path / f"staged-{age}", (age, age))  # the same file as in the cache: its time of last use
    cache.place(store, store.keep(b"x" * MIB, tmp_path), tmp_path / "one-more")
    store.fetched.clear()
    cache.place(store, files[3], tmp_path / "recent")
    assert store.fetched == []
    cache.place(store, files[0], tmp_path / "old")
    assert store.fetched == [files[0]["key"]]
    assert all((tmp_path / f"staged-{age}").stat().st_size == MIB for age in range(4)), "running steps keep what was staged for them"


def test_an_archive_is_unpacked_once(store: CountingStore, tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "cache", 100 * MIB)
    file = store.keep(b"archive", tmp_path)
    unpacked: list[Path] = []

    def unpack(archive: Path, folder: Path) -> None:
        assert archive.read_bytes() == b"archive"
        (folder / "images").mkdir(parents=True)
        (folder / "images" / "1.png").write_text("picture")
        unpacked.append(folder)

    for name in ("first", "second"):
        cache.place_unpacked(store, file, tmp_path / name, unpack)
        assert (tmp_path / name / "images" / "1.png").read_text() == "picture"
    assert len(unpacked) == 1


def test_an_archive_that_cannot_be_unpacked_leaves_nothing(store: CountingStore, tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "cache", 100 * MIB)
    file = store.keep(b"archive", tmp_path)

    def refuse(archive: Path, folder: Path) -> None:
        raise ValueError("not an archive")

    with pytest.raises(ValueError, match="not an archive"):
        cache.place_unpacked(store, file, tmp_path / "target", refuse)
    assert list((tmp_path / "cache" / "incoming").iterdir()) == []
    assert list((tmp_path / "cache" / "unpacked").iterdir()) == []


KILLED_IN_A_DOWNLOAD = """
from pathlib import Path
from workers.cache import ContentCache
class Store:
    def get_file(self, key, path):
        path.with_name(path.name + ".ab.partial").write_bytes(b"half of it")
        kill()
cache = ContentCache(Path({folder!r}), 1)
cache.place(Store(), dict(path="model", key="key", sha256="0" * 64, bytes=1), Path({folder!r}, "target"))
"""


def test_what_a_killed_process_left_goes_once_nobody_can_be_at_it(store: CountingStore, tmp_path: Path) -> None:
    run_until_killed(KILLED_IN_A_DOWNLOAD.format(folder=str(tmp_path / "cache")))
    incoming = tmp_path / "cache" / "incoming"
    cache = ContentCache(tmp_path / "cache", 100 * MIB)
    assert len(list(incoming.iterdir())) == 1, "another process may be at it"
    with time_machine.travel(datetime.now(UTC) + timedelta(days=2), tick=True):
        cache.place(store, store.keep(b"weights", tmp_path), tmp_path / "target")  # by a process that has run all the time
        assert list(incoming.iterdir()) == []


def test_what_a_killed_process_left_goes_as_soon_as_the_cache_is_opened_again(tmp_path: Path) -> None:
    run_until_killed(KILLED_IN_A_DOWNLOAD.format(folder=str(tmp_path / "cache")))
    with time_machine.travel(datetime.now(UTC) + timedelta(days=2), tick=True):
        ContentCache(tmp_path / "cache", 100 * MIB)
    assert list((tmp_path / "cache" / "incoming").iterdir()) == []
