"""/v1/transcripts over HTTP."""

import gzip
import hashlib
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
import webvtt
from fastapi import FastAPI
from sqlalchemy import func, insert, select, update

from app.clients.service import CurrentClient
from app.db import Sessions, transaction
from app.identifiers import new_id
from app.queue.models import File, Job
from app.transcripts.models import Transcript, TranscriptBody
from app.transcripts.normalise import empty_document
from app.transcripts.storage import insert_transcripts, prepare_transcript, prepare_unreadable
from tests.api_fixtures import caller
from tests.jobs.rows import SUCCEEDED, add_job
from tests.transcripts.documents import sample
from tests.transcripts.transcript_store import JOB, URL, store, store_prepared


@pytest.fixture
async def plain_api(app: FastAPI, api_client: tuple[CurrentClient, str]) -> Any:
    """A client that accepts no compression."""
    async with caller(app, api_client[1]) as http:
        http.headers["Accept-Encoding"] = "identity"
        yield http


def long_result(sentences: int = 4000) -> bytes:
    words = [{"begin_time": n * 10, "end_time": n * 10 + 9, "text": f"w{n} ", "punctuation": ""} for n in range(10)]
    spoken = [
        {"begin_time": n * 2000, "end_time": n * 2000 + 1500, "text": f"sentence {n} 语音", "words": words}
        for n in range(sentences)
    ]
    return orjson.dumps({"file_url": URL, "properties": {}, "transcripts": [{"channel_id": 0, "sentences": spoken}]})


