"""Cursors decode to the encoded position, and everything else is refused."""

import base64
import string
from typing import Literal
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.api.pagination import decode_cursor, encode_cursor, paginate
from app.errors import InvalidCursor
from app.identifiers import new_id

Position = tuple[Literal["jobs"], UUID, int]
KEY = b"of the client whose list it is"


@given(st.uuids(), st.integers(-(2**63), 2**63 - 1))
def test_cursor_decodes_to_the_encoded_position(key: UUID, number: int) -> None:
    assert decode_cursor(encode_cursor(("jobs", key, number), KEY), Position, KEY) == ("jobs", key, number)


@given(st.text(max_size=600))
@example("")
@example("=")
@example("é")
@example("A" * 100_000)
@example(base64.urlsafe_b64encode(b"[" * 380).decode())
def test_garbled_cursors_are_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor) as raised:
        decode_cursor(cursor, Position, KEY)
    assert raised.value.faults[0].pointer == "/query/cursor"


@given(st.data())
def test_cursor_with_a_changed_character_is_refused(data: st.DataObject) -> None:
    cursor = encode_cursor(("jobs", UUID(int=1), 7), KEY)
    index = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.characters(codec="ascii", exclude_characters=cursor[index]))
    with pytest.raises(InvalidCursor):
        decode_cursor(cursor[:index] + other + cursor[index + 1 :], Position, KEY)


def test_cursor_of_another_client_is_refused() -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(encode_cursor(("jobs", new_id(), 7), b"another key"), Position, KEY)


@pytest.mark.parametrize(
    "position", [("transcripts", new_id(), 1), ("jobs", new_id()), ("jobs", "x", 1), ["jobs"], {"jobs": 1}, None]
)
def test_cursors_of_other_lists_are_refused(position: object) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(encode_cursor(position, KEY), Position, KEY)


def test_padding_and_other_spellings_are_refused() -> None:
    cursor = encode_cursor(("jobs", UUID(int=1), 1), KEY)
    letters = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    other = cursor[:-1] + letters[letters.index(cursor[-1]) + 1]  # the same bytes: the last letter has unused bits
    assert base64.urlsafe_b64decode(other + "=") == base64.urlsafe_b64decode(cursor + "=")
    for spelling in (cursor + "=", cursor + "\n", " " + cursor, other):
        with pytest.raises(InvalidCursor):
            decode_cursor(spelling, Position, KEY)


def test_last_page_has_no_next_cursor() -> None:
    assert paginate([1, 2], 2, lambda row: (row,), KEY) == ([1, 2], None)
    assert paginate([], 2, lambda row: (row,), KEY) == ([], None)


def test_next_cursor_names_the_last_item_of_the_page() -> None:
    page, cursor = paginate([1, 2, 3], 2, lambda row: (row,), KEY)
    assert page == [1, 2]
    assert cursor is not None
    assert decode_cursor(cursor, tuple[int], KEY) == (2,)
