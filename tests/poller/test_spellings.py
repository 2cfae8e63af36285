"""Files whose URLs differ in their spelling only, end to end: each gets its own transcript."""

import gzip
from dataclasses import replace
from uuid import UUID

import orjson
import pytest

from app.sandbox import Faults, RunningSandbox, SandboxConfig
from app.sandbox.documents import result_document
from tests.poller.conftest import Desk, StartPoller

UNESCAPED = SandboxConfig(queue_s=0.05, run_s=0.1, faults=Faults(unescape_echo=True))


def spoken(sandbox: RunningSandbox) -> dict[str, list[str]]:
    """What each file says, by the URL that was submitted."""
    found: dict[str, list[str]] = {}
    for task in sandbox.state.tasks.values():
        for file in task.files:
            found.setdefault(file.url, []).append(result_document(task, file)["transcripts"][0]["text"])
    return found


async def transcribed(services: Desk) -> list[tuple[UUID, str, str]]:
    rows = await services.rows(
        """SELECT client_id, file_url, document_gzip FROM transcripts
           JOIN transcript_bodies ON transcript_id = transcripts.id"""
    )
    return [
        (row.client_id, row.file_url, orjson.loads(gzip.decompress(row.document_gzip))["transcripts"][0]["text"])
        for row in rows
    ]


@pytest.mark.parametrize("sandbox", [UNESCAPED], indirect=True)
async def test_clients_whose_urls_differ_in_escapes_get_their_own_transcripts(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    other = await services.client("other")
    escaped = [f"https://example.com/{number}%2Fcall.wav" for number in range(50)]
    plain = [f"https://example.com/{number}/call.wav" for number in range(50)]
    jobs = [await services.post(*escaped), await services.post(*plain, client_id=other)]
    async with start_poller():
        assert await services.final(*jobs) == ["succeeded"] * 2
    said = spoken(sandbox)
    assert sum(said[one] != said[two] for one, two in zip(escaped, plain, strict=True)) == 50
    stored = await transcribed(services)
    assert len(stored) == 100
    for client_id, url, text in stored:
        assert said[url] == [text]
        assert (client_id == other) == (url in plain)
    assert max(len(task.files) for task in sandbox.state.tasks.values()) > 1


@pytest.mark.parametrize("model", ["fun-asr", "qwen3-asr-flash-filetrans"])
@pytest.mark.parametrize("sandbox", [UNESCAPED], indirect=True)
async def test_the_same_url_in_one_job_and_in_two_clients_jobs_is_transcribed_for_each(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox, model: str
) -> None:
    url, other = "https://example.com/a%2Fb.wav", await services.client("other")
    jobs = [await services.post(url, url, model=model), await services.post(url, client_id=other, model=model)]
    async with start_poller():
        assert await services.final(*jobs) == ["succeeded"] * 2
    assert [len(task.files) for task in sandbox.state.tasks.values()] == [1, 1, 1]
    stored = await transcribed(services)
    assert [client_id == other for client_id, _, _ in sorted(stored, key=lambda row: row[0] == other)] == [0, 0, 1]
    assert {text for _, _, text in stored} == set(spoken(sandbox)[url])


@pytest.mark.parametrize("sandbox", [SandboxConfig(queue_s=0.05, run_s=0.5)], indirect=True)
async def test_a_result_of_qwen_that_names_another_file_is_not_taken(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    """The answer to the query has no file_url there: only the document says which file it is of."""
    job = await services.post("https://example.com/a.wav", model="qwen3-asr-flash-filetrans")
    async with start_poller():
        await services.until("SELECT 1 FROM tasks WHERE state = 'running'")
        (link,) = sandbox.state.results
        right = sandbox.state.results[link]
        sandbox.state.results[link] = replace(right, file=replace(right.file, echo_url="https://example.com/b.wav"))
        await services.until("SELECT 1 FROM files WHERE result_failures > 0")
        assert not await services.rows("SELECT 1 FROM transcripts")
        sandbox.state.results[link] = right
        assert await services.final(job) == ["succeeded"]
