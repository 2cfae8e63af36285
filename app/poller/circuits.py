"""Opens and closes circuits, logs each change once, and tells an outage of upstream from single lost calls."""

import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from app.dashscope.circuits import UPSTREAM_UNAVAILABLE, ClosedCircuit, close_circuit, open_circuit
from app.dashscope.failures import Failure, FailureKind, hide_other_urls
from app.db import Session, after_commit

log = structlog.get_logger()

# Upstream counts as unreachable after this many failed calls in a row that span at least `Pace.unreachable_after_s`.
# Either alone may be an accident: 64 submits in flight lose their responses together, and an idle account makes few
# calls a minute. The queries of one task count once: upstream may have trouble with this task alone.
UNREACHABLE_CALLS = 3
_WHOLE_ACCOUNT = frozenset({FailureKind.ACCOUNT_BLOCKED, FailureKind.TRANSIENT})


class Reachability:
    """Whether upstream responds to the calls of one account, as this process has seen it."""

    def __init__(self, unreachable_after_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._unreachable_after_s = unreachable_after_s
        self._clock = clock
        self._failures = 0
        self._since = 0.0
        self._failed_tasks: set[str] = set()

    def succeeded(self) -> None:
        """Note a usable response, which may be a refusal."""
        self._failures = 0
        self._failed_tasks.clear()

    def failed(self, task_id: str | None = None) -> bool:
        """Note a call without a usable response. Returns whether upstream counts as unreachable.

        `task_id` is upstream's id of the task if the call was its query.
        """
        if not self._failures:
            self._since = self._clock()
        if task_id is None:
            self._failures += 1
        elif task_id not in self._failed_tasks and self._failures < UNREACHABLE_CALLS:
            self._failed_tasks.add(task_id)
            self._failures += 1
        return self._failures >= UNREACHABLE_CALLS and self._clock() - self._since >= self._unreachable_after_s


async def open_for(session: Session, account: str, model: str, failure: Failure) -> None:
    """Open the circuit that the failure is about: that of the whole account, or that of the account and model.

    Does nothing for a failure about one model if `model` is empty.
    """
    scope = "" if failure.kind in _WHOLE_ACCOUNT else model
    if not scope and failure.kind not in _WHOLE_ACCOUNT:
        return
    # The message is stored and shown for files of other clients, so it must not quote the URL of a file.
    failure = replace(failure, message=hide_other_urls(failure.message, ""))
    if await open_circuit(session, account, scope, failure):
        after_commit(session, lambda: _log_opened(account, scope, failure))


async def close(session: Session, account: str, model: str) -> None:
    """Close the circuit if it is open."""
    if closed := await close_circuit(session, account, model):
        after_commit(session, lambda: _log_closed(account, model, closed))


def _log_opened(account: str, model: str, failure: Failure) -> None:
    if failure.code == UPSTREAM_UNAVAILABLE:
        log.warning("upstream unavailable", account=account, reason=failure.message)
        return
    log.error(
        "circuit opened",
        account=account,
        model=model or None,
        code=failure.code,
        upstream_code=failure.upstream_code,
        upstream_request_id=failure.request_id,
        message=failure.message,
    )


def _log_closed(account: str, model: str, closed: ClosedCircuit) -> None:
    if closed.code == UPSTREAM_UNAVAILABLE:
        log.info("upstream available again", account=account, outage_s=round(closed.open_s, 1))
        return
    log.info("circuit closed", account=account, model=model or None, code=closed.code, open_s=round(closed.open_s, 1))
