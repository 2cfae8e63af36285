"""`/v1/uploads` with DashScope's temporary storage: forms, checks before a byte is sent, and jobs with uploads."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from app.clients.service import CurrentClient
from app.sandbox import RunningSandbox
from app.sandbox.faults import Faults, RefusedKey
from tests.live_server import live_server
from tests.uploads.conftest import QueueClient, StartPoller

AUDIO = bytes(range(256)) * 1000


def form(name: str = "call.wav", content: bytes = AUDIO, **fields: str) -> dict[str, Any]:
    """httpx sends the fields before the file, as most clients do."""
    return {"files": {"file": (name, content)}, "data": fields}


async def upload(api: httpx.AsyncClient, **sent: Any) -> dict[str, Any]:
    response = await api.post("/v1/uploads", **(sent or form()))
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_upload_is_stored_and_described(api: httpx.AsyncClient, sandbox: RunningSandbox) -> None:
    response = await api.post("/v1/uploads", **form())
    body = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/uploads/{body['id']}"
    assert {name: body[name] for name in ("file_name", "size_bytes", "sha256", "model", "region")} == {
        "file_name": "call.wav",
        "size_bytes": len(AUDIO),
        "sha256": hashlib.sha256(AUDIO).hexdigest(),
        "model": "fun-asr",
        "region": "beijing",
    }
    key = body["file_url"].removeprefix("oss://")
    assert sandbox.state.uploads[key].size == len(AUDIO)
    assert sandbox.state.authorization_leaks == 0
    assert (await api.get(response.headers["location"])).json() == body
    assert (await api.get("/v1/uploads")).json() == {"items": [body], "next_cursor": None}


async def test_job_with_an_upload_is_transcribed_by_its_account(
    api: httpx.AsyncClient, sandbox: RunningSandbox, start_poller: StartPoller
) -> None:
    file_url = (await upload(api))["file_url"]
    job = (await api.post("/v1/jobs", json={"file_urls": [file_url]})).json()
    async with start_poller():
        done = await api.get(f"/v1/jobs/{job['id']}", params={"wait": 20})
    assert done.json()["status"] == "succeeded", done.text
    assert sandbox.state.submits[0].file_urls == [file_url]


async def test_bytes_that_were_transcribed_before_are_not_sent_again(
    api: httpx.AsyncClient, sandbox: RunningSandbox, start_poller: StartPoller
) -> None:
    first = (await api.post("/v1/jobs", json={"file_urls": [(await upload(api))["file_url"]]})).json()
    async with start_poller():
        await api.get(f"/v1/jobs/{first['id']}", params={"wait": 20})
        again = {"file_urls": [(await upload(api, **form("other name.wav")))["file_url"]], "reuse": True}
        job = (await api.post("/v1/jobs", json=again)).json()
    assert job["status"] == "succeeded"
    assert job["files"][0]["reused"]
    assert len(sandbox.state.submits) == 1


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (form("virus.exe"), ("/file", "unsupported_format")),
        (form(content=b""), ("/file", "validation_failed")),
        ({"data": {"model": "fun-asr"}, "files": {"other": ("a.wav", AUDIO)}}, ("/other", "validation_failed")),
        (form(colour="red"), ("/colour", "validation_failed")),
        (form(region="mars"), ("/region", "validation_failed")),
        (form(model="gpt"), ("/model", "unknown_model")),
        (form(model="paraformer-v2", region="singapore"), ("/region", "model_not_in_region")),
        ({"files": [("file", ("a.wav", AUDIO)), ("file", ("b.wav", AUDIO))]}, ("/file", "validation_failed")),
    ],
)
async def test_bad_form_is_refused_and_nothing_is_stored(
    api: httpx.AsyncClient, sandbox: RunningSandbox, sent: dict[str, Any], fault: tuple[str, str]
) -> None:
    response = await api.post("/v1/uploads", **sent)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, fault[1])
    assert problem["errors"][0]["pointer"] == fault[0]
    assert not sandbox.state.uploads
    assert (await api.get("/v1/uploads")).json()["items"] == []


async def test_form_without_a_file_is_refused(api: httpx.AsyncClient) -> None:
    response = await api.post("/v1/uploads", files={"model": (None, "fun-asr")})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/file"


@pytest.mark.parametrize(
    "name",
    ["a.wav", "会议 录音.opus", "x" * 250 + ".mp3", "100% $HOME #1;.m4a", "noext", 'quote".wav', "C:\\calls\\a.WAV"],
)
async def test_any_file_name_is_accepted(api: httpx.AsyncClient, name: str) -> None:
    body = await upload(api, **form(name))
    assert body["file_name"] == name.rpartition("\\")[2]
    assert body["file_url"].isascii()


def raw_form(*parts: tuple[str, bytes], end: bytes = b"--limit--\r\n") -> bytes:
    """A multipart body with the heads of the parts as they are."""
    return b"".join(f"--limit\r\n{head}\r\n\r\n".encode() + body + b"\r\n" for head, body in parts) + end


FILE_HEAD = 'Content-Disposition: form-data; name="file"; filename="a.wav"'
HEADERS = {"Content-Type": "multipart/form-data; boundary=limit"}


async def chunked(body: bytes, size: int = 10_000) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize(
    "body",
    [
        raw_form((FILE_HEAD, AUDIO)),
        raw_form((FILE_HEAD, AUDIO), ('Content-Disposition: form-data; name="model"', b"fun-asr")),
        raw_form(('Content-Disposition: form-data; name="region"', b"auto"), (FILE_HEAD, AUDIO)),
        raw_form((FILE_HEAD, AUDIO), end=b"--limit--"),
        raw_form((FILE_HEAD, AUDIO)) + b"\r\nan epilogue",
        raw_form((FILE_HEAD.replace("a.wav", "a.wav\"; filename*=UTF-8''%E4%BC%9A.wav; x=\""), AUDIO)),
    ],
    ids=["file only", "field after the file", "field first", "no final line end", "epilogue", "filename*"],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_forms_of_all_clients_are_read(
    api: httpx.AsyncClient, sandbox: RunningSandbox, body: bytes, *, streamed: bool
) -> None:
    """A streamed body has no Content-Length, so the size of the file is known only at its end."""
    response = await api.post("/v1/uploads", content=chunked(body) if streamed else body, headers=HEADERS)
    assert response.status_code == 201, response.text
    assert response.json()["sha256"] == hashlib.sha256(AUDIO).hexdigest()
    assert [stored.size for stored in sandbox.state.uploads.values()] == [len(AUDIO)]


async def test_model_after_the_file_counts(api: httpx.AsyncClient, sandbox: RunningSandbox) -> None:
    """The file was already on its way to the storage of the default model."""
    body = raw_form(
        (FILE_HEAD, AUDIO),
        ('Content-Disposition: form-data; name="model"', b"fun-asr-mtl"),
        ('Content-Disposition: form-data; name="region"', b"singapore"),
    )
    response = await api.post("/v1/uploads", content=body, headers=HEADERS)
    assert (response.json()["model"], response.json()["region"]) == ("fun-asr-mtl", "singapore")
    assert [stored.model for stored in sandbox.state.uploads.values()] == ["fun-asr-mtl"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (raw_form((FILE_HEAD, AUDIO), end=b""), HEADERS, 400),
        (b"no form at all", HEADERS, 400),
        (raw_form((FILE_HEAD, AUDIO)), {"Content-Type": "multipart/form-data"}, 400),
        (raw_form(("X-Header: 1", AUDIO)), HEADERS, 400),
        (b"{}", {"Content-Type": "application/json"}, 415),
    ],
)
async def test_broken_form_is_refused_and_nothing_is_stored(
    api: httpx.AsyncClient, sandbox: RunningSandbox, body: bytes, headers: dict[str, str], status: int
) -> None:
    response = await api.post("/v1/uploads", content=body, headers=headers)
    assert response.status_code == status, response.text
    assert not sandbox.state.uploads


async def test_too_large_file_is_refused_before_it_is_read(api: httpx.AsyncClient, sandbox: RunningSandbox) -> None:
    read = 0

    async def three_gigabytes() -> AsyncIterator[bytes]:
        nonlocal read
        yield raw_form((FILE_HEAD, b""), end=b"")[:-2]
        while True:
            read += 1_000_000
            yield bytes(1_000_000)

    headers = {**HEADERS, "Content-Length": str(3 * 1024**3)}
    response = await api.post("/v1/uploads", content=three_gigabytes(), headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "upload_too_large")
    assert read < 10_000_000
    assert not sandbox.state.uploads


async def test_client_that_goes_away_leaves_nothing(
    app: FastAPI, api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], sandbox: RunningSandbox
) -> None:
    head = (
        "POST /v1/uploads HTTP/1.1\r\nHost: gateway\r\nContent-Length: 2560000\r\n"
        f"Authorization: Bearer {api_client[1]}\r\nContent-Type: {HEADERS['Content-Type']}\r\n\r\n"
    )
    with capture_logs() as lines:
        async with live_server(app) as url:
            _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
            writer.write(head.encode() + raw_form((FILE_HEAD, AUDIO), end=b""))
            await writer.drain()
            async with asyncio.timeout(20):
                while not sandbox.state.counts:  # noqa: ASYNC110 - until the file is on its way to the storage
                    await asyncio.sleep(0.01)
            writer.close()
    assert {line["event"] for line in lines} & {"unhandled_error"} == set()
    assert not sandbox.state.uploads
    assert (await api.get("/v1/uploads")).json()["items"] == []


async def test_file_is_sent_again_after_the_storage_failed(api: httpx.AsyncClient, sandbox: RunningSandbox) -> None:
    sandbox.state.faults = Faults(error_upload_rate=1)
    response = await api.post("/v1/uploads", **form())
    assert (response.status_code, response.json()["code"]) == (503, "upload_unavailable")
    assert sandbox.state.injected["error_upload"] == 3
    sandbox.state.faults = Faults(error_upload_rate=0.5)
    outcomes = {(await api.post("/v1/uploads", **form())).status_code for _ in range(4)}
    assert 201 in outcomes


@pytest.mark.parametrize(
    "faults", [Faults(down=True), Faults(html_rate=1), Faults(refused=(RefusedKey(code="Arrearage"),))]
)
async def test_policy_that_is_refused_is_a_503(api: httpx.AsyncClient, sandbox: RunningSandbox, faults: Faults) -> None:
    sandbox.state.faults = faults
    response = await api.post("/v1/uploads", **form())
    assert (response.status_code, response.json()["code"]) == (503, "upload_unavailable")
    assert "retry-after" in response.headers


async def test_uploads_belong_to_their_client(api: httpx.AsyncClient, other_api: httpx.AsyncClient) -> None:
    body = await upload(api)
    path = f"/v1/uploads/{body['id']}"
    assert (await other_api.get(path)).status_code == 404
    assert (await other_api.delete(path)).status_code == 404
    assert (await other_api.get("/v1/uploads")).json()["items"] == []
    refused = await other_api.post("/v1/jobs", json={"file_urls": [body["file_url"]]})
    assert (refused.status_code, refused.json()["code"]) == (422, "upload_not_found")
    assert (await api.delete(path)).status_code == 204
    assert (await api.get(path)).status_code == 404


async def test_job_is_checked_against_its_uploads(
    api: httpx.AsyncClient, queue: QueueClient, sandbox: RunningSandbox
) -> None:
    body = await upload(api)

    async def refusal(**job: Any) -> tuple[int, str, str]:
        response = await api.post("/v1/jobs", json={"file_urls": ["https://example.com/a.wav", body["file_url"]]} | job)
        problem = response.json()
        return response.status_code, problem["code"], problem["errors"][0]["pointer"]

    assert await refusal(model="fun-asr-mtl") == (422, "upload_not_for_model", "/file_urls/1")
    assert await refusal(region="singapore") == (422, "validation_failed", "/region")
    other = await upload(api, **form(region="singapore"))
    assert await refusal(file_urls=[body["file_url"], other["file_url"]]) == (422, "validation_failed", "/file_urls/1")
    unknown = "upload://019ab0a4-6a2e-7d10-9c1f-3f5b7a9d1e20"
    assert await refusal(file_urls=[unknown]) == (422, "upload_not_found", "/file_urls/0")
    assert (await api.delete(f"/v1/uploads/{other['id']}")).status_code == 204
    assert await refusal(file_urls=[other["file_url"]]) == (422, "upload_not_found", "/file_urls/0")
    await queue.rows("UPDATE uploads SET expires_at = now() RETURNING id")
    assert await refusal() == (422, "upload_expired", "/file_urls/1")
    await queue.rows("UPDATE uploads SET deleted_at = expires_at RETURNING id")  # as when its store is cleaned
    assert await refusal() == (422, "upload_expired", "/file_urls/1")
    foreign = await api.post("/v1/jobs", json={"file_urls": ["oss://dashscope-instant/elsewhere/a.wav"]})
    assert foreign.status_code == 202


@pytest.mark.parametrize("change", [(".wav", "%2ewav"), ("/sandbox", "/%73andbox"), (".wav", ".wav?a")])
async def test_other_spellings_of_an_upload_are_refused(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, change: tuple[str, str]
) -> None:
    """Upstream may find the same object, so the upload of another client or account would be transcribed."""
    url = (await upload(api))["file_url"].replace(*change)
    for client in (api, other_api):
        response = await client.post("/v1/jobs", json={"file_urls": [url]})
        assert (response.status_code, response.json()["code"]) == (422, "upload_not_found")


async def test_retry_after_the_upload_expired_says_so(
    api: httpx.AsyncClient, queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    body = await upload(api)
    urls = [body["file_url"], "https://example.com/a.wav?sandbox=fail:DECODE_ERROR"]
    job = (await api.post("/v1/jobs", json={"file_urls": urls})).json()
    assert (await api.post(f"/v1/jobs/{job['id']}/cancel")).status_code == 200
    await queue.rows("UPDATE uploads SET expires_at = now() RETURNING id")
    assert (await api.post(f"/v1/jobs/{job['id']}/retry")).status_code == 202
    async with start_poller():
        done = (await api.get(f"/v1/jobs/{job['id']}", params={"wait": 20})).json()
    assert [file["error"]["code"] for file in done["files"]] == ["upload_expired", "audio_unreadable"]
    assert [submit.file_urls for submit in sandbox.state.submits] == [[urls[1]]]
