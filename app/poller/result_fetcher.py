"""Fetches results and converts them into transcripts: small results concurrently, large ones one at a time.

A result is large by its Content-Length or when its download passes SMALL_BYTES. A large result is dropped, and
downloaded again when no other large result is in memory. So neither its download nor its compression delays small
results.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace

import orjson

from app.catalogue import MODELS, Recognised, bill_by_duration
from app.dashscope.client import DashScope
from app.dashscope.failures import Failure
from app.dashscope.result_files import MAX_RESULT_BYTES, FetchFailed, FetchFailureKind, fetch_result
from app.dashscope.wire import FileOutcome, parse_result_url
from app.poller.assignment import is_of
from app.poller.context import PollerContext
from app.poller.outcomes import (
    Failed,
    Fetch,
    Inline,
    Outcome,
    Resubmit,
    Silent,
    Wait,
    after_fetch,
    after_other_name,
    after_reading,
)
from app.queue.polling import PolledTask, TaskFile
from app.queue.results import Result
from app.transcripts.models import Transcript
from app.transcripts.normalise import Document, UnreadableResult, empty_document, normalise
from app.transcripts.storage import prepare_transcript, prepare_unreadable

# Speech of an hour. Converting it takes 40 ms.
SMALL_BYTES = 1024 * 1024
# Results that are fetched and stored together. A crash repeats no more than these.
BATCH = 10

FetchedFile = tuple[TaskFile, Result | Wait]


@dataclass(frozen=True, slots=True)
class LargeResult:
    """A result that is too large to be fetched beside others."""

    url: str


class ResultFetcher:
    """Fetches the results of one account's tasks."""

    def __init__(self, context: PollerContext, upstream: DashScope) -> None:
        self._context = context
        self._upstream = upstream
        self._base_url = context.region_of(upstream).base_url

    async def fetch(
        self,
        task: PolledTask,
        outcomes: Sequence[tuple[TaskFile, Outcome]],
        usage_s: int | None,
        *,
        before_large: Callable[[], None],
    ) -> AsyncGenerator[list[FetchedFile], None]:
        """Yield the results of the files in batches. Each batch is to be stored before the next is requested.

        A large result is a batch of its own. `before_large` is called before each wait for the lock of large
        results, which is held until the next batch is requested. Close the iterator if it is not exhausted.
        """
        for start in range(0, len(outcomes), BATCH):
            batch = outcomes[start : start + BATCH]
            async with asyncio.TaskGroup() as group:
                started = [group.create_task(self._small(task, file, outcome, usage_s)) for file, outcome in batch]
            fetched = [(file, each.result()) for (file, _), each in zip(batch, started, strict=True)]
            if small := [(file, each) for file, each in fetched if not isinstance(each, LargeResult)]:
                yield small
            for file, each in fetched:
                if isinstance(each, LargeResult):
                    before_large()
                    async with self._context.large_result_lock:
                        yield [(file, await self._large(task, file, each.url, usage_s))]

    async def _small(
        self, task: PolledTask, file: TaskFile, outcome: Outcome, usage_s: int | None
    ) -> Result | Wait | LargeResult:
        match outcome:
            case Fetch(url):
                return await self._fetch_small(task, file, url, usage_s)
            case Inline(document):
                async with self._context.cpu_lock:
                    return await self._convert(task, file, document, usage_s)
            case Silent(item):
                return await self._silent(task, file, item)
            case Failed(failure):
                return Result(file, "failed", failure=failure)
            case Resubmit(failure):
                return Result(file, "queued", failure=failure)
            case Wait():
                return outcome

    async def _fetch_small(
        self, task: PolledTask, file: TaskFile, url: str, usage_s: int | None
    ) -> Result | Wait | LargeResult:
        # The slot is held from the first byte until the result is compressed, which bounds the memory.
        async with self._context.result_slots:
            raw = await self._download(url, SMALL_BYTES)
            if isinstance(raw, bytes):
                async with self._context.cpu_lock:
                    return await self._convert(task, file, raw, usage_s)
        if raw.kind is FetchFailureKind.TOO_LARGE:
            return LargeResult(url)
        return _without_result(file, after_fetch(raw, file, ended_s=task.ended_s))

    async def _large(self, task: PolledTask, file: TaskFile, url: str, usage_s: int | None) -> Result | Wait:
        raw = await self._download(url, MAX_RESULT_BYTES)
        if isinstance(raw, bytes):
            return await self._convert(task, file, raw, usage_s)
        return _without_result(file, after_fetch(raw, file, ended_s=task.ended_s))

    async def _silent(self, task: PolledTask, file: TaskFile, item: FileOutcome) -> Result:
        """A transcript without text. Upstream's item is stored as the raw result, because there is no document."""
        raw = orjson.dumps({"file_url": item.file_url, "code": item.code, "message": item.message})
        async with self._context.cpu_lock:
            return await asyncio.to_thread(self._succeeded, task, file, raw, empty_document(file.url))

    async def _download(self, url: str, max_bytes: int) -> bytes | FetchFailed:
        return await fetch_result(self._context.results_http, url, base_url=self._base_url, max_bytes=max_bytes)

    async def _convert(self, task: PolledTask, file: TaskFile, raw: bytes, usage_s: int | None) -> Result | Wait:
        if MODELS[task.model].input_style == "file_url":
            # The response to a query names no file for these models; only the result does.
            named = await asyncio.to_thread(parse_result_url, raw)
            if not is_of(file.sent_as, named):
                return _without_result(file, after_other_name(file, ended_s=task.ended_s))
        try:
            return await asyncio.to_thread(self._transcribed, task, file, raw, usage_s)
        except UnreadableResult as error:
            outcome = after_reading(error, file, ended_s=task.ended_s)
        if isinstance(outcome, Wait):
            return outcome
        return await asyncio.to_thread(self._unreadable, task, file, raw, outcome.failure)

    def _transcribed(self, task: PolledTask, file: TaskFile, raw: bytes, usage_s: int | None) -> Result:
        document = normalise(raw, file_url=file.url, family=MODELS[task.model].family.value)
        if task.has_one_file and usage_s is not None and "original_duration_in_milliseconds" not in document.properties:
            # qwen3 states the duration of the audio only in the usage of the task. Other models without a duration
            # get the end of speech.
            document = replace(document, audio_duration_ms=usage_s * 1000)
        return self._succeeded(task, file, raw, document)

    def _unreadable(self, task: PolledTask, file: TaskFile, raw: bytes, failure: Failure) -> Result:
        """A failed file with the bytes that were paid for."""
        if file.dropped:
            return Result(file, "failed", failure=failure)
        return Result(file, "failed", transcript=prepare_unreadable(_row(task, file), raw=raw), failure=failure)

    def _succeeded(self, task: PolledTask, file: TaskFile, raw: bytes, document: Document) -> Result:
        transcript = prepare_transcript(_row(task, file), raw=raw, document=document)
        audio = Recognised(transcript.row.audio_duration_ms, document.channels, has_text=bool(document.text.strip()))
        price = MODELS[task.model].regions[self._upstream.account.region]
        bill = bill_by_duration(price, audio)
        if file.dropped:
            return Result(file, "canceled", audio=audio, bill=bill)
        return Result(file, "succeeded", transcript=transcript, audio=audio, bill=bill)


def _row(task: PolledTask, file: TaskFile) -> Transcript:
    return Transcript(
        client_id=file.client_id,
        job_id=file.job_id,
        file_index=file.index,
        file_url=file.url,
        model=task.model,
        region=task.region,
    )


def _without_result(file: TaskFile, outcome: Failed | Wait) -> Result | Wait:
    return Result(file, "failed", failure=outcome.failure) if isinstance(outcome, Failed) else outcome
