"""The list of transcripts over HTTP."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.db import Sessions
from tests.transcripts.transcript_store import URL, store


async def test_the_list_is_newest_first_and_filtered(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    a = await store(sessions, client_id)
    later = a.row.created_at + timedelta(hours=1)
    b = await store(sessions, client_id, region="singapore", created_at=later)
    c = await store(sessions, client_id, job_id=a.row.job_id, model="paraformer-v2")

    async def found(**params: Any) -> list[str]:
        return [item["id"] for item in (await api.get("/v1/transcripts", params=params)).json()["items"]]

    everything = (await api.get("/v1/transcripts")).json()
    assert [item["id"] for item in everything["items"]] == [str(c.id), str(b.id), str(a.id)]
    assert everything["items"][2] == {
        "id": str(a.id),
        "job_id": str(a.row.job_id),
        "file_url": URL,
        "model": "fun-asr",
        "region": "beijing",
        "created_at": a.row.created_at.isoformat().replace("+00:00", "Z"),
        "audio_duration_ms": a.row.audio_duration_ms,
    }
    assert await found(job_id=a.row.job_id) == [str(c.id), str(a.id)]
    assert await found(model="paraformer-v2") == [str(c.id)]
    assert await found(region="singapore") == [str(b.id)]
    assert await found(created_after=(later - timedelta(seconds=1)).isoformat()) == [str(b.id)]
    assert await found(created_before=a.row.created_at.isoformat()) == []
    assert (await other_api.get("/v1/transcripts")).json() == {"items": [], "next_cursor": None}


async def test_pages_of_transcripts_are_stable_while_new_ones_arrive(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    stored = [str((await store(sessions, client_id)).id) for _ in range(3)]
    first = (await api.get("/v1/transcripts?limit=2")).json()
    await store(sessions, client_id)
    second = (await api.get("/v1/transcripts", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in first["items"] + second["items"]] == stored[::-1]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    "query", ["job_id=4711", "region=x", "created_after=x", "limit=0", "cursor=x", "status=x", "model="]
)
async def test_an_invalid_filter_of_the_list_is_refused(api: httpx.AsyncClient, query: str) -> None:
    response = await api.get(f"/v1/transcripts?{query}")
    pointers = [place["pointer"] for place in response.json()["errors"]]
    assert (response.status_code, pointers) == (422, [f"/query/{query.split('=', maxsplit=1)[0]}"])
