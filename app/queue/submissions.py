"""The transitions of a task and its files after a submit.

Each function is part of one transaction of the caller. `app.queue.lifecycle` has all states. Repeating a transition
does nothing, because each statement names the state that it starts from.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.failures import Failure, hide_other_urls
from app.identifiers import lowest_id_at
from app.queue.budget_holds import END_HOLDS_OF_TASK, end_holds_of_task
from app.queue.counters import COUNT_STARTED, JobChange, apply_changes
from app.queue.leases import RELEASE_LEASE
from app.queue.lifecycle import StatusCounts
from app.queue.observation import FileChange, files_changed, task_submitted

# The wait of a file that was refused alone although the account is accepted with others. It doubles with each refusal.
FIRST_REFUSED_WAIT_S = 1
MAX_REFUSED_WAIT_S = 600
# The wait of the files of a refused group. Other files are submitted meanwhile, which tests the account.
REFUSED_GROUP_WAIT_S = 1
# From the row of a task to its acceptance: the wait for the budget, the call until its time-out, and the difference of
# the clocks of pollers and database.
LONGEST_SUBMIT_S = 60

log = structlog.get_logger()


class UpstreamTaskTaken(Exception):
    """Another task row has this upstream task."""


@dataclass(frozen=True, slots=True)
class LearnedLimit:
    """A group limit that a refused group and its accepted halves have shown."""

    account: str
    model: str
    max_files: int


@dataclass(frozen=True, slots=True)
class AcceptedTask:
    """A task that upstream accepted. It is polled in `poll_in_s`.

    `request_id` is upstream's id of the submit, if it is known.
    """

    id: UUID
    upstream_task_id: str
    poll_in_s: float
    request_id: str | None = None


async def mark_running(
    session: AsyncSession, task_id: UUID, upstream_task_id: str, *, poll_in_s: float, request_id: str | None = None
) -> list[LearnedLimit] | None:
    """Upstream accepted the task: see `mark_all_running`."""
    (learned,) = await mark_all_running(session, [AcceptedTask(task_id, upstream_task_id, poll_in_s, request_id)])
    return learned


async def mark_all_running(
    session: AsyncSession, accepted: Sequence[AcceptedTask]
) -> Sequence[list[LearnedLimit] | None]:
    """Upstream accepted the tasks. Returns the group limits that each shows, or None if its attempt was given up.

    One statement for any number of tasks, and one more after a refused group. Raises UpstreamTaskTaken if another
    task row has one of the upstream tasks: the reconciler then took this task for that of an equal group. Roll back
    then, and mark the tasks one by one.
    """
    values = {
        "ids": [task.id for task in accepted],
        "upstream_task_ids": [task.upstream_task_id for task in accepted],
        "request_ids": [task.request_id for task in accepted],
        "polls_in_s": [task.poll_in_s for task in accepted],
    }
    try:
        rows = {row.id: row for row in await session.execute(_ACCEPT, values)}
    except IntegrityError as error:
        raise UpstreamTaskTaken from error
    for row in rows.values():
        task_submitted(
            session,
            task_id=row.id,
            job_ids=row.job_ids,
            files=row.file_count,
            account=row.account,
            region=row.region,
            model=row.model,
            upstream_task_id=row.upstream_task_id,
            upstream_request_id=row.upstream_request_id,
        )
    return [await _learn_limits(session, rows[task.id].suspects) if task.id in rows else None for task in accepted]


async def _learn_limits(session: AsyncSession, suspects: Sequence[UUID]) -> list[LearnedLimit]:
    if not suspects:
        return []
    learned = await session.execute(_LEARN_LIMIT, {"suspects": suspects})
    return [LearnedLimit(row.account, row.model, row.max_files) for row in learned]


async def read_group_limits(session: AsyncSession) -> list[LearnedLimit]:
    """All group limits that were learned, by account and model. One statement."""
    rows = await session.execute(_READ_LIMITS)
    return [LearnedLimit(row.account, row.model, row.max_files) for row in rows]


async def requeue(session: AsyncSession, task_id: UUID, *, token: UUID | None = None) -> None:
    """Upstream certainly has no such task: its files are queued again, and the attempt does not count.

    Two statements. With a `token`, does nothing if the lease was lost.
    """
    await session.execute(_REQUEUE, {"id": task_id, "token": token})
    await session.execute(_DELETE_TASK, {"id": task_id})


async def accepted_since(session: AsyncSession, account: str, model: str, moment: datetime) -> bool:
    """Whether upstream accepted a submit of the account and model after a moment, by any poller.

    One statement, which reads the tasks that were made since then.
    """
    oldest = lowest_id_at(moment, shift_s=-LONGEST_SUBMIT_S)
    values = {"oldest": oldest, "account": account, "model": model, "moment": moment}
    return bool(await session.scalar(_ACCEPTED_SINCE, values))


async def requeue_suspects(session: AsyncSession, task_id: UUID) -> None:
    """The account is refused with these files but is accepted with others, so one of the files may be the reason.

    The files are queued again for groups of half the size, and the attempt does not count. A single file waits, and
    waits longer after each refusal. Two statements.
    """
    await session.execute(
        _REQUEUE_SUSPECTS,
        {
            "id": task_id,
            "group_s": REFUSED_GROUP_WAIT_S,
            "first_s": FIRST_REFUSED_WAIT_S,
            "max_s": MAX_REFUSED_WAIT_S,
        },
    )
    await session.execute(_DELETE_TASK, {"id": task_id})


async def mark_unsure(session: AsyncSession, task_id: UUID, *, last_error: str, poll_in_s: float) -> None:
    """Upstream may or may not have the task. It is due for the reconciler in `poll_in_s`. One statement."""
    await session.execute(_MARK_UNSURE, {"id": task_id, "last_error": last_error, "poll_in_s": poll_in_s})


async def split_group(session: AsyncSession, task_id: UUID, *, last_error: str, suspect: bool) -> None:
    """A group was refused: its files are queued again for groups of half the size. Three statements.

    `suspect`: the size of the group may be the reason.
    """
    count = await _close(session, task_id, last_error)
    if count:
        await session.execute(_SPLIT, {"id": task_id, "half": max(count // 2, 1), "suspect": suspect})
        await end_holds_of_task(session, task_id)


async def fail_files(session: AsyncSession, task_id: UUID, *, failure: Failure) -> None:
    """Upstream will never accept these files: they fail with its code and message.

    Three to five statements and those of `apply_changes`. The message is stored without the URLs of other files.
    """
    if not await _close(session, task_id, failure.message, request_id=failure.request_id):
        return
    # The files may belong to several clients, and the message may quote their URLs.
    urls = list(await session.scalars(_URLS, {"id": task_id})) if "://" in failure.message else []
    messages = [hide_other_urls(failure.message, url) for url in urls]
    values = {"id": task_id, "urls": urls, "messages": messages, **error_columns(failure)}
    files = (await session.execute(_FAIL, values)).all()
    if suspects := list({row.suspect_task_id for row in files if row.suspect_task_id}):
        # A file of the refused group was to blame, not the size of the group.
        await session.execute(_CLEAR_SUSPICION, {"suspects": suspects})
    await record_failures(session, task_id, files, failure)
    await end_holds_of_task(session, task_id)


async def fail_ambiguous(session: AsyncSession, task_id: UUID, *, failure: Failure, file_urls: Sequence[str]) -> None:
    """Fail the files of an unsure task. The row keeps their URLs, for `due_work.unresolved_submits`.

    One statement more than `fail_files`.
    """
    await fail_files(session, task_id, failure=failure)
    await session.execute(_KEEP_URLS, {"id": task_id, "urls": list(file_urls)})


async def record_sent_urls(session: AsyncSession, task_id: UUID, sent_as: Mapping[str, str]) -> None:
    """Note how responses will name the files of a task that are sent with another URL. One statement."""
    await session.execute(_RECORD_SENT, {"id": task_id, "urls": list(sent_as), "sent_as": list(sent_as.values())})


async def fail_uploads(session: AsyncSession, task_id: UUID, urls: Collection[str], *, failure: Failure) -> None:
    """The files with these URLs cannot be sent: they fail, and the others of the task are queued again.

    Three statements and those of `apply_changes`.
    """
    rows = (await session.execute(_FAIL_UPLOADS, {"id": task_id, "urls": list(urls), **error_columns(failure)})).all()
    await record_failures(session, task_id, rows, failure)
    await requeue(session, task_id)


def error_columns(failure: Failure) -> dict[str, Any]:
    """The parameters of a statement that fails files."""
    return {
        "code": failure.code,
        "message": failure.message,
        "retryable": failure.retryable,
        "upstream_code": failure.upstream_code,
    }


async def record_failures(
    session: AsyncSession, task_id: UUID | None, files: Sequence[Row[Any]], failure: Failure
) -> None:
    """Log queued files that a statement failed, and count them in their jobs. The statements of `apply_changes`."""
    changes = [FileChange(row.job_id, row.number, row.model, row.region, "failed", failure) for row in files]
    files_changed(session, task_id, changes)
    jobs = Counter(row.job_id for row in files)
    await apply_changes(session, {job_id: JobChange(StatusCounts(queued=-n, failed=n)) for job_id, n in jobs.items()})


async def _close(session: AsyncSession, task_id: UUID, last_error: str, *, request_id: str | None = None) -> int:
    """Close the task and return its number of files; 0 if it was closed before."""
    values = {"id": task_id, "last_error": last_error[:500], "request_id": request_id}
    return await session.scalar(_CLOSE, values) or 0


# A task row is one attempt: upstream's response to it is true no matter which poller has the lease now. Only an
# attempt that was given up, so that its files were queued again, can no longer be accepted.
_ACCEPT = text(f"""
    WITH given AS (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:upstream_task_ids AS text[]), CAST(:request_ids AS text[]),
            CAST(:polls_in_s AS float8[])
        ) AS given (id, upstream_task_id, request_id, poll_in_s)
    ), locked AS (
        SELECT id FROM tasks WHERE id = ANY(:ids) AND state IN ('submitting', 'unsure') ORDER BY id FOR NO KEY UPDATE
    ), accepted AS (
        UPDATE tasks SET state = 'running', upstream_task_id = given.upstream_task_id,
            upstream_request_id = given.request_id, submitted_at = now(),
            next_poll_at = CASE WHEN cancel_wanted_at IS NULL THEN now() + make_interval(secs => poll_in_s) END,
            canceled_urls = '{{}}', {RELEASE_LEASE}, last_error = NULL
        FROM given JOIN locked USING (id) WHERE tasks.id = given.id
        RETURNING tasks.id, account, region, model, file_count, tasks.upstream_task_id, upstream_request_id
    ), before AS (
        SELECT job_id, index, suspect_task_id FROM files WHERE task_id IN (SELECT id FROM locked)
    ), started AS (
        UPDATE files SET status = 'running', attempts = least(attempts + 1, 32767),
            group_limit = NULL, suspect_task_id = NULL, refusals = 0, refused_since = NULL
        FROM before
        WHERE files.job_id = before.job_id AND files.index = before.index
          AND files.task_id = ANY(:ids) AND files.status = 'submitting'
        RETURNING files.job_id, files.task_id, before.suspect_task_id
    ), {COUNT_STARTED}
    SELECT accepted.*, ARRAY(SELECT job_id FROM started WHERE task_id = accepted.id) AS job_ids,
        ARRAY(SELECT DISTINCT suspect_task_id FROM started
              WHERE task_id = accepted.id AND suspect_task_id IS NOT NULL) AS suspects
    FROM accepted
