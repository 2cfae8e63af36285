"""Rate limits: a sliding window per account and kind of call, and per model for submits."""

import math

import pytest

from app.sandbox.limits import SlidingWindow
from tests.sandbox.conftest import MakeUpstream, Upstream, assert_refused

URL = "https://example.com/a.wav"


def body(model: str = "fun-asr") -> dict[str, object]:
    return {"model": model, "input": {"file_urls": [URL]}, "parameters": {}}


async def test_submits_are_limited_per_model(upstream: Upstream) -> None:
    for _ in range(10):
        assert (await upstream.post(body())).status_code == 200
    message = "Requests rate limit exceeded, please try again later."
    assert_refused(await upstream.post(body()), 429, "Throttling.RateQuota", message)
    assert (await upstream.post(body("paraformer-v2"))).status_code == 200
    upstream.clock.advance(1)
    assert (await upstream.post(body())).status_code == 200
    assert sum(upstream.state.throttled.values()) == 1


@pytest.mark.parametrize(("method", "path"), [("GET", "/tasks/x"), ("GET", "/tasks"), ("POST", "/tasks/x/cancel")])
async def test_queries_lists_and_cancels_have_separate_limits(upstream: Upstream, method: str, path: str) -> None:
    for _ in range(20):
        assert (await upstream.call(method, path)).status_code != 429
    assert_refused(await upstream.call(method, path), 429, "Throttling.RateQuota")
    for other_method, other_path in [("GET", "/tasks/x"), ("GET", "/tasks"), ("POST", "/tasks/x/cancel")]:
        is_limited = (await upstream.call(other_method, other_path)).status_code == 429
        assert is_limited == ((method, path) == (other_method, other_path))


async def test_keys_of_one_account_share_its_limits(make_upstream: MakeUpstream) -> None:
    keys = {"beijing": {"sk-a": "one", "sk-b": "one", "sk-c": "two"}}
    one = make_upstream(keys=keys, key="sk-a", submit_rps=1)
    same, two = make_upstream(of=one, key="sk-b"), make_upstream(of=one, key="sk-c")
    assert [(await caller.post(body())).status_code for caller in (one, same, two)] == [200, 429, 200]


def test_window_slides() -> None:
    window = SlidingWindow(2)
    taken = [window.take(now) for now in (0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75)]
    assert taken == [True, True, False, True, False, True, False]


@pytest.mark.parametrize(("rps", "seconds", "calls"), [(100 / 60, 60, 100), (0.5, 60, 30), (20, 3, 60)])
def test_fractional_rate_is_exact_on_average(rps: float, seconds: int, calls: int) -> None:
    window = SlidingWindow(rps)
    assert sum(window.take(tick / 1000) for tick in range(seconds * 1000)) == pytest.approx(calls, abs=1)


def test_infinite_rate_has_no_limit() -> None:
    window = SlidingWindow(math.inf)
    assert all(window.take(0.0) for _ in range(1000))
