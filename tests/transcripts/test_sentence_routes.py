"""/v1/transcripts/{id}/sentences over HTTP."""

from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest

from app.api.pagination import encode_cursor, scoped_key
from app.clients.service import CurrentClient
from app.db import Sessions
from app.identifiers import new_id
from tests.transcripts.conftest import *  # noqa: F403 - fixtures are found by their names
from tests.transcripts.documents import sample, sentence, transcript
from tests.transcripts.transcript_store import store

CALL = orjson.dumps(
    {
        "transcripts": [
            transcript(
                sentence("喂？", 0, 500, speaker_id=0, words=[{"begin_time": 0, "end_time": 500, "text": "喂"}]),
                sentence("好。", 2000, 2500, speaker_id="spk1"),
                sentence("再见。", 60_000, 61_000, speaker_id=0, mood={"a": 1}),
                channel_id=0,
            ),
            transcript(sentence("您好。", 600, 1500), sentence("嗯。", 2000, 2000), channel_id=1),
        ]
    }
)
EVERY = ["喂？", "您好。", "好。", "嗯。", "再见。"]


@pytest.fixture
async def path(client_id: UUID, sessions: Sessions) -> str:
    return f"/v1/transcripts/{(await store(sessions, client_id, CALL)).id}/sentences"


async def test_a_sentence_is_that_of_the_document_with_its_channel(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    stored = await store(sessions, client_id)
    document = (await api.get(f"/v1/transcripts/{stored.id}")).json()
    response = await api.get(f"/v1/transcripts/{stored.id}/sentences")
    expected = [
        {**each, "channel_id": item["channel_id"]} for item in document["transcripts"] for each in item["sentences"]
    ]
    assert response.headers["content-type"] == "application/json"
    assert response.json()["next_cursor"] is None
    assert sorted(response.json()["items"], key=orjson.dumps) == sorted(expected, key=orjson.dumps)
    assert response.json()["items"][0]["words"]


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ("", EVERY),
        ("channel_id=1", ["您好。", "嗯。"]),
        ("speaker_id=0", ["喂？", "再见。"]),
        ("speaker_id=1", ["好。"]),
        ("speaker_id=spk1", []),
        ("speaker_id=1&channel_id=1", []),
        ("from_ms=500", EVERY[1:]),
        ("from_ms=499", EVERY),
        ("to_ms=600", ["喂？"]),
        ("to_ms=601", ["喂？", "您好。"]),
        ("from_ms=2000&to_ms=2001", ["好。", "嗯。"]),
        ("from_ms=2001&to_ms=2001", []),
        ("from_ms=2499&to_ms=60000", ["好。"]),
        ("from_ms=61000", []),
    ],
)
async def test_sentences_are_found_by_channel_speaker_and_time(
    api: httpx.AsyncClient, path: str, query: str, texts: list[str]
) -> None:
    response = await api.get(f"{path}?{query}")
    assert [item["text"] for item in response.json()["items"]] == texts


async def test_pages_continue_at_the_cursor(api: httpx.AsyncClient, path: str) -> None:
    texts: list[str] = []
    params: dict[str, Any] = {"limit": 2, "from_ms": 0}
    while True:
        page = (await api.get(path, params=params)).json()
        texts += [item["text"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert texts == EVERY


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("from_ms=2&to_ms=1", "/query/to_ms"),
        ("from_ms=-1", "/query/from_ms"),
        ("to_ms=x", "/query/to_ms"),
        ("limit=0", "/query/limit"),
        ("limit=201", "/query/limit"),
        ("channel_id=7", "/query/channel_id"),
        ("cursor=x", "/query/cursor"),
        ("speaker=1", "/query/speaker"),
        ("speaker_id=", "/query/speaker_id"),
    ],
)
async def test_invalid_filters_of_sentences_are_refused(
    api: httpx.AsyncClient, path: str, query: str, pointer: str
) -> None:
    response = await api.get(f"{path}?{query}")
    assert (response.status_code, [place["pointer"] for place in response.json()["errors"]]) == (422, [pointer])


async def test_a_cursor_of_another_transcript_is_refused(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, path: str
) -> None:
    cursor = (await api.get(path, params={"limit": 1})).json()["next_cursor"]
    other = await store(sessions, client_id, CALL)
    response = await api.get(f"/v1/transcripts/{other.id}/sentences", params={"cursor": cursor})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor")


@pytest.mark.parametrize("position", [("sentences", 1, 2), ("sentences", 1, 2, "x"), ("transcripts", 1, 2, 3)])
async def test_a_cursor_of_another_list_is_refused(
    api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], path: str, position: object
) -> None:
    response = await api.get(path, params={"cursor": encode_cursor(position, key_of(api_client, path))})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor")


async def test_a_cursor_with_any_position_returns_at_most_the_rest(
    api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], path: str
) -> None:
    for position, texts in [((-(2**60), -9, -9), EVERY), ((2**60, 0, 0), []), ((2000, 0, 99), ["嗯。", "再见。"])]:
        cursor = encode_cursor(("sentences", *position), key_of(api_client, path))
        response = await api.get(path, params={"cursor": cursor})
        assert [item["text"] for item in response.json()["items"]] == texts


@pytest.mark.parametrize("form", ["sentences", "text", "text?max_lines=1", "srt", "vtt"])
async def test_an_unknown_channel_is_refused_with_the_known_channels(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, form: str
) -> None:
    stored = await store(sessions, client_id, sample("funasr_two_channels_synthetic"))
    form += "&channel_id=7" if "?" in form else "?channel_id=7"
    response = await api.get(f"/v1/transcripts/{stored.id}/{form}")
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")
    [place] = response.json()["errors"]
    assert place == {"pointer": "/query/channel_id", "detail": "is no channel of this transcript; it has 0, 1"}


async def test_a_transcript_without_channels_says_so(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    stored = await store(sessions, client_id, b'{"transcripts": []}')
    path = f"/v1/transcripts/{stored.id}/sentences"
    assert (await api.get(path)).json() == {"items": [], "next_cursor": None}
    refused = await api.get(f"{path}?channel_id=0")
    assert "no channels" in refused.json()["detail"]


async def test_an_entry_without_channel_is_channel_0(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    raw = orjson.dumps({"transcripts": [{"sentences": [sentence("Hi.", 0, 1)]}]})
    path = f"/v1/transcripts/{(await store(sessions, client_id, raw)).id}"
    [item] = (await api.get(f"{path}/sentences?channel_id=0")).json()["items"]
    assert item == {"begin_time": 0, "end_time": 1, "text": "Hi.", "channel_id": 0}
    assert (await api.get(f"{path}/text?channel_id=0")).text == "Hi."


async def test_sentences_of_another_client_are_not_found(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, path: str
) -> None:
    for response in (await other_api.get(path), await api.get(f"/v1/transcripts/{new_id()}/sentences")):
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


def key_of(api_client: tuple[CurrentClient, str], path: str) -> bytes:
    """The key that signs the cursors of the list."""
    return scoped_key(api_client[0].cursor_key, UUID(path.split("/")[-2]))
