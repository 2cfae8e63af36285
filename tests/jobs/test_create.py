"""POST /v1/jobs."""

import asyncio
import json
from collections import Counter
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from app.clients.service import CurrentClient
from app.db import Sessions, transaction
from app.queue.lifecycle import group_key
from app.queue.models import File, Job
from app.queue.wakeup import WakeUp
from app.settings import load_settings
from tests.api_fixtures import application, caller
from tests.jobs.rows import count, finish

URL = "https://example.com/a.wav"


def pointers(response: httpx.Response) -> list[str]:
    return [place["pointer"] for place in response.json()["errors"]]


async def test_accepted_job_has_all_fields_of_the_contract(api: httpx.AsyncClient) -> None:
    response = await api.post(
        "/v1/jobs",
        json={"file_urls": [URL], "parameters": {"language_hints": ["zh"]}, "metadata": {"call": "4711"}},
    )
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert response.headers["retry-after"] == "2"
    assert job.pop("created_at").endswith("Z")
    assert job.pop("id")
    assert job == {
        "status": "queued",
        "model": "fun-asr",
        "region": "beijing",
        "parameters": {"language_hints": ["zh"]},
        "metadata": {"call": "4711"},
        "started_at": None,
        "finished_at": None,
        "file_counts": {"total": 1, "queued": 1, "running": 0, "succeeded": 0, "failed": 0, "canceled": 0},
        "waiting_reason": None,
        "warnings": [],
        "audio_duration_ms": 0,
        "cost": {"amount": "0.00000", "currency": "CNY"},
        "files": [
            {
                "index": 0,
                "url": URL,
                "status": "queued",
                "transcript_id": None,
                "error": None,
                "audio_duration_ms": None,
                "attempts": 0,
                "reused": False,
                "upstream": None,
            }
        ],
        "files_truncated": False,
    }


async def test_get_returns_the_job_as_post_returned_it(api: httpx.AsyncClient) -> None:
    body = {"file_urls": [f"https://example.com/{n}.wav" for n in range(150)], "metadata": {"a": "é", "b": "录音"}}
    accepted = await api.post("/v1/jobs", json=body)
    read = await api.get(accepted.headers["location"])
    assert read.json() == accepted.json()
    assert len(read.json()["files"]) == 100
    assert read.json()["files_truncated"] is True


async def test_files_are_stored_with_the_columns_of_the_queue(
    api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], sessions: Sessions
) -> None:
    parameters = {"language_hints": ["zh"]}
    await api.post("/v1/jobs", json={"file_urls": [URL, "https://例え.jp/录 音.wav"], "parameters": parameters})
    async with transaction(sessions) as session:
        files = (await session.scalars(select(File).order_by(File.index))).all()
    assert [file.index for file in files] == [0, 1]
    assert files[1].url == "https://xn--r8jz45g.jp/%E5%BD%95%20%E9%9F%B3.wav"
    assert {file.client_id for file in files} == {api_client[0].id}
    assert {file.group_key for file in files} == {group_key(parameters)}
    assert {(file.region, file.model, file.status) for file in files} == {("beijing", "fun-asr", "queued")}


async def test_ten_thousand_files_are_inserted_in_one_statement(
    api: httpx.AsyncClient, sessions: Sessions, statements: list[str]
) -> None:
    await api.post("/v1/jobs", json={"file_urls": [URL]})  # reads the typical durations
    statements.clear()
    response = await api.post("/v1/jobs", json={"file_urls": [f"{URL}?{n}" for n in range(10_000)]})
    assert response.status_code == 202
    assert response.json()["file_counts"]["total"] == 10_000
    assert await count(sessions, File) == 10_001
    assert len([statement for statement in statements if "jobs" in statement]) == 1


async def test_webhook_url_is_stored_encoded(api: httpx.AsyncClient, sessions: Sessions) -> None:
    await api.post("/v1/jobs", json={"file_urls": [URL], "webhook_url": "https://example.com/呼?x=1"})
    async with transaction(sessions) as session:
        assert await session.scalar(select(Job.webhook_url)) == "https://example.com/%E5%91%BC?x=1"


async def test_auto_picks_a_region_and_a_requested_region_is_used(api: httpx.AsyncClient) -> None:
    jobs = [
        (await api.post("/v1/jobs", json={"file_urls": [URL], "model": "fun-asr", "region": region})).json()
        for region in ("auto", "beijing", "singapore")
    ]
    assert [job["region"] for job in jobs] == ["beijing", "beijing", "singapore"]


