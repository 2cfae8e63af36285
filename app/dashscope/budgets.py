"""Rate budgets: one row per account and kind of call, shared by all replicas.

A call may go out when the row says so; taking it and moving the row on is one UPDATE on the database's clock
(GCRA). Calls are spaced evenly, a little wider than the limit allows, so that jitter on the way never puts N+1 of
them into one of the upstream's seconds. A 429 all the same slows the row down; it recovers by itself (AIMD).
"""

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import text

from app.db import Sessions, transaction

# Spacing 1/(0.97 N): N+1 calls span 1.03 s. The catch-up takes 10 ms of that, the rest is for jitter on the way.
USED_SHARE = 0.97
# A poller that wakes up late may catch up by this much, and no more.
CATCH_UP_S = 0.02
# From the moment a call is sent until upstream has counted it: the event loop, a new connection, the network.
MAX_JITTER_S = 0.05
SLOWDOWN = 0.5
SLOWEST_SHARE = 0.05
RECOVERY_PER_S = 0.02
PAUSE_S = 1.0
MAX_SLEEP_S = 1.0
RETRY_S = 0.001

_ENSURE = text("""
    INSERT INTO budgets (account, kind, rate, current_rate) VALUES (:account, :kind, :rate, :rate)
    ON CONFLICT (account, kind) DO UPDATE SET rate = excluded.rate, current_rate = excluded.rate
    WHERE budgets.rate <> excluded.rate
""")

# The clock is read once, so that all of the row's figures mean the same instant. Where the UPDATE waits for another
# taker, the condition is tried again on the new row with the old instant: that errs on the side of waiting.
# It does not wait for the disk, whose hiccups would come on top of the jitter (p99 5 ms, without 1 ms). A crash of
# the database may forget the last places: then the next call goes out at once, and those after it in order again.
_TAKE = text("""
    WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now, set_config('synchronous_commit', 'off', true)),
    taken AS (
        UPDATE budgets SET
            next_at = greatest(next_at, now - make_interval(secs => :catch_up))
                + make_interval(secs => 1 / (current_rate * :used)),
            current_rate = least(
                rate,
                current_rate + rate * :recovery * greatest(extract(epoch FROM now - rate_changed_at), 0)),
            rate_changed_at = now
        FROM clock
        WHERE account = :account AND kind = :kind AND next_at <= now
        RETURNING 1
    )
    SELECT EXISTS (SELECT FROM taken), extract(epoch FROM next_at - clock_timestamp())::float8
    FROM budgets WHERE account = :account AND kind = :kind
""")

# Calls that were under way together are answered 429 together: that is one reason to slow down, not one for each.
# They are told by the pause, in which no other call goes out. Recovery starts when it is over.
_SLOW_DOWN = text("""
    WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now)
    UPDATE budgets SET
        current_rate = CASE WHEN next_at > now + make_interval(secs => 1 / (current_rate * :used)) THEN current_rate
            ELSE greatest(rate * :slowest, current_rate * :slowdown) END,
        next_at = greatest(next_at, now + make_interval(secs => :pause)),
        rate_changed_at = greatest(next_at, now + make_interval(secs => :pause)),
        throttled = throttled + 1
    FROM clock
    WHERE account = :account AND kind = :kind
""")


@dataclass(frozen=True, slots=True)
class Call:
    """A kind of call that has a limit of its own: `submit:<model>`, `query`, `list` or `cancel`."""

    account: str
    kind: str
    rate: float  # calls per second


class Window:
    """The calls of this process in the upstream's last second, by when upstream has seen them at the latest.

    The row spaces calls as they set out. This keeps them apart as they arrive, which a busy event loop or a new
    connection can put closer together: a call is there when it is answered, or after MAX_JITTER_S.
    """

    def __init__(self, rate: float) -> None:
        self._size = max(1, math.floor(rate))
        self._span_s = self._size / rate
        self._seen_at: deque[list[float]] = deque(maxlen=self._size)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """The block is the call. It waits until one more cannot be too many."""
        async with self._turn:
            if len(self._seen_at) == self._size:
                await asyncio.sleep(self._seen_at[0][0] + self._span_s - time.monotonic())
            seen_at = [time.monotonic() + MAX_JITTER_S]
            self._seen_at.append(seen_at)
        try:
            yield
        finally:
            seen_at[0] = min(seen_at[0], time.monotonic())


class Budgets:
    """The budgets as one process uses them. `sessions` best commit each statement by itself (AUTOCOMMIT)."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._known: set[Call] = set()
        self._turns: defaultdict[Call, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._windows: dict[Call, Window] = {}

    @asynccontextmanager
    async def spend(self, call: Call) -> AsyncIterator[None]:
        """Wait until the call may go out; the block is the call, and nothing else that takes time."""
        await self.take(call)
        async with self._windows.setdefault(call, Window(call.rate)).slot():
            yield

    async def take(self, call: Call) -> None:
        """Wait until the call may go out. It must then go out at once: the place in line is not kept."""
        # One caller at a time asks the row; the others of this process wait here, in the order they came.
        async with self._turns[call]:
            while (wait_s := await self._try(call)) > 0:  # noqa: ASYNC110 - it waits for a time, not an event
                await asyncio.sleep(min(wait_s, MAX_SLEEP_S))

    async def slow_down(self, call: Call, *, pause_s: float = PAUSE_S) -> None:
        """Upstream answered 429: pause, then go on more slowly."""
        async with transaction(self._sessions) as session:
            await session.execute(
                _SLOW_DOWN,
                {
                    "account": call.account,
                    "kind": call.kind,
                    "used": USED_SHARE,
                    "slowest": SLOWEST_SHARE,
                    "slowdown": SLOWDOWN,
                    "pause": pause_s,
                },
            )

    async def _try(self, call: Call) -> float:
        """Take the call and return 0, or return how many seconds to wait before the next try."""
        async with transaction(self._sessions) as session:
            if call not in self._known:
                await session.execute(_ENSURE, {"account": call.account, "kind": call.kind, "rate": call.rate})
                self._known.add(call)
            row = await session.execute(
                _TAKE,
                {
                    "account": call.account,
                    "kind": call.kind,
                    "catch_up": CATCH_UP_S,
                    "used": USED_SHARE,
                    "recovery": RECOVERY_PER_S,
                },
            )
            found = row.one_or_none()
        if found is None:  # somebody emptied the table
            self._known.discard(call)
            return RETRY_S
        taken, wait_s = found
        return 0.0 if taken else max(float(wait_s), RETRY_S)
