"""Finding out what became of a submit whose answer was lost, so that no file is ever submitted twice for it.

Upstream has no idempotency key. But its task list knows every task of the account: one that was made in the window
of the attempt, that no row of ours knows, and whose files are exactly ours, is the lost one and is adopted. Only
when there is none such are the files submitted again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from uuid import UUID, uuid4

import orjson
import structlog
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.client import DashScope
from app.dashscope.failures import Failure, Verdict
from app.dashscope.results import fetch_result
from app.dashscope.wire import ListedTask, TaskPage, TaskStatus, TaskView, same_file
from app.db import transaction
from app.poller.context import Context
from app.poller.leases import LEASE_S
from app.poller.metrics import CALLS
from app.poller.records import record_accepted, record_later

# How long after the attempt the list must still show nothing before the files go out again.
SETTLE_S = 6
LOOK_EVERY_S = 2.0
AWAY_EVERY_S = 5.0
# Our clock against the upstream's.
CLOCK_SKEW = timedelta(seconds=120)
# `start_time` and `end_time` carry no zone: Beijing time where it could be verified. The window is wide enough for
# a region that means UTC; where that gives more pages than this, Beijing time is relied on.
BEIJING = timezone(timedelta(hours=8))
WIDE_PAGES = 20
PAGE_SIZE = 100

log = structlog.get_logger()

_CLAIM = text("""
    UPDATE tasks SET lease_token = :token, lease_until = now() + make_interval(secs => :lease_s)
    WHERE id = (
        SELECT id FROM tasks
        WHERE account = :account AND state = 'unsure' AND look_at <= now()
          AND (lease_until IS NULL OR lease_until < now())
        ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING id, model, file_count, created_at, lost_at,
        extract(epoch FROM now() - lost_at)::float8 AS lost_s
""")

_URLS = text("SELECT url FROM files WHERE task_id = :id AND status = 'submitting'")

_KNOWN = text("SELECT upstream_task_id FROM tasks WHERE region = :region AND upstream_task_id = ANY(:ids)")

_AGAIN = text("""
    UPDATE tasks SET look_at = now() + make_interval(secs => :wait_s), looks = looks + 1, trouble = :trouble,
        lease_token = NULL, lease_until = NULL
    WHERE id = :id AND lease_token = :token AND state = 'unsure'
""")

EXPIRE_SUBMITTING = text("""
    UPDATE tasks SET state = 'unsure', lost_at = lease_until, look_at = now(), lease_token = NULL,
        lease_until = NULL, trouble = 'the poller that submitted it went away'
    WHERE state = 'submitting' AND lease_until < clock_timestamp()
""")


class Match(Enum):
    OURS = "ours"
    OTHER = "other"
    UNKNOWN = "unknown"  # its files cannot be compared before it ends


@dataclass(frozen=True, slots=True)
class Attempt:
    """A submit whose answer was lost, and what it sent."""

    task_id: UUID
    token: UUID
    model: str
    file_count: int
    since: datetime
    until: datetime
    lost_s: float
    file_urls: list[str]


class Reconciler:
    """Settles the lost attempts of one account, one after the other."""

    def __init__(self, context: Context, client: DashScope) -> None:
        self._context = context
        self._client = client
        self._base_url = context.region_of(client).base_url

    async def run(self) -> None:
        while not self._context.stopping.is_set():
            async with transaction(self._context.sessions) as session:
                attempt = await self._claim(session)
            if attempt is None:
                return
            with self._context.leases.keep(attempt.token):
                await self._settle(attempt)

    async def _claim(self, session: AsyncSession) -> Attempt | None:
        token = uuid4()
        claimed = await session.execute(
            _CLAIM, {"account": self._client.account.id, "token": token, "lease_s": LEASE_S}
        )
        row = claimed.one_or_none()
        if row is None:
            return None
        urls = list(await session.scalars(_URLS, {"id": row.id}))
        return Attempt(row.id, token, row.model, row.file_count, row.created_at, row.lost_at, row.lost_s, urls)

    async def _settle(self, attempt: Attempt) -> None:
        candidates = await self._candidates(attempt)
        if isinstance(candidates, Failure):
            await self._again(attempt, AWAY_EVERY_S, candidates.message)
            return
        undecided = False
        for candidate in candidates:
            match await self._compare(attempt, candidate):
                case Match.OURS:
                    if await self._adopt(attempt, candidate):
                        return
                case Match.UNKNOWN:
                    undecided = True
                case Match.OTHER:
                    continue
        if undecided:
            await self._again(attempt, LOOK_EVERY_S, "a task that may be ours has not ended")
        elif attempt.lost_s < SETTLE_S:
            await self._again(attempt, LOOK_EVERY_S, "not in the task list yet")
        else:
            await self._give_up(attempt)

    async def _again(self, attempt: Attempt, wait_s: float, trouble: str) -> None:
        async with transaction(self._context.sessions) as session:
            await session.execute(
                _AGAIN, {"id": attempt.task_id, "token": attempt.token, "wait_s": wait_s, "trouble": trouble}
            )

    async def _adopt(self, attempt: Attempt, candidate: ListedTask) -> bool:
        try:
            async with transaction(self._context.sessions) as session:
                await record_accepted(session, attempt.task_id, candidate.task_id, look_in_s=0)
        except IntegrityError:
            return False  # an equal attempt was faster
        log.info("lost submit found", task=str(attempt.task_id), upstream_task=candidate.task_id)
        return True

    async def _give_up(self, attempt: Attempt) -> None:
        log.info("lost submit never arrived", task=str(attempt.task_id), files=attempt.file_count)
        async with transaction(self._context.sessions) as session:
            await record_later(session, attempt.task_id, token=attempt.token)

    async def _candidates(self, attempt: Attempt) -> list[ListedTask] | Failure:
        """Tasks of the window that no row of ours knows."""
        listed = await self._listed(attempt)
        if isinstance(listed, Failure):
            return listed
        earliest, latest = (_epoch_ms(at) for at in (attempt.since - CLOCK_SKEW, attempt.until + CLOCK_SKEW))
        within = {
            task.task_id: task for task in listed if task.created_ms is None or earliest <= task.created_ms <= latest
        }
        async with transaction(self._context.sessions) as session:
            region = self._client.account.region
            known = set(await session.scalars(_KNOWN, {"region": region, "ids": list(within)}))
        return [task for task in within.values() if task.task_id not in known and task.model in {"", attempt.model}]

    async def _listed(self, attempt: Attempt) -> list[ListedTask] | Failure:
        wide, narrow = _windows(attempt)
        window, first = wide, await self._page(attempt, wide, 1)
        if isinstance(first, TaskPage) and first.total_pages > WIDE_PAGES:
            window, first = narrow, await self._page(attempt, narrow, 1)
        if isinstance(first, Failure):
            return first
        tasks = list(first.tasks)
        # The window ends in the past, so nothing new comes in between while its pages are read.
        for number in range(2, first.total_pages + 1):
            page = await self._page(attempt, window, number)
            if isinstance(page, Failure):
                return page
            tasks += page.tasks
        return tasks

    async def _page(self, attempt: Attempt, window: dict[str, str], number: int) -> TaskPage | Failure:
        call = self._context.list_call(self._client)
        await self._context.budgets.take(call)
        page = await self._client.list_tasks(model_name=attempt.model, page_no=number, page_size=PAGE_SIZE, **window)
        CALLS.labels(call.account, "list", page.verdict.value if isinstance(page, Failure) else "ok").inc()
        if isinstance(page, Failure) and page.verdict is Verdict.SLOWER:
            await self._context.throttled(call)
        return page

    async def _compare(self, attempt: Attempt, candidate: ListedTask) -> Match:
        call = self._context.query_call(self._client)
        await self._context.budgets.take(call)
        view = await self._client.query(candidate.task_id)
        if isinstance(view, Failure):
            return Match.UNKNOWN
        if view.file_count is not None and view.file_count != attempt.file_count:
            return Match.OTHER
        if not view.status.ended:
            return Match.UNKNOWN
        urls = await self._file_urls(view)
        return Match.OURS if urls and same_files(attempt.file_urls, urls) else Match.OTHER

    async def _file_urls(self, view: TaskView) -> list[str]:
        """The files of an ended task. A failed one without results has none, and was not billed: it is let go."""
        named = [item.file_url for item in view.items if item.file_url is not None]
        if named or view.status is not TaskStatus.SUCCEEDED:
            return named
        for item in view.items:  # qwen3 names the file in the result only
            raw = await fetch_result(self._context.results_http, item.transcription_url or "", base_url=self._base_url)
            if isinstance(raw, bytes):
                named += _named_in(raw)
        return named


def same_files(sent: Sequence[str], echoed: Sequence[str]) -> bool:
    """Whether a task's files are exactly those that were sent, in whatever order."""
    left = list(echoed)
    for url in sent:
        found = next((other for other in left if same_file(url, other)), None)
        if found is None:
            return False
        left.remove(found)
    return not left


def _named_in(raw: bytes) -> Iterator[str]:
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return
    if isinstance(document, dict) and isinstance(document.get("file_url"), str):
        yield document["file_url"]


def _windows(attempt: Attempt) -> tuple[dict[str, str], dict[str, str]]:
    since, until = attempt.since - CLOCK_SKEW, attempt.until + CLOCK_SKEW
    end = _digits(until, BEIJING)
    return (
        {"start_time": _digits(since, UTC), "end_time": end},
        {"start_time": _digits(since, BEIJING), "end_time": end},
    )


def _digits(at: datetime, zone: timezone) -> str:
    return at.astimezone(zone).strftime("%Y%m%d%H%M%S")


def _epoch_ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
