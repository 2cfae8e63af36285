"""Fetching results and making transcripts of them: small ones side by side, large ones one after the other.

A large one is known by its length, or when it passes the limit; what came of it is dropped, and it waits in a line of
its own without a connection. So neither its download nor its compression holds up small ones, and of all large ones
there is one in memory.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import orjson

from app.catalogue import MODELS, cost
from app.dashscope.client import DashScope
from app.dashscope.result_files import MAX_RESULT_BYTES, FetchFailed, FetchFailureKind, fetch_result
from app.dashscope.wire import FileOutcome, parse_result_url
from app.poller.assignment import is_of
from app.poller.context import PollerContext
from app.poller.outcomes import Failed, Outcome, Wait, after_fetch, after_other_name, after_reading
from app.queue.polling import PolledTask
from app.queue.results import Result, TaskFile
from app.transcripts.normalise import Document, UnreadableResult, empty_document, normalise
from app.transcripts.storage import PreparedTranscript, prepare_transcript

# An hour of talk, 40 ms of work.
SMALL_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LargeResult:
    """A result that is to be received in its turn."""

    file: TaskFile
    url: str


class ResultFetcher:
    """Receives the results of one account's tasks."""

    def __init__(self, context: PollerContext, client: DashScope) -> None:
        self._context = context
        self._client = client
        self._base_url = context.region_of(client).base_url

    async def receive(
        self, look: PolledTask, file: TaskFile, url: str, usage_s: int | None
    ) -> Result | Wait | LargeResult:
        # From the first byte until it is compressed: no more are held than there is room for.
        async with self._context.result_slots:
            raw = await self._fetch(url, SMALL_BYTES)
            if isinstance(raw, FetchFailed):
                return (
                    LargeResult(file, url)
                    if raw.kind is FetchFailureKind.TOO_LARGE
                    else _without_result(look, file, raw)
                )
            async with self._context.thread:
                return await self._read(look, file, raw, usage_s)

    @asynccontextmanager
    async def receive_large(
        self, look: PolledTask, large: LargeResult, usage_s: int | None
    ) -> AsyncIterator[Result | Wait]:
        """Its turn lasts until the end of the block, in which the result is to be stored."""
        async with self._context.large_turn:
            raw = await self._fetch(large.url, MAX_RESULT_BYTES)
            if isinstance(raw, FetchFailed):
                yield _without_result(look, large.file, raw)
            else:
                result = await self._read(look, large.file, raw, usage_s)
                del raw
                yield result

    async def receive_silence(self, look: PolledTask, file: TaskFile, item: FileOutcome) -> Result:
        """The transcript of a file without speech: what upstream says instead of a document stands for its bytes."""
        raw = orjson.dumps({"file_url": item.file_url, "code": item.code, "message": item.message})
        async with self._context.thread:
            return await asyncio.to_thread(self._succeeded, look, file, raw, empty_document(file.url))

    async def _fetch(self, url: str, max_bytes: int) -> bytes | FetchFailed:
        return await fetch_result(self._context.results_http, url, base_url=self._base_url, max_bytes=max_bytes)

    async def _read(self, look: PolledTask, file: TaskFile, raw: bytes, usage_s: int | None) -> Result | Wait:
        try:
            if MODELS[look.model].input_style == "file_url":
                # The answer to the query names no file here, only the result does.
                named = await asyncio.to_thread(parse_result_url, raw)
                if not is_of(file.url, named):
                    return _settled(file, after_other_name(file, ended_s=look.ended_s))
            return await asyncio.to_thread(self._transcribed, look, file, raw, usage_s)
        except UnreadableResult as error:
            return _settled(file, after_reading(str(error), file, ended_s=look.ended_s))

    def _transcribed(self, look: PolledTask, file: TaskFile, raw: bytes, usage_s: int | None) -> Result:
        document = normalise(raw, file_url=file.url, family=MODELS[look.model].family.value)
        if look.alone and usage_s is not None and "original_duration_in_milliseconds" not in document.properties:
            # qwen3 says how long the audio is in the task's usage only; elsewhere the end of speech stands for it.
            document = replace(document, audio_duration_ms=usage_s * 1000)
        return self._succeeded(look, file, raw, document)

    def _succeeded(self, look: PolledTask, file: TaskFile, raw: bytes, document: Document) -> Result:
        transcript: PreparedTranscript = prepare_transcript(
            raw=raw,
            document=document,
            client_id=file.client_id,
            job_id=file.job_id,
            file_index=file.index,
            file_url=file.url,
            model=look.model,
            region=look.region,
        )
        offer = MODELS[look.model].regions[self._client.account.region]
        billed_ms = transcript.audio_duration_ms * document.channels  # each channel is recognised and billed
        return Result(file, "succeeded", transcript=transcript, cost=cost(offer, billed_ms))


def _without_result(look: PolledTask, file: TaskFile, last_error: FetchFailed) -> Result | Wait:
    return _settled(file, after_fetch(last_error, file, ended_s=look.ended_s))


def _settled(file: TaskFile, outcome: Outcome) -> Result | Wait:
    if isinstance(outcome, Failed):
        return Result(file, "failed", failure=outcome.failure)
    return outcome if isinstance(outcome, Wait) else Wait("not known")
