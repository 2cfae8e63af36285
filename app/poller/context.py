"""The state that the loops of one poller share."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
import structlog

from app.catalogue import MODELS, RegionName
from app.dashscope.budgets import PAUSE_S, Budgets, Call
from app.dashscope.circuits import UPSTREAM_UNAVAILABLE
from app.dashscope.client import DashScope, OutcomeUnknown
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.wire import TaskPage, TaskSnapshot
from app.db import Sessions, transaction
from app.poller.batched_calls import BatchedCalls
from app.poller.circuits import Reachability, open_for
from app.poller.metrics import CALLS, THROTTLED
from app.poller.pace import Pace
from app.poller.poll_schedule import DurationEstimate
from app.poller.supervisor import Supervisor
from app.queue.leases import Leases
from app.queue.wakeup import WakeUp
from app.settings import Region
from app.uploads.links import UploadLinks
from app.webhooks.sender import Sender

LIST_PAGE_SIZE = 100
RESULT_SLOTS = 8
MAX_LOGGED_STATUSES = 100
# After a 429. An allocation quota counts spans of a minute. A Retry-After may ask for more, up to the maximum.
QUOTA_PAUSE_S = 30.0
MAX_THROTTLED_PAUSE_S = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PollerContext:
    regions: Mapping[RegionName, Region]
    upstreams: Mapping[str, DashScope]  # by account id
    sessions: Sessions
    batched: BatchedCalls
    budgets: Budgets
    leases: Leases
    supervisor: Supervisor
    results_http: aiohttp.ClientSession
    sender: Sender
    stopping: asyncio.Event
    upload_links: UploadLinks
    pace: Pace = field(default_factory=Pace)
    # None: finished jobs are kept for ever.
    retention_days: int | None = None
    # Seconds of speech that the estimate of a file assumes, for clients with a budget.
    budget_assumed_s: int = 300
    # Told when results are stored, for the long polls of the same process.
    stored: WakeUp = field(default_factory=WakeUp)
    # Small results in memory at a time, from their first byte until they are compressed.
    result_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(RESULT_SLOTS))
    # Parsing and compressing hold the GIL: one small result at a time, so that the event loop keeps running.
    cpu_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    # A result has up to 128 MB before it is compressed: one large result in memory at a time, until it is stored.
    large_result_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _reachability: dict[str, Reachability] = field(default_factory=dict)
    _durations: defaultdict[tuple[str, str], DurationEstimate] = field(
        default_factory=lambda: defaultdict(DurationEstimate)
    )
    _logged_statuses: set[str] = field(default_factory=set)

    def durations(self, account: str, model: str) -> DurationEstimate:
        return self._durations[account, model]

    async def note_response(self, account: str, response: object, *, task_id: str | None = None) -> bool:
        """Note whether a call of any kind got a usable response. `task_id` is upstream's id of a task that was queried.

        Opens the account's circuit while upstream counts as unreachable, and returns whether it does.
        """
        if isinstance(response, TaskSnapshot) and response.unknown_status:
            self._log_status(response.unknown_status)
        if isinstance(response, OutcomeUnknown):
            message = response.reason
        elif isinstance(response, Failure) and response.kind is FailureKind.TRANSIENT:
            message = response.message
        else:
            self._reachability_of(account).succeeded()
            return False
        if not self._reachability_of(account).failed(task_id):
            return False
        async with transaction(self.sessions) as session:
            await open_for(session, account, "", Failure(FailureKind.TRANSIENT, UPSTREAM_UNAVAILABLE, message))
        return True

    def _reachability_of(self, account: str) -> Reachability:
        return self._reachability.setdefault(account, Reachability(self.pace.unreachable_after_s))

    def _log_status(self, status: str) -> None:
        """Log each status that is not documented once per process, up to a limit."""
        if status not in self._logged_statuses and len(self._logged_statuses) < MAX_LOGGED_STATUSES:
            self._logged_statuses.add(status)
            log.info("unknown task status", status=status)

    def region_of(self, upstream: DashScope) -> Region:
        return self.regions[upstream.account.region]

    def accounts_of(self, region: str) -> set[str]:
        return {account for account, upstream in self.upstreams.items() if upstream.account.region == region}

    def submit_call(self, upstream: DashScope, model: str) -> Call:
        rate = self.region_of(upstream).submit_rps or MODELS[model].submit_rps
        return Call(upstream.account.id, f"submit:{model}", rate)

    def query_call(self, upstream: DashScope) -> Call:
        return Call(upstream.account.id, "query", self.region_of(upstream).query_rps)

    def list_call(self, upstream: DashScope) -> Call:
        return Call(upstream.account.id, "list", self.region_of(upstream).query_rps)

    def cancel_call(self, upstream: DashScope) -> Call:
        return Call(upstream.account.id, "cancel", self.region_of(upstream).query_rps)

    async def list_page(self, upstream: DashScope, number: int, **filters: str) -> TaskPage | Failure:
        """A page of the account's task list, within the budget. A 429 pauses the budget."""
        call = self.list_call(upstream)
        async with self.budgets.spend(call):
            page = await upstream.list_tasks(page_no=number, page_size=LIST_PAGE_SIZE, **filters)
        CALLS.labels(call.account, "list", page.kind.value if isinstance(page, Failure) else "ok").inc()
        await self.note_response(call.account, page)
        if isinstance(page, Failure) and page.kind is FailureKind.THROTTLED:
            await self.throttled(call, page)
        return page

    async def throttled(self, call: Call, failure: Failure) -> None:
        """Pause the budget and lower its rate: upstream responded 429 to a call that the budget allowed.

        The pause is as long as the Retry-After of the response, within limits.
        """
        THROTTLED.labels(call.account, call.kind).inc()
        pause_s = QUOTA_PAUSE_S if failure.upstream_code == "Throttling.AllocationQuota" else PAUSE_S
        asked_s = min(failure.retry_after_s or 0, MAX_THROTTLED_PAUSE_S)
        await self.budgets.slow_down(call, pause_s=max(pause_s, asked_s))

    async def pause(self, seconds: float) -> None:
        """Sleep, but wake when the poller is told to stop."""
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return
