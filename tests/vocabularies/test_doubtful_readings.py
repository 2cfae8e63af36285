"""Lists at DashScope that one reading does not show, or shows wrongly: none is made twice, taken or given up for it."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.db import Sessions
from app.errors import UpstreamUnavailable
from app.settings import Settings, load_settings
from app.vocabularies.lists import VocabularyLists
from app.vocabularies.reconciliation import Waits, reconcile_all
from tests.api_fixtures import application
from tests.vocabularies.conftest import QueueClient
from tests.vocabularies.list_server import MISSING, ListServer, invented, pages_of
from tests.vocabularies.test_vocabularies import WORDS, body, create

OLD = "UPDATE vocabularies SET created_at = now() - interval '11 min', absent_since = absent_since - interval '1 min'"


@pytest.fixture
def server() -> ListServer:
    return ListServer()


@pytest.fixture
def http(server: ListServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=server)


@pytest.fixture
def settings() -> Settings:
    return load_settings({"dashscope_beijing_api_key": "sk-beijing-test"})


@pytest.fixture
def app(settings: Settings, sessions: Sessions, http: httpx.AsyncClient) -> FastAPI:
    app = application(settings, sessions, http=http)
    app.state.vocabulary_lists = VocabularyLists(settings, sessions, http, waits=Waits(0.2, 0.1))
    return app


async def lose(api: httpx.AsyncClient, server: ListServer, *, is_made: bool) -> None:
    """A creation without a response. The account has the list, or does not have it."""
    actions = server.dropped if is_made else server.lost
    actions.add("create")
    response = await api.post("/v1/vocabularies", json=body())
    assert response.status_code == 503, response.text
    actions.clear()


class Behind:
    """Shows no lists for the first `readings`, as a replica that is behind."""

    def __init__(self, readings: int) -> None:
        self.readings = readings

    def __call__(self, rows: list[dict[str, Any]], page: int) -> list[Any]:
        self.readings -= 1
        return [] if page or self.readings >= 0 else rows


@pytest.mark.parametrize("readings", [2, 3])
async def test_list_that_is_not_shown_at_once_is_not_made_twice(
    api: httpx.AsyncClient, server: ListServer, readings: int
) -> None:
    server.pages = Behind(readings)
    await lose(api, server, is_made=True)
    assert [(await create(api))["id"]] == list(server.lists)


async def test_list_that_was_not_made_is_made_by_the_repeated_request(
    api: httpx.AsyncClient, server: ListServer
) -> None:
    await lose(api, server, is_made=False)
    created = await create(api)
    assert [created["id"]] == list(server.lists)
    assert (await create(api))["id"] != created["id"]
    assert server.calls.count("create") == 3


async def test_equal_list_from_elsewhere_is_never_taken(
    api: httpx.AsyncClient, server: ListServer, app: FastAPI, sessions: Sessions, queue: QueueClient
) -> None:
    """It is older than the request, and the list did not show it before the call."""
    foreign = server.add("calls", WORDS, age_s=3600)
    server.pages = Behind(1)
    await lose(api, server, is_made=False)
    created = (await create(api))["id"]
    assert created != foreign
    await queue.rows(OLD + " RETURNING id")
    await reconcile_all(sessions, app.state.vocabulary_lists.upstreams)
    shown = (await api.get("/v1/vocabularies")).json()["items"]
    assert [each["id"] for each in shown] == [created]


@pytest.mark.parametrize("size", [10, 50])
async def test_list_on_a_later_page_is_found(api: httpx.AsyncClient, server: ListServer, size: int) -> None:
    """DashScope's largest page is not documented, and the limit of an account may be raised."""
    for number in range(size + 1):
        server.add(f"p{number}", WORDS)
    server.pages = pages_of(size)
    server.dropped = {"create"}
    response = await api.post("/v1/vocabularies", json=body())
    assert response.status_code == 201, response.text
    assert response.json()["id"] == list(server.lists)[-1]


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param(lambda _, page: [] if page else [{"status": "OK"}], id="rows without ids"),
        pytest.param(lambda *_: [7, None], id="no rows"),
        pytest.param(lambda rows, _: rows[:10], id="the same page again"),
        pytest.param(invented, id="endless"),
    ],
)
async def test_list_that_cannot_be_read_whole_does_not_show_that_a_list_is_absent(
    api: httpx.AsyncClient, server: ListServer, queue: QueueClient, pages: Any
) -> None:
    """After ten minutes the account is taken not to have it, so that it can be made."""
    for number in range(10):
        server.add(f"p{number}", WORDS)
    server.pages = pages
    await lose(api, server, is_made=True)
    lost = list(server.lists)[-1]
    response = await api.post("/v1/vocabularies", json=body())
    assert (response.status_code, response.json()["code"]) == (503, "upstream_unavailable")
    assert server.calls.count("create") == 1
    server.pages = ListServer().pages
    assert (await create(api))["id"] == lost
    server.pages = pages
    await lose(api, server, is_made=False)
    await queue.rows(OLD + " WHERE vocabulary_id IS NULL RETURNING id")
    assert (await create(api))["id"] not in {lost, None}