""")  # noqa: S608 - constants

_CLOSE = text(f"""
    UPDATE tasks SET state = 'done', done_at = now(), canceled_urls = '{{}}', last_error = :last_error,
        upstream_request_id = :request_id, {RELEASE_LEASE}
    WHERE id = :id AND state IN ('submitting', 'unsure')
    RETURNING file_count
""")  # noqa: S608 - constants

# No file was submitted, so the task row is deleted as well.
_REQUEUE = text(f"""
    WITH given_up AS (
        SELECT id FROM tasks
        WHERE id = :id AND state IN ('submitting', 'unsure')
          AND (CAST(:token AS uuid) IS NULL OR lease_token = :token)
        FOR UPDATE
    ), {END_HOLDS_OF_TASK}
    UPDATE files SET status = 'queued', task_id = NULL
    WHERE task_id = (SELECT id FROM given_up) AND status = 'submitting'
""")  # noqa: S608 - a constant

_REQUEUE_SUSPECTS = text(f"""
    WITH refused AS (
        SELECT id, file_count FROM tasks WHERE id = :id AND state IN ('submitting', 'unsure') FOR UPDATE
    ), {END_HOLDS_OF_TASK}
    UPDATE files SET status = 'queued', task_id = NULL, group_limit = greatest(refused.file_count / 2, 1),
        refusals = files.refusals + CASE WHEN refused.file_count = 1 AND files.refusals < 20 THEN 1 ELSE 0 END,
        refused_since = CASE WHEN refused.file_count = 1 THEN coalesce(files.refused_since, now()) END,
        not_before = now() + make_interval(secs => CASE
            WHEN refused.file_count > 1 THEN :group_s
            ELSE least(:max_s, :first_s * 2 ^ files.refusals) END)
    FROM refused WHERE files.task_id = refused.id AND files.status = 'submitting'
