"""Rate budgets: one row per account and kind of call, shared by all replicas.

The row holds the instant of the next call. One UPDATE on the database's clock takes a call and sets the next instant
(GCRA). The calls are evenly spaced, a little wider than the rate requires, so that jitter on the way does not put N+1
calls into one second of the upstream's clock. A call that leaves its process later than the spacing allows for, on a
busy machine, is noted in the row, and call N+1 waits until a second after it. A 429 still lowers the current rate,
which then recovers (AIMD).
"""

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog
from asyncpg import Record
from prometheus_client import Counter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.batching import Batcher
from app.dashscope.transport import ON_DEPARTURE
from app.db import CompiledQuery, RawConnection, Sessions, raw_connection, transaction
from app.errors import DatabaseUnavailable

# Share of the rate that is used. With a spacing of 1/(0.955 N) s, N+1 calls span 1.047 s. The catch-up takes 20 ms of
# the difference, and 27 ms are for the way from the grant to the call. 0.97 left 11 ms: of three replicas on two busy
# cores, 13 of 1,459 seconds had N+1 calls, and with 0.95 none of 1,453. 0.955 is the least that makes 9.5 of 10 calls.
USED_SHARE = 0.955
# Longest delay that a poller which wakes up late may make up for.
CATCH_UP_S = 0.02
# A call that leaves later than this after its grant is noted in the row. Spacing and catch-up leave 27 ms. Of three
# pollers on two cores with a load of 6, 5 in 100 calls were later, and 2 of 31 seconds had N+1 calls without the note.
MAX_LATE_S = 0.02
# A grant that is older is given up for a new one. The note of its departure could come too late for the next calls.
MAX_GRANT_AGE_S = 0.5
# A database that takes longer to note a departure does not note it: it would come too late for the next calls.
MAX_NOTE_S = 1.0
# Most departures in a row. With more of them, a call would take 1.5 ms instead of 0.5 ms at 1,000 calls per second.
MAX_DEPARTURES = 100
# The reply to a grant takes at least as long as the fastest of this many statements.
REPLIES = 32
# Longest time from the grant of a call until upstream counts the call: event loop, new connection, network.
MAX_JITTER_S = 0.05
SLOWDOWN = 0.5
MIN_SHARE = 0.05
RECOVERY_PER_S = 0.02
PAUSE_S = 1.0
MAX_SLEEP_S = 1.0
RETRY_S = 0.001

log = structlog.get_logger()

GRANTED = Counter("asr_gateway_budget_calls_total", "Calls that a budget allowed to this process", ["account", "kind"])

_ENSURE = CompiledQuery(
    text("""
        INSERT INTO budgets (account, kind, rate, current_rate) VALUES (:account, :kind, :rate, :rate)
        ON CONFLICT (account, kind) DO UPDATE SET rate = excluded.rate, current_rate = excluded.rate
        WHERE budgets.rate <> excluded.rate
    """)
)

# As many calls as upstream allows in `_SPAN`, which is a second if the rate is an integer up to MAX_DEPARTURES.
_SIZE = f"least({MAX_DEPARTURES}, greatest(1, floor(rate)))"
_SPAN = f"make_interval(secs => {_SIZE} / rate)"

# The clock is read once, so that all values of a row refer to the same instant. If the statement waits for another
# session, PostgreSQL checks the condition again on the new row with the old instant, which errs on the side of waiting.
# Rows are locked in one order, so that processes do not deadlock.
# The commit does not wait for the disk, which would add to the jitter (p99 5 ms instead of 1 ms). A crash of the
# database may lose the last grants: then one call goes out early, and the calls after it are spaced again.
_TAKE = CompiledQuery(
    text(f"""
        WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now, set_config('synchronous_commit', 'off', true)),
        asked AS (
            SELECT account, kind, greatest(next_at, departures[{_SIZE}::int] + {_SPAN}) AS due_at
            FROM budgets JOIN unnest(CAST(:accounts AS text[]), CAST(:kinds AS text[])) AS call (account, kind)
                USING (account, kind)
            ORDER BY account, kind FOR NO KEY UPDATE OF budgets
        ), taken AS (
            UPDATE budgets SET
                next_at = greatest(budgets.next_at, now - make_interval(secs => :catch_up))
                    + make_interval(secs => 1 / (current_rate * :used)),
                departures = ARRAY(
                    SELECT at FROM unnest(departures || now) AS at ORDER BY at DESC LIMIT {_SIZE}
                ),
                current_rate = least(
                    rate,
                    current_rate + rate * :recovery * greatest(extract(epoch FROM now - rate_changed_at), 0)),
                rate_changed_at = now
            FROM clock, asked
            WHERE budgets.account = asked.account AND budgets.kind = asked.kind
                AND greatest(budgets.next_at, asked.due_at) <= now
            RETURNING budgets.account, budgets.kind, now AS granted_at,
                greatest(budgets.next_at, departures[{_SIZE}::int] + {_SPAN}) AS due_at
        )
        SELECT account, kind, granted_at,
            extract(epoch FROM coalesce(taken.due_at, asked.due_at) - clock_timestamp())::float8 AS next_s
        FROM asked LEFT JOIN taken USING (account, kind)
    """)  # noqa: S608 - constants of this module
)

