"""`POST /v1/audio/transcriptions` over a poller and the sandbox: uploads, joined requests, waits and failures."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI

from app.clients.service import CurrentClient
from app.db import Sessions
from app.main import create_app
from app.sandbox import RunningSandbox
from app.sandbox.faults import Faults
from app.settings import Settings
from tests.api_fixtures import ADMIN_TOKEN, application, caller
from tests.openai_api.conftest import AUDIO, HELLO, PATH, QueueClient, StartPoller, form, url_form
from tests.poller.conftest import settings_for
from tests.uploads.test_uploads import FILE_HEAD, HEADERS, chunked, raw_form

SILENT = "https://example.com/a.wav?sandbox=silent"
SLOW = "https://example.com/a.wav?sandbox=run:60"


async def jobs(queue: QueueClient) -> int:
    return int((await queue.rows("SELECT count(*) FROM jobs"))[0][0])


async def uploads(api: httpx.AsyncClient) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await api.get("/v1/uploads")).json()["items"]
    return items


def error(response: httpx.Response) -> tuple[int, str, str | None, str]:
    """Status, code, field and whether clients retry. Checks the form of the error."""
    body = response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    found = body["error"]
    return response.status_code, found["code"], found["param"], response.headers["x-should-retry"]


async def test_uploaded_file_is_transcribed(
    api: httpx.AsyncClient, sandbox: RunningSandbox, start_poller: StartPoller
) -> None:
    async with start_poller():
        response = await api.post(PATH, **form(response_format="verbose_json", language="zh"), timeout=30)
    body = response.json()
    assert response.status_code == 200, response.text
    assert body["text"]
    assert body["duration"] == body["usage"]["seconds"] > 0
    assert "".join(each["text"] for each in body["segments"]) == body["text"]
    [upload] = await uploads(api)
    assert upload["sha256"] == hashlib.sha256(AUDIO).hexdigest()
    [submit] = sandbox.state.submits
    assert submit.file_urls == [upload["file_url"]]
    assert submit.parameters["language_hints"] == ["zh"]


async def test_url_takes_the_place_of_a_file(api: httpx.AsyncClient, start_poller: StartPoller) -> None:
    async with start_poller():
        text = await api.post(PATH, **url_form(response_format="text"), timeout=30)
        silent = await api.post(PATH, **url_form(SILENT), timeout=30)
    assert (text.status_code, text.text) == (200, "Hello World，这里是阿里巴巴语音实验室。")
    assert text.headers["content-type"].startswith("text/plain")
    assert (silent.status_code, silent.json()["text"]) == (200, "")


async def test_url_may_come_in_an_urlencoded_form(
    api: httpx.AsyncClient, sandbox: RunningSandbox, start_poller: StartPoller
) -> None:
    fields = {"url": HELLO, "model": "paraformer-v2", "language": "zh"}
    async with start_poller():
        urlencoded = await api.post(PATH, data=fields, timeout=30)
        parts = await api.post(PATH, **url_form(HELLO, model="paraformer-v2", language="zh"), timeout=30)
    assert "urlencoded" in urlencoded.request.headers["content-type"]
    assert (urlencoded.status_code, urlencoded.json()) == (200, parts.json())
    [submit] = sandbox.state.submits
    assert (submit.model, submit.file_urls) == ("paraformer-v2", [HELLO])
    assert submit.parameters["language_hints"] == ["zh"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"model=whisper-1", (400, "validation_failed", "file", "false")),
        (b"file=recording.wav", (400, "validation_failed", "file", "false")),
        (b"url=%ff", (400, "malformed_body", None, "false")),
        (b"&".join([b"a=1"] * 65), (400, "malformed_body", None, "false")),
        (b"a=" + b"b" * 2**18, (413, "body_too_large", None, "false")),
    ],
)
async def test_bad_urlencoded_form_is_refused(
    api: httpx.AsyncClient, content: bytes, expected: tuple[int, str, str | None, str]
) -> None:
    response = await api.post(
        PATH, content=content, headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    )
    assert error(response) == expected


async def test_file_before_its_fields_is_read_as_node_sends_it(
    api: httpx.AsyncClient, sandbox: RunningSandbox, start_poller: StartPoller
) -> None:
    """The file was already on its way to the storage of another model."""
    model = ('Content-Disposition: form-data; name="model"', b"paraformer-v2")
    body = raw_form((FILE_HEAD, AUDIO), model)
    async with start_poller():
        for content in (body, chunked(body)):
            response = await api.post(PATH, content=content, headers=HEADERS, timeout=30)
            assert response.status_code == 200, response.text
    assert [(submit.model, len(submit.file_urls)) for submit in sandbox.state.submits] == [("paraformer-v2", 1)]
    assert [stored.model for stored in sandbox.state.uploads.values()] == ["paraformer-v2"]


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    own = {"upload_store": f"file://{tmp_path / 'uploads'}", "public_url": "https://asr.example.com"}
    return own if request.param == "own store" else {}


@pytest.fixture
def stored_app(store: dict[str, Any], sandbox: RunningSandbox, sessions: Sessions, http: httpx.AsyncClient) -> FastAPI:
    return application(settings_for(sandbox, admin_token=ADMIN_TOKEN, **store), sessions, http=http)


@pytest.mark.parametrize("store", ["temporary storage", "own store"], indirect=True)
async def test_repeated_request_joins_the_first_one(
    stored_app: FastAPI,
    api_client: tuple[CurrentClient, str],
    *,
    sandbox: RunningSandbox,
    start_poller: StartPoller,
    store: dict[str, Any],
    queue: QueueClient,
) -> None:
    async with caller(stored_app, api_client[1]) as api, start_poller(**store):
        together = await asyncio.gather(*(api.post(PATH, **form(), timeout=30) for _ in range(3)))
        kept = await uploads(api)
        again = await api.post(PATH, **form("other-name.wav"), timeout=30)
        assert await uploads(api) == kept
        assert len(kept) == 1
        assert {(each.status_code, each.text) for each in (*together, again)} == {(200, again.text)}
        assert len(sandbox.state.submits) == await jobs(queue) == 1
        other = await api.post(PATH, **form(language="en"), timeout=30)
    assert other.status_code == 200
    assert len(sandbox.state.submits) == await jobs(queue) == 2


async def test_requests_to_two_replicas_make_one_job(
    app: FastAPI,
    settings: Settings,
    *,
    sessions: Sessions,
    http: httpx.AsyncClient,
    api_client: tuple[CurrentClient, str],
    start_poller: StartPoller,
    queue: QueueClient,
) -> None:
    replica = create_app(settings, sessions=sessions, http=http)
    async with caller(app, api_client[1]) as one, caller(replica, api_client[1]) as two, start_poller():
        calls = [each.post(PATH, **url_form(), timeout=30) for each in (one, two) for _ in range(3)]
        responses = await asyncio.gather(*calls)
    assert {each.status_code for each in responses} == {200}
    assert await jobs(queue) == 1


async def test_other_client_pays_for_itself(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, start_poller: StartPoller, queue: QueueClient
) -> None:
    async with start_poller():
        await api.post(PATH, **url_form(), timeout=30)
        await other_api.post(PATH, **url_form(), timeout=30)
    assert await jobs(queue) == 2


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE jobs SET created_at = now() - interval '30 minutes' RETURNING id",
        "DELETE FROM transcripts RETURNING id",
        "DELETE FROM jobs RETURNING id",
    ],
)
async def test_job_that_cannot_answer_any_more_is_not_joined(
    api: httpx.AsyncClient, start_poller: StartPoller, queue: QueueClient, sandbox: RunningSandbox, change: str
) -> None:
    async with start_poller():
        await api.post(PATH, **url_form(), timeout=30)
        await queue.rows(change)
        again = await api.post(PATH, **url_form(), timeout=30)
    assert again.status_code == 200, again.text
    assert len(sandbox.state.submits) == 2


async def test_failed_job_is_an_error_and_a_new_request_tries_again(
    api: httpx.AsyncClient, start_poller: StartPoller, queue: QueueClient
) -> None:
    failing = url_form("https://example.com/a.wav?sandbox=fail:DECODE_ERROR")
    async with start_poller():
        for number in (1, 2):
            response = await api.post(PATH, **failing, timeout=30)
            assert error(response) == (400, "audio_unreadable", "url", "false")
            assert await jobs(queue) == number


async def test_failure_of_dashscope_is_a_502(api: httpx.AsyncClient, start_poller: StartPoller) -> None:
    failing = url_form("https://example.com/a.wav?sandbox=fail:InternalError.Algo")
    async with start_poller():
        response = await api.post(PATH, **failing, timeout=30)
    assert error(response) == (502, "upstream_error", None, "false")


async def test_canceled_job_is_a_final_error(app: FastAPI, api: httpx.AsyncClient, queue: QueueClient) -> None:
    waiting = asyncio.create_task(api.post(PATH, **url_form(), timeout=30))
    await queue.until("SELECT 1 FROM jobs")
    [job] = (await api.get("/v1/jobs")).json()["items"]
    await api.post(f"/v1/jobs/{job['id']}/cancel")
    assert error(await waiting) == (409, "canceled", None, "false")


async def test_long_wait_is_a_504_and_the_next_request_waits_on(
    app: FastAPI, api: httpx.AsyncClient, queue: QueueClient, start_poller: StartPoller
) -> None:
    app.state.transcription_wait_s = 0.05
    response = await api.post(PATH, **url_form())
    assert error(response) == (504, "still_running", None, "true")
    [job] = (await api.get("/v1/jobs")).json()["items"]
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert response.headers["location"] in response.json()["error"]["message"]
    assert response.headers["retry-after"] == "1"
    app.state.transcription_wait_s = 20
    async with start_poller():
        again = await api.post(PATH, **url_form(), timeout=30)
    assert again.status_code == 200
    assert await jobs(queue) == 1


async def test_gateway_that_stops_asks_for_a_retry(app: FastAPI, api: httpx.AsyncClient, queue: QueueClient) -> None:
    waiting = [asyncio.create_task(api.post(PATH, **url_form(stream=value), timeout=30)) for value in ("", "true")]
    await queue.until("SELECT 1 FROM jobs HAVING count(*) = 2")
    app.state.services.waiters.close()
    plain, stream = await asyncio.gather(*waiting)
    assert error(plain) == (503, "service_unavailable", None, "true")
    assert (stream.status_code, '"code":"service_unavailable"' in stream.text) == (200, True)


@pytest.mark.parametrize("diarized", [False, True])
async def test_stream_has_the_text_in_events(
    api: httpx.AsyncClient, start_poller: StartPoller, *, diarized: bool
) -> None:
    fields = {"response_format": "diarized_json"} if diarized else {}
    async with start_poller():
        response = await api.post(PATH, **url_form(stream="true", **fields), timeout=30)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert "event:" not in response.text
    assert response.text.endswith("data: [DONE]\n\n")
    assert ("transcript.text.segment" in response.text) is diarized


async def test_failure_before_the_stream_is_an_http_error(api: httpx.AsyncClient, start_poller: StartPoller) -> None:
    failing = url_form("https://example.com/a.wav?sandbox=fail:DECODE_ERROR", stream="true")
    async with start_poller():
        response = await api.post(PATH, **failing, timeout=30)
    assert error(response) == (400, "audio_unreadable", "url", "false")


async def test_failure_during_the_stream_is_an_event(
    app: FastAPI, api: httpx.AsyncClient, start_poller: StartPoller, queue: QueueClient
) -> None:
    """The stream begins after 15 s, or here at once, and a comment shows that the connection is alive."""
    app.state.transcription_wait_s = 0.01
    failing = url_form("https://example.com/a.wav?sandbox=fail:DECODE_ERROR", stream="true")
    waiting = asyncio.create_task(api.post(PATH, **failing, timeout=30))
    await queue.until("SELECT 1 FROM jobs")
    async with start_poller():
        response = await waiting
    *comments, failure, end = response.text.split("\n\n")
    assert response.status_code == 200
    assert set(comments) == {": keep-alive"}
    assert failure.startswith('data: {"error":{"message":')
    assert '"code":"audio_unreadable"' in failure
    assert end == ""


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (form("virus.exe"), (400, "unsupported_format", "file", "false")),
        (form(content=b""), (400, "validation_failed", "file", "false")),
        (form(url=HELLO), (400, "validation_failed", "url", "false")),
        (form(model="gpt-5"), (400, "unknown_model", "model", "false")),
        (form(response_format="xml"), (400, "validation_failed", "response_format", "false")),
        (
            form("a.wav", AUDIO, **{"timestamp_granularities[]": "page"}),
            (400, "validation_failed", "timestamp_granularities", "false"),
        ),
        (url_form("ftp://example.com/a.wav"), (400, "validation_failed", "url", "false")),
        ({"files": {"model": (None, "whisper-1")}}, (400, "validation_failed", "file", "false")),
        ({"files": [("file", ("a.wav", AUDIO))] * 2}, (400, "validation_failed", "file", "false")),
        ({"files": {"audio": ("a.wav", AUDIO)}}, (400, "validation_failed", "audio", "false")),
        (
            {"content": raw_form((FILE_HEAD, AUDIO), end=b""), "headers": HEADERS},
            (400, "malformed_body", None, "false"),
        ),
        ({"content": b"no form", "headers": HEADERS}, (400, "malformed_body", None, "false")),
        ({"json": {"model": "whisper-1"}}, (415, "unsupported_media_type", None, "false")),
        ({"content": b""}, (415, "unsupported_media_type", None, "false")),
    ],
)
async def test_bad_request_is_an_error_and_nothing_is_stored(
    api: httpx.AsyncClient,
    queue: QueueClient,
    sandbox: RunningSandbox,
    sent: dict[str, Any],
    expected: tuple[int, str, str | None, str],
) -> None:
    response = await api.post(PATH, **sent)
    assert error(response) == expected
    assert not response.json()["error"]["message"].startswith("/")
    assert not sandbox.state.uploads
    assert await jobs(queue) == 0


async def test_errors_of_other_calls_of_the_protocol_have_its_form(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    assert error(await stranger.post(PATH, **form())) == (401, "unauthorized", None, "false")
    assert error(await api.get(PATH)) == (405, "method_not_allowed", None, "false")
    assert error(await api.post("/v1/audio/translations")) == (404, "not_found", None, "false")
    assert (await api.get("/v1/audiobooks")).headers["content-type"] == "application/problem+json"


async def test_unknown_parameters_and_accept_have_no_effect(api: httpx.AsyncClient, start_poller: StartPoller) -> None:
    async with start_poller():
        response = await api.post(
            f"{PATH}?api-version={quote('2025-01-01')}", **url_form(colour="red"), headers={"Accept": "text/plain"}
        )
    assert response.status_code == 200


@pytest.mark.parametrize("faults", [Faults(down=True), Faults(error_upload_rate=1)])
async def test_storage_that_is_away_asks_for_a_retry(
    api: httpx.AsyncClient, sandbox: RunningSandbox, queue: QueueClient, faults: Faults
) -> None:
    sandbox.state.faults = faults
    response = await api.post(PATH, **form())
    assert error(response) == (503, "upload_unavailable", None, "true")
    assert response.headers["retry-after"] == "5"
    assert await jobs(queue) == 0


async def test_too_large_file_is_refused(api: httpx.AsyncClient, sandbox: RunningSandbox) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield raw_form((FILE_HEAD, b""), end=b"")[:-2]
        while True:
            yield bytes(1_000_000)

    headers = {**HEADERS, "Content-Length": str(3 * 1024**3)}
    response = await api.post(PATH, content=endless(), headers=headers)
    assert error(response) == (413, "upload_too_large", None, "false")


async def test_full_queue_is_a_429_and_the_upload_is_dropped(
    sandbox: RunningSandbox, sessions: Sessions, http: httpx.AsyncClient, api_client: tuple[CurrentClient, str]
) -> None:
    limited = application(settings_for(sandbox, client_waiting_files=1), sessions, http=http)
    async with caller(limited, api_client[1]) as api:
        await api.post("/v1/jobs", json={"file_urls": [HELLO]})
        response = await api.post(PATH, **form())
        assert error(response) == (429, "too_many_waiting_files", None, "true")
        assert await uploads(api) == []


async def test_client_that_disconnects_finds_its_job_again(
    app: FastAPI, api: httpx.AsyncClient, start_poller: StartPoller, queue: QueueClient, sandbox: RunningSandbox
) -> None:
    waiting = asyncio.create_task(api.post(PATH, **form(), timeout=30))
    await queue.until("SELECT 1 FROM jobs")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    async with start_poller():
        response = await api.post(PATH, **form(), timeout=30)
    assert response.status_code == 200
    assert len(sandbox.state.submits) == await jobs(queue) == 1
