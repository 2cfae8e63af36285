"""Looking at tasks one by one, and collecting the results of those that ended."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import orjson
import structlog

from app.catalogue import MODELS, cost
from app.dashscope.circuits import open_circuit
from app.dashscope.client import DashScope
from app.dashscope.failures import Failure, Verdict
from app.dashscope.results import NoResult, fetch_result
from app.dashscope.wire import Item, TaskStatus, TaskView
from app.db import transaction
from app.errors import DatabaseUnavailable
from app.poller.claim_look import Look, claim_look
from app.poller.context import Context, away_pause_s
from app.poller.leases import LeaseLost
from app.poller.metrics import CALLS, FILES, TASK_SECONDS
from app.poller.outcomes import (
    Failed,
    Fetch,
    Outcome,
    Resubmit,
    Silent,
    TaskFile,
    Wait,
    after_fetch,
    after_reading,
    outcomes,
)
from app.poller.store import Result, close_if_done, count_result_failures, hold, look_again, store_results
from app.poller.watch import Watcher
from app.transcripts.document import Document, UnreadableResult, normalise, silent
from app.transcripts.service import PreparedTranscript, prepare_transcript

# Results are fetched and stored by so many: one transaction each, and a crash repeats no more than these.
BATCH = 10
MAX_UNDER_WAY = 32
LONGEST_WAIT_S = 60.0
FAILED_WAIT_S = 5.0

log = structlog.get_logger()


class Collector:
    """Looks at one account's tasks as they come due, within the account's budget of queries."""

    def __init__(self, context: Context, client: DashScope, watcher: Watcher) -> None:
        self._context = context
        self._client = client
        self._watcher = watcher
        self._call = context.query_call(client)
        self._base_url = context.region_of(client).base_url
        self._room = asyncio.Semaphore(MAX_UNDER_WAY)
        self._away = 0

    async def run(self) -> None:
        """Look at what is due until nothing is; while upstream is away, less and less often."""
        while not self._context.stopping.is_set():
            await self._context.pause(away_pause_s(self._away))
            if not await self._next_piece():
                return

    async def _next_piece(self) -> bool:
        """Whether a task was due; returns when its query goes out."""
        await self._room.acquire()
        look = None
        try:
            async with transaction(self._context.sessions) as session:
                look = await claim_look(session, self._call.account, token=uuid4(), late_s=self._watcher.late_s)
        finally:
            if look is None:
                self._room.release()
        if look is None:
            return False
        sent = asyncio.Event()
        piece = self._context.crew.start(self._look(look, sent), name=f"look {look.task_id}")
        piece.add_done_callback(lambda _: self._room.release())
        await sent.wait()
        return True

    async def _look(self, look: Look, sent: asyncio.Event) -> None:
        with self._context.leases.keep(look.token):
            try:
                async with self._context.budgets.spend(self._call):
                    sent.set()
                    view = await self._client.query(look.upstream_task_id)
            finally:
                sent.set()
            self._count(view)
            try:
                await self._act(look, view)
            except LeaseLost:
                log.warning("lease lost", task=str(look.task_id))
            except DatabaseUnavailable:
                raise
            except Exception:
                # Whatever this is, it must not hold up the account's other tasks, nor this one for a whole lease.
                log.exception("look failed", task=str(look.task_id))
                async with transaction(self._context.sessions) as session:
                    await look_again(session, look.task_id, look.token, wait_s=FAILED_WAIT_S, trouble="look failed")

    async def _act(self, look: Look, view: TaskView | Failure) -> None:
        match view:
            case Failure():
                await self._put_off(look, view)
            case TaskView() if not view.status.ended:
                await self._still_running(look, view)
            case TaskView():
                await self._collect(look, view)

    async def _put_off(self, look: Look, failure: Failure) -> None:
        """The query failed, which says nothing about the task."""
        if failure.verdict is Verdict.SLOWER:
            await self._context.throttled(self._call)
        wait_s = 1.0 if failure.verdict is Verdict.SLOWER else _wait_s(max(look.ended_s, 4.0))
        async with transaction(self._context.sessions) as session:
            if failure.verdict is Verdict.ACCOUNT:
                await open_circuit(session, self._call.account, failure)
            await look_again(session, look.task_id, look.token, wait_s=wait_s, trouble=failure.message)

    def _count(self, view: TaskView | Failure) -> None:
        outcome = view.verdict.value if isinstance(view, Failure) else view.status.value.lower()
        CALLS.labels(self._call.account, "query", outcome).inc()
        away = isinstance(view, Failure) and view.verdict in {Verdict.LATER, Verdict.ACCOUNT}
        self._away = self._away + 1 if away else 0

    async def _still_running(self, look: Look, view: TaskView) -> None:
        if look.ended_s:
            self._watcher.contradicted()
        wait_s = self._context.durations(self._call.account, look.model).next_look_s(look.age_s)
        async with transaction(self._context.sessions) as session:
            await look_again(session, look.task_id, look.token, wait_s=wait_s, status=view.status.value, alive=True)

    async def _collect(self, look: Look, view: TaskView) -> None:
        if not look.ended_s:
            self._learn(look, view)
        async with transaction(self._context.sessions) as session:
            await hold(session, look.task_id, look.token, status=view.status.value, usage_s=view.usage_s)
        found = list(outcomes(view, look.files, alone=look.alone, age_s=look.age_s, ended_s=look.ended_s))
        waits: list[Wait] = []
        for start in range(0, len(found), BATCH):
            waits += await self._store(look, view, found[start : start + BATCH])
        async with transaction(self._context.sessions) as session:
            if not await close_if_done(session, look.task_id, look.token):
                trouble = waits[0].reason if waits else None
                wait_s = _wait_s(look.ended_s)
                await look_again(session, look.task_id, look.token, wait_s=wait_s, trouble=trouble)

    def _learn(self, look: Look, view: TaskView) -> None:
        TASK_SECONDS.labels(self._call.account, look.model).observe(look.age_s)
        if view.status in {TaskStatus.SUCCEEDED, TaskStatus.FAILED}:
            duration_s = look.age_s if view.ran_s is None else view.ran_s
            self._context.durations(self._call.account, look.model).add(duration_s)

    async def _store(self, look: Look, view: TaskView, found: Sequence[tuple[TaskFile, Outcome]]) -> list[Wait]:
        """Fetch and store one batch; returns why files of it must wait."""
        async with asyncio.TaskGroup() as group:
            finishing = [group.create_task(self._finish(look, file, outcome, view.usage_s)) for file, outcome in found]
        finished = [task.result() for task in finishing]
        results = [result for result in finished if isinstance(result, Result)]
        waits = [(file, wait) for (file, _), wait in zip(found, finished, strict=True) if isinstance(wait, Wait)]
        async with transaction(self._context.sessions) as session:
            await hold(session, look.task_id, look.token, status=view.status.value, usage_s=view.usage_s)
            stored = await store_results(session, look.task_id, results)
            await count_result_failures(session, look.task_id, [file for file, wait in waits if wait.counted])
        for result in stored:
            FILES.labels(look.model, look.region, result.status).inc()
        return [wait for _, wait in waits]

    async def _finish(self, look: Look, file: TaskFile, outcome: Outcome, usage_s: int | None) -> Result | Wait:
        match outcome:
            case Fetch(url):
                return await self._fetch(look, file, url, usage_s)
            case Silent(item):
                return await self._succeed(look, file, _as_bytes(item), silent(file.url))
            case Failed(failure):
                return Result(file, "failed", failure=failure)
            case Resubmit(failure):
                return Result(file, "queued", failure=failure)
            case Wait():
                return outcome

    async def _fetch(self, look: Look, file: TaskFile, url: str, usage_s: int | None) -> Result | Wait:
        # From the first byte until it is compressed: results are large, and no more are held than there is room for.
        async with self._context.results_room:
            return await self._fetch_and_read(look, file, url, usage_s)

    async def _fetch_and_read(self, look: Look, file: TaskFile, url: str, usage_s: int | None) -> Result | Wait:
        raw = await fetch_result(self._context.results_http, url, base_url=self._base_url)
        if isinstance(raw, NoResult):
            return _settled(file, after_fetch(raw, file, ended_s=look.ended_s))
        try:
            async with self._context.thread:
                document = await asyncio.to_thread(
                    normalise, raw, file_url=file.url, family=MODELS[look.model].family.value
                )
        except UnreadableResult as error:
            return _settled(file, after_reading(str(error), file, ended_s=look.ended_s))
        if look.alone and usage_s is not None and "original_duration_in_milliseconds" not in document.properties:
            # qwen3 says how long the audio is in the task's usage only; elsewhere the end of speech stands for it.
            document = replace(document, audio_duration_ms=usage_s * 1000)
        return await self._succeed(look, file, raw, document)

    async def _succeed(self, look: Look, file: TaskFile, raw: bytes, document: Document) -> Result:
        async with self._context.thread:
            transcript: PreparedTranscript = await asyncio.to_thread(
                prepare_transcript,
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


def _settled(file: TaskFile, outcome: Outcome) -> Result | Wait:
    if isinstance(outcome, Failed):
        return Result(file, "failed", failure=outcome.failure)
    return outcome if isinstance(outcome, Wait) else Wait("not known")


def _as_bytes(item: Item) -> bytes:
    """What stands for the upstream's bytes where it sends a code instead of a document."""
    return orjson.dumps({"file_url": item.file_url, "code": item.code, "message": item.message})


def _wait_s(ended_s: float) -> float:
    """Half as long again as it has been over already: quick at first, seldom later."""
    return min(max(ended_s * 0.5, 1.0), LONGEST_WAIT_S)