# The departure takes the place of its grant. Later grants may have taken that place already: a new connection may take
# seconds.
_NOTE_DEPARTURE = CompiledQuery(
    text(f"""
        UPDATE budgets SET departures = ARRAY(
            SELECT at FROM unnest(
                array_remove(departures, CAST(:granted_at AS timestamptz))
                || (:granted_at + make_interval(secs => :late))
            ) AS at ORDER BY at DESC LIMIT {_SIZE}
        )
        WHERE account = :account AND kind = :kind
    """)  # noqa: S608 - constants of this module
)

# Calls that are in flight together get their 429s together, so only the first one lowers the rate. The others find
# the pause already set: no call goes out in a pause. The recovery starts after it.
_SLOW_DOWN = text("""
    WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now)
    UPDATE budgets SET
        current_rate = CASE WHEN next_at > now + make_interval(secs => 1 / (current_rate * :used)) THEN current_rate
            ELSE greatest(rate * :min_share, current_rate * :slowdown) END,
        next_at = greatest(next_at, now + make_interval(secs => :pause)),
        rate_changed_at = greatest(next_at, now + make_interval(secs => :pause)),
        throttled = throttled + 1
    FROM clock
    WHERE account = :account AND kind = :kind
""")


_READ = text("""
    SELECT account, kind, rate, least(rate, current_rate
        + rate * :recovery * greatest(extract(epoch FROM clock_timestamp() - rate_changed_at), 0)) AS current_rate
    FROM budgets
""")


@dataclass(frozen=True, slots=True)
class BudgetRate:
    """Calls per second of one budget: `rate` in full, `current_rate` now. A 429 lowers the current rate."""

    account: str
    kind: str
    rate: float
    current_rate: float