async def test_row_is_kept_when_one_reading_does_not_show_its_list(
    api: httpx.AsyncClient, app: FastAPI, server: ListServer, sessions: Sessions, queue: QueueClient
) -> None:
    """As after an outage of ten minutes. The first reading after it comes from a replica that is behind."""
    server.pages = Behind(2)
    await lose(api, server, is_made=True)
    await queue.rows(OLD + " RETURNING id")
    server.pages = Behind(1)
    upstreams = app.state.vocabulary_lists.upstreams
    await reconcile_all(sessions, upstreams)
    await reconcile_all(sessions, upstreams)
    shown = (await api.get("/v1/vocabularies")).json()["items"]
    assert [each["id"] for each in shown] == list(server.lists)


async def test_list_of_another_client_that_cannot_be_read_hides_no_other(
    api: httpx.AsyncClient, server: ListServer
) -> None:
    server.pages = Behind(1)
    server.add("calls", [{"text": 7}])
    server.dropped = {"create"}
    response = await api.post("/v1/vocabularies", json=body())
    assert response.status_code == 201, response.text
    assert response.json()["id"] == list(server.lists)[-1]


async def test_listed_list_that_cannot_be_queried_yet_is_not_absent(api: httpx.AsyncClient, server: ListServer) -> None:
    server.refusals["query"] = MISSING
    await lose(api, server, is_made=True)
    response = await api.post("/v1/vocabularies", json=body())
    assert response.status_code == 503, response.text
    server.refusals.clear()
    assert [(await create(api))["id"]] == list(server.lists)


async def test_id_of_a_list_that_was_there_before_is_not_taken(api: httpx.AsyncClient, server: ListServer) -> None:
    foreign = server.add("calls", WORDS, age_s=600)
    server.outputs["create"] = {"vocabulary_id": foreign}
    response = await api.post("/v1/vocabularies", json=body())
    assert response.status_code == 201, response.text
    assert response.json()["id"] == list(server.lists)[-1] != foreign


async def test_update_that_was_lost_and_applied_is_confirmed_by_the_repeated_request(
    api: httpx.AsyncClient, server: ListServer
) -> None:
    """DashScope refuses the second update within five minutes, although it asks for the words that the list has."""
    path = f"/v1/vocabularies/{(await create(api))['id']}"
    server.dropped = {"update"}
    server.lost = {"query"}
    assert (await api.put(path, json={"vocabulary": WORDS[:1]})).status_code == 503
    server.dropped, server.lost = set(), set()
    server.refusals["update"] = (429, {"code": "Throttling", "message": "Requests throttling triggered."})
    updated = await api.put(path, json={"vocabulary": WORDS[:1]})
    assert (updated.status_code, updated.json()["vocabulary"]) == (200, WORDS[:1])


