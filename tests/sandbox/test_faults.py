"""Trouble to order, and the control routes that order it and count."""

import asyncio
from collections import Counter

import httpx
import pytest

from tests.sandbox.conftest import MakeUpstream, Upstream, assert_refused, transcription_url

CONTROL = "http://sandbox.test/control"
URL = "https://example.com/a.wav"
BODY = {"model": "fun-asr", "input": {"file_urls": [URL]}, "parameters": {}}


async def test_a_dropped_submit_has_made_a_task(upstream: Upstream) -> None:
    await upstream.put_faults(drop_submit_rate=1)
    with pytest.raises(httpx.ReadError):
        await upstream.post(BODY)
    assert len(upstream.state.submits) == 1


async def test_a_lost_submit_has_made_none(upstream: Upstream) -> None:
    await upstream.put_faults(lose_submit_rate=1)
    with pytest.raises(httpx.ReadError):
        await upstream.post(BODY)
    assert upstream.state.submits == []


async def test_an_error_on_submit_leaves_open_whether_a_task_was_made(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream(submit_rps=1000)
    await upstream.put_faults(error_submit_rate=1)
    statuses = Counter([(await upstream.post(BODY)).status_code for _ in range(40)])
    assert set(statuses) == {500, 503}
    assert 5 < len(upstream.state.submits) < 35


async def test_a_rate_is_a_share_of_the_calls(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream(query_rps=1000)
    await upstream.put_faults(throttle_rate=0.3)
    statuses = Counter([(await upstream.call("GET", "/tasks")).status_code for _ in range(300)])
    assert set(statuses) == {200, 429}
    assert 60 < statuses[429] < 120
    assert upstream.state.injected["throttle"] == statuses[429]
    assert not upstream.state.throttled


async def test_a_proxy_may_answer_with_html_whatever_the_status(upstream: Upstream) -> None:
    await upstream.put_faults(html_rate=1)
    answers = [await upstream.call("GET", "/tasks") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200, 502}
    assert all(answer.headers["content-type"].startswith("text/html") for answer in answers)


async def test_echoes_may_be_unescaped(upstream: Upstream) -> None:
    await upstream.put_faults(unescape_echo=True)
    task_id = await upstream.submit("https://example.com/a%2Fb%20c.wav")
    answer = await upstream.finished(task_id)
    document = (await upstream.http.get(transcription_url(answer))).json()
    shown = "https://example.com/a/b c.wav"
    assert [answer["output"]["results"][0]["file_url"], document["file_url"]] == [shown, shown]


async def test_everything_may_be_down(upstream: Upstream) -> None:
    await upstream.put_faults(down=True)
    assert_refused(await upstream.post(BODY), 503, "ServiceUnavailable")
    assert_refused(await upstream.call("GET", "/tasks/x"), 503, "ServiceUnavailable")


async def test_answers_may_be_slow(upstream: Upstream) -> None:
    await upstream.put_faults(slow_s=60)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(upstream.call("GET", "/tasks"), 0.01)


async def test_the_list_may_be_refused_while_queries_are_answered(upstream: Upstream) -> None:
    task_id = await upstream.submit(URL)
    await upstream.put_faults(list_refused=True)
    assert_refused(await upstream.call("GET", "/tasks"), 403, "AccessDenied")
    assert (await upstream.query(task_id))["output"]["task_status"] == "PENDING"


async def test_a_new_task_may_appear_late(upstream: Upstream) -> None:
    await upstream.put_faults(list_lag_s=5, unknown_s=2)
    task_id = await upstream.submit(URL)

    async def seen() -> tuple[str, int]:
        status = (await upstream.query(task_id))["output"]["task_status"]
        return status, (await upstream.call("GET", "/tasks")).json()["total"]

    assert await seen() == ("UNKNOWN", 0)
    upstream.clock.advance(2)
    assert await seen() == ("SUCCEEDED", 0)
    upstream.clock.advance(3)
    assert await seen() == ("SUCCEEDED", 1)


async def test_answers_and_results_may_have_fields_that_nobody_knows(upstream: Upstream) -> None:
    await upstream.put_faults(extra_fields=True)
    answer = await upstream.finished(await upstream.submit(URL))
    assert "sandbox_extra" in answer["output"]
    assert "sandbox_extra" in (await upstream.http.get(transcription_url(answer))).json()


async def test_a_result_may_be_truncated_html_or_away(upstream: Upstream) -> None:
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


async def test_putting_faults_replaces_all_of_them(upstream: Upstream) -> None:
    await upstream.put_faults(throttle_rate=0.5, down=True)
    faults = (await upstream.put_faults(slow_s=1)).json()
    assert faults == (await upstream.http.get(f"{CONTROL}/faults")).json()
    assert (faults["throttle_rate"], faults["down"], faults["slow_s"]) == (0, False, 1)


@pytest.mark.parametrize("wrong", [{"drop_rate": 1}, {"throttle_rate": 2}, {"slow_s": -1}, {"down": "yes"}])
async def test_a_wrong_fault_is_refused_and_changes_nothing(upstream: Upstream, wrong: dict[str, object]) -> None:
    before = upstream.state.faults
    assert (await upstream.put_faults(**wrong)).status_code == 400
    assert upstream.state.faults is before


async def test_the_clock_can_be_moved_on_from_outside(upstream: Upstream) -> None:
    task_id = await upstream.submit(URL)
    assert (await upstream.http.post(f"{CONTROL}/clock", json={"advance_s": 90_000})).status_code == 200
    assert (await upstream.query(task_id))["output"]["task_status"] == "UNKNOWN"


async def test_stats_count_calls_throttles_duplicates_and_leaks(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream(submit_rps=2)
    for _ in range(3):
        await upstream.post(BODY)
    answer = await upstream.finished(upstream.state.submits[0].task_id)
    await upstream.http.get(transcription_url(answer), headers={"Authorization": "Bearer x"})
    stats = (await upstream.http.get(f"{CONTROL}/stats")).json()
    submits = {"kind": "submit", "region": "beijing", "account": "main"}
    assert submits | {"count": 3} in stats["calls"]
    assert stats["throttled"] == [submits | {"count": 1}]
    assert stats["tasks"] == {"SUCCEEDED": 2}
    assert stats["submitted_files"] == {URL: 2}
    assert stats["duplicate_transcriptions"] == {URL: 2}
    assert stats["authorization_leaks"] == 1


async def test_submits_can_be_read_from_outside(upstream: Upstream) -> None:
    task_id = await upstream.submit(URL)
    (submit,) = (await upstream.http.get(f"{CONTROL}/submits")).json()
    assert (submit["task_id"], submit["file_urls"]) == (task_id, [URL])


async def test_a_key_is_refused_for_all_calls_or_some_for_all_models_or_one(
    upstream: Upstream, make_upstream: MakeUpstream
) -> None:
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