""")  # noqa: S608 - a constant

# Ids are in the order of time, so only the newest tasks are read.
_ACCEPTED_SINCE = text("""
    SELECT EXISTS (
        SELECT FROM tasks WHERE id >= :oldest AND account = :account AND model = :model AND submitted_at > :moment)
""")

_DELETE_TASK = text("""
    DELETE FROM tasks
    WHERE id = :id AND state IN ('submitting', 'unsure') AND NOT EXISTS (SELECT FROM files WHERE task_id = :id)
""")

_FAIL = text("""
    UPDATE files SET status = 'failed', finished_at = now(), error_code = :code,
        error_message = coalesce(
            (SELECT message FROM unnest(CAST(:urls AS text[]), CAST(:messages AS text[])) AS hidden (url, message)
             WHERE hidden.url = files.url LIMIT 1), :message),
        error_retryable = :retryable, error_upstream_code = :upstream_code
    WHERE task_id = :id AND status = 'submitting'
    RETURNING job_id, index AS number, model, region, suspect_task_id
""")

_RECORD_SENT = text("""
    WITH dropped AS (
        UPDATE dropped_files SET sent_as = sent.sent_as
        FROM unnest(CAST(:urls AS text[]), CAST(:sent_as AS text[])) AS sent (url, sent_as)
        WHERE dropped_files.task_id = :id AND dropped_files.url = sent.url
    )
    UPDATE files SET sent_as = sent.sent_as
    FROM unnest(CAST(:urls AS text[]), CAST(:sent_as AS text[])) AS sent (url, sent_as)
    WHERE files.task_id = :id AND files.status = 'submitting' AND files.url = sent.url
