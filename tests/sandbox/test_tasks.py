"""A task over time: statuses, response formats, cancel and expiry."""

import re
from typing import Any

import pytest

from tests.sandbox.conftest import MakeUpstream, Upstream, assert_refused

URL = "https://example.com/a.wav"
UNFINISHED = {"task_id", "task_status", "submit_time", "scheduled_time", "task_metrics"}
QWEN3 = "qwen3-asr-flash-filetrans"


async def test_task_is_pending_then_running_then_succeeded(upstream: Upstream) -> None:
    task_id = await upstream.submit(f"{URL}?sandbox=queue:10,run:20")
    for seconds, status in [(0, "PENDING"), (9.9, "PENDING"), (0.1, "RUNNING"), (19.9, "RUNNING"), (0.2, "SUCCEEDED")]:
        upstream.clock.advance(seconds)
        assert (await upstream.query(task_id))["output"]["task_status"] == status


async def test_unfinished_task_has_times_and_metrics_but_no_results(upstream: Upstream) -> None:
    task_id = await upstream.submit(URL, f"{URL}?sandbox=silent")
    response = await upstream.query(task_id)
    assert set(response) == {"request_id", "output"}
    assert set(response["output"]) == UNFINISHED
    assert response["output"]["task_metrics"] == {"TOTAL": 2, "SUCCEEDED": 0, "FAILED": 0}
    assert response["output"]["submit_time"] == "2025-02-13 17:31:20.681"
    assert response["output"]["scheduled_time"] == "2025-02-13 17:31:20.701"


async def test_files_of_a_task_succeed_and_fail_separately(upstream: Upstream) -> None:
    urls = [f"{URL}?sandbox=seconds:4.726", f"{URL}?sandbox=seconds:3.834", f"{URL}?sandbox=fail:DECODE_ERROR"]
    response = await upstream.finished(await upstream.submit(*urls))
    assert set(response["output"]) == UNFINISHED | {"end_time", "results"}
    assert response["output"]["task_status"] == "SUCCEEDED"
    assert response["output"]["end_time"] == "2025-02-13 17:31:21.681"
    assert response["output"]["task_metrics"] == {"TOTAL": 3, "SUCCEEDED": 2, "FAILED": 1}
    assert response["usage"] == {"duration": 9}
    results = {item["file_url"]: item for item in response["output"]["results"]}
    assert set(results) == set(urls)
    assert set(results[urls[0]]) == {"file_url", "transcription_url", "subtask_status"}
    assert results[urls[2]] == {
        "file_url": urls[2],
        "code": "DECODE_ERROR",
        "message": "DECODE_ERROR",
        "subtask_status": "FAILED",
    }


async def test_seed_determines_the_order_of_results(make_upstream: MakeUpstream) -> None:
    urls = [f"https://example.com/{number}.wav" for number in range(20)]

    async def order(**config: Any) -> list[str]:
        upstream = make_upstream(**config)
        results = (await upstream.finished(await upstream.submit(*urls)))["output"]["results"]
        return [item["file_url"] for item in results]

    assert await order() == await order()
    assert await order() != urls
    assert await order(seed=1) != await order()
    assert await order(shuffle_results=False) == urls


async def test_task_without_any_success_fails_with_the_code_of_a_file(upstream: Upstream) -> None:
    response = await upstream.finished(await upstream.submit(f"{URL}?sandbox=silent"))
    assert set(response) == {"request_id", "output"}
    output = response["output"]
    assert (output["task_status"], output["code"]) == ("FAILED", "SUCCESS_WITH_NO_VALID_FRAGMENT")
    assert output["message"] == "SUCCESS_WITH_NO_VALID_FRAGMENT"
    assert [item["subtask_status"] for item in output["results"]] == ["FAILED"]
    assert output["task_metrics"] == {"TOTAL": 1, "SUCCEEDED": 0, "FAILED": 1}


