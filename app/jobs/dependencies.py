"""Services and headers of the job routes, and how long a request waits for its job: `wait` and `Prefer` (RFC 7240)."""

import asyncio
import re
from collections.abc import Awaitable
from datetime import UTC, datetime, time
from email.utils import format_datetime
from functools import cache
from typing import Annotated
from uuid import UUID

from fastapi import Header, Query, Request

from app.api.parameters import DIGITS
from app.catalogue import MODELS
from app.db import Sessions
from app.jobs.batched_calls import JobListCache, budgeted_job_creator, job_creator, job_finder
from app.jobs.long_poll import JobWaiters
from app.jobs.retry_after import RetryAfterEstimator
from app.jobs.wait_limits import WaitLimits
from app.queue.creation import CreatedJob, NewJob
from app.queue.job_json import JobSnapshot
from app.queue.reuse import create_reusing_job
from app.queue.wakeup import WakeUp
from app.settings import Settings

MAX_WAIT_S = 60

WaitParameter = Annotated[
    int | None,
    Query(
        ge=0,
        le=MAX_WAIT_S,
        description="Respond when the job is final, or after this number of seconds.",
    ),
    DIGITS,
]
PreferHeader = Annotated[
    str | None,
    Header(alias="Prefer", description="`wait=N` (RFC 7240) has the effect of `wait`, which takes precedence."),
]

# Commas inside quotes do not separate preferences. An unterminated quote takes the rest of the header: a search for
# its end from each character would take seconds in 60 KB of quotes.
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_WAIT = re.compile(r'\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:;.*)?', re.ASCII | re.IGNORECASE | re.DOTALL)


class JobServices:
    """Process-wide services of the job routes. `wakeup` has an effect only if a poller runs in this process."""

    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        *,
        waiters: JobWaiters | None = None,
        wakeup: WakeUp | None = None,
    ) -> None:
        self.sessions = sessions
        self.served = tuple(settings.served_regions)
        self.webhook_networks = settings.webhook_allowed_networks
        self.waiting_limit = settings.client_waiting_files
        self.budget_assumed_s = settings.budget_assumed_seconds
        self._create_job = job_creator(sessions, waiting_limit=self.waiting_limit)
        self._create_budgeted_job = budgeted_job_creator(
            sessions, waiting_limit=self.waiting_limit, assumed_s=self.budget_assumed_s
        )
        self.find_job = job_finder(sessions)
        self.job_lists = JobListCache(sessions)
        self.waiters = waiters or JobWaiters(sessions)
        self.wait_limits = WaitLimits()
        self.wakeup = wakeup or WakeUp()
        self.estimator = RetryAfterEstimator(sessions)

    def create(self, new: NewJob) -> Awaitable[CreatedJob]:
        """The durable job. Raises the errors of `create_jobs_within_budgets`, or DatabaseUnavailable."""
        if new.reuse:
            return create_reusing_job(
                self.sessions, new, waiting_limit=self.waiting_limit, assumed_s=self.budget_assumed_s
            )
        return self._create_budgeted_job(new) if new.has_budget else self._create_job(new)

    async def retry_after(self, snapshot: JobSnapshot) -> dict[str, str]:
        """The header of a job that is not final. Costs a statement every 10 s at most."""
        if snapshot.final:
            return {}
        if self.estimator.is_due:
            await self.estimator.refresh()
        return {"Retry-After": str(self.estimator.retry_after_s(snapshot.job))}


# Functions, not dependencies: each dependency costs a request 25 µs, a tenth of its total time.
def job_services(request: Request) -> JobServices:
    services: JobServices = request.app.state.services
    return services


def requested_wait(request: Request, wait: int | None, prefer: str | None) -> tuple[int, dict[str, str]]:
    """The seconds to wait, and the header of the response if they are those of a preference.

    The parameter takes precedence over the preference.
    """
    if wait is not None or prefer is None:
        return wait or 0, {}
    seconds = preferred_wait_s(request)
    return seconds or 0, {} if seconds is None else {"Preference-Applied": f"wait={seconds}"}


def preferred_wait_s(request: Request) -> int | None:
    """The seconds of `Prefer: wait=N`, at most MAX_WAIT_S. None if there is no valid one."""
    preferences = _PREFERENCE.findall(",".join(request.headers.getlist("prefer")))
    preferred = next(filter(None, map(_WAIT.fullmatch, preferences)), None)
    return None if preferred is None else min(int(preferred[1]), MAX_WAIT_S)


async def wait_until_final(request: Request, client_id: UUID, snapshot: JobSnapshot, timeout_s: float) -> JobSnapshot:
    """The job after the wait, which holds no connection to the database. Raises NotFound or TooManyWaits."""
    if snapshot.final:
        return snapshot
    services = job_services(request)
    with services.wait_limits.hold(client_id):
        final = await _wait_for_job(request, services.waiters, snapshot.job.id, timeout_s)
        return final or await services.find_job((client_id, snapshot.job.id))


async def _wait_for_job(request: Request, waiters: JobWaiters, job_id: UUID, timeout_s: float) -> JobSnapshot | None:
    """The job once it is final; None on timeout, when the process stops, or when the client disconnects.

    Raises NotFound as `JobWaiters.until_final`.
    """
    try:
        async with asyncio.timeout(None) as wait:
            listening = asyncio.create_task(_end_on_disconnect(request, wait))
            try:
                return await waiters.until_final(job_id, timeout_s)
            finally:
                listening.cancel()
    except TimeoutError:
        return None


async def _end_on_disconnect(request: Request, wait: asyncio.Timeout) -> None:
    """Servers do not cancel the handler when the client disconnects, so the handler has to listen for that."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    wait.reschedule(0)


@cache
def deprecation_headers(model: str) -> dict[str, str]:
    """RFC 9745 and RFC 8594. The dates have no time of day, so midnight in UTC stands for it."""
    deprecation = MODELS[model].deprecation if model in MODELS else None
    if deprecation is None:
        return {}
    since, until = (datetime.combine(day, time(), UTC) for day in (deprecation.deprecated_at, deprecation.retires_at))
    return {"Deprecation": f"@{int(since.timestamp())}", "Sunset": format_datetime(until, usegmt=True)}
