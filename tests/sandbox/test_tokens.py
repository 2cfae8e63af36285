"""Temporary tokens: used like the key that asked for them, in its region, until they expire."""

from typing import Any

import pytest

from tests.sandbox.conftest import MakeUpstream, Upstream, assert_refused


async def token(upstream: Upstream, **wanted: Any) -> str:
    return str((await upstream.call("POST", "/tokens", params=wanted)).json()["token"])


async def test_a_token_stands_for_its_keys_account_until_it_expires(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream()
    task_id = await upstream.submit("https://example.com/a.wav")
    bearer = make_upstream(of=upstream, key=await token(upstream, expire_in_seconds=100))
    upstream.clock.advance(99)
    assert (await bearer.query(task_id))["output"]["task_status"] == "SUCCEEDED"
    upstream.clock.advance(1)
    assert_refused(await bearer.call("GET", "/tasks"), 401, "InvalidApiKey")


async def test_a_token_works_only_in_its_region(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream()
    elsewhere = make_upstream(of=upstream, region="singapore", key=await token(upstream))
    assert_refused(await elsewhere.call("GET", "/tasks"), 401, "InvalidApiKey")


@pytest.mark.parametrize("seconds", ["0", "1801", "soon"])
async def test_a_token_lives_up_to_half_an_hour(upstream: Upstream, seconds: str) -> None:
    answer = await upstream.call("POST", "/tokens", params={"expire_in_seconds": seconds})
    assert_refused(answer, 400, "InvalidParameter")
