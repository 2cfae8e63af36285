"""The evidence of one region: raw responses to the probes, and the tasks that they submitted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.dashscope import wire
from app.dashscope.failures import Failure, FailureKind, classify_call
from app.dashscope.result_files import FetchFailed


class Unseen(Exception):
    """There is no evidence for a check. The message says why, in a few words."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its response. `at` is the time of the response in Unix seconds, `body` has no encoding."""

    at: float
    method: str
    url: str
    request_body: bytes
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body as an object. Raises MalformedResponse, a ValueError."""
        return wire.parse_object(self.body)

    @property
    def output(self) -> dict[str, Any]:
        """`output` of the body. Raises MalformedResponse, a ValueError."""
        output = self.json.get("output")
        if not isinstance(output, dict):
            raise wire.MalformedResponse("the response has no output")
        return output

    @property
    def failure(self) -> Failure | None:
        """The error as the gateway classifies it, or None for a 200 without an error code."""
        code, message = wire.parse_error(self.body)
        if self.status == 200 and not code:
            return None
        return classify_call(self.status, code, message)

    @property
    def error_text(self) -> str:
        """Status, code and message, in one line."""
        code, message = wire.parse_error(self.body)
        return " ".join(f"HTTP {self.status} {code or ''} {message[:120] if message != code else ''}".split())


# These say nothing about the protocol: the account may not make the call now.
_OTHER_CAUSES = {FailureKind.TRANSIENT, FailureKind.THROTTLED, FailureKind.GRANT, FailureKind.ACCOUNT_BLOCKED}


def accepted(exchange: Exchange) -> bool:
    """Whether the response is a 200 without an error. Raises Unseen if the account is the cause of the refusal."""
    failure = exchange.failure
    if failure is not None and failure.kind in _OTHER_CAUSES:
        raise Unseen(f"the call was refused: {exchange.error_text}")
    return failure is None


@dataclass(slots=True)
class Watched:
    """A submit, and the queries of its task until it ended. `task_id` is None if the submit was refused."""

    model: str
    file_urls: Sequence[str]
    sent_at: float
    submit: Exchange
    task_id: str | None = None
    queries: list[Exchange] = field(default_factory=list)
    cancel: Exchange | None = None

    @property
    def last(self) -> wire.TaskSnapshot:
        """The last query. Raises Unseen."""
        if self.task_id is None:
            accepted(self.submit)
            raise Unseen(f"no task: {self.submit.error_text}")
        if not self.queries:
            raise Unseen("the task was not queried")
        return wire.parse_task(self.queries[-1].body)

    @property
    def ended(self) -> wire.TaskSnapshot:
        """The last query of a task that has ended. Raises Unseen."""
        snapshot = self.last
        if not snapshot.status.ended:
            raise Unseen(f"the task was {self.output['task_status']} until the end of the run")
        return snapshot

    @property
    def has_ended(self) -> bool:
        try:
            return self.last.status.ended
        except (Unseen, wire.MalformedResponse):
            return False

    @property
    def output(self) -> dict[str, Any]:
        return self.queries[-1].output


@dataclass(slots=True)
class Evidence:
    """All that was seen in one region. Checks get it through the methods, which raise Unseen."""

    region: str
    account: str
    base_url: str
    max_list_lag_s: float
    tasks: dict[str, Watched] = field(default_factory=dict)
    calls: dict[str, Exchange] = field(default_factory=dict)
    lags_s: dict[str, float] = field(default_factory=dict)
    fetched: dict[str, bytes | FetchFailed] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)

    def task(self, name: str) -> Watched:
        if name not in self.tasks:
            raise self._unseen(name)
        return self.tasks[name]

    def call(self, name: str) -> Exchange:
        if name not in self.calls:
            raise self._unseen(name)
        return self.calls[name]

    def lag_s(self, name: str) -> float:
        """Seconds until something was seen; infinite if it was not."""
        if name not in self.lags_s:
            raise self._unseen(name)
        return self.lags_s[name]

    def result(self, name: str) -> bytes | FetchFailed:
        if name not in self.fetched:
            raise self._unseen(name)
        return self.fetched[name]

    def _unseen(self, name: str) -> Unseen:
        return Unseen(self.missing.get(name) or self.missing.get("*") or "not reached")


def compact(value: Any, limit: int = 160) -> str:
    """A value as JSON in one line, cut at `limit` characters."""
    text = orjson.dumps(value, default=str).decode()
    return text if len(text) <= limit else f"{text[:limit]}…"
