"""The log lines and counters of the life of jobs, tasks and files."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.catalogue import validate_job
from app.dashscope.failures import Failure, FailureKind
from app.db import Sessions, after_commit, transaction
from app.errors import JobFinal
from app.identifiers import new_id
from app.jobs.batched_calls import job_creator
from app.poller.circuits import close, open_for
from app.queue.commands import cancel_job, retry_job
from app.queue.creation import NewJob
from app.queue.job_json import job_bytes
from app.queue.observation import MAX_FILE_LINES, FileChange, files_changed
from app.queue.queries import find_job
from app.sandbox import RunningSandbox
from tests.poller.conftest import QueueClient, StartPoller

BAD = "https://example.com/bad.wav?sandbox=fail:DECODE_ERROR&signature=secret"
GOOD = "https://example.com/good.wav?signature=secret"
REFUSED = Failure(FailureKind.PERMANENT, "upstream_refused", "no", "InvalidParameter", request_id="up-1")

Line = dict[str, Any]


def named(lines: Sequence[Any], *events: str) -> list[Line]:
    return [dict(line) for line in lines if line["event"] in events]


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def json_of(queue: QueueClient, job: Any) -> dict[str, Any]:
    async with transaction(queue.sessions) as session:
        body: dict[str, Any] = orjson.loads(job_bytes(await find_job(session, queue.client_id, job)))
    return body


async def test_lines_lead_from_a_job_to_its_tasks_and_to_upstream(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    with capture_logs() as lines:
        job = await queue.post(BAD, GOOD)
        async with start_poller():
            assert await queue.final(job) == ["partial"]
    (created,) = named(lines, "job created")
    assert (created["job"], created["files"], created["model"], created["region"]) == (
        str(job),
        2,
        "fun-asr",
        "beijing",
    )
    submitted = named(lines, "task submitted")
    assert {line["upstream_task_id"] for line in submitted} == set(sandbox.state.tasks)
    assert all(line["jobs"] == [str(job)] and line["upstream_request_id"] for line in submitted)
    assert {(line["account"], line["region"], line["model"]) for line in submitted} == {
        ("beijing/default", "beijing", "fun-asr")
    }
    (failed,) = named(lines, "file failed")
    assert failed["log_level"] == "warning"
    assert (failed["job"], failed["index"]) == (str(job), 0)
    assert (failed["code"], failed["upstream_code"]) == ("audio_unreadable", "DECODE_ERROR")
    assert failed["task"] in {line["task"] for line in submitted}
    assert failed["upstream_request_id"]
    (finished,) = named(lines, "job finished")
    assert (finished["job"], finished["client"], finished["status"]) == (str(job), "tester", "partial")
    assert [finished[name] for name in ("files", "succeeded", "failed", "canceled")] == [2, 1, 1, 0]
    assert 0 < finished["seconds"] < 60
    assert "secret" not in repr(lines)
    assert "example.com" not in repr(lines)


async def test_each_file_shows_the_submit_that_carried_it(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await queue.post(BAD, GOOD, "https://example.com/no.wav?sandbox=refuse")
    assert [file["upstream"] for file in (await json_of(queue, job))["files"]] == [None] * 3
    async with start_poller():
        assert await queue.final(job) == ["partial"]
    failed, succeeded, refused = [file["upstream"] for file in (await json_of(queue, job))["files"]]
    for upstream in (failed, succeeded):
        assert upstream["account"] == "default"
        assert upstream["task_id"] in sandbox.state.tasks
        assert upstream["request_id"]
    assert (refused["account"], refused["task_id"]) == ("default", None)
    assert refused["request_id"]


async def test_canceled_file_shows_the_submit_that_carried_it_until_it_is_queued_again(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await queue.post("https://example.com/long.wav?sandbox=run:60")
    async with start_poller():
        await queue.until("SELECT 1 FROM jobs WHERE files_running = 1")
        (running,) = (await json_of(queue, job))["files"]
        await cancel_job(queue.sessions, queue.client_id, job)
    (canceled,) = (await json_of(queue, job))["files"]
    assert canceled["status"] == "canceled"
    assert canceled["upstream"] == running["upstream"]
    assert canceled["upstream"]["task_id"] in sandbox.state.tasks
    async with transaction(queue.sessions) as session:
        await retry_job(session, queue.client_id, job)
    assert (await json_of(queue, job))["files"][0]["upstream"] is None


async def test_jobs_of_one_batch_are_logged_with_their_own_request(sessions: Sessions, queue: QueueClient) -> None:
    create = job_creator(sessions)
    validated = validate_job(model="fun-asr", region="beijing", parameters={}, served=["beijing"])

    async def request(number: int) -> str:
        structlog.contextvars.bind_contextvars(request_id=f"request-{number}")
        urls = [GOOD] * number
        new = NewJob(queue.client_id, validated, "beijing", urls, {}, None, None, None, client_name="tester")
        return str((await create(new)).snapshot.job.id)

    with capture_logs() as lines:
        jobs = await asyncio.gather(*(request(number) for number in range(1, 9)))
    assert sorted(line["job"] for line in named(lines, "job created")) == sorted(jobs)
    created = {line["job"]: line for line in named(lines, "job created")}
    for number, job in enumerate(jobs, start=1):
        assert (created[job]["request_id"], created[job]["files"]) == (f"request-{number}", number)
        assert created[job]["client"] == "tester"


async def test_replay_creates_no_line(sessions: Sessions, queue: QueueClient) -> None:
    create = job_creator(sessions)
    validated = validate_job(model="fun-asr", region="beijing", parameters={}, served=["beijing"])
    new = NewJob(queue.client_id, validated, "beijing", [GOOD], {}, None, "key", b"hash")
    with capture_logs() as lines:
        await asyncio.gather(*(create(new) for _ in range(5)))
    assert len(named(lines, "job created")) == 1


async def test_canceled_job_is_logged_once(queue: QueueClient) -> None:
    job = await queue.post(GOOD, BAD)
    before = counted("asr_gateway_files_finished_total", model="fun-asr", region="beijing", status="canceled")
    with capture_logs() as lines:
        await cancel_job(queue.sessions, queue.client_id, job)
        with pytest.raises(JobFinal):
            await cancel_job(queue.sessions, queue.client_id, job)
    (finished,) = named(lines, "job finished")
    assert (finished["status"], finished["canceled"]) == ("canceled", 2)
    after = counted("asr_gateway_files_finished_total", model="fun-asr", region="beijing", status="canceled")
    assert after - before == 2


async def test_retried_job_is_logged_and_finishes_again(api: httpx.AsyncClient) -> None:
    job = (await api.post("/v1/jobs", json={"file_urls": [GOOD, BAD]})).json()["id"]
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await api.post(f"/v1/jobs/{job}/cancel")
        retried = await api.post(f"/v1/jobs/{job}/retry")
        await api.post(f"/v1/jobs/{job}/cancel")
    assert [line["event"] for line in lines if line["event"].startswith("job")] == [
        "job finished",
        "job retried",
        "job finished",
    ]
    (line,) = named(lines, "job retried")
    assert (line["job"], line["files"], line["request_id"]) == (job, 2, retried.headers["X-Request-ID"])


async def test_nothing_is_logged_of_a_transaction_that_is_rolled_back(sessions: Sessions) -> None:
    done: list[str] = []

    async def fail() -> None:
        async with transaction(sessions) as session:
            after_commit(session, lambda: done.append("rolled back"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    async with transaction(sessions) as session:
        after_commit(session, lambda: done.append("committed"))
        assert done == []
    assert done == ["committed"]


class FullDisk:
    """A log that cannot be written."""

    def __call__(self, *_: Any) -> Any:
        raise OSError(28, "No space left on device")


async def test_log_that_cannot_be_written_neither_fails_nor_repeats_a_transaction(
    sessions: Sessions, queue: QueueClient
) -> None:
    done: list[str] = []
    validated = validate_job(model="fun-asr", region="beijing", parameters={}, served=["beijing"])
    new = NewJob(queue.client_id, validated, "beijing", [GOOD], {}, None, None, None)
    structlog.configure(processors=[FullDisk()])
    created = await job_creator(sessions)(new)
    async with transaction(sessions) as session:
        after_commit(session, lambda: structlog.get_logger().info("fails"))
        after_commit(session, lambda: done.append("next"))
    assert done == ["next"]
    (row,) = await queue.rows("SELECT id FROM jobs")
    assert row.id == created.snapshot.job.id


async def test_lines_of_many_failed_files_are_bounded_and_name_every_file(sessions: Sessions) -> None:
    first, second, task = new_id(), new_id(), uuid4()
    changes = [FileChange(first, index, "fun-asr", "beijing", "failed", REFUSED) for index in range(99)]
    changes.append(FileChange(second, 0, "fun-asr", "beijing", "failed", REFUSED))
    before = counted("asr_gateway_files_failed_total", model="fun-asr", region="beijing", code="upstream_refused")
    with capture_logs() as lines:
        async with transaction(sessions) as session:
            files_changed(session, task, changes)
    single, rest = named(lines, "file failed"), named(lines, "more files failed")
    assert [line["index"] for line in single] == [*range(MAX_FILE_LINES), 0]
    assert single[-1]["job"] == str(second)
    assert [(line["job"], line["files"], line["indexes"]) for line in rest] == [(str(first), 79, "20-98")]
    assert {line["upstream_request_id"] for line in [*single, *rest]} == {"up-1"}
    after = counted("asr_gateway_files_failed_total", model="fun-asr", region="beijing", code="upstream_refused")
    assert after - before == 100


async def test_file_that_is_submitted_again_is_logged_as_queued(queue: QueueClient, start_poller: StartPoller) -> None:
    job = await queue.post("https://example.com/a.wav?sandbox=fail_once:SERVER_ERROR")
    with capture_logs() as lines:
        async with start_poller():
            assert await queue.final(job) == ["succeeded"]
    (again,) = named(lines, "file queued again")
    assert (again["log_level"], again["upstream_code"]) == ("info", "SERVER_ERROR")
    assert not named(lines, "file failed")


async def test_outage_of_upstream_is_logged_once_at_its_begin_and_once_at_its_end(sessions: Sessions) -> None:
    away = Failure(FailureKind.TRANSIENT, "upstream_unavailable", "HTTP 503")
    with capture_logs() as lines:
        for _ in range(3):
            async with transaction(sessions) as session:
                await open_for(session, "beijing/default", "", away)
        for _ in range(2):
            async with transaction(sessions) as session:
                await close(session, "beijing/default", "")
    assert [(line["log_level"], line["event"], line["account"]) for line in lines] == [
        ("warning", "upstream unavailable", "beijing/default"),
        ("info", "upstream available again", "beijing/default"),
    ]
    assert lines[1]["outage_s"] >= 0


async def test_request_id_of_the_response_leads_to_the_job(api: httpx.AsyncClient) -> None:
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        response = await api.post("/v1/jobs", json={"file_urls": [GOOD]})
    (created,) = named(lines, "job created")
    assert created["job"] == response.json()["id"]
    assert created["request_id"] == response.headers["X-Request-ID"]
    assert created["client"] == "tester"
