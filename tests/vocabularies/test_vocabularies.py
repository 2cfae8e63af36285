"""`/v1/vocabularies`: the calls, the checks before a call to DashScope, and jobs with a list."""

from typing import Any

import httpx
import pytest

from app.clients.service import CurrentClient
from app.db import Sessions
from app.errors import NotFound
from app.queue.revocation import revoke_client
from app.sandbox import RunningSandbox, SandboxConfig
from app.sandbox.faults import Faults
from app.settings import Settings
from app.vocabularies.lists import delete_lists_of_revoked
from tests.uploads.test_uploads import upload
from tests.vocabularies.conftest import QueueClient, StartPoller

WORDS = [{"text": "赛德克巴莱", "weight": 4, "lang": "zh"}, {"text": "Seediq Bale", "weight": 4, "lang": "en"}]
URL = "https://example.com/a.wav"


def body(**changes: Any) -> dict[str, Any]:
    return {"target_model": "fun-asr", "prefix": "calls", "vocabulary": WORDS} | changes


async def create(api: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    response = await api.post("/v1/vocabularies", json=body(**changes))
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


def words(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"text": f"word {number}", "weight": 4} | fields for number in range(count)]


async def test_list_is_created_shown_updated_and_deleted(api: httpx.AsyncClient, sandbox: RunningSandbox) -> None:
    response = await api.post("/v1/vocabularies", json=body())
    created = response.json()
    assert response.status_code == 201, created
    assert response.headers["location"] == f"/v1/vocabularies/{created['id']}"
    assert created.pop("created_at") == created["updated_at"]
    assert created == {
        "id": next(iter(sandbox.state.vocabularies)),
        "region": "beijing",
        "account": "default",
        "target_model": "fun-asr",
        "prefix": "calls",
        "vocabulary": WORDS,
        "status": "OK",
        "updated_at": created["updated_at"],
    }
    path = f"/v1/vocabularies/{created['id']}"
    shown = (await api.get(path)).json()
    assert (await api.get("/v1/vocabularies")).json() == {"items": [shown], "next_cursor": None}
    updated = await api.put(path, json={"vocabulary": WORDS[:1]})
    assert updated.status_code == 200, updated.text
    assert updated.json()["vocabulary"] == WORDS[:1]
    assert updated.json()["updated_at"] > shown["updated_at"]
    assert sandbox.state.vocabularies[created["id"]].words == WORDS[:1]
    assert (await api.delete(path)).status_code == 204
    assert (await api.get(path)).status_code == 404
    assert (await api.delete(path)).status_code == 404
    assert not sandbox.state.vocabularies


async def test_entry_without_a_language_has_none(api: httpx.AsyncClient, sandbox: RunningSandbox) -> None:
    created = await create(api, vocabulary=[{"text": "Model Studio", "weight": 1}])
    assert created["vocabulary"] == [{"text": "Model Studio", "weight": 1, "lang": None}]
    assert sandbox.state.vocabularies[created["id"]].words == [{"text": "Model Studio", "weight": 1}]


