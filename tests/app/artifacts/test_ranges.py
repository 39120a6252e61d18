"""One range of bytes, or everything (RFC 9110, section 14)."""

from __future__ import annotations

import pytest

from app.artifacts.ranges import parse_range
from app.errors import RangeNotSatisfiable


class TestParseRange:
    @pytest.mark.parametrize(
        ("header", "span"),
        [
            ("bytes=0-0", (0, 1)),
            ("bytes=2-5", (2, 6)),
            ("bytes=2-", (2, 10)),
            ("bytes=2-999", (2, 10)),
            ("bytes=-3", (7, 10)),
            ("bytes=-999", (0, 10)),
            ("Bytes= 2 - 5 ", (2, 6)),
        ],
    )
    def test_finds_one_range(self, header: str, span: tuple[int, int]) -> None:
        assert parse_range(header, 10) == span

    @pytest.mark.parametrize(
        "header", [None, "", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=a-b", "bytes=" + "9" * 99 + "-"]
    )
    def test_takes_anything_else_for_the_whole(self, header: str | None) -> None:
        assert parse_range(header, 10) is None

    @pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=99-100", 10), ("bytes=-0", 10), ("bytes=0-", 0)])
    def test_refuses_what_lies_behind_the_end(self, header: str, size: int) -> None:
        with pytest.raises(RangeNotSatisfiable) as refusal:
            parse_range(header, size)
        assert refusal.value.headers["Content-Range"] == f"bytes */{size}"
