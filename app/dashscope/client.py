"""Calls to DashScope for one account. Every call has a deadline and returns a value; none raises for the network.

The API key goes to the account's base URL and nowhere else: results are fetched by `app.dashscope.results`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from app.dashscope import wire
from app.dashscope.failures import Failure, Verdict, judge_call
from app.settings import Account

CALL_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
# Below the keep-alive of the usual servers (5 s and more): a submit never goes out on a connection that the
# other side is just closing, which would leave its outcome unknown.
KEEPALIVE_S = 3
MAX_ANSWER_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Accepted:
    task_id: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The answer to a submit did not come, or says nothing: upstream may or may not have made the task."""

    reason: str


@asynccontextmanager
async def http_client() -> AsyncIterator[httpx.AsyncClient]:
    """The client for API calls. aiohttp carries them: httpx's own transport tops out near 500 calls/s."""
    limits = httpx.Limits(max_connections=200, keepalive_expiry=KEEPALIVE_S)
    transport = AiohttpTransport(limits=limits)
    async with httpx.AsyncClient(transport=transport, timeout=_timeout(), follow_redirects=False) as client:
        yield client


class DashScope:
    """One account's API. Results are values: what was asked for, or the Failure that says what to do now."""

    def __init__(self, account: Account, base_url: str, http: httpx.AsyncClient) -> None:
        self.account = account
        self._base_url = base_url
        self._http = http
        self._authorization = {"Authorization": f"Bearer {account.key.get_secret_value()}"}

    async def submit(
        self, *, model: str, input_style: str, file_urls: Sequence[str], parameters: Mapping[str, Any]
    ) -> Accepted | Failure | Lost:
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
                return Failure(Verdict.LATER, "upstream_unavailable", reason)
            case NoAnswer(reason):
                return Lost(reason)
            case httpx.Response(status_code=200):
                return _submitted(answer)
            case httpx.Response(status_code=status) if status >= 500 or status < 400:
                return Lost(f"HTTP {status}")
            case httpx.Response():
                return _failure(answer)

    async def query(self, task_id: str) -> wire.TaskView | Failure:
        """Section 3 of the protocol. Always safe to repeat."""
        answer = await self._read("GET", f"/tasks/{_segment(task_id)}")
        if isinstance(answer, Failure):
            return answer
        try:
            return wire.read_task(answer)
        except wire.Garbage as error:
            return _garbage(error)

    async def list_tasks(self, **query: str | int) -> wire.TaskPage | Failure:
        """One page of the account's tasks of the last 24 hours. Section 5.1 of the protocol."""
        answer = await self._read("GET", "/tasks", params=query)
        if isinstance(answer, Failure):
            return answer
        try:
            return wire.read_page(answer)
        except wire.Garbage as error:
            return _garbage(error)

    async def cancel(self, task_id: str) -> Failure | None:
        """Cancel a task that is still PENDING; None when upstream did. Section 5.2 of the protocol."""
        answer = await self._read("POST", f"/tasks/{_segment(task_id)}/cancel")
        return answer if isinstance(answer, Failure) else None

    async def _read(self, method: str, path: str, *, params: Mapping[str, str | int] | None = None) -> bytes | Failure:
        answer = await self._call(method, path, params=params)
        if not isinstance(answer, httpx.Response):
            return Failure(Verdict.LATER, "upstream_unavailable", answer.reason)
        if answer.status_code != 200 or wire.read_error(answer.content)[0]:
            return _failure(answer)
        return answer.content

    async def _call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        params: Mapping[str, str | int] | None = None,
    ) -> "httpx.Response | NotSent | NoAnswer":
        request = self._http.build_request(
            method,
            self._base_url + path,
            headers={**self._authorization, **(headers or {})},
            content=content,
            params=params or None,
        )
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return await _answer(self._http, request)
        except httpx.ConnectError as error:
            if isinstance(error.__cause__, aiohttp.ClientConnectorError) or error.__cause__ is None:
                return NotSent(_reason(error))
            return NoAnswer(_reason(error))
        except (httpx.HTTPError, aiohttp.ClientError, TimeoutError, OSError, AnswerTooLarge) as error:
            return NoAnswer(_reason(error))


@dataclass(frozen=True, slots=True)
class NotSent:
    """The connection could not be made: upstream saw nothing of the call."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    reason: str


class AnswerTooLarge(Exception):
    pass


async def _answer(http: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    response = await http.send(request, stream=True)
    try:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise AnswerTooLarge
    finally:
        await response.aclose()
    return httpx.Response(response.status_code, content=bytes(body), request=request)


def _submitted(answer: httpx.Response) -> Accepted | Failure | Lost:
    try:
        return Accepted(wire.read_submitted(answer.content))
    except wire.Garbage as error:
        if wire.read_error(answer.content)[0]:
            return _failure(answer)
        return Lost(str(error))


def _failure(answer: httpx.Response) -> Failure:
    code, message = wire.read_error(answer.content)
    return judge_call(answer.status_code, code, message)


def _garbage(error: wire.Garbage) -> Failure:
    return Failure(Verdict.LATER, "upstream_unavailable", str(error))


def _segment(task_id: str) -> str:
    return httpx.URL("/").copy_with(path=f"/{task_id}").raw_path.decode().removeprefix("/").replace("/", "%2F")


def _reason(error: Exception) -> str:
    """The kind of trouble only: messages of transports carry URLs."""
    return f"no answer ({type(error).__name__})"


def _timeout() -> httpx.Timeout:
    return httpx.Timeout(CALL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
