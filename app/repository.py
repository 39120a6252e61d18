"""The one place where rows are scoped to their tenant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.db import Base
from app.errors import NotFound
from app.pagination import PageRequest

RowT = TypeVar("RowT", bound=Base)


def owned(row: type[Base], tenant_id: str) -> ColumnElement[bool]:
    """The condition that a row is the tenant's: every query that is made for a tenant has it from here."""
    condition: ColumnElement[bool] = row.__table__.c.tenant_id == tenant_id
    return condition


def get_owned(session: Session, row: type[RowT], tenant_id: str, row_id: str, *, lock: bool = False) -> RowT:
    """The tenant's row; `lock` keeps others from changing it until the transaction ends.

    Raises:
        NotFound: no such id, or it is another tenant's: the caller cannot tell which.
    """
    query = select(row).where(row.__table__.c.id == row_id, owned(row, tenant_id)).execution_options(populate_existing=lock)
    found = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if found is None:
        raise NotFound(f"There is no {row_id!r} here. Check the id, and that the key belongs to the tenant that owns it.")
    return found


def find_owned(session: Session, row: type[RowT], tenant_id: str, *where: ColumnElement[bool], lock: bool = False) -> RowT | None:
    """The tenant's one row that meets every condition, or None."""
    query = select(row).where(owned(row, tenant_id), *where).execution_options(populate_existing=lock)
    return session.scalars(query.with_for_update() if lock else query).one_or_none()


def count_owned(session: Session, row: type[RowT], tenant_id: str, *where: ColumnElement[bool]) -> int:
    """How many of the tenant's rows meet every condition."""
    return session.scalars(select(func.count()).select_from(row).where(owned(row, tenant_id), *where)).one()


def list_owned(session: Session, row: type[RowT], tenant_id: str, page: PageRequest, *where: ColumnElement[bool]) -> Sequence[RowT]:
    """The tenant's rows that meet every condition, newest first: one more than the page holds where there are more."""
    columns = row.__table__.c
    query = select(row).where(owned(row, tenant_id), *where).order_by(columns.id.desc()).limit(page.limit + 1)
    if page.after is not None:
        query = query.where(columns.id < page.after)
    return session.scalars(query).all()
