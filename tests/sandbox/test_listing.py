"""The task list: order, pages, filters and window."""

from typing import Any

import pytest

from tests.sandbox.conftest import MakeUpstream, Upstream, assert_refused

URL = "https://example.com/a.wav"


async def list_tasks(upstream: Upstream, path: str = "/tasks", **wanted: Any) -> dict[str, Any]:
    response = await upstream.call("GET", path, params=wanted)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def listed(upstream: Upstream, **wanted: Any) -> list[str]:
    return [item["task_id"] for item in (await list_tasks(upstream, **wanted))["data"]]


async def test_listed_task_has_the_documented_fields(upstream: Upstream) -> None:
    task_id = await upstream.submit(URL, model="paraformer-v2")
    (unfinished,) = (await list_tasks(upstream))["data"]
    upstream.clock.advance(60)
    body = await list_tasks(upstream, path="/tasks/")
    assert set(body) == {"request_id", "total", "total_page", "page_no", "page_size", "data"}
    assert (body["total"], body["total_page"], body["page_no"], body["page_size"]) == (1, 1, 1, 10)
    (item,) = body["data"]
    assert item["caller_uid"] == item["caller_parent_id"]
    assert {name: value for name, value in item.items() if name not in {"caller_uid", "caller_parent_id"}} == {
        "api_key_id": "1",
        "gmt_create": 1_739_439_080_681,
        "start_time": 1_739_439_080_681,
        "end_time": 1_739_439_081_681,
        "model_name": "paraformer-v2",
        "region": "cn-beijing",
        "request_id": unfinished["request_id"],
        "status": "SUCCEEDED",
        "task_id": task_id,
        "user_api_unique_key": "apikey:v1:audio:asr:transcription:paraformer-v2",
    }
    assert "end_time" not in unfinished
    assert unfinished["status"] == "PENDING"


async def test_list_has_pages_with_the_newest_task_first(upstream: Upstream) -> None:
    ids = []
    for _ in range(12):
        ids.append(await upstream.submit(URL))
        upstream.clock.advance(1)
    newest_first = ids[::-1]
    assert await listed(upstream) == newest_first[:10]
    assert await listed(upstream, page_no=2) == newest_first[10:]
    assert await listed(upstream, page_no=3) == []
    assert await listed(upstream, page_size=100) == newest_first
    assert (await list_tasks(upstream, page_size=5))["total_page"] == 3


async def test_list_can_be_filtered_by_status_model_and_id(upstream: Upstream) -> None:
    ended = await upstream.submit(URL)
    upstream.clock.advance(60)
    failed = await upstream.submit(f"{URL}?sandbox=fail:DECODE_ERROR")
    upstream.clock.advance(60)
    pending = await upstream.submit(URL, model="paraformer-v2")
    assert await listed(upstream, status="PENDING") == [pending]
    assert await listed(upstream, status="SUCCEEDED") == [ended]
    assert await listed(upstream, status="FAILED") == [failed]
    assert await listed(upstream, model_name="fun-asr") == [failed, ended]
    assert await listed(upstream, task_id=ended) == [ended]


async def test_window_is_in_beijing_time_and_includes_both_ends(upstream: Upstream) -> None:
    upstream.clock.now = 1_739_439_080.0  # 2025-02-13 17:31:20 in Beijing
    first = await upstream.submit(URL)
    upstream.clock.advance(10)
    second = await upstream.submit(URL)
    assert await listed(upstream, start_time="20250213173120", end_time="20250213173130") == [second, first]
    assert await listed(upstream, start_time="20250213173121") == [second]
    assert await listed(upstream, end_time="20250213173129") == [first]
    assert await listed(upstream, start_time="1739439080000", end_time="1739439085000") == [first]


async def test_tasks_older_than_a_day_are_not_listed(upstream: Upstream) -> None:
    await upstream.submit(URL)
    upstream.clock.advance(24 * 3600 + 1)
    assert await listed(upstream) == []
    assert await listed(upstream, start_time="20250213000000") == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"page_size": 101},
        {"page_size": 0},
        {"page_no": "x"},
        {"start_time": "yesterday"},
        {"start_time": "20250211000000", "end_time": "20250213000000"},
        {"start_time": "20250213000000", "end_time": "20250212000000"},
    ],
)
async def test_invalid_page_or_window_gives_400(upstream: Upstream, wrong: dict[str, Any]) -> None:
    assert_refused(await upstream.call("GET", "/tasks", params=wrong), 400, "InvalidParameter")


async def test_list_has_tasks_of_the_own_account_only(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream()
    await upstream.submit(URL)
    assert await listed(make_upstream(of=upstream, region="singapore")) == []
