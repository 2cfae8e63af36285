"""Injected faults, and the control routes that set and count them."""

import asyncio
from collections import Counter

import httpx
import pytest

from tests.sandbox.conftest import MakeUpstream, Upstream, assert_refused, transcription_url

CONTROL = "http://sandbox.test/control"
URL = "https://example.com/a.wav"
BODY = {"model": "fun-asr", "input": {"file_urls": [URL]}, "parameters": {}}


async def test_dropped_submit_creates_a_task(upstream: Upstream) -> None:
    await upstream.put_faults(drop_submit_rate=1)
    with pytest.raises(httpx.ReadError):
        await upstream.post(BODY)
    assert len(upstream.state.submits) == 1


async def test_lost_submit_creates_no_task(upstream: Upstream) -> None:
    await upstream.put_faults(lose_submit_rate=1)
    with pytest.raises(httpx.ReadError):
        await upstream.post(BODY)
    assert upstream.state.submits == []


async def test_submit_with_an_error_may_create_a_task(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream(submit_rps=1000)
    await upstream.put_faults(error_submit_rate=1)
    statuses = Counter([(await upstream.post(BODY)).status_code for _ in range(40)])
    assert set(statuses) == {500, 503}
    assert 5 < len(upstream.state.submits) < 35


async def test_rate_is_a_share_of_the_calls(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream(query_rps=1000)
    await upstream.put_faults(throttle_rate=0.3)
    statuses = Counter([(await upstream.call("GET", "/tasks")).status_code for _ in range(300)])
    assert set(statuses) == {200, 429}
    assert 60 < statuses[429] < 120
    assert upstream.state.injected["throttle"] == statuses[429]
    assert not upstream.state.throttled


async def test_html_pages_have_status_200_or_502(upstream: Upstream) -> None:
    await upstream.put_faults(html_rate=1)
    responses = [await upstream.call("GET", "/tasks") for _ in range(20)]
    assert {response.status_code for response in responses} == {200, 502}
    assert all(response.headers["content-type"].startswith("text/html") for response in responses)


async def test_echoed_urls_can_be_unescaped(upstream: Upstream) -> None:
    await upstream.put_faults(unescape_echo=True)
    task_id = await upstream.submit("https://example.com/a%2Fb%20c.wav")
    response = await upstream.finished(task_id)
    document = (await upstream.http.get(transcription_url(response))).json()
    unescaped = "https://example.com/a/b c.wav"
    assert [response["output"]["results"][0]["file_url"], document["file_url"]] == [unescaped, unescaped]


async def test_api_can_be_down(upstream: Upstream) -> None:
    await upstream.put_faults(down=True)
    assert_refused(await upstream.post(BODY), 503, "ServiceUnavailable")
    assert_refused(await upstream.call("GET", "/tasks/x"), 503, "ServiceUnavailable")


async def test_responses_can_be_slow(upstream: Upstream) -> None:
    await upstream.put_faults(slow_s=60)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(upstream.call("GET", "/tasks"), 0.01)


async def test_list_can_be_refused_while_queries_work(upstream: Upstream) -> None:
    task_id = await upstream.submit(URL)
    await upstream.put_faults(list_refused=True)
    assert_refused(await upstream.call("GET", "/tasks"), 403, "AccessDenied")
    assert (await upstream.query(task_id))["output"]["task_status"] == "PENDING"


async def test_new_task_can_appear_late(upstream: Upstream) -> None:
    await upstream.put_faults(list_lag_s=5, unknown_s=2)
    task_id = await upstream.submit(URL)

    async def visible() -> tuple[str, int]:
        status = (await upstream.query(task_id))["output"]["task_status"]
        return status, (await upstream.call("GET", "/tasks")).json()["total"]

    assert await visible() == ("UNKNOWN", 0)
    upstream.clock.advance(2)
    assert await visible() == ("SUCCEEDED", 0)
    upstream.clock.advance(3)
    assert await visible() == ("SUCCEEDED", 1)


async def test_responses_and_results_can_have_unknown_fields(upstream: Upstream) -> None:
    await upstream.put_faults(extra_fields=True)
    response = await upstream.finished(await upstream.submit(URL))
    assert "sandbox_extra" in response["output"]
    assert "sandbox_extra" in (await upstream.http.get(transcription_url(response))).json()


async def test_result_can_be_truncated_html_or_unavailable(upstream: Upstream) -> None:
    url = transcription_url(await upstream.finished(await upstream.submit(URL)))
    whole = (await upstream.http.get(url)).content
    await upstream.put_faults(truncate_result_rate=1)
    assert (await upstream.http.get(url)).content == whole[: len(whole) // 2]
    await upstream.put_faults(html_result_rate=1)
    assert (await upstream.http.get(url)).headers["content-type"].startswith("text/html")
    await upstream.put_faults(results_down=True)
    assert (await upstream.http.get(url)).status_code == 503
    await upstream.put_faults()
    assert (await upstream.http.get(url)).content == whole


async def test_put_replaces_all_faults(upstream: Upstream) -> None:
    await upstream.put_faults(throttle_rate=0.5, down=True)
    faults = (await upstream.put_faults(slow_s=1)).json()
    assert faults == (await upstream.http.get(f"{CONTROL}/faults")).json()
    assert (faults["throttle_rate"], faults["down"], faults["slow_s"]) == (0, False, 1)


@pytest.mark.parametrize("wrong", [{"drop_rate": 1}, {"throttle_rate": 2}, {"slow_s": -1}, {"down": "yes"}])
async def test_invalid_fault_is_refused(upstream: Upstream, wrong: dict[str, object]) -> None:
    before = upstream.state.faults
    assert (await upstream.put_faults(**wrong)).status_code == 400
    assert upstream.state.faults is before


async def test_control_route_advances_the_clock(upstream: Upstream) -> None:
    task_id = await upstream.submit(URL)
    assert (await upstream.http.post(f"{CONTROL}/clock", json={"advance_s": 90_000})).status_code == 200
    assert (await upstream.query(task_id))["output"]["task_status"] == "UNKNOWN"


async def test_stats_count_calls_429s_duplicates_and_leaks(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream(submit_rps=2)
    for _ in range(3):
        await upstream.post(BODY)
    response = await upstream.finished(upstream.state.submits[0].task_id)
    await upstream.http.get(transcription_url(response), headers={"Authorization": "Bearer x"})
    stats = (await upstream.http.get(f"{CONTROL}/stats")).json()
    submits = {"kind": "submit", "region": "beijing", "account": "main"}
    assert submits | {"count": 3} in stats["calls"]
    assert stats["throttled"] == [submits | {"count": 1}]
    assert stats["tasks"] == {"SUCCEEDED": 2}
    assert stats["submitted_files"] == {URL: 2}
    assert stats["duplicate_transcriptions"] == {URL: 2}
    assert stats["authorization_leaks"] == 1


async def test_control_route_lists_submits(upstream: Upstream) -> None:
    task_id = await upstream.submit(URL)
    (submit,) = (await upstream.http.get(f"{CONTROL}/submits")).json()
    assert (submit["task_id"], submit["file_urls"]) == (task_id, [URL])


async def test_key_can_be_refused_by_kind_of_call_and_model(upstream: Upstream, make_upstream: MakeUpstream) -> None:
    model = {"key": "sk-sandbox-beijing", "model": "fun-asr", "code": "Model.AccessDenied"}
    await upstream.put_faults(refused=[model])
    assert_refused(await upstream.post(BODY), 403, "Model.AccessDenied")
    await upstream.submit(URL, model="paraformer-v2")
    await make_upstream(of=upstream, region="singapore").submit(URL)
    await upstream.put_faults(refused=[{"code": "Arrearage", "kinds": ["submit"]}])
    assert_refused(await upstream.post(BODY), 400, "Arrearage")
    await upstream.query("no-such-task")
    await upstream.put_faults(refused=[{"code": "InvalidApiKey"}])
    assert_refused(await upstream.call("GET", "/tasks/no-such-task"), 401, "InvalidApiKey")
    assert upstream.state.injected["refused"] == 3
