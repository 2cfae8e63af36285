"""What the loops of one poller share."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from app.catalogue import MODELS, RegionName
from app.dashscope.budgets import Budgets, Call
from app.dashscope.circuits import UPSTREAM_UNAVAILABLE
from app.dashscope.client import DashScope, OutcomeUnknown
from app.dashscope.failures import Failure, FailureKind
from app.db import Sessions, transaction
from app.poller.circuits import open_for
from app.poller.metrics import THROTTLED
from app.poller.poll_schedule import DurationEstimate
from app.poller.reachability import Reachability
from app.poller.supervisor import Supervisor
from app.queue.leases import Leases
from app.settings import Region
from app.webhooks.sender import Sender

RESULTS_AT_ONCE = 8
# One call without an answer is an accident. From the second in a row on, upstream is away.
AWAY_PAUSE_S = (0.0, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)


def away_pause_s(in_a_row: int) -> float:
    """How long to leave upstream alone after so many calls in a row that it did not answer."""
    return AWAY_PAUSE_S[min(in_a_row, len(AWAY_PAUSE_S) - 1)]


@dataclass(frozen=True, slots=True)
class PollerContext:
    regions: Mapping[RegionName, Region]
    upstreams: Mapping[str, DashScope]  # by account id
    sessions: Sessions
    budgets: Budgets
    leases: Leases
    supervisor: Supervisor
    results_http: httpx.AsyncClient
    sender: Sender
    stopping: asyncio.Event
    # None: finished jobs are kept.
    retention_days: int | None = None
    # Small results at a time, from their first byte until they are compressed.
    result_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(RESULTS_AT_ONCE))
    # Reading and compressing takes the interpreter; one small one at a time leaves the event loop its share.
    thread: asyncio.Lock = field(default_factory=asyncio.Lock)
    # A result is up to 128 MB before it is compressed: of large ones there is one, until it is stored.
    large_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _reachability: defaultdict[str, Reachability] = field(default_factory=lambda: defaultdict(Reachability))
    _durations: defaultdict[tuple[str, str], DurationEstimate] = field(
        default_factory=lambda: defaultdict(DurationEstimate)
    )

    def durations(self, account: str, model: str) -> DurationEstimate:
        return self._durations[account, model]

    async def note_answer(self, account: str, answer: object) -> bool:
        """Note whether upstream answered a call of any kind. Opens the account's circuit once it counts as away.

        Returns whether it does.
        """
        if isinstance(answer, OutcomeUnknown):
            said = answer.reason
        elif isinstance(answer, Failure) and answer.kind is FailureKind.TRANSIENT:
            said = answer.message
        else:
            self._reachability[account].answered()
            return False
        if not self._reachability[account].missed():
            return False
        async with transaction(self.sessions) as session:
            await open_for(session, account, "", Failure(FailureKind.TRANSIENT, UPSTREAM_UNAVAILABLE, said))
        return True

    def region_of(self, client: DashScope) -> Region:
        return self.regions[client.account.region]

    def accounts_of(self, region: str) -> set[str]:
        return {account for account, client in self.upstreams.items() if client.account.region == region}

    def submit_call(self, client: DashScope, model: str) -> Call:
        rate = self.region_of(client).submit_rps or MODELS[model].submit_rps
        return Call(client.account.id, f"submit:{model}", rate)

    def query_call(self, client: DashScope) -> Call:
        return Call(client.account.id, "query", self.region_of(client).query_rps)

    def list_call(self, client: DashScope) -> Call:
        return Call(client.account.id, "list", self.region_of(client).query_rps)

    def cancel_call(self, client: DashScope) -> Call:
        return Call(client.account.id, "cancel", self.region_of(client).query_rps)

    async def throttled(self, call: Call, *, pause_s: float = 1.0) -> None:
        """Upstream answered 429 although the budget allowed the call."""
        THROTTLED.labels(call.account, call.kind).inc()
        await self.budgets.slow_down(call, pause_s=pause_s)

    async def pause(self, seconds: float) -> None:
        """Sleep, but not past the moment when the poller is told to stop."""
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return
