"""The sandbox over TCP, with httpx and the official SDK."""

import asyncio
import importlib
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.sandbox import Faults, RunningSandbox, SandboxConfig, running_sandbox
from tests.poller.conftest import until

URL = "https://example.com/a.wav"
HEADERS = {"Authorization": "Bearer sk-sandbox-beijing", "X-DashScope-Async": "enable"}
BODY = {"model": "fun-asr", "input": {"file_urls": [URL]}, "parameters": {}}
SUBMIT = "/services/audio/asr/transcription"


async def test_api_and_results_are_served_on_two_ports() -> None:
    async with running_sandbox(SandboxConfig(queue_s=0, run_s=0)) as running, httpx.AsyncClient() as http:
        base_url = running.base_url("beijing")
        submitted = await http.post(f"{base_url}{SUBMIT}", json=BODY, headers=HEADERS)
        task_url = f"{base_url}/tasks/{submitted.json()['output']['task_id']}"
        output = (await http.get(task_url, headers=HEADERS)).json()["output"]
        transcription_url = output["results"][0]["transcription_url"]
        assert transcription_url.startswith(f"{running.results_origin}/prod/fun-asr/")
        assert (await http.get(transcription_url)).json()["file_url"] == URL
        altered = transcription_url.replace("%3A", ":")
        assert (await http.get(altered)).status_code == 403


@pytest.mark.parametrize(("faults", "tasks"), [(Faults(drop_submit_rate=1), 1), (Faults(lose_submit_rate=1), 0)])
async def test_dropped_connection_has_no_response(faults: Faults, tasks: int, caplog: pytest.LogCaptureFixture) -> None:
    async with running_sandbox(SandboxConfig(faults=faults)) as running, httpx.AsyncClient() as http:
        with pytest.raises(httpx.TransportError):
            await http.post(f"{running.base_url('beijing')}{SUBMIT}", json=BODY, headers=HEADERS)
        assert len(running.state.tasks) == tasks
    assert caplog.messages == []


async def test_caller_that_does_not_wait_for_a_slow_response_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with running_sandbox(SandboxConfig(faults=Faults(slow_s=0.2))) as running, httpx.AsyncClient() as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.post(f"{running.base_url('beijing')}{SUBMIT}", json=BODY, headers=HEADERS, timeout=0.1)
        await until(lambda: sum(running.state.counts.values()) == 1)
    assert caplog.messages == []


async def test_port_in_use_raises_os_error() -> None:
    async with running_sandbox() as running:
        port = httpx.URL(running.api_origin).port or 0
        with pytest.raises(OSError, match="in use"):
            async with running_sandbox(port=port):
                pass


@pytest.fixture
def served() -> Iterator[RunningSandbox]:
    """A sandbox in its own thread, since the SDK blocks."""
    ready, stop = threading.Event(), threading.Event()
    started: list[RunningSandbox] = []

    async def serve() -> None:
        async with running_sandbox(SandboxConfig(queue_s=0.1, run_s=0.1)) as running:
            started.append(running)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield started[0]
    finally:
        stop.set()
        thread.join(10)


@pytest.fixture
def dashscope(served: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The official SDK with the address and key of the sandbox."""
    sdk = importlib.import_module("dashscope")
    monkeypatch.setattr(sdk, "base_http_api_url", served.base_url("beijing"))
    monkeypatch.setattr(sdk, "api_key", "sk-sandbox-beijing")
    yield sdk
    sdk.close_shared_sync_session()


def test_official_sdk_can_submit_wait_fetch_list_and_cancel(dashscope: Any, served: RunningSandbox) -> None:
    transcription = importlib.import_module("dashscope.audio.asr").Transcription
    urls = [URL, f"{URL}?sandbox=fail:DECODE_ERROR"]

    submitted = transcription.async_call(model="fun-asr", file_urls=urls, language_hints=["zh"])
    assert (submitted.status_code, submitted.output.task_status) == (200, "PENDING")
    waited = transcription.wait(task=submitted.output.task_id)
    assert waited.output.task_status == "SUCCEEDED"
    assert waited.usage["duration"] > 0
    assert {item["subtask_status"] for item in waited.output.results} == {"SUCCEEDED", "FAILED"}
    assert transcription.fetch(submitted).output.task_id == submitted.output.task_id

    listed = transcription.list(model_name="fun-asr", status="SUCCEEDED")
    assert listed.status_code == 200
    assert [item["task_id"] for item in listed.output["data"]] == [submitted.output.task_id]

    pending = transcription.async_call(model="fun-asr", file_urls=[f"{URL}?sandbox=queue:60"])
    assert transcription.cancel(pending).status_code == 200
    assert transcription.fetch(pending).output.task_status == "CANCELED"
    assert transcription.cancel(pending).code == "UnsupportedOperation"
    assert len(served.state.submits) == 2


@pytest.mark.filterwarnings("ignore:dashscope 2.0 audio API is a preview:FutureWarning")
def test_second_generation_of_the_sdk_can_submit_and_wait(served: RunningSandbox) -> None:
    v2 = importlib.import_module("dashscope.v2")
    with v2.Client(api_key="sk-sandbox-singapore", base_url=served.base_url("singapore")) as client:
        job = client.audio.asr.jobs.create(model="fun-asr", file_urls=[URL])
        assert client.audio.asr.jobs.wait(job.task_id).status == "SUCCEEDED"


def test_official_sdk_can_manage_vocabularies(dashscope: Any) -> None:
    service = importlib.import_module("dashscope.audio.asr").VocabularyService()
    vocabulary_id = service.create_vocabulary("fun-asr", "test", [{"text": "赛德克巴莱", "weight": 4, "lang": "zh"}])
    assert [one["vocabulary_id"] for one in service.list_vocabularies(prefix="test")] == [vocabulary_id]
    service.update_vocabulary(vocabulary_id, [{"text": "Seediq Bale", "weight": 5}])
    kept = service.query_vocabulary(vocabulary_id)
    assert (kept["target_model"], kept["vocabulary"]) == ("fun-asr", [{"text": "Seediq Bale", "weight": 5}])
    service.delete_vocabulary(vocabulary_id)
    assert service.list_vocabularies() == []


def test_official_sdk_reads_errors(dashscope: Any) -> None:
    transcription = importlib.import_module("dashscope.audio.asr").Transcription
    refused = transcription.async_call(model="whisper", file_urls=[URL])
    assert (refused.status_code, refused.code) == (404, "ModelNotFound")
    refused = transcription.async_call(model="fun-asr", file_urls=[URL], api_key="sk-sandbox-singapore")
    assert (refused.status_code, refused.code) == (401, "InvalidApiKey")
