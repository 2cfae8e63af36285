"""What a submit accepts and refuses, and the job that it makes."""

from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI

from app.sandbox import RunningSandbox
from tests.dashscope_api.conftest import ASYNC, SUBMIT, URL, Submit, fetch, finished, post
from tests.uploads.conftest import StartPoller

SAMPLES = Path(__file__).parent.parent / "data" / "dashscope"
INPUT = {"file_urls": [URL]}
NO_MODEL = 'Required parameter "model" missing from request.'
MANY = {f"p{number}": number for number in range(101)}
QWEN = "qwen3-asr-flash-filetrans"


async def job_of(api: httpx.AsyncClient, response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    job: dict[str, Any] = (await api.get(f"/v1/jobs/{response.json()['output']['task_id']}")).json()
    return job


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        ({"input": INPUT}, 400, "BadRequest.EmptyModel", NO_MODEL),
        ({"model": "", "input": INPUT}, 400, "BadRequest.EmptyModel", NO_MODEL),
        ({"model": "fun-asr"}, 400, "BadRequest.EmptyInput", 'Required parameter "input" missing from request.'),
        ({"model": "fun-asr", "input": {}}, 400, "InvalidParameter", "input must contain file_urls"),
        ({"model": "fun-asr", "input": {"x": 1}}, 400, "InvalidParameter", "input must contain file_urls"),
        ({"model": "fun-asr", "input": {"file_url": URL}}, 400, "InvalidParameter", "input must contain file_urls"),
        ({"model": "fun-asr", "input": {"file_urls": [1]}}, 400, "InvalidParameter", "input must contain file_urls"),
        ({"model": "fun-asr", "input": []}, 400, "BadRequest.EmptyInput", None),
        ({"model": "fun-asr", "input": "x"}, 400, "InvalidParameter", "input must be an object"),
        ({"model": 7, "input": INPUT}, 400, "InvalidParameter", "model must be a string"),
        ({"model": "fun-asr-9", "input": INPUT}, 404, "ModelNotFound", None),
        ([], 400, "InvalidParameter", "Required body invalid, please check the request body format."),
        ({"model": "fun-asr", "input": INPUT, "parameters": [1]}, 400, "InvalidParameter", None),
        ({"model": "fun-asr", "input": INPUT, "parameters": MANY}, 400, "InvalidParameter", None),
        ({"model": "fun-asr", "input": INPUT, "parameters": {"a": "\0"}}, 400, "InvalidParameter", None),
        ({"model": "fun-asr", "input": INPUT, "parameters": {"a": 2**70}}, 400, "InvalidParameter", None),
        ({"model": "fun-asr", "input": {"file_urls": [URL, "/home/a.wav"]}}, 400, "InvalidParameter", None),
        ({"model": "fun-asr", "input": {"file_urls": [URL, "oss://a\nb"]}}, 400, "InvalidParameter", None),
        ({"model": QWEN, "input": {"a": 1}}, 400, "InvalidParameter", "input must contain file_url"),
    ],
)  # fmt: skip
async def test_refusals_have_dashscopes_codes(
    api: httpx.AsyncClient, body: Any, status: int, code: str, message: str | None
) -> None:
    response = await post(api, body)
    assert response.headers["content-type"] == "application/json"
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert message in {None, response.json()["message"]}
    assert (await api.get("/v1/jobs")).json()["items"] == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"null", b"[" * 100_000])
async def test_body_that_is_not_json_is_an_invalid_parameter(api: httpx.AsyncClient, content: bytes) -> None:
    response = await api.post(SUBMIT, content=content, headers=ASYNC)
    assert (response.status_code, response.json()["code"]) == (400, "InvalidParameter")


@pytest.mark.parametrize("value", ["1e400", "NaN", "[-1e999]", '"\\u0000"', '"\\ud800"', "9" * 30])
async def test_parameter_that_cannot_be_sent_on_is_refused(api: httpx.AsyncClient, value: str) -> None:
    """`Infinity` and `NaN` would be sent as null."""
    content = f'{{"model": "fun-asr", "input": {{"file_urls": ["{URL}"]}}, "parameters": {{"custom": {value}}}}}'
    response = await api.post(SUBMIT, content=content, headers=ASYNC)
    assert (response.status_code, response.json()["code"]) == (400, "InvalidParameter")


async def test_submit_needs_the_async_header(api: httpx.AsyncClient) -> None:
    response = await api.post(SUBMIT, json={"model": "fun-asr", "input": INPUT})
    assert response.status_code == 403
    assert response.json() == {
        "code": "AccessDenied",
        "message": "current user api does not support synchronous calls.",
        "request_id": response.headers["x-request-id"],
    }


async def test_101_urls_are_refused(api: httpx.AsyncClient) -> None:
    urls = [f"https://example.com/{n}.wav" for n in range(101)]
    response = await post(api, {"model": "fun-asr", "input": {"file_urls": urls}})
    assert (response.status_code, response.json()["code"]) == (400, "InvalidParameter")
    assert "at most 100" in response.json()["message"]


async def test_wrong_url_is_named_by_its_index(api: httpx.AsyncClient) -> None:
    response = await post(api, {"model": "fun-asr", "input": {"file_urls": [URL, "file:///a.wav"]}})
    assert response.json()["message"].startswith("input.file_urls[1] needs a URL that starts with http://")


