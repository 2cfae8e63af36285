"""Finding out what became of submits whose answers were lost, so that no file is ever submitted twice for it.

Upstream has no idempotency key. But its task list knows every task of the account: one that was made in the window
of the attempt, that no row of ours knows, and whose files are exactly ours, is the lost one and is adopted. Only
when there is none such are the files submitted again. All lost submits of a model are settled together: the list
is read once for them, and each unknown task is queried once.
"""

from uuid import UUID, uuid4

import structlog
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.dashscope.client import DashScope
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.result_files import fetch_result
from app.dashscope.wire import FileOutcome, ListedTask, TaskPage, TaskSnapshot, TaskStatus, parse_result_url
from app.db import transaction
from app.poller.circuits import open_for
from app.poller.context import PollerContext
from app.poller.list_matching import (
    Attempt,
    Candidate,
    Comparison,
    Rivals,
    compare,
    list_windows,
    made_within,
    within_one_window,
)
from app.poller.metrics import CALLS
from app.queue.leases import LEASE_S
from app.queue.submissions import fail_files, mark_running, requeue

# How long after the attempt the list must still show nothing before the files go out again.
SETTLE_S = 6
LOOK_EVERY_S = 2.0
# How long it may stay open which of two attempts a task belongs to, whose files differ in the spelling of URLs only.
UNCERTAIN_S = 60
AWAY_EVERY_S = 5.0
BATCH = 200
PAGE_SIZE = 100
# More pages than this for the window that allows for another zone: then Beijing time is relied on.
WIDE_PAGES = 20
REMEMBERED = 10_000

UNCERTAIN = Failure(
    FailureKind.TRANSIENT,
    "result_missing",
    "The answer to the submit was lost, and DashScope has a task that may be this file's or another's.",
)

log = structlog.get_logger()

# The files that were sent are also those that were canceled since: else the lost task would not be known for ours.
_CLAIM = text("""
    UPDATE tasks SET lease_token = :token, lease_until = now() + make_interval(secs => :lease_s)
    FROM (
        SELECT id FROM tasks
        WHERE account = :account AND state = 'unsure' AND next_poll_at <= now()
          AND (lease_until IS NULL OR lease_until < now())
          AND model = (
            SELECT model FROM tasks WHERE account = :account AND state = 'unsure' AND next_poll_at <= now()
              AND (lease_until IS NULL OR lease_until < now())
            ORDER BY created_at LIMIT 1)
        ORDER BY created_at LIMIT :batch FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE tasks.id = due.id
    RETURNING tasks.id, tasks.model, tasks.created_at, tasks.lost_at,
        extract(epoch FROM now() - tasks.lost_at)::float8 AS lost_s,
        ARRAY(SELECT url FROM files WHERE files.task_id = tasks.id UNION SELECT unnest(tasks.canceled_urls)) AS urls
""")

# Attempts that upstream may have a task of. Those that were closed as uncertain keep their URLs.
_OPEN = text("""
    SELECT id, ARRAY(SELECT url FROM files WHERE files.task_id = tasks.id UNION SELECT unnest(canceled_urls)) AS urls
    FROM tasks WHERE account = :account AND model = :model
      AND (state IN ('submitting', 'unsure') OR state = 'done' AND upstream_task_id IS NULL AND canceled_urls <> '{}')
""")

_KNOWN = text("SELECT upstream_task_id FROM tasks WHERE region = :region AND upstream_task_id = ANY(:ids)")

_KEEP_URLS = text("UPDATE tasks SET canceled_urls = :urls WHERE id = :id AND upstream_task_id IS NULL")

_AGAIN = text("""
    UPDATE tasks SET next_poll_at = now() + make_interval(secs => :wait_s), polls = polls + 1, last_error = :last_error,
        lease_token = NULL, lease_until = NULL
    WHERE id IN (
        SELECT id FROM tasks WHERE id = ANY(:ids) AND lease_token = :token AND state = 'unsure'
        ORDER BY id FOR NO KEY UPDATE
    )
""")


