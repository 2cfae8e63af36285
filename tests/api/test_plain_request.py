"""A request whose headers are indexed says what Starlette's says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope

from app.api.plain_request import IndexedHeaders, IndexedRequest

NAMES = ["accept", "prefer", "x-a", "x-b"]
headers = st.lists(st.tuples(st.sampled_from(NAMES).map(str.encode), st.binary(max_size=5)), max_size=6)
pieces = st.lists(st.binary(max_size=4), min_size=1, max_size=4)


def scope_with(pairs: list[tuple[bytes, bytes]]) -> Scope:
    return {"type": "http", "headers": pairs}


def receive_of(body: list[bytes]) -> Receive:
    left = [
        {"type": "http.request", "body": piece, "more_body": number < len(body)} for number, piece in enumerate(body, 1)
    ]

    async def receive() -> Message:
        return left.pop(0) if left else {"type": "http.disconnect"}

    return receive


@given(headers)
def test_headers_are_found_as_starlette_finds_them(pairs: list[tuple[bytes, bytes]]) -> None:
    indexed, plain = IndexedHeaders(scope_with(pairs)), Headers(scope=scope_with(pairs))
    for name in (*NAMES, "Accept", "X-A", "other"):
        assert indexed.get(name) == plain.get(name)
        assert indexed.get(name, "none") == plain.get(name, "none")
        assert indexed.getlist(name) == plain.getlist(name)
        assert (name in indexed) == (name in plain)
        if name in plain:
            assert indexed[name] == plain[name]
    assert indexed == plain
    with pytest.raises(KeyError):
        indexed["other"]


@given(pieces)
async def test_bodies_are_read_as_starlette_reads_them(body: list[bytes]) -> None:
    request = IndexedRequest(scope_with([]), receive_of(body), receive_of([]))  # type: ignore[arg-type]  # nothing sent
    plain = Request(scope_with([]), receive_of(body))
    assert await request.body() == await request.body() == await plain.body()


async def test_a_caller_who_hangs_up_amid_the_body_is_gone() -> None:
    hanging_up = receive_of([])
    with pytest.raises(ClientDisconnect):
        await IndexedRequest(scope_with([]), hanging_up, hanging_up).body()  # type: ignore[arg-type]
