"""/v1/transcripts/{id}/words.csv, /sentences.tsv, /paragraphs and /markdown over HTTP."""

import csv
import io
from uuid import UUID

import httpx
import pytest

from app.clients.service import CurrentClient
from app.db import Sessions
from app.identifiers import new_id
from tests.transcripts.documents import SAMPLES, sample
from tests.transcripts.test_routes import long_result
from tests.transcripts.transcript_store import store

FORMS = {
    "words.csv": "text/csv; charset=utf-8; header=present",
    "sentences.tsv": "text/tab-separated-values; charset=utf-8",
    "paragraphs": "application/json",
    "markdown": "text/markdown; charset=utf-8; variant=CommonMark",
}
EXTENSIONS = {"text": "txt", "srt": "srt", "vtt": "vtt", "words.csv": "csv", "sentences.tsv": "tsv", "markdown": "md"}
forms = pytest.mark.parametrize("form", FORMS)


@pytest.fixture
def client_id(api_client: tuple[CurrentClient, str]) -> UUID:
    return api_client[0].id


@pytest.mark.parametrize("name", sorted(path.stem.removeprefix("result_") for path in SAMPLES.glob("result_*.json")))
async def test_every_sample_is_served_in_every_export_format(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, name: str
) -> None:
    path = f"/v1/transcripts/{(await store(sessions, client_id, sample(name))).id}"
    document = (await api.get(path)).json()
    sentences = [item for each in document["transcripts"] for item in each["sentences"]]
    responses = {form: await api.get(f"{path}/{form}") for form in FORMS}
    assert {form: response.headers["content-type"] for form, response in responses.items()} == FORMS
    rows = list(csv.reader(io.StringIO(responses["words.csv"].text, newline="")))
    assert len(rows) == 1 + sum(len(item.get("words", [])) for item in sentences)
    assert responses["sentences.tsv"].text.count("\n") == 1 + len(sentences)
    items = responses["paragraphs"].json()["items"]
    assert sum(item["sentences"] for item in items) == sum(bool(item["text"]) for item in sentences)
    assert responses["markdown"].text.count("\n\n") == len(items)


@pytest.mark.parametrize(
    ("url", "plain", "stem"),
    [
        ("https://example.com/calls/call-4711.wav?Signature=secret", "call-4711", "call-4711"),
        ("https://example.com/%E5%AE%A2%E6%9C%8D%20%22A%22.mp3", "____A_", "%E5%AE%A2%E6%9C%8D%20%22A%22"),
        ("https://example.com/a%2F..%5C%0D%0Ab.wav", "a_..__b", "a_.._%20b"),
        ("https://example.com/.wav", "wav", "wav"),
        ("https://example.com/...", "transcript", "transcript"),
        (f"https://example.com/{'a' * 300}", "a" * 100, "a" * 100),
    ],
)
async def test_files_are_saved_under_the_name_of_the_recording(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, *, url: str, plain: str, stem: str
) -> None:
    path = f"/v1/transcripts/{(await store(sessions, client_id, file_url=url)).id}"
    for form, extension in EXTENSIONS.items():
        response = await api.get(f"{path}/{form}")
        assert response.headers["content-disposition"] == (
            f"inline; filename=\"{plain}.{extension}\"; filename*=UTF-8''{stem}.{extension}"
        )
    assert "content-disposition" not in (await api.get(f"{path}/paragraphs")).headers


@forms
async def test_one_channel_can_be_selected(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, form: str
) -> None:
    path = f"/v1/transcripts/{(await store(sessions, client_id)).id}/{form}"
    both, one, missing = [await api.get(f"{path}{query}") for query in ("", "?channel_id=1", "?channel_id=7")]
    assert len(both.text) > len(one.text)
    assert (missing.status_code, missing.json()["errors"][0]["pointer"]) == (422, "/query/channel_id")


@forms
async def test_unknown_transcripts_and_parameters_are_refused(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, form: str
) -> None:
    assert (await api.get(f"/v1/transcripts/{new_id()}/{form}")).status_code == 404
    path = f"/v1/transcripts/{(await store(sessions, client_id)).id}/{form}"
    for query in ("colour=red", "channel_id=-1", "max_lines=2"):
        assert (await api.get(f"{path}?{query}")).status_code == 422, query


@pytest.mark.parametrize("form", ["words.csv", "sentences.tsv"])
async def test_bom_adds_a_byte_order_mark(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, form: str
) -> None:
    path = f"/v1/transcripts/{(await store(sessions, client_id)).id}/{form}"
    assert (await api.get(f"{path}?bom=true")).content == b"\xef\xbb\xbf" + (await api.get(path)).content


async def test_markdown_has_the_file_name_and_optionally_speakers(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    path = f"/v1/transcripts/{(await store(sessions, client_id)).id}/markdown"
    named, unnamed = (await api.get(path)).text, (await api.get(f"{path}?speakers=false")).text
    assert named.startswith("# a.wav\n\n**Channel 0** [00:00:00] Hello World")
    assert unnamed.startswith("# a.wav\n\n[00:00:00] Hello World")


@pytest.mark.slow
@forms
async def test_a_long_transcript_is_exported_completely(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, form: str
) -> None:
    stored = await store(sessions, client_id, long_result())
    assert "3999" in (await api.get(f"/v1/transcripts/{stored.id}/{form}")).text or form == "words.csv"
