"""Submits that are accepted and submits that are refused at once."""

import uuid
from typing import Any

import pytest

from tests.sandbox.conftest import MakeUpstream, Upstream, assert_refused

URL = "https://example.com/a.wav"


def body(**changes: Any) -> dict[str, Any]:
    complete = {"model": "fun-asr", "input": {"file_urls": [URL]}, "parameters": {}} | changes
    return {name: value for name, value in complete.items() if value is not None}


async def test_submit_returns_a_pending_task(upstream: Upstream) -> None:
    response = await upstream.post(body())
    assert response.status_code == 200
    assert set(response.json()) == {"output", "request_id"}
    assert response.json()["output"]["task_status"] == "PENDING"
    assert uuid.UUID(response.json()["output"]["task_id"]).version == 4


async def test_submits_are_recorded(upstream: Upstream) -> None:
    task_id = await upstream.submit(URL, model="paraformer-v2", language_hints=["zh"])
    (submit,) = upstream.state.submits
    assert (submit.at, submit.region, submit.key) == (upstream.clock.now, "beijing", "sk-sandbox-beijing")
    assert (submit.task_id, submit.model, submit.file_urls) == (task_id, "paraformer-v2", [URL])
    assert submit.parameters == {"language_hints": ["zh"]}


@pytest.mark.parametrize("authorization", ["", "sk-sandbox-beijing", "Bearer sk-other", "Bearer sk-sandbox-singapore"])
async def test_invalid_key_gives_401(upstream: Upstream, authorization: str) -> None:
    response = await upstream.post(body(), Authorization=authorization)
    assert_refused(response, 401, "InvalidApiKey", "Invalid API-key provided.")


async def test_key_of_another_region_gives_401(make_upstream: MakeUpstream) -> None:
    singapore = make_upstream(region="singapore", key="sk-sandbox-beijing")
    assert_refused(await singapore.post(body()), 401, "InvalidApiKey")


async def test_submit_without_the_async_header_gives_403(upstream: Upstream) -> None:
    response = await upstream.post(body(), X_DashScope_Async="")
    assert_refused(response, 403, "AccessDenied", "current user api does not support synchronous calls.")


@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        ([], "InvalidParameter", "Required body invalid, please check the request body format."),
        (body(model=None), "BadRequest.EmptyModel", 'Required parameter "model" missing from request.'),
        (body(input=None), "BadRequest.EmptyInput", 'Required parameter "input" missing from request.'),
        (body(input="x"), "InvalidParameter", "Required body invalid, please check the request body format."),
        (body(input={"file_url": URL}), "InvalidParameter", "input must contain file_urls"),
        (body(input={"file_urls": []}), "InvalidParameter", "input must contain file_urls"),
        (body(input={"file_urls": URL}), "InvalidParameter", "input must contain file_urls"),
        (body(input={"file_urls": [1]}), "InvalidParameter", "input must contain file_urls"),
        (body(model="qwen3-asr-flash-filetrans", input={"x": 1}), "InvalidParameter", "input must contain file_url"),
        (body(parameters=[1]), "InvalidParameter", "parameters must be an object"),
        (body(parameters={"channel_id": ["0"]}), "InvalidParameter", "channel_id must be a list of integers"),
    ],
)
async def test_malformed_submit_gives_400(upstream: Upstream, wrong: Any, code: str, message: str) -> None:
    assert_refused(await upstream.post(wrong), 400, code, message)


async def test_body_that_is_not_json_gives_400(upstream: Upstream) -> None:
    path, headers = "/services/audio/asr/transcription", {"X-DashScope-Async": "enable"}
    assert_refused(await upstream.call("POST", path, content=b"{", headers=headers), 400, "InvalidParameter")


async def test_unknown_model_gives_404(upstream: Upstream) -> None:
    assert_refused(await upstream.post(body(model="whisper")), 404, "ModelNotFound", "Model can not be found.")
    assert_refused(await upstream.post(body(model=["fun-asr"])), 404, "ModelNotFound")


async def test_unknown_model_can_give_400(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream(unknown_model_style="400")
    assert_refused(await upstream.post(body(model="whisper")), 400, "InvalidParameter", "Model not exist.")


@pytest.mark.parametrize("model", ["paraformer-v2", "sensevoice-v1"])
async def test_model_that_the_region_does_not_offer_is_unknown(make_upstream: MakeUpstream, model: str) -> None:
    singapore = make_upstream(region="singapore")
    assert_refused(await singapore.post(body(model=model)), 404, "ModelNotFound")
    assert (await singapore.post(body())).status_code == 200


async def test_submit_can_have_100_files(upstream: Upstream) -> None:
    assert (await upstream.post(body(input={"file_urls": [URL] * 100}))).status_code == 200
    assert_refused(await upstream.post(body(input={"file_urls": [URL] * 101})), 400, "InvalidParameter")


async def test_limit_of_files_can_be_configured(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream(max_files_per_task=1)
    assert_refused(await upstream.post(body(input={"file_urls": [URL, URL]})), 400, "InvalidParameter")
    assert (await upstream.post(body())).status_code == 200


async def test_directive_refuse_refuses_the_submit(upstream: Upstream) -> None:
    urls = [URL, f"{URL}?sandbox=refuse"]
    assert_refused(await upstream.post(body(input={"file_urls": urls})), 400, "InvalidParameter")
    assert upstream.state.submits == []


@pytest.mark.parametrize(
    "directive", ["explode", "fail", "run:soon", "seconds:-1", "queue:inf", "words:many", "words:200001"]
)
async def test_unknown_directive_is_refused_by_name(upstream: Upstream, directive: str) -> None:
    response = await upstream.post(body(input={"file_urls": [f"{URL}?sandbox={directive}"]}))
    assert_refused(response, 400, "InvalidParameter", f"unknown sandbox directive: {directive}")


async def test_unknown_paths_and_methods_give_json_errors(upstream: Upstream) -> None:
    assert_refused(await upstream.call("GET", "/service"), 400, "InvalidParameter", "url error, please check url！")
    wrong_method = await upstream.call("GET", "/services/audio/asr/transcription")
    assert_refused(wrong_method, 400, "InvalidParameter", "Request method 'GET' is not supported.")
