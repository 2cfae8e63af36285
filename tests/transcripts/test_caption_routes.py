"""Text and captions over HTTP: profiles, TTML, byte order marks and file names."""

from uuid import UUID

import httpx
import pytest

from app.db import Sessions
from tests.transcripts.documents import FIELD, sample
from tests.transcripts.imsc import read_by_ttconv
from tests.transcripts.transcript_store import store

CAPTIONS = {
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "ttml": "application/ttml+xml; charset=utf-8",
}
FILES = {"text": "txt", "srt": "srt", "vtt": "vtt", "ttml": "ttml", "markdown": "md", "words.csv": "csv"}


async def test_ttml_has_the_captions_of_subrip(api: httpx.AsyncClient, client_id: UUID, sessions: Sessions) -> None:
    path = f"/v1/transcripts/{(await store(sessions, client_id, sample('funasr_diarized_synthetic'))).id}"
    responses = {form: await api.get(f"{path}/{form}?speakers=true") for form in CAPTIONS}
    assert {form: response.headers["content-type"] for form, response in responses.items()} == CAPTIONS
    assert read_by_ttconv(responses["ttml"].text) == [
        (760, 3240, "Speaker 0: Hello World，\n这里是阿里巴巴语音实验室。"),
        (5000, 7400, "Speaker 1: 你好，我是第二位说话人。"),
    ]


@pytest.mark.parametrize("form", [*CAPTIONS, "text"])
async def test_a_profile_sets_the_limits_and_a_given_limit_goes_first(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, form: str
) -> None:
    raw = sample("qwen3_filetrans_sentences_docs_shape")
    path = f"/v1/transcripts/{(await store(sessions, client_id, raw)).id}/{form}"
    queries = ("", "?profile=bbc", "?profile=bbc&max_chars_per_line=20", "?profile=netflix-en&max_lines=1")
    found = [await api.get(path + query) for query in queries]
    assert [response.status_code for response in found] == [200] * 4
    assert len({response.text for response in found}) == len({response.headers["etag"] for response in found}) == 4
    refused = await api.get(f"{path}?profile=vhs")
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/query/profile")


@pytest.mark.parametrize("form", FILES)
async def test_files_have_a_name_and_may_begin_with_a_byte_order_mark(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, form: str
) -> None:
    path = f"/v1/transcripts/{(await store(sessions, client_id)).id}"
    plain, marked = await api.get(f"{path}/{form}"), await api.get(f"{path}/{form}?bom=true")
    assert f".{FILES[form]}" in plain.headers["content-disposition"]
    assert marked.content == b"\xef\xbb\xbf" + plain.content
    assert marked.headers["etag"] != plain.headers["etag"]


async def test_captions_end_with_the_audio(api: httpx.AsyncClient, client_id: UUID, sessions: Sessions) -> None:
    raw = (FIELD / "52-result-one-mark-more-in-text-than-in-words.json").read_bytes()
    short = raw.replace(b'"original_duration_in_milliseconds": 12000', b'"original_duration_in_milliseconds": 8000')
    assert short != raw
    path = f"/v1/transcripts/{(await store(sessions, client_id, short)).id}/srt"
    assert "00:00:07,200 --> 00:00:08,000" in (await api.get(path)).text


async def test_paragraphs_and_markdown_have_marks_in_their_place(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    raw = (FIELD / "59-result-dash-and-ellipsis-before-chinese-quote.json").read_bytes()
    path = f"/v1/transcripts/{(await store(sessions, client_id, raw)).id}"
    items = (await api.get(f"{path}/paragraphs")).json()["items"]
    assert [item["text"] for item in items] == ["他说——“是我。”等一下……“好。”"]
    assert "他说——“是我。”等一下……“好。”" in (await api.get(f"{path}/markdown")).text
