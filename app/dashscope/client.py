"""Calls to DashScope for one account. Every call has a deadline and returns a value; none raises for the network.

The API key goes to the account's base URL and nowhere else: results are fetched by `app.dashscope.result_files`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import orjson

from app.dashscope import wire
from app.dashscope.failures import Failure, FailureKind, classify_call
from app.dashscope.transport import (
    CALL_TIMEOUT_S,
    MAX_RESPONSE_BYTES,
    NoResponse,
    NotSent,
    Response,
    http_client,
    send_once,
)
from app.settings import Account

__all__ = ["Accepted", "DashScope", "OutcomeUnknown", "http_client"]

SHORT_SECRET_CHARS = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Accepted:
    task_id: str


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """The answer to a submit did not come, or says nothing: upstream may or may not have made the task."""

    reason: str


class DashScope:
    """One account's API. Results are values: what was asked for, or the Failure that says what to do now."""

    def __init__(
        self,
        account: Account,
        base_url: str,
        http: httpx.AsyncClient,
        *,
        deadline_s: float = CALL_TIMEOUT_S,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        self.account = account
        self._base_url = base_url.rstrip("/")
        self._http = http
        self._deadline_s = deadline_s
        self._max_answer_bytes = max_response_bytes

    async def submit(
        self, *, model: str, input_style: str, file_urls: Sequence[str], parameters: Mapping[str, Any]
    ) -> Accepted | Failure | OutcomeUnknown:
        """Make a task. Not idempotent upstream: only a Failure says for certain that there is none.

        Source: protocol, section 2. A 5xx counts as lost, since the task may have been made before it.
        """
        body = wire.submit_body(model=model, input_style=input_style, file_urls=file_urls, parameters=parameters)
        headers = {"X-DashScope-Async": "enable", "Content-Type": "application/json"}
        if any(url.startswith("oss://") for url in file_urls):
            headers["X-DashScope-OssResourceResolve"] = "enable"
        answer = await self._call(
            "POST", "/services/audio/asr/transcription", headers=headers, content=orjson.dumps(body)
        )
        match answer:
            case NotSent(reason):
                return Failure(FailureKind.TRANSIENT, "upstream_unavailable", reason)
            case NoResponse(reason):
                return OutcomeUnknown(reason)
            case Response(200, received):
                return self._submitted(received)
            case Response(status, received) if 400 <= status < 500:
                return _certain(self._failure(status, received))
            case Response(status):
                return OutcomeUnknown(f"HTTP {status}")

    async def query(self, task_id: str) -> wire.TaskSnapshot | Failure:
        """Section 3 of the protocol. Always safe to repeat."""
        return await self._read("GET", f"/tasks/{_segment(task_id)}", wire.parse_task)

    async def list_tasks(self, **query: str | int) -> wire.TaskPage | Failure:
        """One page of the account's tasks of the last 24 hours. Section 5.1 of the protocol."""
        return await self._read("GET", "/tasks", wire.parse_page, params=query)

    async def cancel(self, task_id: str) -> Failure | None:
        """Cancel a task that is still PENDING; None when upstream did. Section 5.2 of the protocol."""
        return await self._read("POST", f"/tasks/{_segment(task_id)}/cancel", wire.parse_canceled)

    async def _read(
        self,
        method: str,
        path: str,
        read: Callable[[bytes], T],
        *,
        params: Mapping[str, str | int] | None = None,
    ) -> T | Failure:
        answer = await self._call(method, path, params=params)
        match answer:
            case NotSent(reason) | NoResponse(reason):
                return Failure(FailureKind.TRANSIENT, "upstream_unavailable", reason)
            case Response(200, body):
                return self._understood(read, body)
            case Response(status, body):
                return self._failure(status, body)

    def _understood(self, read: Callable[[bytes], T], body: bytes) -> T | Failure:
        try:
            return read(body)
        except wire.MalformedResponse as error:
            if wire.parse_error(body)[0]:
                return self._failure(200, body)
            return Failure(FailureKind.TRANSIENT, "upstream_unavailable", str(error))

    def _submitted(self, body: bytes) -> Accepted | Failure | OutcomeUnknown:
        try:
            return Accepted(wire.parse_submitted(body))
        except wire.MalformedResponse as error:
            if wire.parse_error(body)[0]:
                return _certain(self._failure(200, body))
            return OutcomeUnknown(str(error))

    def _failure(self, status: int, body: bytes) -> Failure:
        code, message = (said and self._redacted(said) for said in wire.parse_error(body))
        return classify_call(status, code, message or "")

    def _redacted(self, said: str) -> str:
        """Refusals are stored and shown. Whatever stands between us and upstream may repeat the key in one."""
        key = self.account.key.get_secret_value()
        return said.replace(key, "[redacted]") if len(key) >= SHORT_SECRET_CHARS else said

    async def _call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        params: Mapping[str, str | int] | None = None,
    ) -> Response | NotSent | NoResponse:
        request = self._http.build_request(
            method,
            self._base_url + path,
            headers={"Authorization": f"Bearer {self.account.key.get_secret_value()}", **(headers or {})},
            content=content,
            params=params or None,
        )
        return await send_once(self._http, request, deadline_s=self._deadline_s, max_bytes=self._max_answer_bytes)


def _certain(failure: Failure) -> Failure | OutcomeUnknown:
    """A refusal says that there is no task. Trouble of the engine does not, whatever its status; nor does a 408."""
    broken = failure.kind is FailureKind.TRANSIENT and failure.upstream_code is not None
    if broken or failure.status == 408:
        return OutcomeUnknown(f"HTTP {failure.status}")
    return failure


def _segment(task_id: str) -> str:
    return quote(task_id, safe="")
