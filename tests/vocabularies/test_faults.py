"""Calls on hot-word lists that DashScope refuses, loses, delays or answers with garbage."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from app.db import Sessions
from app.sandbox import RunningSandbox
from app.sandbox.faults import Faults, RefusedKey
from app.settings import Settings
from app.vocabularies.reconciliation import reconcile_all
from tests.poller.conftest import settings_for
from tests.vocabularies.conftest import QueueClient, StartPoller
from tests.vocabularies.test_vocabularies import WORDS, body, create


async def refusal(api: httpx.AsyncClient, **changes: object) -> tuple[int, str]:
    response = await api.post("/v1/vocabularies", json=body(**changes))
    return response.status_code, response.json()["code"]


@pytest.mark.parametrize(
    "faults",
    [
        Faults(down=True),
        Faults(html_rate=1),
        Faults(throttle_rate=1),
        Faults(vocabularies_down=True),
        Faults(lose_vocabulary_rate=1),
        Faults(refused=(RefusedKey(code="InvalidApiKey"),)),
        Faults(refused=(RefusedKey(code="Arrearage", kinds=("vocabulary",)),)),
        Faults(refused=(RefusedKey(code="AccessDenied", kinds=("vocabulary",)),)),
    ],
    ids=["down", "html", "throttled", "no lists", "lost", "key", "bill", "sub-workspace"],
)
async def test_creation_that_fails_is_a_503_and_leaves_nothing(
    api: httpx.AsyncClient, sandbox: RunningSandbox, queue: QueueClient, faults: Faults
) -> None:
    sandbox.state.faults = faults
    response = await api.post("/v1/vocabularies", json=body())
    assert (response.status_code, response.json()["code"]) == (503, "upstream_unavailable"), response.text
    assert int(response.headers["retry-after"]) > 0
    assert "sk-" not in response.text
    assert not sandbox.state.vocabularies
    sandbox.state.faults = Faults()
    await create(api)
    assert len(sandbox.state.vocabularies) == 1
    assert (await api.get("/v1/vocabularies")).json()["items"][0]["status"] == "OK"


@pytest.mark.parametrize("faults", [Faults(drop_vocabulary_rate=1), Faults(error_vocabulary_rate=1)])
async def test_list_is_found_although_the_response_to_its_creation_is_lost(
    api: httpx.AsyncClient, sandbox: RunningSandbox, faults: Faults
) -> None:
    sandbox.state.faults = faults
    for _ in range(20):  # half of the errors come without a list
        response = await api.post("/v1/vocabularies", json=body(region="beijing"))
        if response.status_code == 201:
            break
    assert [response.json()["id"]] == list(sandbox.state.vocabularies)
    assert [each["id"] for each in (await api.get("/v1/vocabularies")).json()["items"]] == [response.json()["id"]]


async def lose_response(api: httpx.AsyncClient, sandbox: RunningSandbox, queue: QueueClient) -> None:
    """A list whose creation got no response and that could not be looked for."""
    await create(api, region="beijing")
    sandbox.state.faults = Faults(drop_vocabulary_rate=1)
    await create(api, region="beijing", prefix="lost")
    sandbox.state.faults = Faults()
    await queue.rows(
        "UPDATE vocabularies SET vocabulary_id = NULL, state = 'unsure' WHERE prefix = 'lost' RETURNING id"
    )


async def test_repeated_request_finds_the_list_of_the_first(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, sandbox: RunningSandbox, queue: QueueClient
) -> None:
    await lose_response(api, sandbox, queue)
    assert len((await api.get("/v1/vocabularies")).json()["items"]) == 1
    other = await create(other_api, prefix="lost")
    found = await create(api, prefix="lost")
    assert len(sandbox.state.vocabularies) == 3
    assert found["id"] != other["id"]
    assert {each["id"] for each in (await api.get("/v1/vocabularies")).json()["items"]} == (
        set(sandbox.state.vocabularies) - {other["id"]}
    )


async def test_repeated_request_makes_no_second_list_while_the_first_is_unsure(
    api: httpx.AsyncClient, sandbox: RunningSandbox, queue: QueueClient
) -> None:
    await lose_response(api, sandbox, queue)
    sandbox.state.faults = Faults(vocabularies_down=True)
    assert await refusal(api, prefix="lost") == (503, "upstream_unavailable")
    sandbox.state.faults = Faults()
    assert len(sandbox.state.vocabularies) == 2


async def test_poller_finds_lists_whose_creation_was_interrupted(
    api: httpx.AsyncClient, sandbox: RunningSandbox, queue: QueueClient, start_poller: StartPoller
) -> None:
    """As after a kill -9 of the API during the call. A request that is repeated later gets the list too."""
    await lose_response(api, sandbox, queue)
    await queue.rows(
        "UPDATE vocabularies SET state = 'creating', created_at = now() - interval '3 min' WHERE prefix = 'lost'"
        " RETURNING id"
    )
    async with start_poller():
        await queue.until("SELECT 1 FROM vocabularies WHERE state = 'found'")
    shown = (await api.get("/v1/vocabularies")).json()["items"]
    assert {each["id"] for each in shown} == set(sandbox.state.vocabularies)
    assert (await create(api, prefix="lost"))["id"] in {each["id"] for each in shown}
    assert len(sandbox.state.vocabularies) == 2


async def test_row_without_a_list_is_forgotten_after_ten_minutes(
    app: FastAPI, api: httpx.AsyncClient, sandbox: RunningSandbox, queue: QueueClient, sessions: Sessions
) -> None:
    await lose_response(api, sandbox, queue)
    sandbox.state.vocabularies.clear()
    lists = app.state.vocabulary_lists
    await reconcile_all(sessions, lists.upstreams)
    assert len(await queue.rows("SELECT 1 FROM vocabularies WHERE vocabulary_id IS NULL")) == 1
    await queue.rows("UPDATE vocabularies SET created_at = now() - interval '11 min' RETURNING id")
    await reconcile_all(sessions, lists.upstreams)
    # Two readings, some seconds apart, have to lack the list.
    await queue.rows("UPDATE vocabularies SET absent_since = absent_since - interval '5 s' RETURNING id")
    await reconcile_all(sessions, lists.upstreams)
    assert not await queue.rows("SELECT 1 FROM vocabularies WHERE vocabulary_id IS NULL")


async def test_equal_requests_at_once_get_lists_of_their_own(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, sandbox: RunningSandbox
) -> None:
    """While equal requests are under way, a lost list may not be told from theirs. A repeated request finds it."""
    sandbox.state.faults = Faults(drop_vocabulary_rate=0.5, slow_s=0.01)

    async def send(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/v1/vocabularies", json=body(region="beijing"))

    callers = (api, other_api) * 4
    responses = await asyncio.gather(*(send(each) for each in callers))
    sandbox.state.faults = Faults()
    for number, response in enumerate(responses):
        if response.status_code == 503:
            responses[number] = await send(callers[number])
    assert [response.status_code for response in responses] == [201] * len(callers)
    assert {response.json()["id"] for response in responses} == set(sandbox.state.vocabularies)
    assert len(sandbox.state.vocabularies) == len(callers)
    own = {each["id"] for each in (await api.get("/v1/vocabularies")).json()["items"]}
    others = {each["id"] for each in (await other_api.get("/v1/vocabularies")).json()["items"]}
    assert not own & others
    assert own | others == set(sandbox.state.vocabularies)


async def test_update_whose_response_is_lost_is_looked_up(api: httpx.AsyncClient, sandbox: RunningSandbox) -> None:
    path = f"/v1/vocabularies/{(await create(api))['id']}"
    sandbox.state.faults = Faults(lose_vocabulary_rate=1)
    lost = await api.put(path, json={"vocabulary": WORDS[:1]})
    assert (lost.status_code, lost.json()["code"]) == (503, "upstream_unavailable")
    sandbox.state.faults = Faults(drop_vocabulary_rate=1)
    done = await api.put(path, json={"vocabulary": WORDS[:1]})
    assert (done.status_code, done.json()["vocabulary"]) == (200, WORDS[:1])
    assert (await api.put(path, json={"vocabulary": WORDS})).status_code == 429


async def test_delete_can_be_repeated_after_a_lost_response(api: httpx.AsyncClient, sandbox: RunningSandbox) -> None:
    path = f"/v1/vocabularies/{(await create(api))['id']}"
    sandbox.state.faults = Faults(drop_vocabulary_rate=1)
    assert (await api.delete(path)).status_code == 503
    assert (await api.delete(path)).status_code == 204
    assert not sandbox.state.vocabularies


async def test_list_is_shown_as_stored_while_dashscope_is_away(api: httpx.AsyncClient, sandbox: RunningSandbox) -> None:
    created = await create(api)
    sandbox.state.faults = Faults(down=True)
    assert (await api.get(f"/v1/vocabularies/{created['id']}")).json() == created


async def test_list_that_was_deleted_in_the_console_is_missing(api: httpx.AsyncClient, sandbox: RunningSandbox) -> None:
    created = await create(api)
    path = f"/v1/vocabularies/{created['id']}"
    sandbox.state.vocabularies.clear()
    assert (await api.get(path)).json() == created | {"status": "MISSING"}
    assert (await api.put(path, json={"vocabulary": WORDS})).status_code == 404
    assert (await api.delete(path)).status_code == 204


class TestSeveralAccounts:
    """Two accounts in Beijing."""

    @pytest.fixture
    def settings(self, sandbox: RunningSandbox) -> Settings:
        keys = sandbox.state.config.keys
        keys["beijing"]["sk-second"] = "second"  # type: ignore[index]
        return settings_for(sandbox, dashscope_beijing_api_key="first=sk-sandbox-beijing,second=sk-second")

    async def test_account_with_most_room_is_used(self, api: httpx.AsyncClient) -> None:
        used = [(await create(api, prefix=f"p{number}", region="beijing"))["account"] for number in range(4)]
        assert used == ["first", "second", "first", "second"]

    async def test_account_that_is_refused_is_passed_over(
        self, api: httpx.AsyncClient, sandbox: RunningSandbox
    ) -> None:
        sandbox.state.faults = Faults(refused=(RefusedKey(code="Arrearage", key="sk-sandbox-beijing"),))
        assert (await create(api, region="beijing"))["account"] == "second"


async def test_list_of_an_account_without_a_key_can_be_deleted_only(api: httpx.AsyncClient, queue: QueueClient) -> None:
    created = await create(api)
    path = f"/v1/vocabularies/{created['id']}"
    await queue.rows("UPDATE vocabularies SET account = 'beijing/gone' RETURNING id")
    assert (await api.get(path)).json()["status"] == "OK"
    assert (await api.put(path, json={"vocabulary": WORDS})).status_code == 503
    assert (await api.delete(path)).status_code == 204
