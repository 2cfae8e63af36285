"""Keyset pagination: an opaque cursor names the last item of a page, so pages stay stable while rows arrive.

A cursor is signed with a key of its client that all replicas compute: changed or invented cursors and those of other
clients are refused.
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
_SIGNATURE_BYTES = 16

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=200, description="Maximum number of items in the page."), DIGITS]
Cursor = Annotated[
    str | None, Query(description="`next_cursor` of the previous page; absent for the first page.", examples=[None])
]
DEFAULT_LIMIT = 50


class Page(BaseModel, Generic[T]):
    """One page of a list. `next_cursor` is null on the last page."""

    items: list[T]
    next_cursor: str | None = Field(description="Pass it as `cursor` to get the next page; null on the last page.")


def encode_cursor(position: Any, key: bytes) -> str:
    """`position` is a tuple of the list's name and the sort key of an item: cursors of other lists are refused.

    `key` is the client's `cursor_key` or a `scoped_key` derived from it.
    """
    encoded = msgspec.json.encode(position)
    return base64.urlsafe_b64encode(_sign(encoded, key) + encoded).rstrip(b"=").decode()


def scoped_key(key: bytes, owner_id: UUID) -> bytes:
    """Key for a list inside one resource, such as the files of a job: cursors of another job are refused."""
    return hmac.digest(key, owner_id.bytes, "sha256")


def decode_cursor(cursor: str, shape: TypeForm[T], key: bytes) -> T:
    """The position, checked against its type, such as `tuple[Literal["jobs"], UUID]`. Raises InvalidCursor."""
    try:
        position: T = msgspec.json.decode(_verify(_decode_base64(cursor), key), type=shape)
    except (ValueError, msgspec.MsgspecError, binascii.Error, RecursionError):
        raise _invalid_cursor() from None
    if encode_cursor(position, key) != cursor:  # another spelling of the same bytes
        raise _invalid_cursor()
    return position


def paginate(rows: Sequence[T], limit: int, position: Callable[[T], Any], key: bytes) -> tuple[Sequence[T], str | None]:
    """The rows of the page and the next cursor. `rows` has up to `limit + 1` rows."""
    if len(rows) <= limit:
        return rows, None
    page = rows[:limit]
    return page, encode_cursor(position(page[-1]), key)


def _sign(encoded: bytes, key: bytes) -> bytes:
    return hmac.digest(key, encoded, "sha256")[:_SIGNATURE_BYTES]


def _verify(signed: bytes, key: bytes) -> bytes:
    signature, encoded = signed[:_SIGNATURE_BYTES], signed[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _sign(encoded, key)):
        raise ValueError("signed with another key")
    return encoded


def _decode_base64(cursor: str) -> bytes:
    if len(cursor) > MAX_CURSOR_LENGTH:
        raise ValueError("longer than any cursor of this gateway")
    return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)


def _invalid_cursor() -> InvalidCursor:
    detail = "is not a cursor of this list; pass a next_cursor unchanged"
    return InvalidCursor(f"The cursor {detail}.", faults=[Fault("/query/cursor", detail)])