async def test_model_of_a_region_without_a_key_is_refused(app: FastAPI, api: httpx.AsyncClient) -> None:
    app.state.services.served = ("singapore",)
    response = await post(api, {"model": "fun-asr", "input": INPUT}, base="/beijing")
    assert (response.status_code, response.json()["code"]) == (403, "AccessDenied")
    assert "DASHSCOPE_BEIJING_API_KEY" in response.json()["message"]


async def test_unknown_fields_and_media_types_are_accepted(api: httpx.AsyncClient) -> None:
    body = {"model": "fun-asr", "input": {**INPUT, "later": 1}, "parameters": None, "task_group": "audio", "x": {}}
    for content_type in ("application/json; charset=utf-8", "text/plain"):
        response = await api.post(
            f"{SUBMIT}?later=1", content=orjson.dumps(body), headers={**ASYNC, "Content-Type": content_type}
        )
        assert (await job_of(api, response))["parameters"] == {}


async def test_parameters_are_canonical_where_known_and_else_as_given(api: httpx.AsyncClient) -> None:
    given = {
        "channel_id": [1, 0], "language_hints": ["zh"], "diarization_enabled": None, "speaker_count": 4,
        "special_word_filter": {"system_reserved_filter": True}, "keep_dialect": True, "disfluency_removal_enabled": 1,
    }  # fmt: skip
    job = await job_of(api, await post(api, {"model": "fun-asr", "input": INPUT, "parameters": given}))
    assert job["parameters"] == {
        "channel_id": [0, 1], "language_hints": ["zh"], "speaker_count": 4,
        "special_word_filter": '{"system_reserved_filter":true}', "keep_dialect": True, "disfluency_removal_enabled": 1,
    }  # fmt: skip


async def test_first_phrase_resource_becomes_the_phrase_id(api: httpx.AsyncClient) -> None:
    resources = [{"resource_id": "x", "resource_type": "other"}, {"resource_id": "ph1", "resource_type": "asr_phrase"}]
    job = await job_of(api, await post(api, {"model": "paraformer-v1", "input": INPUT, "resources": resources}))
    assert job["parameters"] == {"phrase_id": "ph1"}


async def test_parameters_and_resources_reach_dashscope_as_they_were_given(
    api: httpx.AsyncClient, sandbox: RunningSandbox, start_poller: StartPoller
) -> None:
    body = {
        "model": "paraformer-v1", "input": INPUT, "parameters": {"later": {"a": [1]}},
        "resources": [{"resource_id": "ph1", "resource_type": "asr_phrase"}],
    }  # fmt: skip
    response = await post(api, body)
    async with start_poller():
        await finished(api, response.json()["output"]["task_id"])
    [task] = sandbox.state.tasks.values()
    assert task.parameters == {"later": {"a": [1]}}


REQUESTS = {path.stem: orjson.loads(path.read_bytes()) for path in sorted(SAMPLES.glob("submit_request_*.json"))}


@pytest.mark.parametrize("name", REQUESTS)
async def test_sample_requests_are_accepted(api: httpx.AsyncClient, name: str) -> None:
    body = REQUESTS[name]
    response = await post(api, body)
    job = await job_of(api, response)
    assert job["model"] == body["model"]
    assert job["parameters"].get("context") == body["input"].get("context")


async def test_file_url_is_shown_as_it_was_given(
    api: httpx.AsyncClient, submit: Submit, start_poller: StartPoller
) -> None:
    urls = [
        "https://example.com/会议 1.wav",
        "HTTPS://Example.com/a%20b.wav?Signature=a%2Fb%3D",
        "https://例子.com/a.wav",
    ]
    task_id = await submit(*urls)
    async with start_poller():
        task = await finished(api, task_id)
    assert task["output"]["task_status"] == "SUCCEEDED", task
    assert [result["file_url"] for result in task["output"]["results"]] == urls
    files = (await api.get(f"/v1/jobs/{task_id}")).json()["files"]
    assert files[0]["url"] == "https://example.com/%E4%BC%9A%E8%AE%AE%201.wav"


async def test_job_of_the_gateways_own_api_is_a_task_too(api: httpx.AsyncClient, start_poller: StartPoller) -> None:
    urls = [f"https://example.com/{n}.wav" for n in range(101)]
    job = (await api.post("/v1/jobs", json={"file_urls": urls})).json()
    assert (await fetch(api, job["id"]))["output"]["task_status"] == "PENDING"
    async with start_poller():
        task = await finished(api, job["id"])
    assert [result["file_url"] for result in task["output"]["results"]] == urls


async def test_full_queue_of_a_client_is_throttling(api: httpx.AsyncClient, app: FastAPI) -> None:
    app.state.services = type(app.state.services)(
        app.state.settings.model_copy(update={"client_waiting_files": 1}), app.state.sessions
    )
    assert (await post(api, {"model": "fun-asr", "input": INPUT})).status_code == 200
    response = await post(api, {"model": "fun-asr", "input": INPUT})
    assert (response.status_code, response.json()["code"]) == (429, "Throttling.AllocationQuota")
    assert response.headers["retry-after"] == "5"