@pytest.mark.parametrize(
    ("changes", "code", "wrong"),
    [
        ({"model": "no-such-model"}, "unknown_model", ["/model"]),
        ({"model": "paraformer-v2", "region": "singapore"}, "model_not_in_region", ["/region"]),
        ({"region": "frankfurt"}, "validation_failed", ["/region"]),
        ({"file_urls": []}, "validation_failed", ["/file_urls"]),
        ({"file_urls": None}, "validation_failed", ["/file_urls"]),
        ({"file_urls": [URL] * 10_001}, "validation_failed", ["/file_urls"]),
        ({"file_urls": [URL, "no url"]}, "validation_failed", ["/file_urls/1"]),
        ({"file_urls": ["file:///tmp/a.wav"]}, "validation_failed", ["/file_urls/0"]),
        ({"file_urls": [URL + "a" * 9000]}, "validation_failed", ["/file_urls/0"]),
        ({"file_urls": [URL + "\x00"]}, "validation_failed", ["/file_urls/0"]),
        ({"file_urls": [URL, 7]}, "validation_failed", ["/file_urls/1"]),
        ({"file_urls": ["x"] * 25}, "validation_failed", [*(f"/file_urls/{n}" for n in range(20)), "/file_urls"]),
        ({"parameters": {"nonsense": 1}}, "validation_failed", ["/parameters/nonsense"]),
        (
            {"parameters": {"diarization_enabled": True, "speaker_count": 1}},
            "validation_failed",
            ["/parameters/speaker_count"],
        ),
        ({"parameters": [1]}, "validation_failed", ["/parameters"]),
        ({"metadata": {"call": 4711}}, "validation_failed", ["/metadata/call"]),
        ({"metadata": {str(n): "" for n in range(17)}}, "validation_failed", ["/metadata"]),
        ({"metadata": {"": "x", "k" * 65: "x"}}, "validation_failed", ["/metadata/", f"/metadata/{'k' * 64}"]),
        ({"metadata": {"a/b": "x" * 513}}, "validation_failed", ["/metadata/a~1b"]),
        ({"metadata": {"a": "\x00"}}, "validation_failed", ["/metadata/a"]),
        ({"metadata": {"\x7f": "a"}}, "validation_failed", ["/metadata/\x7f"]),
        ({"webhook_url": "oss://bucket/a"}, "validation_failed", ["/webhook_url"]),
        ({"webhook_url": ""}, "validation_failed", ["/webhook_url"]),
        ({"priority": 1}, "validation_failed", ["/priority"]),
        (
            {"file_urls": ["x"], "parameters": {"nonsense": 1}, "metadata": {"a": "\x00"}, "webhook_url": "y"},
            "validation_failed",
            ["/parameters/nonsense", "/file_urls/0", "/metadata/a", "/webhook_url"],
        ),
    ],
)
async def test_invalid_request_names_its_faults_and_creates_nothing(
    api: httpx.AsyncClient, sessions: Sessions, changes: dict[str, Any], code: str, wrong: list[str]
) -> None:
    response = await api.post("/v1/jobs", json={"file_urls": [URL], **changes}, headers={"Idempotency-Key": "k"})
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert pointers(response) == wrong
    assert (await count(sessions, Job), await count(sessions, File)) == (0, 0)


async def test_invalid_urls_after_the_twentieth_are_counted(api: httpx.AsyncClient) -> None:
    response = await api.post("/v1/jobs", json={"file_urls": ["x"] * 10_000})
    assert response.json()["errors"][-1]["detail"] == "9,980 more of its URLs are not valid"


async def test_lone_surrogate_is_refused_in_every_field(api: httpx.AsyncClient, sessions: Sessions) -> None:
    for body in (
        '{"file_urls": ["https://example.com/\\ud800"]}',
        '{"file_urls": ["https://example.com/"], "metadata": {"a": "\\ud800"}}',
        '{"file_urls": ["https://example.com/"], "metadata": {"\\ud800": "a"}}',
        '{"file_urls": ["https://example.com/"], "parameters": {"vocabulary_id": "\\ud800"}}',
        '{"file_urls": ["https://example.com/"], "parameters": {"\\ud800": 1}}',
        '{"file_urls": ["https://example.com/"], "model": "\\ud800"}',
        '{"file_urls": ["https://example.com/"], "\\ud800": "\\ud800"}',
    ):
        response = await api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 422, body
    assert await count(sessions, Job) == 0


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'"a"', b"\xff", b'{"file_urls": [NaN]}'])
async def test_body_that_is_not_a_json_object_is_refused(
    api: httpx.AsyncClient, sessions: Sessions, body: bytes
) -> None:
    response = await api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in {400, 422}
    assert await count(sessions, Job) == 0


