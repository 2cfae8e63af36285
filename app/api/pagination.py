"""Pages by keyset: an opaque cursor names the last item seen, so pages stay stable while rows arrive.

A cursor is sealed with a key of its client's, which all replicas know: what is changed, invented or another client's
is no cursor.
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec
from fastapi import Query
from pydantic import BaseModel, Field
from typing_extensions import TypeForm

from app.api.parameters import DIGITS
from app.errors import Fault, InvalidCursor

MAX_CURSOR_LENGTH = 512
_SEAL_BYTES = 16

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


def encode_cursor(position: Any, key: bytes) -> str:
    """`position`: a tuple of what the list is ordered by, led by the list's name so that lists do not mix cursors.

    `key`: the client's, its `cursor_key`, or the `scoped_key` made of it.
    """
    written = msgspec.json.encode(position)
    return base64.urlsafe_b64encode(_sign(written, key) + written).rstrip(b"=").decode()


def scoped_key(key: bytes, owner_id: UUID) -> bytes:
    """The key of a list that belongs to one thing, as files do to a job: a cursor is none of another's list."""
    return hmac.digest(key, owner_id.bytes, "sha256")


def decode_cursor(cursor: str, shape: TypeForm[T], key: bytes) -> T:
    """The position, checked against its type, such as `tuple[Literal["jobs"], UUID]`. Raises InvalidCursor."""
    try:
        position: T = msgspec.json.decode(_unsealed(_decode_base64(cursor), key), type=shape)
    except (ValueError, msgspec.MsgspecError, binascii.Error, RecursionError):
        raise _invalid_cursor() from None
    if encode_cursor(position, key) != cursor:  # the same bytes in other letters
        raise _invalid_cursor()
    return position


def paginate(rows: Sequence[T], limit: int, position: Callable[[T], Any], key: bytes) -> tuple[Sequence[T], str | None]:
    """The page's rows and the next cursor, out of up to `limit + 1` rows that the query returned."""
    if len(rows) <= limit:
        return rows, None
    page = rows[:limit]
    return page, encode_cursor(position(page[-1]), key)


def _sign(written: bytes, key: bytes) -> bytes:
    return hmac.digest(key, written, "sha256")[:_SEAL_BYTES]


def _unsealed(sealed: bytes, key: bytes) -> bytes:
    seal, written = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
    if not hmac.compare_digest(seal, _sign(written, key)):
        raise ValueError("not of this client")
    return written


def _decode_base64(cursor: str) -> bytes:
    if len(cursor) > MAX_CURSOR_LENGTH:
        raise ValueError("longer than any cursor of this gateway")
    return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)


def _invalid_cursor() -> InvalidCursor:
    detail = "is no cursor of this list; pass a next_cursor exactly as it came"
    return InvalidCursor(f"The cursor {detail}.", faults=[Fault("/query/cursor", detail)])
