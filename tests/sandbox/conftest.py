"""Fixtures: an in-process sandbox with a manual clock."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from app.sandbox import Sandbox, SandboxConfig, create_sandbox


class Clock:
    def __init__(self) -> None:
        self.now = 1_739_439_080.681  # 2025-02-13 17:31:20.681 in Beijing

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Upstream:
    """A caller of one region. `http` sends no key: it is for result URLs and the control routes."""

    def __init__(self, sandbox: Sandbox, clock: Clock, http: httpx.AsyncClient, region: str, key: str) -> None:
        self.sandbox = sandbox
        self.state = sandbox.state
        self.clock = clock
        self.http = http
        self._base = f"http://sandbox.test/{region}/api/v1"
        self._headers = {"Authorization": f"Bearer {key}"}

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = self._headers | options.pop("headers", {})
        return await self.http.request(method, f"{self._base}{path}", headers=headers, **options)

    async def post(self, body: Any, **headers: str) -> httpx.Response:
        headers = {"X-DashScope-Async": "enable"} | {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call("POST", "/services/audio/asr/transcription", json=body, headers=headers)

    async def submit(self, *file_urls: str, model: str = "fun-asr", **parameters: Any) -> str:
        """Submit a task and return its id."""
        body = {"model": model, "input": {"file_urls": file_urls}, "parameters": parameters}
        response = await self.post(body)
        assert response.status_code == 200, response.text
        return str(response.json()["output"]["task_id"])

    async def query(self, task_id: str) -> dict[str, Any]:
        response = await self.call("GET", f"/tasks/{task_id}")
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    async def finished(self, task_id: str) -> dict[str, Any]:
        """The query response after the end of the task."""
        self.clock.advance(60)
        return await self.query(task_id)

    async def result(self, *file_urls: str, model: str = "fun-asr", **parameters: Any) -> dict[str, Any]:
        """Submit a task and return the result document of its first file."""
        response = await self.finished(await self.submit(*file_urls, model=model, **parameters))
        document: dict[str, Any] = (await self.http.get(transcription_url(response))).json()
        return document

    async def put_faults(self, **faults: Any) -> httpx.Response:
        return await self.http.put("http://sandbox.test/control/faults", json=faults)


def transcription_url(response: dict[str, Any]) -> str:
    return next(str(item["transcription_url"]) for item in response["output"]["results"] if "transcription_url" in item)


def assert_refused(response: httpx.Response, status: int, code: str, message: str | None = None) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"code", "message", "request_id"}
    assert body["code"] == code
    assert message is None or body["message"] == message


MakeUpstream = Callable[..., Upstream]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def make_upstream(clock: Clock) -> AsyncIterator[MakeUpstream]:
    """Creates a caller of a new sandbox, or of the sandbox of `of` with another region or key."""
    async with AsyncExitStack() as clients:

        def make(
            of: Upstream | None = None, region: str = "beijing", key: str | None = None, **config: Any
        ) -> Upstream:
            if of is not None:
                return Upstream(of.sandbox, clock, of.http, region, key or f"sk-sandbox-{region}")
            sandbox = create_sandbox(SandboxConfig(**config), clock=clock)
            http = httpx.AsyncClient(transport=sandbox.transport())
            clients.push_async_callback(http.aclose)
            return Upstream(sandbox, clock, http, region, key or f"sk-sandbox-{region}")

        yield make


@pytest.fixture
def upstream(make_upstream: MakeUpstream) -> Upstream:
    return make_upstream()
