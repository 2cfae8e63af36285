"""Tasks as DashScope shows them: submit, query, cancel and list, compared with samples of its responses."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from app.clients.rate_limits import RateLimiter
from app.clients.service import CurrentClient
from app.dashscope.failures import classify_file
from app.db import Sessions
from app.identifiers import new_id
from app.queue.codes import FileErrorCode
from app.sandbox import RunningSandbox, SandboxConfig
from tests.dashscope_api.conftest import ASYNC, SUBMIT, URL, Submit, fetch, finished, post
from tests.jobs.rows import CANCELED, FAILED, QUEUED, RUNNING, SUCCEEDED, add_job
from tests.uploads.conftest import StartPoller

TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}")
BASES = ("/api/v1", "/beijing/api/v1", "/singapore/api/v1")


@pytest.fixture
def client_id(api_client: tuple[CurrentClient, str]) -> UUID:
    return api_client[0].id


async def test_submit_answers_as_dashscope(api: httpx.AsyncClient) -> None:
    response = await post(api, {"model": "fun-asr", "input": {"file_urls": [URL]}, "parameters": {}})
    body = response.json()
    assert response.headers["content-type"] == "application/json"
    assert body == {
        "output": {"task_status": "PENDING", "task_id": body["output"]["task_id"]},
        "request_id": response.headers["x-request-id"],
    }
    assert (await api.get(f"/v1/jobs/{body['output']['task_id']}")).json()["status"] == "queued"


async def test_open_tasks_have_times_and_metrics_and_no_results(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    for file, status in ((QUEUED, "PENDING"), (RUNNING, "RUNNING")):
        job_id = await add_job(sessions, client_id, [file, file])
        output = (await fetch(api, str(job_id)))["output"]
        assert TIME.fullmatch(output.pop("submit_time"))
        assert TIME.fullmatch(output.pop("scheduled_time"))
        assert output == {
            "task_id": str(job_id),
            "task_status": status,
            "task_metrics": {"TOTAL": 2, "SUCCEEDED": 0, "FAILED": 0},
        }


async def test_times_are_those_of_beijing(api: httpx.AsyncClient, sessions: Sessions, client_id: UUID) -> None:
    created_at = datetime(2025, 2, 13, 9, 31, 20, 681_000, UTC)
    job_id = await add_job(sessions, client_id, created_at=created_at)
    assert (await fetch(api, str(job_id)))["output"]["submit_time"] == "2025-02-13 17:31:20.681"


async def test_mixed_task_is_succeeded_with_results_in_the_order_of_the_request(
    api: httpx.AsyncClient, submit: Submit, start_poller: StartPoller
) -> None:
    urls = [f"{URL}?sandbox=fail:InvalidFile.DownloadFailed", f"{URL}?n=2", f"{URL}?n=1"]
    task_id = await submit(*urls)
    async with start_poller():
        task = await finished(api, task_id)
    output = task["output"]
    assert output["task_status"] == "SUCCEEDED"
    assert output["task_metrics"] == {"TOTAL": 3, "SUCCEEDED": 2, "FAILED": 1}
    assert [result["file_url"] for result in output["results"]] == urls
    assert [result["subtask_status"] for result in output["results"]] == ["FAILED", "SUCCEEDED", "SUCCEEDED"]
    failed, succeeded, _ = output["results"]
    assert failed["code"] == "InvalidFile.DownloadFailed"
    assert set(failed) == {"file_url", "code", "message", "subtask_status"}
    assert set(succeeded) == {"file_url", "transcription_url", "subtask_status"}
    assert {"submit_time", "scheduled_time", "end_time"} < set(output)
    job = (await api.get(f"/v1/jobs/{task_id}")).json()
    assert task["usage"]["duration"] == round(float(job["cost"]["amount"]) / 0.00022)


async def test_usage_of_a_model_with_a_price_for_tokens_is_in_tokens(
    api: httpx.AsyncClient, submit: Submit, start_poller: StartPoller
) -> None:
    task_id = await submit(model="qwen-audio-3.1-asr-flash-filetrans")
    async with start_poller():
        usage = (await finished(api, task_id))["usage"]
    assert set(usage) == {"input_tokens", "output_tokens"}


async def test_task_whose_files_all_failed_is_failed_with_the_code_of_the_first(
    api: httpx.AsyncClient, submit: Submit, start_poller: StartPoller
) -> None:
    task_id = await submit(f"{URL}?sandbox=fail:DECODE_ERROR")
    async with start_poller():
        task = await finished(api, task_id)
    output = task["output"]
    assert (output["task_status"], output["code"]) == ("FAILED", "DECODE_ERROR")
    assert output["results"][0]["code"] == "DECODE_ERROR"
    assert output["task_metrics"] == {"TOTAL": 1, "SUCCEEDED": 0, "FAILED": 1}
    assert "usage" not in task


async def test_file_without_speech_fails_as_at_dashscope(
    api: httpx.AsyncClient, submit: Submit, start_poller: StartPoller
) -> None:
    silent, spoken = await submit(f"{URL}?sandbox=silent"), await submit(f"{URL}?sandbox=silent", URL)
    async with start_poller():
        alone, mixed = (await finished(api, silent))["output"], (await finished(api, spoken))["output"]
    assert (alone["task_status"], alone["code"]) == ("FAILED", "SUCCESS_WITH_NO_VALID_FRAGMENT")
    assert mixed["task_status"] == "SUCCEEDED"
    assert mixed["task_metrics"] == {"TOTAL": 2, "SUCCEEDED": 1, "FAILED": 1}
    assert mixed["results"][0]["code"] == "SUCCESS_WITH_NO_VALID_FRAGMENT"


async def test_qwen_has_one_result_without_a_list(
    api: httpx.AsyncClient, start_poller: StartPoller
) -> None:  # fmt: skip
    model = "qwen3-asr-flash-filetrans"
    good = await post(api, {"model": model, "input": {"file_url": URL}, "parameters": {"enable_words": True}})
    bad = await post(api, {"model": model, "input": {"file_url": f"{URL}?sandbox=fail:FILE_403_FORBIDDEN"}})
    async with start_poller():
        succeeded = await finished(api, good.json()["output"]["task_id"])
        failed = await finished(api, bad.json()["output"]["task_id"])
    assert set(succeeded["output"]["result"]) == {"transcription_url"}
    assert succeeded["usage"]["seconds"] > 0
    assert not {"results", "task_metrics"} & {*succeeded["output"], *failed["output"]}
    assert (failed["output"]["task_status"], failed["output"]["code"]) == ("FAILED", "FILE_403_FORBIDDEN")


@pytest.mark.parametrize("base", BASES)
async def test_tasks_of_others_and_malformed_ids_are_unknown(
    other_api: httpx.AsyncClient, submit: Submit, base: str
) -> None:
    for task_id in (await submit(), str(new_id()), "7d0a58a3", "a%20b"):
        for method in ("GET", "POST"):
            response = await other_api.request(method, f"{base}/tasks/{task_id}")
            output = {"task_id": task_id.replace("%20", " "), "task_status": "UNKNOWN"}
            assert (response.status_code, response.json()["output"]) == (200, output)
        canceled = await other_api.post(f"{base}/tasks/{task_id}/cancel")
        assert (canceled.status_code, canceled.json()["code"]) == (400, "UnsupportedOperation")
    assert (await other_api.get(f"{base}/tasks")).json()["data"] == []


async def test_region_by_path(api: httpx.AsyncClient, submit: Submit) -> None:
    task_id = await submit(base="/singapore")
    assert (await api.get(f"/v1/jobs/{task_id}")).json()["region"] == "singapore"
    statuses = [(await fetch(api, task_id, base=base))["output"]["task_status"] for base in BASES]
    assert statuses == ["PENDING", "UNKNOWN", "PENDING"]
    totals = [(await api.get(f"{base}/tasks")).json()["total"] for base in BASES]
    assert totals == [1, 0, 1]
    refused = await post(api, {"model": "paraformer-v2", "input": {"file_urls": [URL]}}, base="/singapore")
    assert (refused.status_code, refused.json()["code"]) == (404, "ModelNotFound")


async def test_cancel_takes_pending_tasks_only(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID, submit: Submit
) -> None:
    task_id = await submit()
    response = await api.post(f"/api/v1/tasks/{task_id}/cancel")
    assert (response.status_code, set(response.json())) == (200, {"request_id"})
    output = (await fetch(api, task_id))["output"]
    assert output["task_status"] == "CANCELED"
    assert output["task_metrics"] == {"TOTAL": 1, "SUCCEEDED": 0, "FAILED": 0}
    assert "results" not in output
    for job_id in (
        task_id,
        await add_job(sessions, client_id, [RUNNING]),
        await add_job(sessions, client_id, [FAILED]),
    ):
        response = await api.post(f"/api/v1/tasks/{job_id}/cancel")
        assert response.status_code == 400
        assert response.json() == {
            "code": "UnsupportedOperation",
            "message": "Failed to cancel the task, please confirm if the task is in PENDING status.",
            "request_id": response.headers["x-request-id"],
        }


async def test_list_has_numbered_pages_and_filters(api: httpx.AsyncClient, sessions: Sessions, client_id: UUID) -> None:
    now = datetime.now(UTC)
    jobs = [await add_job(sessions, client_id, created_at=now - timedelta(minutes=n)) for n in range(3)]
    done = await add_job(sessions, client_id, [SUCCEEDED, FAILED], model="paraformer-v2", created_at=now)
    await add_job(sessions, client_id, created_at=now - timedelta(hours=25))

    async def listed(**query: Any) -> list[str]:
        response = await api.get("/api/v1/tasks", params=query)
        assert response.status_code == 200, response.text
        return [item["task_id"] for item in response.json()["data"]]

    body = (await api.get("/api/v1/tasks/", params={"page_no": 2, "page_size": 3, "api_key_id": "1"})).json()
    assert {name: body[name] for name in ("total", "total_page", "page_no", "page_size")} == {
        "total": 4, "total_page": 2, "page_no": 2, "page_size": 3,
    }  # fmt: skip
    assert len(body["data"]) == 1
    assert body["tasks"] == body["data"]
    assert await listed(status="SUCCEEDED") == [str(done)]
    assert await listed(status="UNKNOWN") == []
    assert await listed(model_name="paraformer-v2") == [str(done)]
    assert await listed(task_id=str(jobs[1])) == [str(jobs[1])]
    assert await listed(task_id=str(done), status="PENDING") == []
    assert await listed(region="ap-southeast-1") == []
    assert len(await listed(region="cn-beijing")) == 4
    start = (now - timedelta(minutes=1, seconds=30)).astimezone(UTC) + timedelta(hours=8)
    assert set(await listed(start_time=f"{start:%Y%m%d%H%M%S}")) == {str(job) for job in (*jobs[:2], done)}


@pytest.mark.parametrize(
    "query",
    [
        "model_name=%00", "region=%00", "region=mars", "status=%00", "model_name=%F0%9F%8E%A4", "task_id=%00",
        "task_id=0198c9f2-0000-7000-8000-000000000000",
    ],
)  # fmt: skip
@pytest.mark.parametrize("base", BASES)
async def test_values_that_no_job_has_give_an_empty_list(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID, base: str, query: str
) -> None:
    await add_job(sessions, client_id)
    response = await api.get(f"{base}/tasks?{query}")
    assert (response.status_code, response.json()["total"], response.json()["data"]) == (200, 0, [])


async def test_item_of_the_list_has_the_fields_of_dashscope(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    created_at = datetime.now(UTC) - timedelta(minutes=1)
    job_id = await add_job(sessions, client_id, [FAILED], created_at=created_at, finished_at=created_at)
    [item] = (await api.get("/api/v1/tasks")).json()["data"]
    milliseconds = int(created_at.timestamp() * 1000)
    assert {**item, "api_key_id": "", "caller_parent_id": "", "caller_uid": "", "request_id": ""} == {
        "api_key_id": "", "caller_parent_id": "", "caller_uid": "", "request_id": "",
        "gmt_create": milliseconds, "start_time": milliseconds, "end_time": milliseconds,
        "model_name": "fun-asr", "region": "cn-beijing", "status": "FAILED", "task_id": str(job_id),
        "user_api_unique_key": "apikey:v1:audio:asr:transcription:fun-asr",
    }  # fmt: skip


@pytest.mark.parametrize(
    "query",
    ["page_no=0", "page_size=101", "page_no=x", "start_time=yesterday", "end_time=1", "end_time=00010101000000"],
)
async def test_invalid_query_of_the_list_is_refused(api: httpx.AsyncClient, query: str) -> None:
    response = await api.get(f"/api/v1/tasks?{query}")
    assert (response.status_code, response.json()["code"]) == (400, "InvalidParameter")
    assert query.split("=", maxsplit=1)[0] in response.json()["message"]


@pytest.mark.parametrize(
    "sandbox", [SandboxConfig(queue_s=0.05, run_s=0.1, max_files_per_task=1, submit_rps=100)], indirect=True
)
async def test_hundred_urls_work_although_dashscope_takes_one(
    api: httpx.AsyncClient, submit: Submit, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    task_id = await submit(*(f"https://example.com/{n}.wav" for n in range(100)))
    async with start_poller(dashscope_beijing_submit_rps=100, dashscope_beijing_query_rps=100):
        task = await finished(api, task_id)
    assert task["output"]["task_metrics"] == {"TOTAL": 100, "SUCCEEDED": 100, "FAILED": 0}
    assert len({result["transcription_url"] for result in task["output"]["results"]}) == 100


async def test_partly_canceled_job_shows_what_has_ended(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    job_id = await add_job(sessions, client_id, [FAILED, CANCELED])
    output = (await fetch(api, str(job_id)))["output"]
    assert output["task_status"] == "CANCELED"
    assert [result["code"] for result in output["results"]] == ["FILE_DOWNLOAD_FAILED"]


async def test_failed_file_has_the_message_of_dashscope(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    failure = classify_file("InvalidFile.DownloadFailed", "The audio file cannot be downloaded.")
    failed = {
        **FAILED,
        "error_code": failure.code,
        "error_message": failure.message,
        "error_upstream_code": failure.upstream_code,
    }
    output = (await fetch(api, str(await add_job(sessions, client_id, [failed]))))["output"]
    (result,) = output["results"]
    for shown in (output, result):
        assert (shown["code"], shown["message"]) == (
            "InvalidFile.DownloadFailed",
            "The audio file cannot be downloaded.",
        )


async def test_codes_of_the_gateway_are_shown_as_codes_of_dashscope(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    for code in FileErrorCode:
        failed = {**FAILED, "error_code": code.value, "error_upstream_code": None}
        output = (await fetch(api, str(await add_job(sessions, client_id, [failed]))))["output"]
        assert output["code"] in {"InternalError", "FILE_DOWNLOAD_FAILED", "FILE_TRANS_TASK_EXPIRED", "ModelNotFound"}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/services/audio/asr/transcription"), ("GET", "/tasks"), ("GET", "/tasks/x"), ("GET", "/nothing"),
        ("POST", "/tasks/x/cancel"), ("GET", "/uploads?action=getPolicy&model=fun-asr"), ("DELETE", "/tasks/x"),
    ],
)  # fmt: skip
async def test_strangers_get_an_invalid_api_key(stranger: httpx.AsyncClient, base: str, method: str, path: str) -> None:
    response = await stranger.request(method, base + path)
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "code": "InvalidApiKey",
        "message": "Invalid API-key provided.",
        "request_id": response.headers["x-request-id"],
    }


async def test_errors_outside_of_the_routes_have_dashscopes_form(api: httpx.AsyncClient) -> None:
    large = await api.post(SUBMIT, content=b" " * (1024 * 1024 + 1), headers=ASYNC)
    assert (large.status_code, large.json()["code"]) == (400, "InvalidParameter")
    meant = await api.get("/api/v1/jobs")
    assert meant.json()["message"] == "The gateway has no such path; you may mean /v1/jobs."
    missing = await api.get("/api/v1/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "NotFound")
    method = await api.delete("/api/v1/tasks")
    assert (method.status_code, method.json()["code"]) == (400, "InvalidParameter")
    assert {tuple(json.loads(each.content)) for each in (large, missing, method)} == {("code", "message", "request_id")}
    assert (await api.get("/v1/nothing")).headers["content-type"] == "application/problem+json"


async def test_unexpected_error_has_dashscopes_form(api: httpx.AsyncClient, app: FastAPI) -> None:
    app.state.services = None
    response = await api.get("/api/v1/tasks/0198c9f2-0000-7000-8000-000000000000")
    assert (response.status_code, response.json()["code"]) == (500, "InternalError")


async def test_polls_over_the_limit_are_delayed_and_not_refused(
    api: httpx.AsyncClient, app: FastAPI, api_client: tuple[CurrentClient, str]
) -> None:
    limiter = app.state.authenticator.rate_limiter = RateLimiter(2, per_s=0.2, clock=lambda: 0)
    statuses = [(await api.get("/api/v1/tasks/x")).status_code for _ in range(4)]
    assert statuses == [200] * 4
    # The third waited for 0.1 s, the fourth for 0.2 s.
    assert limiter.delay_s(api_client[0].id, at_most_s=5) == pytest.approx(0.3, abs=1e-3)
