"""The options of SenseVoice have exactly the effect of the function in the vendor's documentation."""

import copy
import re
from itertools import product
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest

from app.db import Sessions
from app.identifiers import new_id
from app.transcripts.models import Transcript
from app.transcripts.normalise import normalise
from app.transcripts.storage import prepare_transcript
from tests.transcripts.documents import parsed, sample
from tests.transcripts.transcript_store import URL, store, store_prepared

SAMPLES = ["sensevoice_seed", "sensevoice_synthetic_many_tags"]
COMBINATIONS = list(product([True, False], repeat=3))


def parse_sensevoice_result(  # noqa: C901 - its steps are the vendor's
    data: dict[str, Any], keep_trans: bool, keep_emotions: bool, keep_events: bool
) -> dict[str, Any]:
    """The vendor's function, word for word but for its comments and the order of its sets."""
    emotion_list = ["NEUTRAL", "HAPPY", "ANGRY", "SAD"]
    event_list = ["Speech", "Applause", "BGM", "Laughter"]
    all_tags = ["Speech", "Applause", "BGM", "Laughter", "NEUTRAL", "HAPPY", "ANGRY", "SAD", "SPECIAL_TOKEN_1"]
    tags_to_cleanup = []
    for tag in all_tags:
        tags_to_cleanup.append(f"<|{tag}|> ")
        tags_to_cleanup.append(f"<|/{tag}|>")
        tags_to_cleanup.append(f"<|{tag}|>")

    def get_clean_text(text: str) -> str:
        for tag in tags_to_cleanup:
            text = text.replace(tag, "")
        pattern = r"\s{2,}"
        return re.sub(pattern, " ", text).strip()

    for item in data["transcripts"]:
        for sentence in item["sentences"]:
            if keep_emotions:
                emotions_pattern = r"<\|(" + "|".join(emotion_list) + r")\|>"
                emotions = re.findall(emotions_pattern, sentence["text"])
                sentence["emotion"] = sorted(set(emotions))
                if not sentence["emotion"]:
                    sentence.pop("emotion", None)
            if keep_events:
                events_pattern = r"<\|(" + "|".join(event_list) + r")\|>"
                events = re.findall(events_pattern, sentence["text"])
                sentence["event"] = sorted(set(events))
                if not sentence["event"]:
                    sentence.pop("event", None)
            if keep_trans:
                sentence["text"] = get_clean_text(sentence["text"])
            else:
                sentence.pop("text", None)
        if keep_trans:
            item["text"] = get_clean_text(item["text"])
        else:
            item.pop("text", None)
        item["sentences"] = list(filter(lambda x: "text" in x or "emotion" in x or "event" in x, item["sentences"]))
    return data


async def stored(sessions: Sessions, client_id: UUID, raw: bytes) -> str:
    """The path of a stored transcript of SenseVoice."""
    prepared = prepare_transcript(
        Transcript(
            client_id=client_id,
            job_id=new_id(),
            file_index=0,
            file_url=URL,
            model="sensevoice-v1",
            region="beijing",
        ),
        raw=raw,
        document=normalise(raw, file_url=URL, family="sensevoice"),
    )
    return f"/v1/transcripts/{(await store_prepared(sessions, prepared)).id}"


@pytest.mark.parametrize("name", SAMPLES)
async def test_transcript_equals_the_result_of_the_function(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, name: str
) -> None:
    path = await stored(sessions, client_id, sample(name))
    for trans, emotions, events in COMBINATIONS:
        params = {"keep_trans": trans, "keep_emotions": emotions, "keep_events": events}
        expected = parse_sensevoice_result(parsed(name), trans, emotions, events)["transcripts"]
        body = (await api.get(path, params=params)).json()
        assert body["transcripts"] == expected
        assert ("text" in body) == trans
        sentences = (await api.get(f"{path}/sentences", params=params)).json()["items"]
        assert sentences == [{**sentence, "channel_id": 0} for sentence in expected[0]["sentences"]]


async def test_sample_call_of_the_founding_document_gives_its_result(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    path = await stored(sessions, client_id, sample("sensevoice_seed"))
    body = (await api.get(path, params={"keep_trans": False, "keep_emotions": False})).json()
    assert body["transcripts"] == parsed("sensevoice_seed_cleaned_events_only")["transcripts"]
    for params in ({}, {"keep_trans": True}):
        body = (await api.get(path, params=params)).json()
        assert body["transcripts"] == parsed("sensevoice_seed_cleaned_all")["transcripts"]
        assert body["file_url"] == URL


async def test_one_option_alone_leaves_the_others_true(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    path = await stored(sessions, client_id, sample("sensevoice_synthetic_many_tags"))
    (channel,) = (await api.get(f"{path}?keep_events=false")).json()["transcripts"]
    cleaned = copy.deepcopy(parsed("sensevoice_synthetic_many_tags_cleaned")["transcripts"][0])
    for sentence in cleaned["sentences"]:
        sentence.pop("event", None)
    assert channel == cleaned


async def test_pages_count_only_the_sentences_that_are_left(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    texts = ["<|HAPPY|> a", "b", "c", "<|SAD|> d"]
    sentences = [{"begin_time": n, "end_time": n + 1, "text": text} for n, text in enumerate(texts)]
    raw = orjson.dumps({"transcripts": [{"channel_id": 0, "text": "", "sentences": sentences}]})
    path = await stored(sessions, client_id, raw)
    params: dict[str, Any] = {"keep_trans": False, "limit": 1}
    first = (await api.get(f"{path}/sentences", params=params)).json()
    second = (await api.get(f"{path}/sentences", params={**params, "cursor": first["next_cursor"]})).json()
    assert [page["items"][0]["emotion"] for page in (first, second)] == [["HAPPY"], ["SAD"]]
    assert second["next_cursor"] is None


@pytest.mark.parametrize("form", ["", "/sentences"])
async def test_options_are_refused_for_other_families(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, form: str
) -> None:
    transcript = await store(sessions, client_id)
    for headers in ({}, {"If-None-Match": "*"}):
        response = await api.get(f"/v1/transcripts/{transcript.id}{form}?keep_trans=true", headers=headers)
        assert response.status_code == 422
        (error,) = response.json()["errors"]
        assert error["pointer"] == "/query/keep_trans"
        assert "fun-asr" in error["detail"]


async def test_options_have_their_own_etag(api: httpx.AsyncClient, client_id: UUID, sessions: Sessions) -> None:
    path = await stored(sessions, client_id, sample("sensevoice_seed"))
    response = await api.get(f"{path}?keep_trans=false")
    again = {"If-None-Match": response.headers["ETag"]}
    assert (await api.get(f"{path}?keep_trans=false", headers=again)).status_code == 304
    assert (await api.get(path, headers=again)).status_code == 200
    assert (await api.get(f"{path}?keep_events=false", headers=again)).status_code == 200
