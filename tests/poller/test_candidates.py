"""The files of upstream tasks that no row has, as far as responses show them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.dashscope.wire import ListedTask, TaskStatus
from app.poller.candidates import CandidateReader
from app.poller.list_matching import Candidate
from app.poller.poller import poller_context
from app.settings import load_settings
from tests.live_server import live_server

A, B = "https://example.com/a.wav", "https://example.com/b.wav"
FUN, QWEN = "fun-asr", "qwen3-asr-flash-filetrans"
LISTED = ListedTask("t1", TaskStatus.SUCCEEDED, FUN, 0)
TWO = {"TOTAL": 2, "SUCCEEDED": 2, "FAILED": 0}


class OneTask:
    """An upstream with one task, its result document, and a clock that tests set."""

    def __init__(self, document: bytes = b"", *, document_status: int = 200, **output: Any) -> None:
        self.output = {"task_status": "SUCCEEDED", **output}
        self.document, self.document_status = document, document_status
        self.queries = 0
        self.now = 0.0
        self.app = Starlette(routes=[Route("/api/v1/tasks/t1", self._query), Route("/result", self._result)])

    async def _query(self, request: Request) -> Response:
        self.queries += 1
        body = orjson.dumps({"output": self.output}).replace(b"{ORIGIN}", str(request.base_url).rstrip("/").encode())
        return Response(body, media_type="application/json")

    async def _result(self, _: Request) -> Response:
        return Response(self.document, self.document_status)


@asynccontextmanager
async def reading(upstream: OneTask, engine: AsyncEngine) -> AsyncIterator[CandidateReader]:
    async with live_server(upstream.app) as origin:
        keys = {"dashscope_beijing_api_key": "sk-odd", "dashscope_beijing_base_url": f"{origin}/api/v1"}
        async with poller_context(load_settings(keys), engine, asyncio.Event()) as context:
            yield CandidateReader(context, context.upstreams["beijing/default"], lambda: upstream.now)


def item(url: str | None, **fields: str) -> dict[str, Any]:
    named = {"file_url": url} if url else {}
    return {"subtask_status": "SUCCEEDED", "transcription_url": "{ORIGIN}/result", **named, **fields}


def failed(url: str) -> dict[str, Any]:
    return {"subtask_status": "FAILED", "file_url": url, "code": "X"}


@pytest.mark.parametrize(
    ("model", "upstream", "candidate"),
    [
        (FUN, OneTask(results=[item(A), item(B)], task_metrics=TWO), Candidate(LISTED, 2, (A, B))),
        (FUN, OneTask(results=[item(A), item(A), item(B)], task_metrics=TWO), Candidate(LISTED, 2, (A, B))),
        (FUN, OneTask(results=[item(A)], task_metrics=TWO), Candidate(LISTED, 2, (A,), is_settled=False)),
        (FUN, OneTask(results=[item(A)]), Candidate(LISTED, None, (A,), is_settled=False)),
        (FUN, OneTask(results=[], task_metrics=TWO), Candidate(LISTED, 2, (), is_settled=False)),
        (FUN, OneTask(task_status="FAILED", results=[]), Candidate(LISTED, 0, ())),
        (FUN, OneTask(task_status="CANCELED", task_metrics=TWO), Candidate(LISTED, 0, ())),
        (FUN, OneTask(task_status="FAILED", results=[failed(A)]), Candidate(LISTED, None, (A,), is_settled=False)),
        (FUN, OneTask(task_status="DONE", end_time="2026"), Candidate(LISTED, None, (), is_settled=False)),
        (FUN, OneTask(task_status="RUNNING", results=[item(A)]), Candidate(LISTED, None, None)),
        (
            FUN,
            OneTask(b'{"file_url": "%s"}' % A.encode(), results=[item(None)]),
            Candidate(LISTED, None, (A,), is_settled=False),
        ),
        (QWEN, OneTask(b'{"file_url": "%s"}' % A.encode(), result=item(None)), Candidate(LISTED, 1, (A,))),
        (QWEN, OneTask(result={"transcripts": [], "file_url": A}), Candidate(LISTED, 1, (A,))),
        (QWEN, OneTask(b"{}", result=item(None)), Candidate(LISTED, 1, (), is_settled=False)),
        (QWEN, OneTask(document_status=404, result=item(None)), Candidate(LISTED, 1, (), is_settled=False)),
        (QWEN, OneTask(document_status=503, result=item(None)), Candidate(LISTED, 1, None)),
    ],
)
async def test_response_shows_the_files_of_a_task(
    engine: AsyncEngine, model: str, upstream: OneTask, candidate: Candidate
) -> None:
    async with reading(upstream, engine) as reader:
        assert await reader.read(LISTED, model) == candidate


async def test_task_is_queried_again_until_its_files_are_complete(engine: AsyncEngine) -> None:
    upstream = OneTask(results=[item(A)], task_metrics=TWO)
    async with reading(upstream, engine) as reader:
        assert (await reader.read(LISTED, FUN)).file_urls == (A,)
        upstream.output["results"] = [item(B), item(A)]
        for _ in range(2):
            assert await reader.read(LISTED, FUN) == Candidate(LISTED, 2, (B, A))
    assert upstream.queries == 2


async def test_incomplete_files_are_settled_after_a_while(engine: AsyncEngine) -> None:
    upstream = OneTask(results=[item(A)], task_metrics=TWO)
    async with reading(upstream, engine) as reader:
        for now, is_settled in ((1000.0, False), (1059.0, False), (1060.0, True), (1061.0, True)):
            upstream.now = now
            assert await reader.read(LISTED, FUN) == Candidate(LISTED, 2, (A,), is_settled=is_settled)
    assert upstream.queries == 3


async def test_task_that_runs_is_remembered_while_the_list_leaves_it_out(engine: AsyncEngine) -> None:
    upstream = OneTask(task_status="RUNNING")
    async with reading(upstream, engine) as reader:
        assert reader.with_recent({"t1": LISTED}) == {"t1": LISTED}
        await reader.read(LISTED, FUN)
        upstream.now = 59
        assert reader.with_recent({}) == {"t1": LISTED}
        await reader.read(LISTED, FUN)
        upstream.now = 61
        assert reader.with_recent({}) == {}


async def test_task_with_all_its_files_is_not_remembered(engine: AsyncEngine) -> None:
    upstream = OneTask(task_status="RUNNING", task_metrics=TWO, results=[item(A), item(B)])
    async with reading(upstream, engine) as reader:
        await reader.read(LISTED, FUN)
        assert reader.with_recent({}) == {"t1": LISTED}
        upstream.output["task_status"] = "SUCCEEDED"
        await reader.read(LISTED, FUN)
        assert reader.with_recent({}) == {}