async def test_the_document_has_the_documented_keys(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    stored = await store(sessions, client_id)
    response = await api.get(f"/v1/transcripts/{stored.id}")
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == [
        "id", "job_id", "file_url", "model", "region", "created_at", "text", "properties", "transcripts",
    ]  # fmt: skip
    assert (body["id"], body["job_id"], body["file_url"]) == (str(stored.id), str(stored.row.job_id), URL)
    assert body["created_at"].endswith("Z")
    assert len(body["transcripts"]) == 2
    assert body["text"] == "\n".join(item["text"] for item in body["transcripts"])


async def test_raw_returns_the_upstream_bytes_unchanged(
    api: httpx.AsyncClient, plain_api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    raw = sample("funasr_two_channels_synthetic")
    stored = await store(sessions, client_id, raw)
    for caller_ in (api, plain_api):
        response = await caller_.get(f"/v1/transcripts/{stored.id}/raw")
        assert (response.content, response.headers["content-type"]) == (raw, "application/json")


@pytest.mark.parametrize("form", ["", "/raw"])
async def test_stored_gzip_is_sent_if_accepted_and_inflated_otherwise(
    api: httpx.AsyncClient, plain_api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, form: str
) -> None:
    stored = await store(sessions, client_id)
    path = f"/v1/transcripts/{stored.id}{form}"
    body = stored.raw if form else stored.document
    async with api.stream("GET", path, headers={"Accept-Encoding": "br, gzip;q=0.5"}) as response:
        compressed = b"".join([chunk async for chunk in response.aiter_raw()])
    plain = await plain_api.get(path)
    assert compressed == body.gzip
    assert response.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert hashlib.sha256(plain.content).digest() == body.sha256
    assert response.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert response.headers["etag"] != plain.headers["etag"]


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("gzip", "gzip"),
        ("*", "gzip"),
        ("deflate, GZIP ; q=1.0", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0.000, br", None),
        ("*;q=0.5, gzip;q=0", None),
        ("GZIP, *;q=0", "gzip"),
        ("br", None),
        ("identity;q=1, gzip;q=0.1", None),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("gzip;q=0.1, identity;q=0", "gzip"),
        ("identity, *;q=0.5", None),
        ("gzip;q=1.5", None),
        ("x-gzip", "gzip"),
        ("", None),
        ("notgzip", None),
    ],
)
async def test_accept_encoding_is_honoured(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, header: str, coding: str | None
) -> None:
    stored = await store(sessions, client_id)
    response = await api.get(f"/v1/transcripts/{stored.id}/text", headers={"Accept-Encoding": header})
    assert response.headers.get("content-encoding") == coding


async def test_a_long_transcript_is_inflated_in_pieces_with_content_length(
    plain_api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    raw = long_result()
    stored = await store(sessions, client_id, raw)
    async with plain_api.stream("GET", f"/v1/transcripts/{stored.id}/raw") as response:
        pieces = [piece async for piece in response.aiter_raw()]
    assert b"".join(pieces) == raw
    assert response.headers["content-length"] == str(len(raw))
    assert len(raw) > 1024 * 1024


@pytest.mark.parametrize(
    "form",
    [
        "",
        "/raw",
        "/text",
        "/srt",
        "/vtt",
        "/sentences?limit=1",
        "/words.csv",
        "/sentences.tsv",
        "/paragraphs",
        "/markdown",
    ],
)
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_a_known_etag_gives_304_and_head_has_the_headers_of_get(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, form: str, encoding: str
) -> None:
    path = f"/v1/transcripts/{(await store(sessions, client_id)).id}{form}"
    accept = {"Accept-Encoding": encoding}
    full = await api.get(path, headers=accept)
    assert full.headers.get("content-encoding", "identity") == encoding
    head = await api.head(path, headers=accept)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "content-length", "content-type", "vary"):
        assert head.headers[name] == full.headers[name], name
    unchanged = await api.get(path, headers={**accept, "If-None-Match": f'"x", {full.headers["etag"]}'})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert (unchanged.headers["etag"], unchanged.headers["vary"]) == (full.headers["etag"], "Accept-Encoding")
    changed = await api.get(path, headers={**accept, "If-None-Match": '"x"'})
    assert changed.status_code == 200


async def test_head_of_a_long_transcript_has_content_length(
    plain_api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    raw = long_result()
    stored = await store(sessions, client_id, raw)
    response = await plain_api.head(f"/v1/transcripts/{stored.id}/raw")
    assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", str(len(raw)))


async def test_text_is_plain(api: httpx.AsyncClient, client_id: UUID, sessions: Sessions) -> None:
    stored = await store(sessions, client_id)
    path = f"/v1/transcripts/{stored.id}"
    document = (await api.get(path)).json()
    response = await api.get(f"{path}/text")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == document["text"]
    one = await api.get(f"{path}/text?channel_id=1")
    assert one.text == document["transcripts"][1]["text"]
    assert "Channel 1" in (await api.get(f"{path}/text?speakers=true")).text


async def test_text_has_the_lines_of_the_captions_on_request(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    path = f"/v1/transcripts/{(await store(sessions, client_id)).id}"
    options = "channel_id=0&max_chars_per_line=10&speakers=true"
    srt = (await api.get(f"{path}/srt?{options}&max_lines=2")).text
    captions = [block.split("\n")[2:] for block in srt.strip().split("\n\n")]
    lines = [line for caption in captions for line in caption]
    assert len(lines) > len(captions) > 1
    assert (await api.get(f"{path}/text?{options}")).text == "\n".join(lines)
    separated = (await api.get(f"{path}/text?{options}&max_lines=2")).text
    assert separated == "\n\n".join("\n".join(caption) for caption in captions)


async def test_deleting_a_transcript_keeps_its_file(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id, [SUCCEEDED])
    stored = await store(sessions, client_id, job_id=job_id)
    async with transaction(sessions) as session:
        await session.execute(update(File).values(transcript_id=stored.id))
    job = await api.get(f"/v1/jobs/{job_id}")
    assert job.json()["files"][0]["transcript_id"] == str(stored.id)

    path = f"/v1/transcripts/{stored.id}"
    assert (await other_api.delete(path)).status_code == 404
    deleted = await api.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for response in (await api.get(path), await api.get(f"{path}/raw"), await api.delete(path)):
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    after = await api.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": job.headers["etag"]})
    assert after.status_code == 200
    file = after.json()["files"][0]
    assert (file["status"], file["transcript_id"]) == ("succeeded", None)
    async with transaction(sessions) as session:
        assert await session.scalar(select(func.count()).select_from(TranscriptBody)) == 0


async def test_captions_are_served_as_srt_and_vtt(api: httpx.AsyncClient, client_id: UUID, sessions: Sessions) -> None:
    stored = await store(sessions, client_id)
    srt = await api.get(f"/v1/transcripts/{stored.id}/srt")
    vtt = await api.get(f"/v1/transcripts/{stored.id}/vtt")
    assert srt.headers["content-type"] == "application/x-subrip; charset=utf-8"
    assert vtt.headers["content-type"] == "text/vtt; charset=utf-8"
    assert srt.text.startswith("1\n00:00:00,760 --> ")
    assert len(webvtt.from_string(vtt.text).captions) == srt.text.count(" --> ")


async def test_caption_options_change_the_captions(api: httpx.AsyncClient, client_id: UUID, sessions: Sessions) -> None:
    path = f"/v1/transcripts/{(await store(sessions, client_id)).id}/vtt"
    seen = {
        (await api.get(f"{path}?{query}")).text
        for query in ("", "channel_id=0", "max_chars_per_line=10", "max_lines=1&max_chars_per_line=10", "speakers=true")
    }
    assert len(seen) == 5


@pytest.mark.slow
async def test_rendering_a_long_transcript_releases_the_lock(
    app: FastAPI, api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    stored = await store(sessions, client_id, long_result())
    response = await api.get(f"/v1/transcripts/{stored.id}/srt")
    assert response.text.count(" --> ") >= 4000
    assert not app.state.stored_bodies.large_rendering.locked()


@pytest.mark.parametrize(
    ("form", "query"),
    [
        ("/srt", "max_chars_per_line=3"),
        ("/srt", "max_chars_per_line=501"),
        ("/vtt", "max_lines=0"),
        ("/vtt", "max_lines=21"),
        ("/vtt", "channel_id=-1"),
        ("/text", "max_chars_per_line=3"),
        ("/text", "max_lines=21"),
        ("/text", "channel_id=x"),
        ("/text", "speakers=maybe"),
        ("/text", "colour=red"),
        ("", "limit=1"),
    ],
)
async def test_an_invalid_option_is_refused_with_its_pointer(api: httpx.AsyncClient, form: str, query: str) -> None:
    response = await api.get(f"/v1/transcripts/{new_id()}{form}?{query}")
    pointers = [place["pointer"] for place in response.json()["errors"]]
    assert (response.status_code, pointers) == (422, [f"/query/{query.split('=', maxsplit=1)[0]}"])


async def test_if_none_match_wildcard_does_not_hide_an_unknown_channel(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    path = f"/v1/transcripts/{(await store(sessions, client_id)).id}/srt?channel_id="
    for channel_id, status in ((1, 304), (9, 422)):
        assert (await api.get(f"{path}{channel_id}", headers={"If-None-Match": "*"})).status_code == status


@pytest.mark.parametrize("form", ["", "/raw", "/text", "/srt", "/vtt"])
async def test_a_transcript_of_another_client_is_not_found(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, form: str
) -> None:
    stored = await store(sessions, client_id)
    for response in (
        await other_api.get(f"/v1/transcripts/{stored.id}{form}"),
        await other_api.get(f"/v1/transcripts/{stored.id}{form}", headers={"If-None-Match": "*"}),
        await api.get(f"/v1/transcripts/{new_id()}{form}"),
        await api.get(f"/v1/transcripts/4711{form}"),
    ):
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_a_silent_file_has_an_empty_transcript(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = new_id()
    prepared = prepare_transcript(
        Transcript(client_id=client_id, job_id=job_id, file_index=0, file_url=URL, model="fun-asr", region="beijing"),
        raw=b"{}",
        document=empty_document(URL),
    )
    async with transaction(sessions) as session:
        await session.execute(insert(Job).values(id=job_id, client_id=client_id, **JOB))
        await insert_transcripts(session, [prepared])
    path = f"/v1/transcripts/{prepared.id}"
    assert (await api.get(path)).json()["text"] == ""
    assert (await api.get(f"{path}/text")).text == ""
    assert (await api.get(f"{path}/srt")).text == ""
    assert (await api.get(f"{path}/vtt")).text == "WEBVTT\n"


async def test_a_compressed_body_is_ordinary_gzip(api: httpx.AsyncClient, client_id: UUID, sessions: Sessions) -> None:
    stored = await store(sessions, client_id)
    async with api.stream("GET", f"/v1/transcripts/{stored.id}/srt") as response:
        compressed = b"".join([chunk async for chunk in response.aiter_raw()])
    assert gzip.decompress(compressed).startswith(b"1\n")


async def test_a_body_takes_one_statement_and_a_304_fetches_no_body(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, statements: list[str]
) -> None:
    path = f"/v1/transcripts/{(await store(sessions, client_id)).id}"
    etag = (await api.get(path)).headers["etag"]
    for form in ("", "/raw", "/text", "/srt", "/vtt"):
        statements.clear()
        await api.get(path + form)
        assert len(statements) == 2, form
    statements.clear()
    await api.get(path, headers={"If-None-Match": etag})
    assert len(statements) == 2
    assert "gzip" not in statements[1]


@pytest.mark.parametrize("raw", [b"", b"<html>502</html>", b'{"transcripts": 5}'])
async def test_unreadable_result_has_its_bytes_and_no_other_form(
    api: httpx.AsyncClient, plain_api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, raw: bytes
) -> None:
    prepared = prepare_unreadable(
        Transcript(client_id=client_id, job_id=new_id(), file_index=0, file_url=URL, model="fun-asr", region="beijing"),
        raw=raw,
    )
    await store_prepared(sessions, prepared)
    path = f"/v1/transcripts/{prepared.id}"
    for http in (api, plain_api):
        response = await http.get(f"{path}/raw")
        assert (response.status_code, response.content) == (200, raw)
    forms = ["text", "srt", "vtt", "ttml", "sentences", "words.csv", "sentences.tsv", "paragraphs", "markdown"]
    for form in ["", *(f"/{form}" for form in forms)]:
        for headers in ({}, {"If-None-Match": '"x"'}, {"If-None-Match": "*"}):
            response = await api.get(f"{path}{form}", headers=headers)
            assert (response.status_code, response.json()["code"]) == (409, "transcript_unreadable"), form
    assert [item["id"] for item in (await api.get("/v1/transcripts")).json()["items"]] == [str(prepared.id)]