async def test_words_of_a_recent_update_are_not_replaced_by_older_ones(
    api: httpx.AsyncClient, server: ListServer, queue: QueueClient
) -> None:
    created = await create(api)
    path = f"/v1/vocabularies/{created['id']}"
    assert (await api.put(path, json={"vocabulary": WORDS[:1]})).status_code == 200
    server.lists[created["id"]].words = WORDS  # as a replica that is behind shows it
    assert (await api.get(path)).json()["vocabulary"] == WORDS[:1]
    await queue.rows("UPDATE vocabularies SET updated_at = now() - interval '2 min' RETURNING id")
    assert (await api.get(path)).json()["vocabulary"] == WORDS


async def test_words_of_an_update_that_runs_meanwhile_are_not_replaced_by_older_ones(
    api: httpx.AsyncClient, server: ListServer, queue: QueueClient
) -> None:
    path = f"/v1/vocabularies/{(await create(api))['id']}"
    change = "UPDATE vocabularies SET updated_at = {}, vocabulary = vocabulary - {} RETURNING id"
    await queue.rows(change.format("now() - interval '2 min'", 0))
    server.meanwhile["query"] = lambda: queue.rows(change.format("now()", 0))
    shown = await api.get(path)
    server.meanwhile.clear()
    assert shown.json()["vocabulary"] == (await api.get(path)).json()["vocabulary"] == WORDS[2:]


@pytest.mark.parametrize(
    "output",
    [
        {"status": "OK", "target_model": "fun-asr", "vocabulary": [None, 7]},
        {"status": "OK", "target_model": "fun-asr", "vocabulary": [{"text": "x"}]},
        {"status": "OK", "target_model": "fun-asr-mtl", "vocabulary": [{"text": "x", "weight": 1}]},
        {"status": None, "target_model": "fun-asr", "vocabulary": WORDS},
        {"status": "OK", "target_model": "fun-asr"},
    ],
)
async def test_garbage_is_not_stored_as_the_words_of_a_list(
    api: httpx.AsyncClient, server: ListServer, queue: QueueClient, output: dict[str, Any]
) -> None:
    created = await create(api)
    await queue.rows("UPDATE vocabularies SET updated_at = now() - interval '2 min' RETURNING id")
    server.outputs["query"] = output
    shown = (await api.get(f"/v1/vocabularies/{created['id']}")).json()
    assert shown == created | {"updated_at": shown["updated_at"]}


async def test_list_that_one_response_does_not_know_is_not_missing(api: httpx.AsyncClient, server: ListServer) -> None:
    created = await create(api)
    server.refusals["query"] = MISSING
    path = f"/v1/vocabularies/{created['id']}"
    assert (await api.get(path)).json() == created
    server.hidden.add(created["id"])
    assert (await api.get(path)).json() == created | {"status": "MISSING"}


async def test_list_that_is_still_shown_is_not_deleted(api: httpx.AsyncClient, server: ListServer) -> None:
    created = await create(api)
    path = f"/v1/vocabularies/{created['id']}"
    server.refusals["delete"] = MISSING
    refused = await api.delete(path)
    assert refused.status_code == 503, refused.text
    assert [each["id"] for each in (await api.get("/v1/vocabularies")).json()["items"]] == [created["id"]]
    server.refusals.clear()
    assert (await api.delete(path)).status_code == 204
    assert (await api.delete(path)).status_code == 404


async def test_lists_of_a_revoked_client_are_not_all_deleted_while_one_may_appear(
    api: httpx.AsyncClient, app: FastAPI, server: ListServer, queue: QueueClient
) -> None:
    server.pages = Behind(3)
    await lose(api, server, is_made=True)
    lists = app.state.vocabulary_lists
    with pytest.raises(UpstreamUnavailable, match="1 more lists"):
        await lists.delete_all(queue.client_id)
    assert await lists.delete_all(queue.client_id) == 1
    assert not server.lists
