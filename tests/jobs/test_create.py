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
from tests.jobs.rows import count, finish

URL = "https://example.com/a.wav"


def pointers(answer: httpx.Response) -> list[str]:
    return [place["pointer"] for place in answer.json()["errors"]]


async def test_a_job_is_accepted_and_shown_as_the_contract_shows_it(api: httpx.AsyncClient) -> None:
    answer = await api.post(
        "/v1/jobs",
        json={"file_urls": [URL], "parameters": {"language_hints": ["zh"]}, "metadata": {"call": "4711"}},
    )
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["retry-after"] == "2"
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
            }
        ],
        "files_truncated": False,
    }


async def test_the_accepted_job_reads_back_as_it_was_shown(api: httpx.AsyncClient) -> None:
    body = {"file_urls": [f"https://example.com/{n}.wav" for n in range(150)], "metadata": {"a": "é", "b": "录音"}}
    accepted = await api.post("/v1/jobs", json=body)
    read = await api.get(accepted.headers["location"])
    assert read.json() == accepted.json()
    assert len(read.json()["files"]) == 100
    assert read.json()["files_truncated"] is True


async def test_the_files_carry_what_the_queue_needs(
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


async def test_ten_thousand_files_are_one_statement(
    api: httpx.AsyncClient, sessions: Sessions, statements: list[str]
) -> None:
    await api.post("/v1/jobs", json={"file_urls": [URL]})  # the first look at the pace of jobs
    statements.clear()
    answer = await api.post("/v1/jobs", json={"file_urls": [f"{URL}?{n}" for n in range(10_000)]})
    assert answer.status_code == 202
    assert answer.json()["file_counts"]["total"] == 10_000
    assert await count(sessions, File) == 10_001
    assert len([statement for statement in statements if "jobs" in statement]) == 1


async def test_the_webhook_url_is_kept_encoded(api: httpx.AsyncClient, sessions: Sessions) -> None:
    await api.post("/v1/jobs", json={"file_urls": [URL], "webhook_url": "https://example.com/呼?x=1"})
    async with transaction(sessions) as session:
        assert await session.scalar(select(Job.webhook_url)) == "https://example.com/%E5%91%BC?x=1"


async def test_auto_picks_a_region_and_a_region_asked_for_is_taken(api: httpx.AsyncClient) -> None:
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
async def test_what_is_wrong_is_told_with_its_place_and_leaves_nothing_behind(
    api: httpx.AsyncClient, sessions: Sessions, changes: dict[str, Any], code: str, wrong: list[str]
) -> None:
    answer = await api.post("/v1/jobs", json={"file_urls": [URL], **changes}, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert pointers(answer) == wrong
    assert (await count(sessions, Job), await count(sessions, File)) == (0, 0)


async def test_the_twenty_first_bad_url_is_only_counted(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/jobs", json={"file_urls": ["x"] * 10_000})
    assert answer.json()["errors"][-1]["detail"] == "9,980 more of its URLs are not valid"


async def test_a_lone_surrogate_is_refused_wherever_it_stands(api: httpx.AsyncClient, sessions: Sessions) -> None:
    for body in (
        '{"file_urls": ["https://example.com/\\ud800"]}',
        '{"file_urls": ["https://example.com/"], "metadata": {"a": "\\ud800"}}',
        '{"file_urls": ["https://example.com/"], "metadata": {"\\ud800": "a"}}',
        '{"file_urls": ["https://example.com/"], "parameters": {"vocabulary_id": "\\ud800"}}',
        '{"file_urls": ["https://example.com/"], "parameters": {"\\ud800": 1}}',
        '{"file_urls": ["https://example.com/"], "model": "\\ud800"}',
        '{"file_urls": ["https://example.com/"], "\\ud800": "\\ud800"}',
    ):
        answer = await api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, body
    assert await count(sessions, Job) == 0


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'"a"', b"\xff", b'{"file_urls": [NaN]}'])
async def test_what_is_no_json_object_is_refused(api: httpx.AsyncClient, sessions: Sessions, body: bytes) -> None:
    answer = await api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert await count(sessions, Job) == 0


async def test_nobody_creates_jobs_without_a_token(stranger: httpx.AsyncClient, sessions: Sessions) -> None:
    assert (await stranger.post("/v1/jobs", json={"file_urls": [URL]})).status_code == 401
    assert await count(sessions, Job) == 0


async def test_the_same_key_with_the_same_body_is_the_same_job(api: httpx.AsyncClient, sessions: Sessions) -> None:
    key = {"Idempotency-Key": "call 4711"}
    first = await api.post("/v1/jobs", json={"file_urls": [URL]}, headers=key)
    # Defaults that are spelt out mean the same.
    again = await api.post("/v1/jobs", json={"model": "fun-asr", "file_urls": [URL], "metadata": {}}, headers=key)
    assert "idempotency-replayed" not in first.headers
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert again.headers["location"] == first.headers["location"]
    assert again.json() == first.json()
    assert (await count(sessions, Job), await count(sessions, File)) == (1, 1)


async def test_a_replay_shows_the_job_as_it_is_now(api: httpx.AsyncClient, sessions: Sessions) -> None:
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
async def test_the_same_key_with_another_body_is_refused(
    api: httpx.AsyncClient, sessions: Sessions, other: dict[str, Any]
) -> None:
    key = {"Idempotency-Key": "k"}
    await api.post("/v1/jobs", json={"file_urls": [URL]}, headers=key)
    answer = await api.post("/v1/jobs", json=other, headers=key)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert pointers(answer) == ["/header/Idempotency-Key"]
    assert await count(sessions, Job) == 1


async def test_a_key_belongs_to_its_client(api: httpx.AsyncClient, other_api: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    mine = await api.post("/v1/jobs", json={"file_urls": [URL]}, headers=key)
    theirs = await other_api.post("/v1/jobs", json={"file_urls": [URL, URL]}, headers=key)
    assert theirs.status_code == 202
    assert mine.json()["id"] != theirs.json()["id"]


@pytest.mark.parametrize("key", [b"", b"k" * 256, "键".encode() * 256, b"a\tb", b"\x7f", b"\x85", "\x85".encode()])
async def test_a_key_of_another_length_or_with_control_characters_is_refused(
    api: httpx.AsyncClient, key: bytes
) -> None:
    answer = await api.post("/v1/jobs", json={"file_urls": [URL]}, headers=[(b"Idempotency-Key", key)])
    assert (answer.status_code, pointers(answer)) == (422, ["/header/Idempotency-Key"])
    assert "\\" not in answer.json()["detail"], "no regular expression"


@pytest.mark.parametrize("key", ["键" * 255, "clé d'été", "🔑", "a/b:c=4711;~"])
async def test_a_key_may_have_any_characters(api: httpx.AsyncClient, sessions: Sessions, key: str) -> None:
    for replayed in (None, "true"):
        answer = await api.post("/v1/jobs", json={"file_urls": [URL]}, headers=[(b"Idempotency-Key", key.encode())])
        assert (answer.status_code, answer.headers.get("idempotency-replayed")) == (202, replayed)
    async with transaction(sessions) as session:
        assert await session.scalar(select(Job.idempotency_key)) == key


async def test_a_key_in_latin_1_is_taken_too(api: httpx.AsyncClient, sessions: Sessions) -> None:
    await api.post("/v1/jobs", json={"file_urls": [URL]}, headers=[(b"Idempotency-Key", "clé".encode("latin-1"))])
    async with transaction(sessions) as session:
        assert await session.scalar(select(Job.idempotency_key)) == "clé"


async def test_of_twenty_equal_requests_at_once_one_makes_the_job(api: httpx.AsyncClient, sessions: Sessions) -> None:
    async def post() -> httpx.Response:
        return await api.post(
            "/v1/jobs", json={"file_urls": [URL, URL]}, headers={"Idempotency-Key": "k" * 255}
        )  # fmt: skip

    answers = await asyncio.gather(*(post() for _ in range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert Counter(answer.headers.get("idempotency-replayed") for answer in answers) == {None: 1, "true": 19}
    assert (await count(sessions, Job), await count(sessions, File)) == (1, 2)


async def test_the_doorbell_rings_after_the_commit_and_for_new_jobs_only(app: FastAPI, api: httpx.AsyncClient) -> None:
    wakeup: WakeUp = app.state.services.wakeup
    await api.post("/v1/jobs", json={"file_urls": [URL]}, headers={"Idempotency-Key": "k"})
    assert await wakeup.wait(0)
    await api.post("/v1/jobs", json={"file_urls": [URL]}, headers={"Idempotency-Key": "k"})
    assert not await wakeup.wait(0)


async def test_a_body_in_latin_1_is_told_to_be_unicode(api: httpx.AsyncClient) -> None:
    body = json.dumps({"file_urls": ["https://example.com/é"]}, ensure_ascii=False).encode("latin-1")
    answer = await api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


async def test_the_detail_counts_what_is_wrong_elsewhere_too(api: httpx.AsyncClient) -> None:
    body = {"file_urls": ["ftp://example.com/a.wav"], "parameters": {"speaker_count": 1000}}
    problem = (await api.post("/v1/jobs", json=body)).json()
    assert problem["detail"] == "2 places in the parameters are wrong (and 1 more elsewhere)"
    assert [error["pointer"] for error in problem["errors"]][-1] == "/file_urls/0"
