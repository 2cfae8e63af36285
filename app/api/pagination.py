"""Pages by keyset: an opaque cursor names the last item seen, so pages stay stable while rows arrive.

A cursor is not signed. It holds a position and nothing else: forging one shows no more than the caller's own rows.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from fastapi import Query
from pydantic import BaseModel, Field
from typing_extensions import TypeForm

from app.api.integers import DIGITS
from app.errors import Fault, InvalidCursor

MAX_CURSOR_LENGTH = 512

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=200, description="How many items the page may hold."), DIGITS]
Cursor = Annotated[
    str | None, Query(description="`next_cursor` of the page before; absent for the first page.", examples=[None])
]
DEFAULT_LIMIT = 50


class Page(BaseModel, Generic[T]):
    """One page of a list. `next_cursor` is null on the last page."""

    items: list[T]
    next_cursor: str | None = Field(description="Pass it as `cursor` to get the next page; null: this is the last.")


def encode_cursor(position: Any) -> str:
    """`position`: a tuple of what the list is ordered by, led by the list's name so that lists do not mix cursors."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def decode_cursor(cursor: str, shape: TypeForm[T]) -> T:
    """The position, checked against its type, such as `tuple[Literal["jobs"], UUID]`. Raises InvalidCursor."""
    try:
        position: T = msgspec.json.decode(_decode_base64(cursor), type=shape)
    except (ValueError, msgspec.MsgspecError, binascii.Error, RecursionError):
        raise _invalid_cursor() from None
    if encode_cursor(position) != cursor:
        raise _invalid_cursor()
    return position


def cut_page(rows: Sequence[T], limit: int, position: Callable[[T], Any]) -> tuple[Sequence[T], str | None]:
    """The page's rows and the next cursor, out of up to `limit + 1` rows that the query returned."""
    if len(rows) <= limit:
        return rows, None
    page = rows[:limit]
    return page, encode_cursor(position(page[-1]))


def _decode_base64(cursor: str) -> bytes:
    if len(cursor) > MAX_CURSOR_LENGTH:
        raise ValueError("longer than any cursor of this gateway")
    return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)


def _invalid_cursor() -> InvalidCursor:
    detail = "is no cursor of this list; pass a next_cursor exactly as it came"
    return InvalidCursor(f"The cursor {detail}.", faults=[Fault("/query/cursor", detail)])
