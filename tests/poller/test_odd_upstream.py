"""Responses and results that are not documented, end to end: no billed result is lost and no task runs for ever."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.poller.collector import MAX_VAIN_QUERIES
from app.poller.poller import run_poller
from app.settings import load_settings
from tests.live_server import live_server
from tests.poller.conftest import QueueClient

pytestmark = pytest.mark.slow

TASKS = Path(__file__).parents[1] / "data" / "field" / "tasks"
Answer = Callable[[str, list[str]], bytes]


class OddUpstream:
    """Answers the queries of each task by `answer`, from the base URL and the task's file URLs."""

    def __init__(self, answer: Answer, result: bytes = b"") -> None:
        self.answer = answer
        self.result = result
        self.tasks: list[list[str]] = []
        self.queries = 0
        path = "/api/v1/tasks"
        self.app = Starlette(
            routes=[
                Route("/api/v1/services/audio/asr/transcription", self._submit, methods=["POST"]),
                Route(path, self._list),
                Route(f"{path}/{{number:int}}", self._query),
                Route("/result/{number:int}", self._result),
            ]
        )

    async def _submit(self, request: Request) -> Response:
        inputs = (await request.json())["input"]
        self.tasks.append(inputs.get("file_urls") or [inputs["file_url"]])
        return JSONResponse({"output": {"task_id": str(len(self.tasks) - 1), "task_status": "PENDING"}})

    async def _list(self, _: Request) -> Response:
        return JSONResponse({"data": [], "total": 0, "total_page": 1, "page_no": 1, "page_size": 100})

    async def _query(self, request: Request) -> Response:
        self.queries += 1
        origin = str(request.base_url).rstrip("/")
        body = self.answer(origin, self.tasks[request.path_params["number"]])
        return Response(body, media_type="application/json")

    async def _result(self, _: Request) -> Response:
        return Response(self.result)


@asynccontextmanager
async def polling(upstream: OddUpstream, engine: AsyncEngine) -> AsyncIterator[None]:
    async with live_server(upstream.app) as origin:
        stop = asyncio.Event()
        settings = load_settings(
            {"dashscope_beijing_api_key": "sk-odd", "dashscope_beijing_base_url": f"{origin}/api/v1"}
        )
        running = asyncio.create_task(run_poller(settings, engine, stop=stop))
        try:
            yield
        finally:
            stop.set()
            await running


def linked(origin: str, urls: list[str]) -> bytes:
    results = [
        {"file_url": url, "transcription_url": f"{origin}/result/{number}", "subtask_status": "SUCCEEDED"}
        for number, url in enumerate(urls)
    ]
    return orjson.dumps({"output": {"task_status": "SUCCEEDED", "results": results}})


def field_answer(name: str) -> Answer:
    tasks = orjson.loads((TASKS / "05-task-final-word-unknown.json").read_bytes())

    def answer(origin: str, _urls: list[str]) -> bytes:
        text = orjson.dumps(tasks[name]).decode()
        for number, url in enumerate(["https://example.com/a.wav", "https://example.com/b.wav"]):
            text = text.replace(f"{{FILE_URL_{number}}}", url)
            text = text.replace(f"{{RESULT_URL_{number}}}", f"{origin}/result/{number}")
        return text.encode()

    return answer


async def stored(queue: QueueClient) -> list[tuple[bytes, dict[str, Any] | None]]:
    """The raw bytes and the document of each transcript."""
    rows = await queue.rows("SELECT * FROM transcript_bodies")
    return [
        (
            gzip.decompress(row.raw_gzip),
            orjson.loads(gzip.decompress(row.document_gzip)) if row.document_bytes else None,
        )
        for row in rows
    ]


async def test_bytes_of_a_result_that_is_no_document_are_kept(queue: QueueClient, engine: AsyncEngine) -> None:
    raw = b'{"transcripts": "\xe4\xbd\xa0", "usage": 1}'
    upstream = OddUpstream(linked, raw)
    async with polling(upstream, engine):
        job = await queue.post("https://example.com/a.wav")
        assert await queue.final(job) == ["failed"]
    (file,) = await queue.files(job)
    assert (file.error_code, file.error_retryable, file.audio_duration_ms) == ("result_unreadable", False, None)
    assert "bytes are kept" in file.error_message
    assert await stored(queue) == [(raw, None)]
    assert [row.id for row in await queue.rows("SELECT id FROM transcripts")] == [file.transcript_id]


async def test_result_with_odd_values_is_stored(queue: QueueClient, engine: AsyncEngine) -> None:
    raw = b'{"properties": [], "transcripts": [null, {"channel_id": null, "sentences": [null, {"begin_time": "00:01",'
    raw += b'"end_time": 900, "text": 12, "speaker_id": {}, "x": NaN}]}]}'
    async with polling(OddUpstream(linked, raw), engine):
        assert await queue.final(await queue.post("https://example.com/a.wav")) == ["succeeded"]
    ((kept, document),) = await stored(queue)
    assert kept == raw
    assert document
    sentence = {"begin_time": 0, "end_time": 900, "text": "12", "speaker_id": None, "x": None}
    assert document["transcripts"] == [{"sentences": [sentence], "text": "12"}]