async def test_lists_are_paginated(api: httpx.AsyncClient) -> None:
    created = [(await create(api, prefix=f"p{number}"))["id"] for number in range(3)]
    first = (await api.get("/v1/vocabularies", params={"limit": 2})).json()
    rest = (await api.get("/v1/vocabularies", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [each["id"] for each in first["items"] + rest["items"]] == created[::-1]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"prefix": "Calls"}, "/prefix"),
        ({"prefix": "0123456789"}, "/prefix"),
        ({"prefix": ""}, "/prefix"),
        ({"prefix": "a-b"}, "/prefix"),
        ({"prefix": "a\n"}, "/prefix"),
        ({"target_model": "gpt"}, "/target_model"),
        ({"target_model": "sensevoice-v1"}, "/target_model"),
        ({"target_model": "paraformer-v1"}, "/target_model"),
        ({"target_model": "qwen3-asr-flash-filetrans"}, "/target_model"),
        ({"target_model": "paraformer-v2", "region": "singapore"}, "/region"),
        ({"region": "mars"}, "/region"),
        ({"vocabulary": []}, "/vocabulary"),
        ({"vocabulary": "words"}, "/vocabulary"),
        ({"vocabulary": [{"text": "字" * 16, "weight": 4}]}, "/vocabulary/0/text"),
        ({"vocabulary": [{"text": "one two three four five six ü", "weight": 4}]}, "/vocabulary/0/text"),
        ({"vocabulary": [{"text": "a b c d e f g h", "weight": 4}]}, "/vocabulary/0/text"),
        ({"vocabulary": [{"text": " ", "weight": 4}]}, "/vocabulary/0/text"),
        ({"vocabulary": [{"text": "a\u0007", "weight": 4}]}, "/vocabulary/0/text"),
        ({"vocabulary": [{"text": "x", "weight": 0}]}, "/vocabulary/0/weight"),
        ({"vocabulary": [{"text": "x", "weight": 6}]}, "/vocabulary/0/weight"),
        ({"vocabulary": [{"text": "x", "weight": 50}]}, "/vocabulary/0/weight"),
        ({"vocabulary": [{"text": "x", "weight": "4"}]}, "/vocabulary/0/weight"),
        ({"vocabulary": [{"text": "x", "weight": 4.5}]}, "/vocabulary/0/weight"),
        ({"vocabulary": [{"text": "x", "weight": True}]}, "/vocabulary/0/weight"),
        ({"vocabulary": [{"text": "x"}]}, "/vocabulary/0/weight"),
        ({"vocabulary": [{"text": "x", "weight": 4, "lang": "xx"}]}, "/vocabulary/0/lang"),
        ({"vocabulary": [{"text": "x", "weight": 4, "colour": "red"}]}, "/vocabulary/0/colour"),
        ({"vocabulary": words(1) + words(1)}, "/vocabulary/1/text"),
        ({"vocabulary": [{"text": "Model", "weight": 4}, {"text": "Model ", "weight": 4}]}, "/vocabulary/1/text"),
        (
            {"vocabulary": [{"text": "caf\u00e9", "weight": 4}, {"text": "cafe\u0301", "weight": 4}]},
            "/vocabulary/1/text",
        ),
        ({"vocabulary": [{"text": "\u200b\u00a0", "weight": 4}]}, "/vocabulary/0/text"),
        ({"vocabulary": [{"text": "", "weight": 4}]}, "/vocabulary/0/text"),
        ({"vocabulary": words(2001)}, "/vocabulary"),
        ({"vocabulary": words(501), "target_model": "paraformer-v2"}, "/vocabulary"),
        ({"colour": "red"}, "/colour"),
    ],
)
async def test_faults_are_found_before_the_call(
    api: httpx.AsyncClient, sandbox: RunningSandbox, changes: dict[str, Any], pointer: str
) -> None:
    response = await api.post("/v1/vocabularies", json=body(**changes))
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["pointer"] == pointer
    assert not sandbox.state.counts


@pytest.mark.parametrize(
    "changes",
    [
        {"vocabulary": words(2000)},
        {"vocabulary": words(500), "target_model": "paraformer-v2"},
        {"vocabulary": [{"text": "字" * 15, "weight": 5}], "target_model": "paraformer-8k-v2"},
        {"vocabulary": [{"text": "a b c d e f g", "weight": 1}], "region": "singapore"},
        {"vocabulary": [{"text": "é", "weight": 1}, {"text": "é", "weight": 1, "lang": "en"}]},
        {"vocabulary": [{"text": "\U00031350", "weight": 1}]},  # newer than Python's table of characters
        {"vocabulary": [{"text": "😀", "weight": 1}, {"text": "AI", "weight": 1}, {"text": "ai", "weight": 1}]},
        {"prefix": "012345678"},
    ],
)
async def test_lists_at_the_limits_are_accepted(api: httpx.AsyncClient, changes: dict[str, Any]) -> None:
    await create(api, **changes)


async def test_all_faults_are_reported_together(api: httpx.AsyncClient) -> None:
    wrong = [{"text": "x", "weight": 9, "lang": "xx"}, {"text": " ", "weight": 4}]
    response = await api.post("/v1/vocabularies", json=body(prefix="A", vocabulary=wrong))
    pointers = {fault["pointer"] for fault in response.json()["errors"]}
    assert pointers == {"/prefix", "/vocabulary/0/weight", "/vocabulary/0/lang", "/vocabulary/1/text"}


