"""A sandbox in process, with a clock that moves only when told to."""

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
    """A caller of one region; `http` has no key, for result URLs and the control routes."""

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
        """The id of a new task."""
        body = {"model": model, "input": {"file_urls": file_urls}, "parameters": parameters}
        answer = await self.post(body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["output"]["task_id"])

    async def query(self, task_id: str) -> dict[str, Any]:
        answer = await self.call("GET", f"/tasks/{task_id}")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def finished(self, task_id: str) -> dict[str, Any]:
        """The task's answer once it has ended."""
        self.clock.advance(60)
        return await self.query(task_id)

    async def result(self, *file_urls: str, model: str = "fun-asr", **parameters: Any) -> dict[str, Any]:
        """The result document of a task's first file."""
        answer = await self.finished(await self.submit(*file_urls, model=model, **parameters))
        document: dict[str, Any] = (await self.http.get(transcription_url(answer))).json()
        return document

    async def put_faults(self, **faults: Any) -> httpx.Response:
        return await self.http.put("http://sandbox.test/control/faults", json=faults)


def transcription_url(answer: dict[str, Any]) -> str:
    return next(str(item["transcription_url"]) for item in answer["output"]["results"] if "transcription_url" in item)


def assert_refused(answer: httpx.Response, status: int, code: str, message: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"code", "message", "request_id"}
    assert body["code"] == code
    assert message is None or body["message"] == message


MakeUpstream = Callable[..., Upstream]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def make_upstream(clock: Clock) -> AsyncIterator[MakeUpstream]:
    """Makes a caller of a new sandbox, or of `of`'s sandbox by another region or key."""
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
