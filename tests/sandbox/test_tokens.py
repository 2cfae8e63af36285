"""Temporary tokens have the rights of the key that created them, in its region, until they expire."""

from typing import Any

import pytest

from tests.sandbox.conftest import MakeUpstream, Upstream, assert_refused


async def token(upstream: Upstream, **wanted: Any) -> str:
    return str((await upstream.call("POST", "/tokens", params=wanted)).json()["token"])


async def test_token_has_the_account_of_its_key_until_it_expires(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream()
    task_id = await upstream.submit("https://example.com/a.wav")
    bearer = make_upstream(of=upstream, key=await token(upstream, expire_in_seconds=100))
    upstream.clock.advance(99)
    assert (await bearer.query(task_id))["output"]["task_status"] == "SUCCEEDED"
    upstream.clock.advance(1)
    assert_refused(await bearer.call("GET", "/tasks"), 401, "InvalidApiKey")


async def test_token_is_valid_in_its_region_only(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream()
    elsewhere = make_upstream(of=upstream, region="singapore", key=await token(upstream))
    assert_refused(await elsewhere.call("GET", "/tasks"), 401, "InvalidApiKey")


@pytest.mark.parametrize("seconds", ["0", "1801", "soon"])
async def test_token_has_a_maximum_lifetime_of_30_minutes(upstream: Upstream, seconds: str) -> None:
    response = await upstream.call("POST", "/tokens", params={"expire_in_seconds": seconds})
    assert_refused(response, 400, "InvalidParameter")