async def test_second_update_within_five_minutes_is_refused_before_the_call(
    api: httpx.AsyncClient, queue: QueueClient, sandbox: RunningSandbox
) -> None:
    path = f"/v1/vocabularies/{(await create(api))['id']}"
    assert (await api.put(path, json={"vocabulary": WORDS[:1]})).status_code == 200
    calls = sandbox.state.counts.total()
    refused = await api.put(path, json={"vocabulary": WORDS})
    assert (refused.status_code, refused.json()["code"]) == (429, "vocabulary_updated_recently")
    assert 290 <= int(refused.headers["retry-after"]) <= 300
    assert sandbox.state.counts.total() == calls
    await queue.rows("UPDATE vocabularies SET updated_at = now() - interval '299.5 s', created_at = now() - interval"
                     " '1 day' RETURNING id")  # fmt: skip
    assert (await api.put(path, json={"vocabulary": WORDS})).headers["retry-after"] == "1"
    await queue.rows("UPDATE vocabularies SET updated_at = now() - interval '300 s' RETURNING id")
    sandbox.state.advanced_s += 300
    assert (await api.put(path, json={"vocabulary": WORDS})).status_code == 200


async def test_eleventh_list_of_an_account_is_a_409(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, sandbox: RunningSandbox
) -> None:
    """The limit counts the lists of all clients. `auto` uses the other region then."""
    for number in range(10):
        await create(api if number % 2 else other_api, prefix=f"p{number}", region="beijing")
    refused = await api.post("/v1/vocabularies", json=body(region="beijing"))
    assert (refused.status_code, refused.json()["code"]) == (409, "vocabulary_limit")
    assert (await create(api))["region"] == "singapore"
    assert len(sandbox.state.vocabularies) == 11


@pytest.mark.parametrize("sandbox", [SandboxConfig(queue_s=0.05, run_s=0.1, max_vocabularies=11)], indirect=True)
async def test_raised_limit_of_an_account_is_used(api: httpx.AsyncClient) -> None:
    for number in range(11):
        await create(api, prefix=f"p{number}", region="beijing")
    assert (await api.post("/v1/vocabularies", json=body(region="beijing"))).status_code == 409