async def test_create_without_a_token_is_refused(stranger: httpx.AsyncClient, sessions: Sessions) -> None:
    assert (await stranger.post("/v1/jobs", json={"file_urls": [URL]})).status_code == 401
    assert await count(sessions, Job) == 0


async def test_same_key_and_same_body_return_the_same_job(api: httpx.AsyncClient, sessions: Sessions) -> None:
    key = {"Idempotency-Key": "call 4711"}
    first = await api.post("/v1/jobs", json={"file_urls": [URL]}, headers=key)
    # A body with explicit defaults has the same meaning.
    again = await api.post("/v1/jobs", json={"model": "fun-asr", "file_urls": [URL], "metadata": {}}, headers=key)
    assert "idempotency-replayed" not in first.headers
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert again.headers["location"] == first.headers["location"]
    assert again.json() == first.json()
    assert (await count(sessions, Job), await count(sessions, File)) == (1, 1)


async def test_replay_returns_the_current_state_of_the_job(api: httpx.AsyncClient, sessions: Sessions) -> None:
    first = await api.post("/v1/jobs", json={"file_urls": [URL]}, headers={"Idempotency-Key": "k"})
    await finish(sessions, first.json()["id"])
    again = await api.post("/v1/jobs", json={"file_urls": [URL]}, headers={"Idempotency-Key": "k"})
    assert again.json()["status"] == "succeeded"
    assert "retry-after" not in again.headers


@pytest.mark.parametrize(
    "other",
    [
        {"file_urls": [URL + "x"]},
        {"file_urls": [URL, URL]},
        {"file_urls": [URL], "model": "fun-asr-mtl"},
        {"file_urls": [URL], "region": "beijing"},
        {"file_urls": [URL], "parameters": {"diarization_enabled": True}},
        {"file_urls": [URL], "metadata": {"a": "b"}},
        {"file_urls": [URL], "webhook_url": "https://example.com/"},
    ],
)
async def test_same_key_with_another_body_is_refused(
    api: httpx.AsyncClient, sessions: Sessions, other: dict[str, Any]
) -> None:
    key = {"Idempotency-Key": "k"}
    await api.post("/v1/jobs", json={"file_urls": [URL]}, headers=key)
    response = await api.post("/v1/jobs", json=other, headers=key)
    assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")
    assert pointers(response) == ["/header/Idempotency-Key"]
    assert await count(sessions, Job) == 1


