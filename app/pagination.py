"""Pages of lists: `?limit=&after=`, newest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Query

from app.errors import InvalidInput
from app.schemas import Page

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """`after` is the id of the last item the client has seen; null starts at the newest."""

    limit: int
    after: str | None


async def _page_request(
    limit: Annotated[int, Query(ge=1, le=100, description="Items on a page.")] = 20,
    after: Annotated[str | None, Query(max_length=100, pattern=r"^[\w-]+$", description="`last_id` of the page before.")] = None,
) -> PageRequest:
    return PageRequest(limit, after)


PageQuery = Annotated[PageRequest, Depends(_page_request)]


def parse_number(prefix: str, place: str, id: str | None) -> int | None:
    """The number in an id such as `evt_42`, of rows that the database numbers; None for None.

    Raises:
        InvalidInput: it is no such id. `place` says where it stood.
    """
    if id is None:
        return None
    number = id.removeprefix(prefix)
    if not number.isascii() or not number.isdigit() or len(number) > 18:
        raise InvalidInput.at(place, f"must be an id such as {prefix}42")
    return int(number)


def as_page(rows: Sequence[R], request: PageRequest, show: Callable[[R], T], identify: Callable[[R], str]) -> Page[T]:
    """A page out of up to `limit + 1` rows: the one too many only tells that there is more."""
    shown = rows[: request.limit]
    return Page(data=[show(row) for row in shown], has_more=len(rows) > request.limit, last_id=identify(shown[-1]) if shown else None)
