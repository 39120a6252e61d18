"""Both object stores keep the same promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import MIB, Settings
from app.storage import ObjectNotFound, ObjectStore, Part, PartMissing, open_store
from tests.servers.seaweedfs import SeaweedFS


def settings_for(storage_url: str, **fields: str) -> Settings:
    common = {"database_url": "sqlite://", "broker_url": "redis://127.0.0.1:1/0", "secret_key": "s" * 32}
    return Settings.model_validate({**common, "storage_url": storage_url, **fields})


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    if request.param == "folder":
        yield open_store(settings_for(f"file://{tmp_path}/some%20folder"))
        return
    seaweedfs: SeaweedFS = request.getfixturevalue("seaweedfs")
    bucket: str = request.getfixturevalue("bucket")
    yield open_store(
        settings_for(
            f"s3://{bucket}?endpoint={seaweedfs.endpoint_url}",
            s3_access_key_id=seaweedfs.access_key,
            s3_secret_access_key=seaweedfs.secret_key,
        )
    )


def read(store: ObjectStore, key: str, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join(store.open_range(key, start, stop))


class TestObjects:
    def test_come_back_as_they_went(self, store: ObjectStore, tmp_path: Path) -> None:
        content = bytes(range(256)) * 9000
        (tmp_path / "in").write_bytes(content)
        store.put_file("a/b c/ü.bin", tmp_path / "in")
        store.get_file("a/b c/ü.bin", tmp_path / "deep" / "out")
        assert (tmp_path / "deep" / "out").read_bytes() == content == read(store, "a/b c/ü.bin")
        assert store.size("a/b c/ü.bin") == len(content)

    def test_can_be_empty(self, store: ObjectStore) -> None:
        store.put_bytes("empty", b"")
        assert (store.size("empty"), read(store, "empty")) == (0, b"")

    def test_are_read_in_part(self, store: ObjectStore) -> None:
        store.put_bytes("x", b"0123456789")
        assert [read(store, "x", 2, 5), read(store, "x", 8), read(store, "x", 0, 1), read(store, "x", 4, 4)] == [b"234", b"89", b"0", b""]

    def test_are_replaced_whole(self, store: ObjectStore) -> None:
        store.put_bytes("x", b"a longer first version")
        reading = store.open_range("x")
        store.put_bytes("x", b"second")
        assert read(store, "x") == b"second"
        del reading

    def test_are_listed_by_prefix(self, store: ObjectStore) -> None:
        for key in ("jobs/1/a", "jobs/1/b/c", "jobs/10/a", "other"):
            store.put_bytes(key, b"x")
        assert list(store.keys("jobs/1/")) == ["jobs/1/a", "jobs/1/b/c"]
        assert list(store.keys("jobs/1")) == ["jobs/1/a", "jobs/1/b/c", "jobs/10/a"]
        assert list(store.keys("nothing/")) == []

    def test_are_deleted_once_and_for_all(self, store: ObjectStore, tmp_path: Path) -> None:
        store.put_bytes("a/x", b"x")
        store.delete("a/x")
        store.delete("a/x")
        assert list(store.keys("")) == []
        for look in (lambda: store.size("a/x"), lambda: store.open_range("a/x"), lambda: store.get_file("a/x", tmp_path / "out")):
            with pytest.raises(ObjectNotFound):
                look()
        assert not (tmp_path / "out").exists()

    def test_pass_the_readiness_probe(self, store: ObjectStore) -> None:
        store.probe()
        assert list(store.keys("")) == []


class TestMultipart:
    def part(self, store: ObjectStore, tmp_path: Path, multipart_id: str, number: int, content: bytes) -> Part:
        path = tmp_path / f"part {number}"
        path.write_bytes(content)
        return store.put_part("x", multipart_id, number, path)

    def test_makes_one_object_of_its_parts(self, store: ObjectStore, tmp_path: Path) -> None:
        multipart_id = store.start_multipart("x")
        first, second = b"1" * 5 * MIB, b"2"
        self.part(store, tmp_path, multipart_id, 2, second)
        self.part(store, tmp_path, multipart_id, 1, first)
        self.part(store, tmp_path, multipart_id, 1, first)
        parts = store.list_parts("x", multipart_id)
        assert [(part.number, part.bytes) for part in parts] == [(1, 5 * MIB), (2, 1)]
        with pytest.raises(ObjectNotFound):
            store.size("x")
        store.complete_multipart("x", multipart_id, parts)
        assert read(store, "x") == first + second
        with pytest.raises(ObjectNotFound):
            store.list_parts("x", multipart_id)

    def test_needs_all_its_parts(self, store: ObjectStore, tmp_path: Path) -> None:
        multipart_id = store.start_multipart("x")
        first = self.part(store, tmp_path, multipart_id, 1, b"1" * 5 * MIB)
        with pytest.raises(PartMissing):
            store.complete_multipart("x", multipart_id, [first, Part(2, 1, '"d41d8cd98f00b204e9800998ecf8427e"')])
        assert list(store.keys("")) == []

    def test_leaves_nothing_when_aborted(self, store: ObjectStore, tmp_path: Path) -> None:
        multipart_id = store.start_multipart("x")
        self.part(store, tmp_path, multipart_id, 1, b"1")
        store.abort_multipart("x", multipart_id)
        store.abort_multipart("x", multipart_id)
        with pytest.raises(ObjectNotFound):
            store.list_parts("x", multipart_id)


class TestFolderStore:
    @pytest.mark.parametrize("key", ["../x", "/x", "a//b", "a/../../x", "", "a/./b", "a\0b"])
    def test_stays_inside_its_folder(self, tmp_path: Path, key: str) -> None:
        store = open_store(settings_for(f"file://{tmp_path}/objects"))
        with pytest.raises(ValueError, match="storage key"):
            store.put_bytes(key, b"x")


class TestOpenStore:
    @pytest.mark.parametrize("url", ["ftp://host", "/folder", "s3:///no-bucket", "file://host/folder"])
    def test_refuses_an_address_of_neither_kind(self, url: str) -> None:
        with pytest.raises(ValueError, match="storage_url"):
            open_store(settings_for(url))