async def test_clients_may_use_the_same_key(api: httpx.AsyncClient, other_api: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    mine = await api.post("/v1/jobs", json={"file_urls": [URL]}, headers=key)
    theirs = await other_api.post("/v1/jobs", json={"file_urls": [URL, URL]}, headers=key)
    assert theirs.status_code == 202
    assert mine.json()["id"] != theirs.json()["id"]


@pytest.mark.parametrize("key", [b"", b"k" * 256, "键".encode() * 256, b"a\tb", b"\x7f", b"\x85", "\x85".encode()])
async def test_key_that_is_too_long_or_has_control_characters_is_refused(api: httpx.AsyncClient, key: bytes) -> None:
    response = await api.post("/v1/jobs", json={"file_urls": [URL]}, headers=[(b"Idempotency-Key", key)])
    assert (response.status_code, pointers(response)) == (422, ["/header/Idempotency-Key"])
    assert "\\" not in response.json()["detail"], "no regular expression"


@pytest.mark.parametrize("key", ["键" * 255, "clé d'été", "🔑", "a/b:c=4711;~"])
async def test_key_may_contain_any_other_character(api: httpx.AsyncClient, sessions: Sessions, key: str) -> None:
    for replayed in (None, "true"):
        response = await api.post("/v1/jobs", json={"file_urls": [URL]}, headers=[(b"Idempotency-Key", key.encode())])
        assert (response.status_code, response.headers.get("idempotency-replayed")) == (202, replayed)
    async with transaction(sessions) as session:
        assert await session.scalar(select(Job.idempotency_key)) == key


async def test_key_in_latin_1_is_accepted(api: httpx.AsyncClient, sessions: Sessions) -> None:
    await api.post("/v1/jobs", json={"file_urls": [URL]}, headers=[(b"Idempotency-Key", "clé".encode("latin-1"))])
    async with transaction(sessions) as session:
        assert await session.scalar(select(Job.idempotency_key)) == "clé"


async def test_twenty_concurrent_equal_requests_create_one_job(api: httpx.AsyncClient, sessions: Sessions) -> None:
    async def post() -> httpx.Response:
        return await api.post(
            "/v1/jobs", json={"file_urls": [URL, URL]}, headers={"Idempotency-Key": "k" * 255}
        )  # fmt: skip

    responses = await asyncio.gather(*(post() for _ in range(20)))
    assert {response.status_code for response in responses} == {202}
    assert len({response.json()["id"] for response in responses}) == 1
    assert Counter(response.headers.get("idempotency-replayed") for response in responses) == {None: 1, "true": 19}
    assert (await count(sessions, Job), await count(sessions, File)) == (1, 2)


async def test_new_job_wakes_the_poller_and_a_replay_does_not(app: FastAPI, api: httpx.AsyncClient) -> None:
    wakeup: WakeUp = app.state.services.wakeup
    await api.post("/v1/jobs", json={"file_urls": [URL]}, headers={"Idempotency-Key": "k"})
    assert await wakeup.wait(0)
    await api.post("/v1/jobs", json={"file_urls": [URL]}, headers={"Idempotency-Key": "k"})
    assert not await wakeup.wait(0)


async def test_body_in_latin_1_is_refused(api: httpx.AsyncClient) -> None:
    body = json.dumps({"file_urls": ["https://example.com/é"]}, ensure_ascii=False).encode("latin-1")
    response = await api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400


async def test_detail_counts_the_faults_outside_the_parameters(api: httpx.AsyncClient) -> None:
    body = {"file_urls": ["ftp://example.com/a.wav"], "parameters": {"speaker_count": 1000}}
    problem = (await api.post("/v1/jobs", json=body)).json()
    assert problem["detail"] == "/parameters/speaker_count needs an integer from 2 to 100 (and 2 more)."
    assert [error["pointer"] for error in problem["errors"]][-1] == "/file_urls/0"


FORBIDDEN = ["10.1.2.3", "127.0.0.1:8000", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:10.0.0.1]"]


@pytest.mark.parametrize("host", [*FORBIDDEN, "169.254.169.254", "100.64.0.1", "0.0.0.1", "user@192.168.0.1"])
async def test_webhook_url_with_a_forbidden_address_is_refused(api: httpx.AsyncClient, host: str) -> None:
    body = {"file_urls": [URL], "webhook_url": f"http://{host}/hook"}
    response = await api.post("/v1/jobs", json=body)
    assert response.status_code == 422
    [fault] = response.json()["errors"]
    assert fault["pointer"] == "/webhook_url"
    assert "WEBHOOK_ALLOWED_NETWORKS" in fault["detail"]


@pytest.mark.parametrize("port", [22, 25, 6379, 8443])
async def test_webhook_url_with_a_forbidden_port_is_refused(api: httpx.AsyncClient, port: int) -> None:
    body = {"file_urls": [URL], "webhook_url": f"https://hooks.example.com:{port}/hook"}
    response = await api.post("/v1/jobs", json=body)
    assert response.status_code == (422 if port < 1024 else 202)
    if port < 1024:
        assert f"has the port {port}; webhooks may reach" in response.json()["detail"]


@pytest.mark.parametrize("host", ["8.8.8.8", "[2600::1]", "10.example", "localhost.example.com", "10.20.0.1"])
async def test_webhook_url_with_another_host_is_accepted(
    sessions: Sessions, api_client: tuple[CurrentClient, str], host: str
) -> None:
    settings = load_settings({"dashscope_beijing_api_key": "sk-1", "webhook_allowed_networks": "10.20.0.0/16"})
    async with caller(application(settings, sessions), api_client[1]) as api:
        response = await api.post("/v1/jobs", json={"file_urls": [URL], "webhook_url": f"https://{host}/hook"})
        assert response.status_code == 202, response.text


async def test_model_that_is_to_be_retired_gives_a_warning_and_is_not_refused(api: httpx.AsyncClient) -> None:
    body = {"file_urls": ["https://example.com/a.wav"], "model": "sensevoice-v1", "region": "beijing"}
    response = await api.post("/v1/jobs", json=body)
    assert response.status_code == 202
    assert response.headers["Deprecation"] == "@1769472000"  # 2026-01-27, when the guide said so
    assert response.headers["Sunset"] == "Sat, 10 Oct 2026 00:00:00 GMT"
    (warning,) = response.json()["warnings"]
    assert warning["code"] == "model_deprecated"
    assert "2026-10-10. Use fun-asr instead." in warning["message"]
    job = (await api.get(f"/v1/jobs/{response.json()['id']}")).json()
    listed = (await api.get("/v1/jobs")).json()["items"]
    assert job["warnings"] == [warning] == listed[0]["warnings"]


async def test_stable_name_of_a_retired_snapshot_gives_no_warning(api: httpx.AsyncClient) -> None:
    response = await api.post("/v1/jobs", json={"file_urls": ["https://example.com/a.wav"]})
    assert response.json()["warnings"] == []
    assert not {"Deprecation", "Sunset"} & {name.title() for name in response.headers}
