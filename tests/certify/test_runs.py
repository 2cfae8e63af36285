"""A run as a whole: interruptions, deadlines, refused keys, and the record."""

import asyncio
from decimal import Decimal
from pathlib import Path

import httpx
import orjson
import pytest

from app.catalogue import RegionName
from app.certify.checks import CHECKS
from app.certify.probes.account import KeyRefused
from app.certify.recorder import open_record, write_record
from app.certify.registry import Verdict
from app.certify.runner import certify
from app.certify.upstream import RunTimes
from app.sandbox.faults import Faults, RefusedKey
from tests.certify.runs import TIMES, run, sandbox, settings

BOTH: list[RegionName] = ["beijing", "singapore"]


class Announcing(httpx.AsyncBaseTransport):
    """Tells when a request with this text passes."""

    def __init__(self, inner: httpx.AsyncBaseTransport, text: bytes) -> None:
        self._inner = inner
        self._text = text
        self.passed = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        if self._text in await request.aread():
            self.passed.set()
        return response


async def test_an_interrupted_run_cancels_its_tasks_and_deletes_its_words() -> None:
    upstream = sandbox(queue_s=60)
    transport = Announcing(upstream.transport(), b"query_vocabulary")
    running = asyncio.create_task(run(upstream, transport=transport))
    await transport.passed.wait()
    assert upstream.state.vocabularies != {}
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert upstream.state.vocabularies == {}
    assert upstream.state.tasks != {}
    assert all(task.canceled_at is not None for task in upstream.state.tasks.values())


async def test_a_run_that_takes_too_long_ends_with_what_it_saw() -> None:
    upstream = sandbox(queue_s=60)
    times = RunTimes(run_s=1, call_gap_s=0, poll_s=0.02, lag_s=0.1, throttled_s=0.01)
    results = await run(upstream, times=times)
    assert results["submit_accepted"].verdict is Verdict.OK
    assert results["result_document"].verdict is Verdict.UNKNOWN
    assert results["mixed_outcomes"].seen == "the task was PENDING until the end of the run"
    assert results["list_page_size"].seen == "the run ended after 1 s"
    assert all(task.canceled_at is not None for task in upstream.state.tasks.values())


async def test_a_refused_key_ends_the_run_before_a_submit() -> None:
    upstream = sandbox(Faults(refused=(RefusedKey(code="InvalidApiKey", key="sk-sandbox-singapore"),)))
    with pytest.raises(KeyRefused, match="The key of singapore/default is refused: HTTP 401 InvalidApiKey"):
        await certify(settings(), BOTH, times=TIMES, transport=upstream.transport())
    assert upstream.state.submits == []


async def test_a_region_that_does_not_respond_is_unknown() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    results = await run(sandbox(), transport=httpx.MockTransport(fail))
    assert {result.verdict for result in results.values()} == {Verdict.UNKNOWN}
    assert results["submit_accepted"].seen == "127.0.0.1 did not respond (ConnectError)"


async def test_regions_run_side_by_side_and_share_the_budget() -> None:
    upstream = sandbox()
    runs = await certify(settings(), BOTH, times=TIMES, transport=upstream.transport())
    assert [each.region for each in runs] == BOTH
    billed = sum(
        (Decimal("0.0007") if task.model.family == "sensevoice" else Decimal("0.00026"))
        * sum(file.duration_ms for file in task.succeeded)
        / 1000
        for task in upstream.state.tasks.values()
    )
    assert billed < Decimal("0.05")


async def test_the_record_has_every_call_and_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "record"
    calls = 0

    def keep(exchange: object) -> None:
        nonlocal calls
        calls += 1
        write_record(file, exchange)  # type: ignore[arg-type]

    upstream = sandbox()
    with open_record(path) as file:
        await run(upstream, record=keep)
    assert path.stat().st_mode & 0o077 == 0
    text = path.read_text()
    lines = [orjson.loads(line) for line in text.splitlines()]
    assert len(lines) == calls > 50
    keys = ("sk-", "LTAISandbox", "sandbox/", "Signature=L")
    accounts = {item["caller_uid"] for line in lines for item in _items(line)}
    assert accounts == {"[redacted]"}
    assert not [secret for secret in keys if secret in text]
    signatures = {stored.query.partition("Signature=")[2] for stored in upstream.state.results.values()}
    assert not [signature for signature in signatures if signature in text]
    assert "Expires=1" in text  # how long links live is no secret


def _items(line: dict[str, object]) -> list[dict[str, str]]:
    response = line["response"]
    data = response.get("data") if isinstance(response, dict) else None
    return [item for item in data if "caller_uid" in item] if isinstance(data, list) else []


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'"text"', b"null", b"{}", b'{"output": []}', b'{"output": {"task_id": "\\u0000"}}']
)
async def test_unreadable_responses_end_no_run(body: bytes) -> None:
    """A proxy, or a service that is not DashScope, answers every call with 200."""
    results = await run(
        sandbox(), transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=httpx.ByteStream(body)))
    )
    assert results["submit_accepted"].verdict is Verdict.DIFFERS
    assert results["upload_policy"].verdict is Verdict.DIFFERS
    assert results["mixed_outcomes"].verdict is not Verdict.OK


async def test_a_service_of_chance_responses_ends_no_run() -> None:
    faults = Faults(html_rate=0.3, error_submit_rate=0.3, drop_submit_rate=0.2, truncate_result_rate=0.5)
    assert len(await run(sandbox(faults))) == len(CHECKS)
