"""The official Python SDK, the founding document's programs and a public program, against a live gateway."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from fastapi import FastAPI

from app.clients.service import CurrentClient
from app.sandbox import RunningSandbox
from tests.dashscope_api.programs import run_program, sample_program
from tests.live_server import live_server
from tests.processes import ROOT
from tests.transcripts.documents import sample
from tests.uploads.conftest import StartPoller

SAMPLE = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio/paraformer/hello_world_female2.wav"
EXAMPLE = (ROOT / "docs" / "dashscope.md").read_text("utf-8").split("```python\n")[1].split("```")[0]

Run = Callable[..., Awaitable[Any]]


@pytest.fixture
async def base_url(app: FastAPI, start_poller: StartPoller) -> AsyncIterator[str]:
    async with live_server(app) as url, start_poller():
        yield f"{url}/api/v1"


@pytest.fixture
def run(base_url: str, api_client: tuple[CurrentClient, str]) -> Run:
    """Runs a program that defines `result`, and returns the result."""

    async def call(code: str, **variables: str) -> Any:
        whole = f"import json\n{code}\nprint('RESULT', json.dumps(result))"
        out = await run_program(whole, base_url=base_url, token=api_client[1], **variables)
        return json.loads(out.rpartition("RESULT ")[2])

    return call


async def test_sample_programs_of_the_founding_document(base_url: str, api_client: tuple[CurrentClient, str]) -> None:
    for name, samples in (
        ("fun_asr", ["funasr_female2_seed", "funasr_male2_seed"]),
        ("paraformer", ["paraformer_female2_seed", "paraformer_male2_seed"]),
    ):
        out = await run_program(sample_program(name, base_url), base_url=base_url, token=api_client[1])
        expected = [json.dumps(json.loads(sample(each)), indent=4, ensure_ascii=False) for each in samples]
        assert out.splitlines() == "\n".join(expected).splitlines()


async def test_sensevoice_program_of_the_founding_document(
    base_url: str, api_client: tuple[CurrentClient, str]
) -> None:
    out = await run_program(sample_program("sensevoice", base_url), base_url=base_url, token=api_client[1])
    first, _, rest = out.partition("\n")
    assert first.startswith("task_id:  ")
    document, _ = json.JSONDecoder().raw_decode(rest)
    assert document == json.loads(sample("sensevoice_seed_cleaned_events_only"))
    assert rest.endswith("transcription done!\n")


async def test_example_of_the_page(base_url: str, api_client: tuple[CurrentClient, str]) -> None:
    code = EXAMPLE.replace("http://127.0.0.1:8000/api/v1", base_url)
    out = await run_program(code, base_url="http://127.0.0.1:9", token="unused", TOKEN=api_client[1])
    assert out.startswith(f"{base_url}/results/")


async def test_classic_client(run: Run) -> None:
    result = await run("""
from dashscope.audio.asr import Transcription
url = "https://example.com/a.wav"
submitted = Transcription.async_call(model="fun-asr", file_urls=[url], phrase_id="p", unheard_of=1, language_hints=None)
done = Transcription.wait(submitted)
failed = Transcription.wait(Transcription.async_call(model="fun-asr", file_urls=[url + "?sandbox=fail:DECODE_ERROR"]))
listed = Transcription.list(model_name="fun-asr", page_size=1)
canceled = Transcription.cancel(submitted)
unknown = Transcription.wait("7d0a58a3-1dbe-4de9-8cff-5f48213128b0")
refused = Transcription.async_call(model="nonsense", file_urls=[url])
stranger = Transcription.fetch(submitted, api_key="wrong")
result = [dict(status=each.status_code, code=each.code, message=each.message, output=each.output, usage=each.usage)
          for each in (submitted, done, failed, listed, canceled, unknown, refused, stranger)]
""")
    submitted, done, failed, listed, canceled, unknown, refused, stranger = result
    assert (submitted["status"], submitted["output"]["task_status"]) == (200, "PENDING")
    assert done["output"]["results"][0]["subtask_status"] == "SUCCEEDED"
    assert done["usage"]["duration"] > 0
    assert (failed["status"], failed["output"]["code"]) == (200, "DECODE_ERROR")
    assert listed["output"]["total"] == 2
    assert len(listed["output"]["data"]) == 1
    assert (canceled["status"], canceled["code"]) == (400, "UnsupportedOperation")
    assert (unknown["status"], unknown["output"]["task_status"]) == (200, "UNKNOWN")
    assert (refused["status"], refused["code"]) == (404, "ModelNotFound")
    assert "nonsense" in refused["message"]
    assert (stranger["status"], stranger["code"]) == (401, "InvalidApiKey")


async def test_qwen_client(run: Run) -> None:
    result = await run("""
from urllib import request
from dashscope.audio.qwen_asr import QwenTranscription
submitted = QwenTranscription.async_call(
    model="qwen3-asr-flash-filetrans", file_url="https://example.com/a.wav", language="zh", enable_words=True)