class Reconciler:
    """Settles the lost submits of one account."""

    def __init__(self, context: PollerContext, client: DashScope) -> None:
        self._context = context
        self._client = client
        self._base_url = context.region_of(client).base_url
        # Ended tasks that no row knows: what files they have will not change.
        self._strangers: dict[str, Candidate] = {}

    async def run(self) -> None:
        """One round over what is due; the due_work calls again."""
        token = uuid4()
        with self._context.leases.keep(token):
            attempts = await self._claim(token)
            if not attempts:
                return
            near = within_one_window(attempts)
            await self._again([each for each in attempts if each not in near], token, 0, "after older ones")
            candidates = await self._candidates(near)
            if isinstance(candidates, Failure):
                await self._again(near, token, AWAY_EVERY_S, candidates.message)
                if candidates.kind is FailureKind.ACCOUNT_BLOCKED:
                    async with transaction(self._context.sessions) as session:
                        await open_for(session, self._client.account.id, "", candidates)
                return
            # After the list: of whatever task it shows without a row, the attempt is among these.
            rivals = await self._rivals(attempts[0].model) if candidates else Rivals({})
            for attempt in near:
                await self._settle(attempt, token, candidates, rivals)

    async def _claim(self, token: UUID) -> list[Attempt]:
        due = {"account": self._client.account.id, "token": token, "lease_s": LEASE_S, "batch": BATCH}
        async with transaction(self._context.sessions) as session:
            rows = (await session.execute(_CLAIM, due)).all()
        attempts = [
            Attempt(row.id, row.model, row.created_at, row.lost_at, row.lost_s, tuple(row.urls)) for row in rows
        ]
        return sorted(attempts, key=lambda attempt: attempt.since)

    async def _rivals(self, model: str) -> Rivals:
        async with transaction(self._context.sessions) as session:
            rows = await session.execute(_OPEN, {"account": self._client.account.id, "model": model})
            return Rivals({row.id: row.urls for row in rows})

    async def _settle(self, attempt: Attempt, token: UUID, candidates: dict[str, Candidate], rivals: Rivals) -> None:
        undecided, uncertain = False, False
        for task_id, candidate in list(candidates.items()):
            match compare(attempt, candidate):
                case Comparison.OURS if rivals.leave_open(attempt, candidate, candidates.values()):
                    uncertain = True
                case Comparison.OURS:
                    if await self._adopt(attempt, task_id):
                        del candidates[task_id]
                        self._strangers.pop(task_id, None)
                        return
                    undecided = True  # equal attempts moved meanwhile: the next look shows which task is whose
                case Comparison.OPEN:
                    undecided = True
                case Comparison.OTHER:
                    continue
        if uncertain and not undecided and attempt.lost_s >= UNCERTAIN_S:
            await self._fail(attempt)
        elif undecided or uncertain:
            await self._again([attempt], token, LOOK_EVERY_S, "it is not certain yet which task is ours")
        elif attempt.lost_s < SETTLE_S:
            await self._again([attempt], token, LOOK_EVERY_S, "not in the task list yet")
        else:
            await self._give_up(attempt, token)

    async def _again(self, attempts: list[Attempt], token: UUID, wait_s: float, last_error: str) -> None:
        if not attempts:
            return
        ids = [attempt.task_id for attempt in attempts]
        async with transaction(self._context.sessions) as session:
            await session.execute(_AGAIN, {"ids": ids, "token": token, "wait_s": wait_s, "last_error": last_error})

    async def _adopt(self, attempt: Attempt, upstream_task_id: str) -> bool:
        try:
            async with transaction(self._context.sessions) as session:
                learnt = await mark_running(session, attempt.task_id, upstream_task_id, poll_in_s=0)
        except IntegrityError:
            return False  # an equal attempt was faster
        if learnt is None:
            return False  # the attempt's own answer came after all
        log.info("lost submit found", task=str(attempt.task_id), upstream_task=upstream_task_id)
        return True

    async def _give_up(self, attempt: Attempt, token: UUID) -> None:
        log.info("lost submit never arrived", task=str(attempt.task_id), files=attempt.file_count)
        async with transaction(self._context.sessions) as session:
            await requeue(session, attempt.task_id, token=token)

    async def _fail(self, attempt: Attempt) -> None:
        """Neither adopt a task that may be another attempt's nor submit, and pay, a second time."""
        log.warning("lost submit cannot be told apart", task=str(attempt.task_id), files=attempt.file_count)
        async with transaction(self._context.sessions) as session:
            await fail_files(session, attempt.task_id, failure=UNCERTAIN)
            await session.execute(_KEEP_URLS, {"id": attempt.task_id, "urls": list(attempt.file_urls)})

    async def _candidates(self, attempts: list[Attempt]) -> dict[str, Candidate] | Failure:
        """Tasks of the window that no row of ours knows, with their files as far as upstream shows them."""
        listed = await self._listed(attempts)
        if isinstance(listed, Failure):
            return listed
        async with transaction(self._context.sessions) as session:
            ids = {"region": self._client.account.region, "ids": list(listed)}
            known = set(await session.scalars(_KNOWN, ids))
        return {
            task_id: await self._examine(task)
            for task_id, task in listed.items()
            if task_id not in known
            and task.model in {"", attempts[0].model}
            and any(made_within(attempt, task) for attempt in attempts)
        }

    async def _listed(self, attempts: list[Attempt]) -> dict[str, ListedTask] | Failure:
        wide, narrow = list_windows(attempts)
        window, first = wide, await self._page(attempts, wide, 1)
        if isinstance(first, TaskPage) and first.total_pages > WIDE_PAGES:
            window, first = narrow, await self._page(attempts, narrow, 1)
        if isinstance(first, Failure):
            return first
        tasks = {task.task_id: task for task in first.tasks}
        # What is submitted meanwhile moves tasks towards later pages: they are read twice. Only the oldest can move
        # past the last page, and those are from before the attempt (`CLOCK_SKEW`).
        for number in range(2, first.total_pages + 1):
            page = await self._page(attempts, window, number)
            if isinstance(page, Failure):
                return page
            tasks |= {task.task_id: task for task in page.tasks}
        return tasks

    async def _page(self, attempts: list[Attempt], window: dict[str, str], number: int) -> TaskPage | Failure:
        call = self._context.list_call(self._client)
        async with self._context.budgets.spend(call):
            page = await self._client.list_tasks(
                model_name=attempts[0].model, page_no=number, page_size=PAGE_SIZE, **window
            )
        CALLS.labels(call.account, "list", page.kind.value if isinstance(page, Failure) else "ok").inc()
        await self._context.note_answer(call.account, page)
        if isinstance(page, Failure) and page.kind is FailureKind.THROTTLED:
            await self._context.throttled(call)
        return page

    async def _examine(self, listed: ListedTask) -> Candidate:
        if stranger := self._strangers.get(listed.task_id):
            return stranger
        call = self._context.query_call(self._client)
        async with self._context.budgets.spend(call):
            view = await self._client.query(listed.task_id)
        if isinstance(view, Failure):
            if view.kind is FailureKind.THROTTLED:
                await self._context.throttled(call)
            return Candidate(listed, None, None)
        urls = await self._file_urls(view)
        candidate = Candidate(listed, view.file_count, urls)
        if urls is not None:
            if len(self._strangers) >= REMEMBERED:
                self._strangers.clear()
            self._strangers[listed.task_id] = candidate
        return candidate

    async def _file_urls(self, view: TaskSnapshot) -> tuple[str, ...] | None:
        """The files of an ended task, None while they cannot be known.

        A failed task without results names none, and was not billed: it is nobody's.
        """
        match view.status:
            case TaskStatus.PENDING | TaskStatus.RUNNING | TaskStatus.UNKNOWN:
                return None
            case TaskStatus.SUCCEEDED:
                return await self._succeeded_urls(view)
            case _:
                return tuple(item.file_url for item in view.items if item.file_url is not None)

    async def _succeeded_urls(self, view: TaskSnapshot) -> tuple[str, ...] | None:
        urls = []
        for item in view.items:
            url = item.file_url or await self._named_in_result(item)
            if url is None:
                return None
            urls.append(url)
        return tuple(urls) or None

    async def _named_in_result(self, item: FileOutcome) -> str | None:
        """qwen3 names the file in the result only."""
        if item.transcription_url is None:
            return None
        raw = await fetch_result(self._context.results_http, item.transcription_url, base_url=self._base_url)
        return parse_result_url(raw) if isinstance(raw, bytes) else None
