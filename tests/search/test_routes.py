"""/v1/search over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.api.pagination import encode_cursor
from app.clients.service import CurrentClient
from app.db import Sessions
from app.identifiers import new_id
from app.search.candidates import FIRST_WALK
from app.search.searching import MAX_READ
from tests.search.search_case import sentences
from tests.search.segment_store import add_transcript, add_transcripts


@pytest.fixture
def client_id(api_client: tuple[CurrentClient, str]) -> UUID:
    return api_client[0].id


async def search(api: httpx.AsyncClient, q: str, **parameters: Any) -> list[dict[str, Any]]:
    """All hits of all pages."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        response = await api.get("/v1/search", params={"q": q, **parameters, **({"cursor": cursor} if cursor else {})})
        assert response.status_code == 200, response.text
        items += response.json()["items"]
        cursor = response.json()["next_cursor"]
        if cursor is None:
            return items


async def test_a_hit_has_its_transcript_times_speaker_and_snippet(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    channel = sentences("你好。", "我想给 <iPhone> 退款。", channel_id=1)
    channel["sentences"][1]["speaker_id"] = 2
    transcript_id = await add_transcript(sessions, client_id, channel)
    response = await api.get("/v1/search", params={"q": "退款"})
    assert response.status_code == 200
    (hit,) = response.json()["items"]
    transcript = (await api.get(f"/v1/transcripts/{transcript_id}")).json()
    assert hit == {
        "transcript_id": str(transcript_id),
        "job_id": transcript["job_id"],
        "file_url": transcript["file_url"],
        "channel_id": 1,
        "begin_time": 1000,
        "end_time": 1900,
        "speaker_id": 2,
        "snippet": "我想给 &lt;iPhone&gt; <mark>退款</mark>。",
    }
    assert response.json()["next_cursor"] is None


@pytest.mark.slow
@pytest.mark.parametrize("indexed", [True, False])
async def test_frequent_and_rare_words_are_found_among_many_transcripts(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID, *, indexed: bool
) -> None:
    """There are more transcripts than the first walk reads, so the index is used."""
    documents = [[sentences("今天天气很好。", f"Number {n}.")] for n in range(FIRST_WALK * 2)]
    documents[0] = [sentences("天地玄黄，quarterly refunds", "今天")]
    ids = await add_transcripts(sessions, client_id, documents, indexed=indexed)
    for q in ("天地玄黄", "玄", "quarterly", '"quarterly refunds"', "refund 天地"):
        assert [hit["transcript_id"] for hit in await search(api, q)] == [str(ids[0])], q
    assert [hit["transcript_id"] for hit in await search(api, "今天", limit=10)] == [*map(str, reversed(ids))]
    assert await search(api, "明天") == []


async def test_hits_are_ordered_by_newest_transcript_then_by_sentence(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    old = await add_transcript(sessions, client_id, sentences("好一", "好二"), sentences("好三", channel_id=1))
    new = await add_transcript(sessions, client_id, sentences("好" * 2999 + "。", "好四"))
    hits = [(hit["transcript_id"], hit["channel_id"], hit["begin_time"]) for hit in await search(api, "好", limit=1)]
    assert hits == [(str(new), 0, 0), (str(new), 0, 1000), (str(old), 0, 0), (str(old), 0, 1000), (str(old), 1, 0)]


async def test_pages_stay_stable_while_transcripts_arrive(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    await add_transcript(sessions, client_id, sentences("好一", "好二", "好三"))
    first = (await api.get("/v1/search", params={"q": "好", "limit": 2})).json()
    await add_transcript(sessions, client_id, sentences("好四"))
    rest = await api.get("/v1/search", params={"q": "好", "limit": 2, "cursor": first["next_cursor"]})
    assert [hit["begin_time"] for hit in [*first["items"], *rest.json()["items"]]] == [0, 1000, 2000]
    assert rest.json()["next_cursor"] is None


@pytest.mark.slow
async def test_a_rare_phrase_of_frequent_words_may_take_several_pages(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    documents = [[sentences("今天很好", "明天再见")] for _ in range(MAX_READ + 100)]
    documents[3] = [sentences("今天和明天")]
    ids = await add_transcripts(sessions, client_id, documents)
    first = (await api.get("/v1/search", params={"q": "今天 明天"})).json()
    assert (first["items"], first["next_cursor"] is None) == ([], False)
    assert [hit["transcript_id"] for hit in await search(api, "今天 明天")] == [str(ids[3])]


async def test_filters_narrow_the_search(api: httpx.AsyncClient, sessions: Sessions, client_id: UUID) -> None:
    began = datetime.now(UTC)
    await add_transcript(sessions, client_id, sentences("你好"))
    await add_transcript(sessions, client_id, sentences("你好"), model="paraformer-v2", indexed=False)
    ours, theirs = await search(api, "你好")
    assert await search(api, "你好", model="paraformer-v2") == [ours]
    assert await search(api, "你好", model="fun-asr", region="beijing") == [theirs]
    assert await search(api, "你好", region="singapore") == []
    assert await search(api, "你好", job_id=theirs["job_id"]) == [theirs]
    assert await search(api, "你好", job_id=str(new_id())) == []
    assert await search(api, "你好", created_after=began.isoformat()) == [ours, theirs]
    assert await search(api, "你好", created_before=began.isoformat()) == []
    late = (began + timedelta(days=3)).isoformat()
    assert await search(api, "你好", created_after=late) == []
    assert await search(api, "你好", created_before=late) == [ours, theirs]
    assert await search(api, "你好", created_before=(began - timedelta(days=3)).isoformat()) == []


async def test_a_client_finds_nothing_of_another(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    await add_transcript(sessions, client_id, sentences("你好"))
    await add_transcript(sessions, client_id, sentences("你好"), indexed=False)
    assert len(await search(api, "你好")) == 2
    assert await search(other_api, "你好") == []


@pytest.mark.parametrize("path", ["/v1/search?q=好", "/v1/transcripts"])
@pytest.mark.parametrize(("transcripts", "coding"), [(30, "gzip"), (1, None)])
async def test_responses_have_an_etag_and_large_ones_are_compressed(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID, *, path: str, transcripts: int, coding: str | None
) -> None:
    await add_transcripts(sessions, client_id, [[sentences("你好")]] * transcripts)
    full = await api.get(path, headers={"Accept-Encoding": "gzip"})
    assert len(full.json()["items"]) == transcripts
    assert full.headers.get("content-encoding") == coding
    assert (full.headers["vary"], full.headers["cache-control"]) == ("Accept-Encoding", "private, no-cache")
    head = await api.head(path, headers={"Accept-Encoding": "gzip"})
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", full.headers["etag"])
    known = {"If-None-Match": full.headers["etag"]}
    unchanged = await api.get(path, headers={"Accept-Encoding": "gzip", **known})
    assert (unchanged.status_code, unchanged.headers["vary"]) == (304, "Accept-Encoding")
    plain = await api.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert (plain.headers["etag"] == full.headers["etag"]) == (coding is None)
    await add_transcript(sessions, client_id, sentences("好"))
    assert (await api.get(path, headers={"Accept-Encoding": "gzip", **known})).status_code == 200


async def test_a_token_is_needed(stranger: httpx.AsyncClient) -> None:
    assert (await stranger.get("/v1/search", params={"q": "a"})).status_code == 401


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({}, "/query/q"),
        ({"q": ""}, "/query/q"),
        ({"q": "  "}, "/query/q"),
        ({"q": "。，*"}, "/query/q"),
        ({"q": "a" * 201}, "/query/q"),
        ({"q": "㏂" * 200}, "/query/q"),
        ({"q": "a\0"}, "/query/q"),
        ({"q": "a", "limit": 0}, "/query/limit"),
        ({"q": "a", "limit": 201}, "/query/limit"),
        ({"q": "a", "model": ""}, "/query/model"),
        ({"q": "a", "region": "paris"}, "/query/region"),
        ({"q": "a", "job_id": "x"}, "/query/job_id"),
        ({"q": "a", "created_after": "yesterday"}, "/query/created_after"),
        ({"q": "a", "query": "b"}, "/query/query"),
        ({"q": "a", "cursor": "x"}, "/query/cursor"),
    ],
)
async def test_invalid_parameters_are_refused_with_their_pointer(
    api: httpx.AsyncClient, parameters: dict[str, Any], pointer: str
) -> None:
    response = await api.get("/v1/search", params=parameters)
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]


@pytest.mark.parametrize(
    "position", [("transcripts", new_id()), ("search", new_id(), -1, 0), ("search", new_id(), 0, 2**31)]
)
async def test_a_cursor_of_another_list_is_refused_by_search(
    api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], position: object
) -> None:
    cursor = encode_cursor(position, api_client[0].cursor_key)
    response = await api.get("/v1/search", params={"q": "a", "cursor": cursor})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor")


async def test_the_longest_query_is_accepted(api: httpx.AsyncClient, sessions: Sessions, client_id: UUID) -> None:
    await add_transcript(sessions, client_id, sentences("的" * 300))
    assert len(await search(api, "的" * 200)) == 1
    assert await search(api, " ".join("abcdefghij" * 10)) == []


async def test_any_position_of_a_valid_cursor_is_accepted(
    api: httpx.AsyncClient, sessions: Sessions, api_client: tuple[CurrentClient, str]
) -> None:
    client = api_client[0]
    await add_transcript(sessions, client.id, sentences("你好"))
    for number in (0, 2**31 - 1):
        cursor = encode_cursor(("search", UUID(int=(1 << 128) - 1), number, number), client.cursor_key)
        assert (await api.get("/v1/search", params={"q": "你好", "cursor": cursor})).status_code == 200


async def test_a_search_takes_few_statements(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID, statements: list[str]
) -> None:
    await add_transcript(sessions, client_id, sentences("你好"))
    await search(api, "你好")  # records the use of the token
    statements.clear()
    await search(api, "你好")
    assert len(statements) == 3, statements  # token, SET LOCAL, walk