done = QwenTranscription.wait(submitted)
document = json.load(request.urlopen(done.output["result"]["transcription_url"]))
result = dict(output=done.output, usage=done.usage, keys=sorted(document))
""")
    assert result["output"]["task_status"] == "SUCCEEDED"
    assert result["usage"]["seconds"] > 0
    assert result["keys"] == ["audio_info", "file_url", "transcripts"]


async def test_v2_client(run: Run) -> None:
    result = await run("""
import os
from dashscope.v2 import Client
client = Client(api_key=os.environ["DASHSCOPE_API_KEY"], base_url=os.environ["DASHSCOPE_HTTP_BASE_URL"])
jobs = client.audio.asr.jobs
job = jobs.create(model="paraformer-v1", file_urls=["https://example.com/a.wav"], phrase_id="ph1")
done = jobs.wait(job.task_id)
errors = []
for call in (
    lambda: jobs.wait(jobs.create(model="fun-asr", file_urls=["https://e.com/b.wav?sandbox=fail:FILE_403_FORBIDDEN"]).task_id),
    lambda: jobs.create(model="nonsense", file_urls=["https://example.com/a.wav"]),
):
    try:
        call()
    except Exception as error:
        errors.append([type(error).__name__, error.code])
result = dict(status=done.status, urls=[each.transcription_url for each in done.results],
              times=[done.submitted_at, done.finished_at], errors=errors, unknown=jobs.fetch("x").status)
""")
    assert result["status"] == "SUCCEEDED"
    assert len(result["urls"]) == 1
    assert all(result["times"])
    assert [code for _, code in result["errors"]] == ["FILE_403_FORBIDDEN", "ModelNotFound"]
    assert result["unknown"] == "UNKNOWN"


async def test_upload_of_the_sdk_goes_to_the_storage_host_and_to_its_account(run: Run, sandbox: RunningSandbox) -> None:
    result = await run("""
import os, pathlib
from dashscope.audio.asr import Transcription
from dashscope.utils.oss_utils import OssUtils
urls, certificate = [], None
for name in ("call.wav", "会议 记录.wav"):
    pathlib.Path(name).write_bytes(b"audio" * 1000)
    url, certificate = OssUtils.upload("fun-asr", name, os.environ["DASHSCOPE_API_KEY"], certificate)
    urls.append(url)
headers = {"X-DashScope-OssResourceResolve": "enable"}
done = Transcription.wait(Transcription.async_call(model="fun-asr", file_urls=urls, headers=headers))
other = Transcription.async_call(model="paraformer-v2", file_urls=urls, headers=headers)
result = dict(urls=urls, output=done.output, other=[other.status_code, other.code, other.message])
""")
    output = result["output"]
    assert output["task_metrics"] == {"TOTAL": 2, "SUCCEEDED": 2, "FAILED": 0}, output
    assert [each["file_url"] for each in output["results"]] == result["urls"]
    assert set(sandbox.state.uploads) == {url.removeprefix("oss://") for url in result["urls"]}
    assert sandbox.state.authorization_leaks == 0
    assert result["other"][:2] == [400, "InvalidParameter"]
    assert "was uploaded for fun-asr" in result["other"][2]


async def test_calls_of_meeting_asr(run: Run) -> None:
    """The calls of meeting-asr 0.24.0: a signed URL, options that Fun-ASR does not have, and its own loop of polls."""
    result = await run("""
import time, os
import dashscope, requests
from dashscope.audio.asr import Transcription, VocabularyService
dashscope.api_key = os.environ["DASHSCOPE_API_KEY"]
dashscope.base_http_api_url = dashscope.base_url = os.environ["DASHSCOPE_HTTP_BASE_URL"]
words = [{"text": "会议纪要", "weight": 4, "lang": "zh"}]
vocabulary = VocabularyService().create_vocabulary(target_model="fun-asr", prefix="meeting", vocabulary=words)
signed = "https://bucket.oss-cn-beijing.aliyuncs.com/meetings/a%2Fb.flac?OSSAccessKeyId=LTAI&Expires=1&Signature=a%2Fb%2Bc%3D"
task = Transcription.async_call(
    model="fun-asr", file_urls=[signed], diarization_enabled=True, timestamp_alignment_enabled=False,
    disfluency_removal_enabled=False, language_hints=["zh", "en"], speaker_count=3,
    vocabulary_id=vocabulary)
assert task.status_code < 400, task
while True:
    response = Transcription.fetch(task=task)
    assert response.status_code < 400, response
    if response.output["task_status"] == "SUCCEEDED":
        break
    assert response.output["task_status"] not in {"FAILED", "CANCELED", "UNKNOWN"}, response
    time.sleep(1)
[subtask] = response.output["results"]
document = requests.get(subtask["transcription_url"], timeout=30).json()
result = dict(subtask=subtask, speakers=[each.get("speaker_id") for each in document["transcripts"][0]["sentences"]],
              given=signed)
""")
    assert result["subtask"]["file_url"] == result["given"]
    assert set(result["speakers"]) <= {0, 1, 2}