async def read_budgets(session: AsyncSession) -> Sequence[BudgetRate]:
    """All budgets, including those of accounts that are no longer configured. One statement."""
    rows = (await session.execute(_READ, {"recovery": RECOVERY_PER_S})).mappings()
    return [BudgetRate(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class Grant:
    """When a call was granted: by the database's clock, and by this process's monotonic clock."""

    at: datetime
    monotonic: float


@dataclass(frozen=True, slots=True)
class Call:
    """A kind of call that has a limit of its own: `submit:<model>`, `query`, `list` or `cancel`."""

    account: str
    kind: str
    rate: float  # calls per second


class Window:
    """Limits this process's calls per second by their latest possible arrival upstream.

    The row spaces calls at departure, but a busy event loop or a new connection can move two arrivals together.
    A call counts as arrived when its response is there, and after MAX_JITTER_S at the latest.
    """

    def __init__(self, rate: float) -> None:
        self._size = max(1, math.floor(rate))
        self._span_s = self._size / rate
        # Lists of one element, since the end of a call may move its instant forward.
        self._arrivals: deque[list[float]] = deque(maxlen=self._size)
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait until one more call fits into the second. The block makes the call."""
        async with self._lock:
            if len(self._arrivals) == self._size:
                await asyncio.sleep(self._arrivals[0][0] + self._span_s - time.monotonic())
            arrival = [time.monotonic() + MAX_JITTER_S]
            self._arrivals.append(arrival)
        try:
            yield
        finally:
            arrival[0] = min(arrival[0], time.monotonic())


class Budgets:
    """Access of one process to the budgets.

    A call that is granted takes one statement, which calls of other kinds and accounts share if they ask while one
    runs. The process knows when the next call of a kind may go out, and does not ask before that.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._known: set[Call] = set()
        self._locks: defaultdict[Call, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._windows: dict[Call, Window] = {}
        self._ask_at: dict[Call, float] = {}  # by time.monotonic
        self._grants: dict[Call, Grant] = {}
        self._replies: deque[float] = deque(maxlen=REPLIES)  # seconds
        self._ask: Batcher[RawConnection, Call, float] = Batcher(partial(raw_connection, sessions), self._take_all)

    @asynccontextmanager
    async def spend(self, call: Call) -> AsyncIterator[None]:
        """Wait until the call may go out. The block makes the call and does nothing else that takes time."""
        grant = await self.take(call)
        async with self._windows.setdefault(call, Window(call.rate)).slot():
            while time.monotonic() - grant.monotonic > MAX_GRANT_AGE_S:
                grant = await self.take(call)
            notes: list[asyncio.Task[None]] = []

            def departed() -> None:
                if (late_s := time.monotonic() - grant.monotonic) > MAX_LATE_S:
                    notes.append(asyncio.create_task(self._note_departure(call, grant, late_s)))

            token = ON_DEPARTURE.set(departed)
            try:
                yield
            finally:
                ON_DEPARTURE.reset(token)
                # An exception here would take the place of the call's response.
                for error in await asyncio.gather(*notes, return_exceptions=True):
                    if error is not None and not isinstance(error, DatabaseUnavailable | TimeoutError):
                        log.error("late departure not noted", account=call.account, kind=call.kind, exc_info=error)

    async def take(self, call: Call) -> Grant:
        """Wait until the call may go out. The caller must make the call at once."""
        # Only one caller of this process tries the row at a time. The others wait here, first come, first served.
        async with self._locks[call]:
            if (early_s := self._ask_at.get(call, 0.0) - time.monotonic()) > 0:
                await asyncio.sleep(min(early_s, MAX_SLEEP_S))
            while (wait_s := await self.try_take(call)) > 0:  # noqa: ASYNC110 - it waits for a time, not an event
                await asyncio.sleep(min(wait_s, MAX_SLEEP_S))
            grant = self._grants[call]
        GRANTED.labels(call.account, call.kind).inc()
        return grant

    async def slow_down(self, call: Call, *, pause_s: float = PAUSE_S) -> None:
        """Record a 429: make no calls for `pause_s` seconds, then continue at a lower rate."""
        async with transaction(self._sessions, autocommit=True) as session:
            await session.execute(
                _SLOW_DOWN,
                {
                    "account": call.account,
                    "kind": call.kind,
                    "used": USED_SHARE,
                    "min_share": MIN_SHARE,
                    "slowdown": SLOWDOWN,
                    "pause": pause_s,
                },
            )

    async def try_take(self, call: Call) -> float:
        """Take the call now and return 0, or return the seconds until the next attempt is worthwhile."""
        return await self._ask(call)

    async def _note_departure(self, call: Call, grant: Grant, late_s: float) -> None:
        """Let call N+1 wait for a call that left late. MAX_LATE_S is added for the way to upstream."""
        late_s += MAX_LATE_S
        async with asyncio.timeout(MAX_NOTE_S), raw_connection(self._sessions) as connection:
            await _NOTE_DEPARTURE.fetch(
                connection, account=call.account, kind=call.kind, granted_at=grant.at, late=late_s
            )

    async def _take_all(self, connection: RawConnection, calls: Sequence[Call]) -> Sequence[float]:
        for call in set(calls) - self._known:
            await _ENSURE.fetch(connection, account=call.account, kind=call.kind, rate=call.rate)
            self._known.add(call)
        asked_at = time.monotonic()
        rows = await _TAKE.fetch(
            connection,
            accounts=[call.account for call in calls],
            kinds=[call.kind for call in calls],
            catch_up=CATCH_UP_S,
            used=USED_SHARE,
            recovery=RECOVERY_PER_S,
        )
        self._replies.append(time.monotonic() - asked_at)
        granted_at = asked_at + min(self._replies)
        found = {(row["account"], row["kind"]): row for row in rows}
        return [self._note_grant(call, found.get((call.account, call.kind)), granted_at) for call in calls]

    def _note_grant(self, call: Call, row: Record | None, granted_at: float) -> float:
        """What `try_take` returns. Notes the grant, and when the next call may go out."""
        if row is None:  # the table was emptied
            self._known.discard(call)
            return RETRY_S
        next_s: float = row["next_s"]
        self._ask_at[call] = time.monotonic() + next_s
        if row["granted_at"] is None:
            return max(next_s, RETRY_S)
        self._grants[call] = Grant(row["granted_at"], granted_at)
        return 0.0