@pytest.mark.parametrize(("seconds", "status"), [("43200", "SUCCEEDED"), ("43201", "FAILED"), ("1e300", "FAILED")])
async def test_audio_of_more_than_twelve_hours_fails(upstream: Upstream, seconds: str, status: str) -> None:
    response = await upstream.finished(await upstream.submit(f"{URL}?sandbox=seconds:{seconds},run:0,words:5"))
    (result,) = response["output"]["results"]
    assert result["subtask_status"] == status
    assert result.get("code") == (None if status == "SUCCEEDED" else "AUDIO_DURATION_TOO_LONG")


async def test_task_without_any_success_can_succeed_in_the_old_style(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream(all_failed_style="succeeded")
    response = await upstream.finished(await upstream.submit(f"{URL}?sandbox=fail:InvalidFile.DownloadFailed"))
    assert set(response["output"]) == UNFINISHED | {"end_time", "results"}
    assert response["output"]["task_status"] == "SUCCEEDED"
    assert response["output"]["results"][0]["message"] == "The audio file cannot be downloaded."


async def test_file_with_fail_once_succeeds_at_the_second_submit(upstream: Upstream) -> None:
    url = f"{URL}?sandbox=fail_once:FILE_SERVER_ERROR"
    first = await upstream.finished(await upstream.submit(url))
    assert first["output"]["code"] == "FILE_SERVER_ERROR"
    second = await upstream.finished(await upstream.submit(url))
    assert second["output"]["task_status"] == "SUCCEEDED"
    assert upstream.state.submitted_files()[url] == 2
    assert upstream.state.transcribed_files()[url] == 1


@pytest.mark.parametrize("url", ["https://example.com/录音.wav", "https://example.com/a b.wav"])
async def test_url_that_is_not_percent_encoded_cannot_be_downloaded(upstream: Upstream, url: str) -> None:
    output = (await upstream.finished(await upstream.submit(url)))["output"]
    assert output["results"][0]["code"] == "InvalidFile.DownloadFailed"
    assert output["results"][0]["file_url"] == url


async def test_data_url_fails(upstream: Upstream) -> None:
    output = (await upstream.finished(await upstream.submit("data:audio/wav;base64,AAAA")))["output"]
    assert output["code"] == "REQUEST_INVALID_FILE_URL_VALUE"


async def test_oss_url_is_shown_as_a_signed_url(upstream: Upstream) -> None:
    body = {"model": "fun-asr", "input": {"file_urls": ["oss://dashscope-instant/x/hello.wav"]}, "parameters": {}}
    submitted = await upstream.post(body, X_DashScope_OssResourceResolve="enable")
    response = await upstream.finished(submitted.json()["output"]["task_id"])
    shown = response["output"]["results"][0]["file_url"]
    assert shown.startswith("http://dashscope-file-mgr.oss-cn-beijing.aliyuncs.com/dashscope-instant/x/hello.wav?")
    assert upstream.state.submits[0].file_urls == ["oss://dashscope-instant/x/hello.wav"]


async def test_oss_url_without_the_resolve_header_fails_later(upstream: Upstream) -> None:
    output = (await upstream.finished(await upstream.submit("oss://dashscope-instant/x/hello.wav")))["output"]
    assert (output["task_status"], output["code"]) == ("FAILED", "FILE_DOWNLOAD_FAILED")


async def test_qwen3_has_one_url_and_one_result(upstream: Upstream) -> None:
    body = {"model": QWEN3, "input": {"file_url": f"{URL}?sandbox=seconds:2.1"}, "parameters": {}}
    response = await upstream.finished((await upstream.post(body)).json()["output"]["task_id"])
    assert set(response["output"]) == (UNFINISHED | {"end_time", "result"}) - {"task_metrics"}
    assert response["usage"] == {"seconds": 3}
    assert "response-content-disposition=attachment%3B" in response["output"]["result"]["transcription_url"]


async def test_qwen3_with_file_urls_fails_later(upstream: Upstream) -> None:
    task_id = await upstream.submit(URL, model=QWEN3)
    assert (await upstream.query(task_id))["output"]["task_status"] == "PENDING"
    output = (await upstream.finished(task_id))["output"]
    assert (output["task_status"], output["code"]) == ("FAILED", "InvalidParameter.MalformedURL")
    assert output["message"] == "A valid file URL is required"
    assert "results" not in output
    assert "task_metrics" not in output


async def test_singapore_can_require_parameters(make_upstream: MakeUpstream) -> None:
    singapore = make_upstream(region="singapore", require_parameters_singapore=True)
    submitted = await singapore.post({"model": "fun-asr", "input": {"file_urls": [URL]}})
    output = (await singapore.finished(submitted.json()["output"]["task_id"]))["output"]
    assert (output["task_status"], output["code"]) == ("FAILED", "InvalidParameter")
    assert (await singapore.finished(await singapore.submit(URL)))["output"]["task_status"] == "SUCCEEDED"


async def test_task_can_be_queried_by_get_and_post(upstream: Upstream) -> None:
    task_id = await upstream.submit(URL)
    assert (await upstream.call("POST", f"/tasks/{task_id}")).json()["output"]["task_id"] == task_id


async def test_query_of_an_unknown_task_gives_200(upstream: Upstream) -> None:
    response = await upstream.query("7d0a58a3-1dbe-4de9-8cff-000000000007")
    assert set(response) == {"request_id", "output"}
    assert response["output"] == {"task_id": "7d0a58a3-1dbe-4de9-8cff-000000000007", "task_status": "UNKNOWN"}


async def test_task_expires_after_24_hours(upstream: Upstream) -> None:
    task_id = await upstream.submit(URL)
    upstream.clock.advance(24 * 3600 - 1)
    assert (await upstream.query(task_id))["output"]["task_status"] == "SUCCEEDED"
    upstream.clock.advance(1)
    assert (await upstream.query(task_id))["output"]["task_status"] == "UNKNOWN"


async def test_keys_of_one_account_share_tasks(make_upstream: MakeUpstream) -> None:
    keys = {"beijing": {"sk-a": "one", "sk-b": "one", "sk-c": "two"}, "singapore": {"sk-a": "one"}}
    upstream = make_upstream(keys=keys, key="sk-a")
    task_id = await upstream.submit(URL)
    for region, key, status in [
        ("beijing", "sk-b", "PENDING"),
        ("beijing", "sk-c", "UNKNOWN"),
        ("singapore", "sk-a", "UNKNOWN"),
    ]:
        other = make_upstream(of=upstream, region=region, key=key)
        assert (await other.query(task_id))["output"]["task_status"] == status


async def test_pending_task_can_be_canceled(upstream: Upstream) -> None:
    task_id = await upstream.submit(URL)
    response = await upstream.call("POST", f"/tasks/{task_id}/cancel")
    assert response.status_code == 200
    assert set(response.json()) == {"request_id"}
    output = (await upstream.finished(task_id))["output"]
    assert set(output) == UNFINISHED | {"end_time"}
    assert output["task_status"] == "CANCELED"
    assert upstream.state.transcribed_files()[URL] == 0


@pytest.mark.parametrize("seconds", [0.5, 60])
async def test_running_or_ended_task_cannot_be_canceled(upstream: Upstream, seconds: float) -> None:
    task_id = await upstream.submit(URL)
    upstream.clock.advance(seconds)
    response = await upstream.call("POST", f"/tasks/{task_id}/cancel")
    message = "Failed to cancel the task, please confirm if the task is in PENDING status."
    assert_refused(response, 400, "UnsupportedOperation", message)


async def test_unknown_task_cannot_be_canceled(upstream: Upstream) -> None:
    assert_refused(await upstream.call("POST", "/tasks/x/cancel"), 400, "UnsupportedOperation")


async def test_run_time_can_depend_on_the_audio_duration(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream(queue_s=0, run_s=1, run_s_per_audio_s=0.1)
    task_id = await upstream.submit(f"{URL}?sandbox=seconds:100")
    upstream.clock.advance(10.9)
    assert (await upstream.query(task_id))["output"]["task_status"] == "RUNNING"
    assert (await upstream.finished(task_id))["output"]["task_status"] == "SUCCEEDED"


async def test_each_response_has_its_own_request_id(upstream: Upstream) -> None:
    task_id = await upstream.submit(URL)
    ids = {(await upstream.query(task_id))["request_id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", request_id) for request_id in ids)
