from __future__ import annotations

import os
import resource
import stat
import struct
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_jobs.data.archive import ArchiveLimits, extract
from gpu_jobs.errors import InputError


def make_zip(path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def special(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = mode << 16
    return entry


def refusal(tmp_path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]], limits: ArchiveLimits | None = None) -> str:
    """Why an archive is refused; nothing may be left of it beside the archive itself."""
    return refusal_of(make_zip(tmp_path / "a.zip", entries), limits)


def refusal_of(archive: Path, limits: ArchiveLimits | None = None) -> str:
    with pytest.raises(InputError) as caught:
        extract(archive, archive.parent / "out", limits or ArchiveLimits())
    assert list(archive.parent.iterdir()) == [archive]
    return str(caught.value)


class TestExtract:
    def test_files_come_out_as_they_went_in(self, tmp_path: Path) -> None:
        archive = make_zip(tmp_path / "a.zip", [("data.json", b"[]"), ("images/", b""), ("images/é.png", b"x" * 5000)])
        assert extract(archive, tmp_path / "out") == [tmp_path / "out" / "data.json", tmp_path / "out" / "images" / "é.png"]
        assert (tmp_path / "out" / "images" / "é.png").read_bytes() == b"x" * 5000

    def test_a_single_folder_around_everything_is_stripped(self, tmp_path: Path) -> None:
        archive = make_zip(
            tmp_path / "a.zip", [("model/config.json", b"{}"), ("model/sub/a.txt", b""), ("__MACOSX/model/._config.json", b"")]
        )
        extract(archive, tmp_path / "out")
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "sub"]

    def test_an_empty_folder_may_be_in_the_place(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        assert len(extract(make_zip(tmp_path / "a.zip", [("a.txt", b"a")]), tmp_path / "out")) == 1

    def test_a_folder_with_something_in_it_is_not_touched(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_text("mine")
        with pytest.raises(FileExistsError):
            extract(make_zip(tmp_path / "a.zip", [("a.txt", b"a")]), tmp_path / "out")
        assert (tmp_path / "out" / "mine.txt").read_text() == "mine"

    def test_an_archive_within_is_a_file_like_any_other(self, tmp_path: Path) -> None:
        inner = make_zip(tmp_path / "inner.zip", [("../../evil", b"x")])
        extract(make_zip(tmp_path / "a.zip", [("inner.zip", inner.read_bytes()), ("b", b"")]), tmp_path / "out")
        assert (tmp_path / "out" / "inner.zip").read_bytes() == inner.read_bytes()

    def test_modes_of_the_archive_are_not_taken_over(self, tmp_path: Path) -> None:
        extract(make_zip(tmp_path / "a.zip", [(special("run.sh", stat.S_IFREG | 0o6777), b"x")]), tmp_path / "out")
        assert (tmp_path / "out" / "run.sh").stat().st_mode & 0o6111 == 0


class TestNames:
    @pytest.mark.parametrize("name", ["../evil", "a/../../evil", "a/..", "..", "a/../b"])
    def test_climbing(self, name: str, tmp_path: Path) -> None:
        assert refusal(tmp_path, [("ok", b""), (name, b"x")]) == f"archive entry {name!r} climbs out of its folder"

    @pytest.mark.parametrize("name", ["/etc/passwd", "//host/share", "C:/windows", "c:evil"])
    def test_absolute(self, name: str, tmp_path: Path) -> None:
        assert "has an absolute path" in refusal(tmp_path, [(name, b"x")])

    @pytest.mark.parametrize("name", ["a\\..\\evil", "a\nb", "a\x1b[2Jb", "a\u202eb"])
    def test_unprintable(self, name: str, tmp_path: Path) -> None:
        assert "unprintable" in refusal(tmp_path, [(name, b"x")])

    def test_nul(self, tmp_path: Path) -> None:
        path = make_zip(tmp_path / "a.zip", [("evil.pyXpng", b"x")])
        path.write_bytes(path.read_bytes().replace(b"evil.pyXpng", b"evil.py\0png"))
        assert "unprintable" in refusal_of(path)

    @pytest.mark.parametrize("name", ["a//b", "./a", "a/./b"])
    def test_empty_parts(self, name: str, tmp_path: Path) -> None:
        assert "empty part" in refusal(tmp_path, [(name, b"x")])

    @pytest.mark.parametrize("name", ["con", "NUL.txt", "a/com1.json", "aux ", "lpt9.tar.gz", "a/b.", "a /b", "file:stream"])
    def test_names_that_systems_reserve(self, name: str, tmp_path: Path) -> None:
        assert "reserve" in refusal(tmp_path, [(name, b"x")])

    def test_too_long(self, tmp_path: Path) -> None:
        assert "longer than 255 bytes" in refusal(tmp_path, [("é" * 128, b"x")])

    def test_too_deep(self, tmp_path: Path) -> None:
        assert "more than 4,096 bytes" in refusal(tmp_path, [("a/" * 2500 + "b", b"x")])


class TestKinds:
    def test_symbolic_link(self, tmp_path: Path) -> None:
        assert refusal(tmp_path, [(special("link", stat.S_IFLNK | 0o777), b"/etc/passwd")]) == "archive entry 'link' is a symbolic link"

    @pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
    def test_device(self, kind: int, tmp_path: Path) -> None:
        assert "is a device, a pipe or a socket" in refusal(tmp_path, [(special("dev", kind | 0o666), b"")])

    def test_encrypted(self, tmp_path: Path) -> None:
        path = make_zip(tmp_path / "a.zip", [("secret", b"x")])
        content = bytearray(path.read_bytes())
        content[content.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(content)
        assert "'secret' is encrypted" in refusal_of(path)

    def test_other_compression(self, tmp_path: Path) -> None:
        assert "another method than deflate" in refusal_of(make_zip(tmp_path / "a.zip", [("a", b"x")], zipfile.ZIP_LZMA))


class TestCollisions:
    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_the_same_name_twice(self, tmp_path: Path) -> None:
        assert refusal(tmp_path, [("a", b"1"), ("a", b"2")]) == "archive entry 'a' is there twice"

    @pytest.mark.parametrize(
        ("one", "other"), [("Config.json", "config.json"), ("A/x", "a/y"), ("e\u0301.png", "é.png"), ("straße", "STRASSE")]
    )
    def test_names_that_some_file_systems_confuse(self, one: str, other: str, tmp_path: Path) -> None:
        assert "only in case or accents" in refusal(tmp_path, [(one, b"1"), (other, b"2")])

    @pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
    def test_a_file_that_is_also_a_folder(self, names: tuple[str, str], tmp_path: Path) -> None:
        assert "'a' is both a file and a folder" in refusal(tmp_path, [(names[0], b"1"), (names[1], b"2")])


class TestBombs:
    def test_too_many_entries(self, tmp_path: Path) -> None:
        entries: list[tuple[str | zipfile.ZipInfo, bytes]] = [(str(number), b"") for number in range(11)]
        assert "11 entries; at most 10" in refusal(tmp_path, entries, ArchiveLimits(entries=10))

    def test_a_table_of_contents_too_large_to_hold(self, tmp_path: Path) -> None:
        entries: list[tuple[str | zipfile.ZipInfo, bytes]] = [(str(number), b"") for number in range(1000)]
        assert "table of contents" in refusal(tmp_path, entries, ArchiveLimits(entries=10))

    def test_total_bytes(self, tmp_path: Path) -> None:
        entries: list[tuple[str | zipfile.ZipInfo, bytes]] = [("a", os.urandom(600)), ("b", os.urandom(600))]
        assert "more than 1,000 bytes, at entry 'b'" in refusal(tmp_path, entries, ArchiveLimits(total_bytes=1000))

    def test_ratio(self, tmp_path: Path) -> None:
        assert "'zeros' expands more than 200 times" in refusal(tmp_path, [("zeros", bytes(50_000_000))])

    def test_short_texts_may_compress_well(self, tmp_path: Path) -> None:
        assert len(extract(make_zip(tmp_path / "a.zip", [("spaces.txt", b" " * 900_000)]), tmp_path / "out")) == 1

    def test_a_bomb_is_stopped_before_it_writes_more_than_allowed(self, tmp_path: Path) -> None:
        archive = make_zip(tmp_path / "a.zip", [("bomb", bytes(400_000_000))])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, hard))  # one byte more in a file would be an OSError
        try:
            assert "more than 3,000,000 bytes, at entry 'bomb'" in refusal_of(archive, ArchiveLimits(total_bytes=3_000_000, ratio=2000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def test_sizes_that_the_archive_claims_are_not_believed(self, tmp_path: Path) -> None:
        path = make_zip(tmp_path / "a.zip", [("zeros", bytes(5_000_000))])
        content = bytearray(path.read_bytes())
        for magic, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
            struct.pack_into("<I", content, content.index(magic) + at, 10)
        path.write_bytes(content)
        assert "'zeros'" in refusal_of(path)

    def test_entries_that_share_their_bytes(self, tmp_path: Path) -> None:
        path = make_zip(tmp_path / "a.zip", [("a", bytes(1000)), ("b", bytes(1000))])
        content = bytearray(path.read_bytes())
        second = content.rindex(b"PK\x01\x02")
        struct.pack_into("<I", content, second + 42, 0)
        path.write_bytes(content)
        assert "overlap" in refusal_of(path)


class TestDamage:
    @pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(100), b"PK\x05\x06", b"PK\x05\x06" + b"\xff" * 18])
    def test_no_zip(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "a.zip"
        path.write_bytes(content)
        refusal_of(path)

    def test_empty(self, tmp_path: Path) -> None:
        assert refusal(tmp_path, []) == "the archive is empty"

    def test_content_that_does_not_match_its_checksum(self, tmp_path: Path) -> None:
        path = make_zip(tmp_path / "a.zip", [("a", b"hello")], zipfile.ZIP_STORED)
        path.write_bytes(path.read_bytes().replace(b"hello", b"hullo"))
        assert "entry 'a' is damaged" in refusal_of(path)

    @given(data=st.data())
    @settings(max_examples=150, deadline=None)
    def test_any_damage_gives_all_or_nothing(self, data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            path = make_zip(Path(temporary) / "a.zip", [("a.txt", b"hello " * 50), ("b/c.bin", bytes(range(256)))])
            content = bytearray(path.read_bytes())
            for _ in range(data.draw(st.integers(1, 4))):
                content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
            path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
            try:
                extract(path, path.parent / "out")
            except InputError:
                assert list(path.parent.iterdir()) == [path]
            else:
                assert {child.name for child in path.parent.iterdir()} == {"a.zip", "out"}
