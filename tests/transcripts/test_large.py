"""Transcripts larger than one slice."""

import asyncio
import gzip
import random
from base64 import b64encode
from dataclasses import replace
from functools import cache
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
from fastapi import FastAPI
from starlette.types import Message

from app.db import Sessions
from app.identifiers import new_id
from app.transcripts.queries import SLICE_BYTES
from app.transcripts.storage import PreparedTranscript
from tests.transcripts.conftest import *  # noqa: F403 - fixtures are found by their names
from tests.transcripts.documents import sentence, transcript
from tests.transcripts.test_routes import plain_api
from tests.transcripts.transcript_store import prepare, store_prepared

__all__ = ["plain_api"]

SENTENCES = 5000
FORMS = ["text", "text?speakers=true", "text?channel_id=1", "text?max_lines=2", "srt", "vtt", "srt?speakers=true"]


@cache
def large_result() -> bytes:
    """Two channels of incompressible words."""
    drawn = random.Random(1)

    def words() -> str:
        letters = b64encode(drawn.randbytes(100)).decode()
        return " ".join(letters[at : at + 12] for at in range(0, len(letters), 12)) + "."

    channels = [
        transcript(
            *(sentence(words(), n * 900, n * 900 + 800, sentence_id=n) for n in range(SENTENCES)),
            channel_id=channel_id,
        )
        for channel_id in range(2)
    ]
    return orjson.dumps({"properties": {}, "transcripts": channels})


@pytest.fixture(scope="module")
def prepared() -> PreparedTranscript:
    """Prepared once: that takes longer than most of the tests."""
    prepared = prepare(large_result(), new_id(), job_id=new_id())
    assert len(prepared.document.gzip) > 3 * SLICE_BYTES
    return prepared


@pytest.fixture
async def stored(client_id: UUID, sessions: Sessions, prepared: PreparedTranscript) -> PreparedTranscript:
    return await store_prepared(sessions, replace(prepared, row=replace(prepared.row, client_id=client_id)))


async def test_all_bytes_arrive_in_both_codings(
    api: httpx.AsyncClient, plain_api: httpx.AsyncClient, stored: PreparedTranscript
) -> None:
    path = f"/v1/transcripts/{stored.id}"
    async with api.stream("GET", path) as response:
        compressed = b"".join([piece async for piece in response.aiter_raw()])
    assert compressed == stored.document.gzip
    assert response.headers["content-length"] == str(len(compressed))
    plain = await plain_api.get(path)
    assert plain.content == gzip.decompress(compressed)
    assert plain.headers["content-length"] == str(len(plain.content))
    assert (await plain_api.get(f"{path}/raw")).content == large_result()


async def test_all_pages_of_sentences_are_the_document(api: httpx.AsyncClient, stored: PreparedTranscript) -> None:
    path = f"/v1/transcripts/{stored.id}/sentences"
    found: list[Any] = []
    params: dict[str, Any] = {"limit": 200, "from_ms": 900 * 4500}
    while True:
        page = (await api.get(path, params=params)).json()
        found += page["items"]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    channels = orjson.loads(large_result())["transcripts"]
    expected = [
        {**item["sentences"][number], "channel_id": item["channel_id"]}
        for number in range(4500, SENTENCES)
        for item in channels
    ]
    assert found == expected


@pytest.mark.parametrize(
    "form", ["text", "text?speakers=true", "text?channel_id=1", "srt", "sentences.tsv", "paragraphs", "markdown"]
)
async def test_rendered_forms_are_equal_in_both_codings(
    app: FastAPI, api: httpx.AsyncClient, plain_api: httpx.AsyncClient, stored: PreparedTranscript, form: str
) -> None:
    path = f"/v1/transcripts/{stored.id}/{form}"
    compressed, plain = await api.get(path), await plain_api.get(path)
    assert compressed.headers["content-encoding"] == "gzip"
    assert compressed.content == plain.content
    assert len(plain.content) > 256 * 1024
    assert not app.state.stored_bodies.large_rendering.locked()


@pytest.mark.parametrize("form", FORMS)
async def test_a_304_for_a_rendered_form_fetches_no_body(
    api: httpx.AsyncClient, stored: PreparedTranscript, statements: list[str], form: str
) -> None:
    path = f"/v1/transcripts/{stored.id}/{form}"
    etag = (await api.head(path)).headers["etag"]
    statements.clear()
    response = await api.get(path, headers={"If-None-Match": etag})
    assert (response.status_code, response.content) == (304, b"")
    assert len(statements) == 2
    assert "gzip" not in statements[1]


async def test_each_form_has_its_own_etag(api: httpx.AsyncClient, stored: PreparedTranscript) -> None:
    tags = [(await api.head(f"/v1/transcripts/{stored.id}/{form}")).headers["etag"] for form in FORMS]
    assert len(set(tags)) == len(FORMS)


async def test_concurrent_readers_each_get_the_whole_form(api: httpx.AsyncClient, stored: PreparedTranscript) -> None:
    path = f"/v1/transcripts/{stored.id}/text?speakers=true"
    one, *others = await asyncio.gather(*(api.get(path) for _ in range(3)))
    assert all(other.content == one.content for other in others)


@pytest.mark.parametrize("coding", ["gzip", "identity"])
@pytest.mark.parametrize("form", ["", "/raw", "/srt", "/text?speakers=true"])
async def test_deleting_a_transcript_truncates_its_running_responses(
    app: FastAPI, api: httpx.AsyncClient, stored: PreparedTranscript, form: str, coding: str
) -> None:
    path, _, query = f"/v1/transcripts/{stored.id}{form}".partition("?")
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) == 2:
            assert (await api.delete(f"/v1/transcripts/{stored.id}")).status_code == 204

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    token = api.headers["authorization"]
    headers = [(b"authorization", token.encode()), (b"accept-encoding", coding.encode())]
    scope = {
        "type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": headers,
        "http_version": "1.1", "scheme": "http", "server": ("gateway", 80), "root_path": "",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
    }  # fmt: skip
    with pytest.raises(Exception):  # noqa: B017, PT011 - any exception makes the server close the connection
        await app(scope, receive, send)
    assert sent[0]["status"] == 200
    assert all(message.get("more_body", True) for message in sent), "a truncated response must not look complete"