async def test_qwens_document_in_the_response_is_the_result(queue: QueueClient, engine: AsyncEngine) -> None:
    response = (TASKS / "04-task-qwen-document-inline.json").read_bytes()
    url = "oss://dashscope-instant/held/field-04.ogg"
    async with polling(OddUpstream(lambda _origin, _urls: response), engine):
        job = await queue.post(url, model="qwen3-asr-flash-filetrans")
        assert await queue.final(job) == ["succeeded"]
    ((raw, document),) = await stored(queue)
    assert raw in response
    assert orjson.loads(raw) == orjson.loads(response)["output"]["result"]
    assert document
    assert document["text"] == "会议改到周四上午。请带上样品。"
    assert document["properties"]["audio_format"] == "ogg"
    (file,) = await queue.files(job)
    assert file.audio_duration_ms == 7000


async def test_unknown_final_status_without_items_is_the_code(queue: QueueClient, engine: AsyncEngine) -> None:
    async with polling(OddUpstream(field_answer("a_silent")), engine):
        assert await queue.final(await queue.post("https://example.com/a.wav")) == ["succeeded"]
    ((_, document),) = await stored(queue)
    assert document
    assert document["text"] == ""


async def test_items_decide_after_an_unknown_final_status(queue: QueueClient, engine: AsyncEngine) -> None:
    raw = orjson.dumps({"transcripts": [{"text": "你好。"}]})
    async with polling(OddUpstream(field_answer("b_done_with_results"), raw), engine):
        job = await queue.post("https://example.com/a.wav", "https://example.com/b.wav")
        assert await queue.final(job) == ["partial"]
    assert [file.error_code for file in await queue.files(job)] == [None, "audio_unreadable"]
    assert [kept for kept, _ in await stored(queue)] == [raw]


async def test_file_is_not_submitted_again_after_an_unknown_final_status(
    queue: QueueClient, engine: AsyncEngine
) -> None:
    """The status may mean that the file was transcribed and billed."""
    output = {"task_status": "COMPLETED", "end_time": "2026-11-20 10:00:03.000"}
    upstream = OddUpstream(lambda _origin, _urls: orjson.dumps({"output": output}))
    async with polling(upstream, engine):
        job = await queue.post("https://example.com/a.wav")
        assert await queue.final(job) == ["failed"]
    (file,) = await queue.files(job)
    assert (file.error_code, file.error_upstream_code) == ("upstream_error", "COMPLETED")
    assert len(upstream.tasks) == 1


def answer_with_usage(*usages: Any) -> Answer:
    """The usage of each query in turn, or a whole response, and the last one for all others."""
    left = list(usages)

    def answer(origin: str, urls: list[str]) -> bytes:
        usage = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(usage, bytes):
            return usage
        return orjson.dumps({**orjson.loads(linked(origin, urls)), "usage": usage})

    return answer


RESULT = orjson.dumps(
    {
        "properties": {"original_duration_in_milliseconds": 9000},
        "transcripts": [{"channel_id": 0, "text": "a", "sentences": []}],
    }
)


@pytest.mark.parametrize("unreadable", [[1], None, {"duration": None}])
async def test_usage_that_cannot_be_read_is_queried_again(
    queue: QueueClient, engine: AsyncEngine, unreadable: Any
) -> None:
    upstream = OddUpstream(answer_with_usage(unreadable, {"duration": 5}), RESULT)
    async with polling(upstream, engine):
        job = await queue.post("https://example.com/a.wav")
        assert await queue.final(job) == ["succeeded"]
    assert [file.billed_s for file in await queue.files(job)] == [5]


@pytest.mark.parametrize("broken", [b"{", b'{"code": "Throttling.RateQuota", "message": "wait"}'])
async def test_usage_is_queried_once_more_after_a_broken_response(
    queue: QueueClient, engine: AsyncEngine, broken: bytes
) -> None:
    upstream = OddUpstream(answer_with_usage([1], broken, {"duration": 5}), RESULT)
    async with polling(upstream, engine):
        job = await queue.post("https://example.com/a.wav")
        assert await queue.final(job) == ["succeeded"]
    assert [file.billed_s for file in await queue.files(job)] == [5]


async def test_tokens_that_cannot_be_read_are_queried_again(queue: QueueClient, engine: AsyncEngine) -> None:
    usages = [{"input_tokens": "a lot", "output_tokens": 9}, [], {"input_tokens": 75, "output_tokens": 9}]
    async with polling(OddUpstream(answer_with_usage(*usages), RESULT), engine):
        job = await queue.post("https://example.com/a.wav", model="qwen-audio-3.1-asr-flash-filetrans")
        assert await queue.final(job) == ["succeeded"]
    assert [(file.input_tokens, file.output_tokens) for file in await queue.files(job)] == [(75, 9)]


async def test_upstream_that_never_states_a_usage_is_soon_not_queried_again_for_it(
    queue: QueueClient, engine: AsyncEngine
) -> None:
    upstream = OddUpstream(answer_with_usage(None), RESULT)
    async with polling(upstream, engine):
        for number in range(8):
            job = await queue.post(f"https://example.com/{number}.wav")
            assert await queue.final(job) == ["succeeded"]
            assert [file.billed_s for file in await queue.files(job)] == [9]
    assert upstream.queries == 8 + MAX_VAIN_QUERIES
