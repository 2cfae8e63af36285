"""Calls of one account that keep the raw response. `app.dashscope.wire` parses them, as it does for the gateway."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from app.catalogue import MODELS
from app.certify.evidence import Evidence, Exchange, Unseen
from app.dashscope import wire
from app.dashscope.file_urls import TEMPORARY_SCHEME
from app.dashscope.result_files import (
    FORBIDDEN_HOST,
    RESULT_HEADERS,
    FetchFailed,
    FetchFailureKind,
    is_dashscope_host,
    read_result,
    result_address,
)
from app.settings import Account

SUBMIT_PATH = "/services/audio/asr/transcription"
CALL_TIMEOUT_S = 20
FETCH_TIMEOUT_S = 60
MAX_THROTTLED = 5


@dataclass(frozen=True, slots=True)
class RunTimes:
    """Times of a run in seconds. The defaults leave most of the account's rate to a gateway that runs meanwhile."""

    run_s: float = 600
    call_gap_s: float = 0.2
    poll_s: float = 3
    lag_s: float = 60
    max_list_lag_s: float = 6
    """`Pace.min_lost_s` of the poller: a task that is listed later than this may be submitted twice."""
    throttled_s: float = 5
    cleanup_s: float = 20


class Upstream:
    """The account's API. Every call has a deadline and waits for its turn. A 429 is repeated a few times."""

    def __init__(
        self, account: Account, base_url: str, http: httpx.AsyncClient, times: RunTimes, evidence: Evidence
    ) -> None:
        self.account = account
        self.base_url = base_url
        self.http = http
        self.times = times
        self._evidence = evidence

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        base_url: str | None = None,
    ) -> Exchange:
        """Raises Unseen if there is no response, or only 429s."""
        request = self.http.build_request(
            method,
            (base_url or self.base_url) + path,
            content=None if json is None else orjson.dumps(json),
            params=params,
            headers={
                "Authorization": f"Bearer {key or self.account.key.get_secret_value()}",
                **({} if json is None else {"Content-Type": "application/json"}),
                **(headers or {}),
            },
            timeout=CALL_TIMEOUT_S,
        )
        for _ in range(MAX_THROTTLED):
            exchange = await self._send(request)
            if exchange.status != 429:
                return exchange
            await asyncio.sleep(self.times.throttled_s)
        raise Unseen(f"throttled: {exchange.error_text}")

    async def _send(self, request: httpx.Request) -> Exchange:
        await asyncio.sleep(self.times.call_gap_s)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self.http.send(request)
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            raise Unseen(f"{request.url.host} did not respond ({type(error).__name__})") from error
        return self._evidence.exchanges[-1]

    async def submit(
        self, model: str, file_urls: list[str], parameters: Mapping[str, Any], *, with_parameters: bool = True
    ) -> Exchange:
        style = MODELS[model].input_style if model in MODELS else "file_urls"
        body = wire.submit_body(model=model, input_style=style, file_urls=file_urls, parameters=parameters)
        if not with_parameters:
            del body["parameters"]
        headers = {"X-DashScope-Async": "enable"}
        if file_urls[0].startswith(TEMPORARY_SCHEME):
            headers["X-DashScope-OssResourceResolve"] = "enable"
        return await self.call("POST", SUBMIT_PATH, json=body, headers=headers)

    async def query(self, task_id: str) -> Exchange:
        return await self.call("GET", f"/tasks/{quote(task_id, safe='')}")

    async def cancel(self, task_id: str) -> Exchange:
        return await self.call("POST", f"/tasks/{quote(task_id, safe='')}/cancel")

    async def list_tasks(self, **params: str | int) -> Exchange:
        return await self.call("GET", "/tasks", params=params)

    async def fetch(self, url: str) -> bytes | FetchFailed:
        """A result file, by the rules of `app.dashscope.result_files`. The exchange is kept."""
        if not is_dashscope_host(url, self.base_url):
            return FORBIDDEN_HOST
        address = result_address(url)
        target = {"target": address.raw_path_qs.encode()}  # httpx resolves dot segments and adds escapes
        request = self.http.build_request("GET", str(address), headers=RESULT_HEADERS, extensions=target)
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                response = await self.http.send(request, stream=True)
                return await read_result(
                    response.aiter_raw(),
                    response.status_code,
                    encoding=response.headers.get("Content-Encoding", ""),
                    length=response.headers.get("Content-Length", ""),
                )
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            detail = f"the result host did not respond ({type(error).__name__})"
            return FetchFailed(FetchFailureKind.UNAVAILABLE, detail)
