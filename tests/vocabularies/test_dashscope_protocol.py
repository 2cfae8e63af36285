"""Hot-word lists in DashScope's protocol: with the official SDK, and the errors that it reads."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.clients.service import CurrentClient
from app.sandbox import RunningSandbox
from app.sandbox.faults import Faults
from tests.dashscope_api.programs import run_program
from tests.live_server import live_server
from tests.vocabularies.test_vocabularies import WORDS, create

PATH = "/api/v1/services/audio/asr/customization"

# The SDK blocks, so it runs in a process of its own.
PROGRAM = """
import os
import dashscope
from dashscope.audio.asr import VocabularyService

dashscope.base_http_api_url = os.environ["DASHSCOPE_HTTP_BASE_URL"]
dashscope.api_key = os.environ["DASHSCOPE_API_KEY"]
words = [{"text": "赛德克巴莱", "weight": 4, "lang": "zh"}]
service = VocabularyService()
created = service.create_vocabulary("fun-asr", "test", words)
listed = service.list_vocabularies(prefix="test")
assert [each["vocabulary_id"] for each in listed] == [created], listed
assert set(listed[0]) == {"vocabulary_id", "gmt_create", "gmt_modified", "status"}
assert service.list_vocabularies(prefix="other") == []
service.update_vocabulary(created, [{"text": "Seediq Bale", "weight": 5}])
kept = service.query_vocabulary(created)
assert kept["target_model"] == "fun-asr" and kept["status"] == "OK", kept
assert kept["vocabulary"] == [{"text": "Seediq Bale", "weight": 5}], kept
service.delete_vocabulary(created)
assert service.list_vocabularies() == []
try:
    service.query_vocabulary(created)
except Exception as error:
    print(error)
"""


@pytest.mark.slow
async def test_vocabulary_service_of_the_official_sdk_works_with_another_url_and_key(
    app: FastAPI, api_client: tuple[CurrentClient, str], sandbox: RunningSandbox
) -> None:
    async with live_server(app) as url:
        for base, region in (("/api/v1", "beijing"), ("/singapore/api/v1", "singapore")):
            out = await run_program(PROGRAM, base_url=url + base, token=api_client[1])
            assert "BadRequest.ResourceNotExist" in out
            assert {kind.region for kind in sandbox.state.counts} == {region}
            sandbox.state.counts.clear()


async def call(api: httpx.AsyncClient, action: str, base: str = "", **fields: Any) -> httpx.Response:
    body = {"model": "speech-biasing", "input": {"action": action, **fields}, "parameters": {}}
    return await api.post(base + PATH, json=body)


async def refusal(api: httpx.AsyncClient, action: str, base: str = "", **fields: Any) -> tuple[int, str]:
    response = await call(api, action, base, **fields)
    assert set(response.json()) == {"code", "message", "request_id"}
    return response.status_code, response.json()["code"]


NEW: dict[str, Any] = {"target_model": "fun-asr", "prefix": "abc", "vocabulary": WORDS}


@pytest.mark.parametrize(
    "changes",
    [
        {"prefix": "Abc"},
        {"prefix": None},
        {"target_model": "gpt"},
        {"vocabulary": [{"text": "x"}]},
        {"vocabulary": [{"text": "x", "weight": 9}]},
        {"vocabulary": None},
    ],
)
async def test_invalid_list_is_an_invalid_parameter(api: httpx.AsyncClient, changes: dict[str, Any]) -> None:
    assert await refusal(api, "create_vocabulary", **NEW | changes) == (400, "InvalidParameter")


async def test_errors_have_the_codes_of_dashscope(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient, other_api: httpx.AsyncClient, sandbox: RunningSandbox
) -> None:
    assert await refusal(stranger, "list_vocabulary") == (401, "InvalidApiKey")
    assert await refusal(api, "drop_vocabulary") == (400, "InvalidParameter")
    for index in (-1, 2**31):
        assert await refusal(api, "list_vocabulary", page_index=index) == (400, "InvalidParameter")
        message = (await call(api, "list_vocabulary", page_index=index)).json()["message"]
        assert message == "page_index must be an integer from 0 to 2,147,483,647"
    missing = (400, "BadRequest.ResourceNotExist")
    vocabulary_id = (await create(api))["id"]
    for action in ("query_vocabulary", "update_vocabulary", "delete_vocabulary"):
        assert await refusal(other_api, action, vocabulary_id=vocabulary_id, vocabulary=WORDS) == missing
        elsewhere = await refusal(api, action, "/singapore", vocabulary_id=vocabulary_id, vocabulary=WORDS)
        assert elsewhere == missing
    updated = await call(api, "update_vocabulary", vocabulary_id=vocabulary_id, vocabulary=WORDS[:1])
    assert updated.json()["output"] == {}
    again = await call(api, "update_vocabulary", vocabulary_id=vocabulary_id, vocabulary=WORDS)
    assert (again.status_code, again.json()["code"]) == (429, "Throttling")
    assert int(again.headers["retry-after"]) > 250
    sandbox.state.faults = Faults(down=True)
    assert await refusal(api, "create_vocabulary", **NEW) == (503, "ServiceUnavailable")
    sandbox.state.faults = Faults()
    for number in range(9):
        await create(api, prefix=f"p{number}", region="beijing")
    full = (400, "Throttling.AllocationQuota")
    assert await refusal(api, "create_vocabulary", "/beijing", **NEW) == full
    assert (await api.post(PATH, content=b"no json")).json()["code"] == "InvalidParameter"


async def test_lists_of_both_protocols_are_the_same(api: httpx.AsyncClient, other_api: httpx.AsyncClient) -> None:
    created = [(await create(api, prefix=f"p{number}"))["id"] for number in range(3)]

    async def listed(http: httpx.AsyncClient, base: str = "", **fields: Any) -> list[str]:
        rows = (await call(http, "list_vocabulary", base, **fields)).json()["output"]["vocabulary_list"]
        return [row["vocabulary_id"] for row in rows]

    assert await listed(api) == created[::-1]
    assert await listed(api, prefix=None, page_index=1, page_size=2) == created[:1]
    assert await listed(api, "/singapore") == []
    assert await listed(other_api) == []