""")

# The task row is deleted, so the files leave it.
_FAIL_UPLOADS = text(f"""
    WITH {END_HOLDS_OF_TASK}
    UPDATE files SET status = 'failed', task_id = NULL, finished_at = now(), error_code = :code,
        error_message = :message, error_retryable = :retryable, error_upstream_code = :upstream_code
    WHERE task_id = :id AND status = 'submitting' AND url = ANY(CAST(:urls AS text[]))
    RETURNING job_id, index AS number, model, region
""")  # noqa: S608 - a constant

_URLS = text("SELECT DISTINCT url FROM files WHERE task_id = :id AND status = 'submitting'")

_MARK_UNSURE = text(f"""
    UPDATE tasks SET state = 'unsure', lost_at = now(), next_poll_at = now() + make_interval(secs => :poll_in_s),
        last_error = :last_error, {RELEASE_LEASE}
    WHERE id = :id AND state = 'submitting'
""")  # noqa: S608 - constants

# A smaller group was refused too, so size was not to blame for an earlier refusal: that suspicion is cleared.
_SPLIT = text("""
    WITH others AS (
        SELECT job_id, index FROM files
        WHERE suspect_task_id IN (
            SELECT suspect_task_id FROM files WHERE task_id = :id AND suspect_task_id IS NOT NULL)
          AND task_id IS DISTINCT FROM :id
        ORDER BY job_id, index FOR UPDATE
    ), cleared AS (
        UPDATE files SET suspect_task_id = NULL
        FROM others WHERE files.job_id = others.job_id AND files.index = others.index
    )
    UPDATE files SET status = 'queued', not_before = NULL, group_limit = :half,
        suspect_task_id = CASE WHEN :suspect THEN :id END
    WHERE task_id = :id AND status = 'submitting'
""")

_CLEAR_SUSPICION = text("""
    WITH cleared AS (
        SELECT job_id, index FROM files WHERE suspect_task_id = ANY(:suspects) ORDER BY job_id, index FOR UPDATE
    )
    UPDATE files SET suspect_task_id = NULL
    FROM cleared WHERE files.job_id = cleared.job_id AND files.index = cleared.index
""")

# Every file of the refused group was accepted in a smaller one: its size was to blame, and half of the size is safe.
_LEARN_LIMIT = text("""
    INSERT INTO group_limits (account, model, max_files)
    SELECT account, model, greatest(file_count / 2, 1) FROM tasks
    WHERE id = ANY(:suspects) AND NOT EXISTS (SELECT FROM files WHERE suspect_task_id = tasks.id)
    ON CONFLICT (account, model) DO UPDATE
        SET max_files = least(group_limits.max_files, excluded.max_files), learnt_at = now()
    RETURNING account, model, max_files
""")

_READ_LIMITS = text("SELECT account, model, max_files FROM group_limits ORDER BY account, model")

_KEEP_URLS = text("UPDATE tasks SET canceled_urls = :urls WHERE id = :id AND upstream_task_id IS NULL")
