"""Cursors come back as they went out, and nothing else is taken for one."""

import base64
from typing import Literal
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.api.pagination import cut_page, decode_cursor, encode_cursor
from app.errors import InvalidCursor
from app.identifiers import new_id

Position = tuple[Literal["jobs"], UUID, int]


@given(st.uuids(), st.integers(-(2**63), 2**63 - 1))
def test_a_cursor_comes_back_as_it_went_out(key: UUID, number: int) -> None:
    assert decode_cursor(encode_cursor(("jobs", key, number)), Position) == ("jobs", key, number)


@given(st.text(max_size=600))
@example("")
@example("=")
@example("é")
@example("A" * 100_000)
@example(base64.urlsafe_b64encode(b"[" * 380).decode())
def test_garbled_cursors_are_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor) as raised:
        decode_cursor(cursor, Position)
    assert raised.value.faults[0].pointer == "/query/cursor"


@given(st.data())
def test_a_changed_character_is_refused_or_another_position(data: st.DataObject) -> None:
    cursor = encode_cursor(("jobs", new_id(), 7))
    index = data.draw(st.integers(0, len(cursor) - 1))
    changed = cursor[:index] + data.draw(st.characters(codec="ascii")) + cursor[index + 1 :]
    try:
        position = decode_cursor(changed, Position)
    except InvalidCursor:
        return
    assert encode_cursor(position) == changed


@pytest.mark.parametrize(
    "position", [("transcripts", new_id(), 1), ("jobs", new_id()), ("jobs", "x", 1), ["jobs"], {"jobs": 1}, None]
)
def test_cursors_of_other_lists_are_refused(position: object) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(encode_cursor(position), Position)


def test_padding_and_other_spellings_are_refused() -> None:
    cursor = encode_cursor(("jobs", UUID(int=1), 1))
    for spelling in (cursor + "=", cursor + "\n", " " + cursor, base64.urlsafe_b64encode(b'[ "jobs"]').decode()):
        with pytest.raises(InvalidCursor):
            decode_cursor(spelling, Position)


def test_the_last_page_has_no_next_cursor() -> None:
    assert cut_page([1, 2], 2, lambda row: (row,)) == ([1, 2], None)
    assert cut_page([], 2, lambda row: (row,)) == ([], None)


def test_a_page_with_more_behind_it_names_its_last_item() -> None:
    page, cursor = cut_page([1, 2, 3], 2, lambda row: (row,))
    assert page == [1, 2]
    assert cursor is not None
    assert decode_cursor(cursor, tuple[int]) == (2,)
