"""Refused calls on hot-word lists. `test_server` tests the calls of the SDK."""

from typing import Any

import httpx
import pytest

from tests.sandbox.conftest import MakeUpstream, Upstream, assert_refused

WORDS = [{"text": "赛德克巴莱", "weight": 4}]


async def customize(upstream: Upstream, **given: Any) -> httpx.Response:
    body = {"model": "speech-biasing", "input": given}
    return await upstream.call("POST", "/services/audio/asr/customization", json=body)


async def create(upstream: Upstream, **changes: Any) -> httpx.Response:
    given = {"action": "create_vocabulary", "target_model": "fun-asr", "prefix": "abc", "vocabulary": WORDS}
    return await customize(upstream, **given | changes)


async def test_account_can_have_ten_vocabularies(upstream: Upstream) -> None:
    for _ in range(10):
        assert (await create(upstream)).status_code == 200
    assert_refused(await create(upstream), 400, "Throttling.AllocationQuota", "Free allocated quota exceeded.")


@pytest.mark.parametrize(
    "wrong",
    [
        {"prefix": "Abc"},
        {"prefix": "0123456789"},
        {"target_model": "x"},
        {"vocabulary": [{"text": "x"}]},
        {"action": "x"},
    ],
)
async def test_invalid_vocabulary_gives_400(upstream: Upstream, wrong: dict[str, Any]) -> None:
    assert_refused(await create(upstream, **wrong), 400, "InvalidParameter")


async def test_vocabularies_of_other_accounts_are_not_found(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream()
    vocabulary_id = (await create(upstream)).json()["output"]["vocabulary_id"]
    elsewhere = make_upstream(of=upstream, region="singapore")
    response = await customize(elsewhere, action="query_vocabulary", vocabulary_id=vocabulary_id)
    assert_refused(response, 400, "BadRequest.ResourceNotExist", "The Required resource not exist.")
    listed = (await customize(elsewhere, action="list_vocabulary")).json()
    assert (listed["output"], listed["usage"]) == ({"vocabulary_list": []}, {"count": 1})


@pytest.mark.parametrize("wrong", [{"page_size": "x"}, {"page_index": -1}])
async def test_invalid_page_gives_400(upstream: Upstream, wrong: dict[str, Any]) -> None:
    assert_refused(await customize(upstream, action="list_vocabulary", **wrong), 400, "InvalidParameter")


async def test_list_can_be_updated_again_after_five_minutes(upstream: Upstream) -> None:
    vocabulary_id = (await create(upstream)).json()["output"]["vocabulary_id"]
    update = {"action": "update_vocabulary", "vocabulary_id": vocabulary_id, "vocabulary": WORDS}
    assert (await customize(upstream, **update)).status_code == 200
    assert_refused(await customize(upstream, **update), 429, "Throttling")
    upstream.state.advanced_s += 300
    assert (await customize(upstream, **update)).status_code == 200


async def test_new_list_is_undeployed_for_some_time(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream(vocabulary_deploy_s=60)
    await create(upstream)

    async def status() -> str:
        listed = (await customize(upstream, action="list_vocabulary")).json()
        return str(listed["output"]["vocabulary_list"][0]["status"])

    assert await status() == "UNDEPLOYED"
    upstream.state.advanced_s += 60
    assert await status() == "OK"


@pytest.mark.parametrize(("style", "status"), [("400", 400), ("416", 416)])
async def test_submit_with_a_list_that_does_not_exist_is_refused(
    make_upstream: MakeUpstream, style: str, status: int
) -> None:
    upstream = make_upstream(missing_vocabulary_style=style)
    body = {"model": "fun-asr", "input": {"file_urls": ["https://example.com/a.wav"]}}
    refused = await upstream.post(body | {"parameters": {"vocabulary_id": "vocab-x-1"}})
    assert_refused(refused, status, "BadRequest.ResourceNotExist", "The Required resource not exist.")
    vocabulary_id = (await create(upstream)).json()["output"]["vocabulary_id"]
    assert (await upstream.post(body | {"parameters": {"vocabulary_id": vocabulary_id}})).status_code == 200