async def test_job_goes_to_the_region_and_account_of_its_list(
    api: httpx.AsyncClient, queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    vocabulary_id = (await create(api, region="singapore"))["id"]
    posted = await api.post("/v1/jobs", json={"file_urls": [URL], "parameters": {"vocabulary_id": vocabulary_id}})
    job = posted.json()
    assert (posted.status_code, job["region"]) == (202, "singapore")
    assert [row.account for row in await queue.rows("SELECT account FROM files")] == ["singapore/default"]
    async with start_poller():
        done = (await api.get(f"/v1/jobs/{job['id']}", params={"wait": 20})).json()
    assert done["status"] == "succeeded", done
    assert sandbox.state.submits[0].parameters["vocabulary_id"] == vocabulary_id


async def test_job_is_checked_against_its_list(api: httpx.AsyncClient, other_api: httpx.AsyncClient) -> None:
    vocabulary_id = (await create(api))["id"]

    async def refusal(http: httpx.AsyncClient, **job: Any) -> tuple[int, str, str]:
        sent = {"file_urls": [URL], "parameters": {"vocabulary_id": vocabulary_id}} | job
        response = await http.post("/v1/jobs", json=sent)
        problem = response.json()
        return response.status_code, problem["code"], problem["errors"][0]["pointer"]

    pointer = "/parameters/vocabulary_id"
    assert await refusal(api, model="fun-asr-mtl") == (422, "vocabulary_model_mismatch", pointer)
    assert await refusal(api, model="fun-asr-2025-11-07") == (422, "vocabulary_model_mismatch", pointer)
    assert await refusal(api, region="singapore") == (422, "validation_failed", "/region")
    assert await refusal(other_api) == (422, "vocabulary_not_found", pointer)
    elsewhere = (await upload(api, files={"file": ("a.wav", b"RIFF")}, data={"region": "singapore"}))["file_url"]
    assert await refusal(api, file_urls=[URL, elsewhere]) == (422, "validation_failed", pointer)
    here = (await upload(api, files={"file": ("a.wav", b"RIFF")}, data={"region": "beijing"}))["file_url"]
    sent = {"file_urls": [URL, here], "parameters": {"vocabulary_id": vocabulary_id}}
    assert (await api.post("/v1/jobs", json=sent)).status_code == 202


@pytest.mark.parametrize(
    "sandbox",
    [SandboxConfig(queue_s=0, run_s=0.1, missing_vocabulary_style=style) for style in ("400", "416", "task")],
    indirect=True,
    ids=["400", "416", "task"],
)
async def test_job_with_a_list_that_is_deleted_fails_with_a_clear_error(
    api: httpx.AsyncClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    """Also at a retry, and all files of a group at once."""
    vocabulary_id = (await create(api))["id"]
    urls = [f"https://example.com/{number}.wav" for number in range(8)]
    sent = {"file_urls": urls, "parameters": {"vocabulary_id": vocabulary_id}}
    job = (await api.post("/v1/jobs", json=sent)).json()
    assert (await api.delete(f"/v1/vocabularies/{vocabulary_id}")).status_code == 204
    calls = 0
    async with start_poller():
        for _ in range(2):
            done = (await api.get(f"/v1/jobs/{job['id']}", params={"wait": 20})).json()
            errors = [file["error"] for file in done["files"]]
            assert {error["code"] for error in errors} == {"vocabulary_not_found"}
            assert "hot-word list" in errors[0]["message"]
            calls += 1
            # Groups are small in the first tenths of a second of a job: 3, 2, 2 and 1 files on a fast machine.
            submits = sum(count for call, count in sandbox.state.counts.items() if call.kind == "submit")
            assert submits <= 4 * calls
            assert (await api.post(f"/v1/jobs/{job['id']}/retry")).status_code == 202


async def test_id_that_the_gateway_does_not_know_is_passed_on(
    api: httpx.AsyncClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    sent = {"file_urls": [URL], "parameters": {"vocabulary_id": "vocab-mine-1"}, "region": "beijing"}
    job = (await api.post("/v1/jobs", json=sent)).json()
    async with start_poller():
        done = (await api.get(f"/v1/jobs/{job['id']}", params={"wait": 20})).json()
    assert done["files"][0]["error"]["upstream_code"] == "BadRequest.ResourceNotExist"


async def test_lists_belong_to_their_client(api: httpx.AsyncClient, other_api: httpx.AsyncClient) -> None:
    path = f"/v1/vocabularies/{(await create(api))['id']}"
    assert (await other_api.get(path)).status_code == 404
    assert (await other_api.put(path, json={"vocabulary": WORDS})).status_code == 404
    assert (await other_api.delete(path)).status_code == 404
    assert (await other_api.get("/v1/vocabularies")).json()["items"] == []


async def test_lists_of_a_revoked_client_are_deleted_on_request(
    api: httpx.AsyncClient,
    other_api: httpx.AsyncClient,
    admin: httpx.AsyncClient,
    api_client: tuple[CurrentClient, str],
    sandbox: RunningSandbox,
) -> None:
    """Also for a client that is revoked already, and again after DashScope was away."""
    for number in range(3):
        await create(api, prefix=f"p{number}")
    kept = (await create(other_api))["id"]
    path = f"/v1/clients/{api_client[0].id}"
    assert (await admin.delete(path)).status_code == 204
    assert len(sandbox.state.vocabularies) == 4
    assert (await admin.delete(path)).status_code == 404
    sandbox.state.faults = Faults(vocabularies_down=True)
    assert (await admin.delete(path, params={"delete_vocabularies": "true"})).status_code == 503
    sandbox.state.faults = Faults()
    assert (await admin.delete(path, params={"delete_vocabularies": "true"})).status_code == 204
    assert list(sandbox.state.vocabularies) == [kept]


async def test_lists_of_a_revoked_client_are_deleted_by_name(
    api: httpx.AsyncClient, settings: Settings, sessions: Sessions, sandbox: RunningSandbox
) -> None:
    await create(api)
    with pytest.raises(NotFound):
        await delete_lists_of_revoked(settings, sessions, "tester")
    await revoke_client(sessions, "tester")
    assert await delete_lists_of_revoked(settings, sessions, "tester") == 1
    assert not sandbox.state.vocabularies
