"""Files whose URLs differ only in spelling get their own transcripts, end to end."""

import gzip
from dataclasses import replace
from uuid import UUID

import orjson
import pytest

from app.sandbox import Faults, RunningSandbox, SandboxConfig
from app.sandbox.documents import result_document
from tests.poller.conftest import QueueClient, StartPoller

UNESCAPED = SandboxConfig(queue_s=0.05, run_s=0.1, faults=Faults(unescape_echo=True))


def spoken(sandbox: RunningSandbox) -> dict[str, list[str]]:
    """The texts of the transcribed files by the URL that was submitted."""
    found: dict[str, list[str]] = {}
    for task in sandbox.state.tasks.values():
        for file in task.files:
            found.setdefault(file.url, []).append(result_document(task, file)["transcripts"][0]["text"])
    return found


async def transcribed(queue: QueueClient) -> list[tuple[UUID, str, str]]:
    rows = await queue.rows(
        """SELECT client_id, file_url, document_gzip FROM transcripts
           JOIN transcript_bodies ON transcript_id = transcripts.id"""
    )
    return [
        (row.client_id, row.file_url, orjson.loads(gzip.decompress(row.document_gzip))["transcripts"][0]["text"])
        for row in rows
    ]


@pytest.mark.parametrize("sandbox", [UNESCAPED], indirect=True)
async def test_files_whose_urls_differ_in_escapes_get_their_own_transcripts(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    other = await queue.client("other")
    escaped = [f"https://example.com/{number}%2Fcall.wav" for number in range(50)]
    plain = [f"https://example.com/{number}/call.wav" for number in range(50)]
    jobs = [await queue.post(*escaped), await queue.post(*plain, client_id=other)]
    async with start_poller():
        assert await queue.final(*jobs) == ["succeeded"] * 2
    expected = spoken(sandbox)
    assert sum(expected[one] != expected[two] for one, two in zip(escaped, plain, strict=True)) == 50
    stored = await transcribed(queue)
    assert len(stored) == 100
    for client_id, url, text in stored:
        assert expected[url] == [text]
        assert (client_id == other) == (url in plain)
    assert max(len(task.files) for task in sandbox.state.tasks.values()) > 1


@pytest.mark.parametrize("model", ["fun-asr", "qwen3-asr-flash-filetrans"])
@pytest.mark.parametrize("sandbox", [UNESCAPED], indirect=True)
async def test_same_url_is_transcribed_once_for_each_file(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox, model: str
) -> None:
    url, other = "https://example.com/a%2Fb.wav", await queue.client("other")
    jobs = [await queue.post(url, url, model=model), await queue.post(url, client_id=other, model=model)]
    async with start_poller():
        assert await queue.final(*jobs) == ["succeeded"] * 2
    assert [len(task.files) for task in sandbox.state.tasks.values()] == [1, 1, 1]
    stored = await transcribed(queue)
    assert [client_id == other for client_id, _, _ in sorted(stored, key=lambda row: row[0] == other)] == [0, 0, 1]
    assert {text for _, _, text in stored} == set(spoken(sandbox)[url])


@pytest.mark.parametrize("sandbox", [SandboxConfig(queue_s=0.05, run_s=0.5)], indirect=True)
async def test_qwen_result_that_names_another_file_is_not_stored(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    """The response to the query has no file_url for this model; only the document names the file."""
    job = await queue.post("https://example.com/a.wav", model="qwen3-asr-flash-filetrans")
    async with start_poller():
        await queue.until("SELECT 1 FROM tasks WHERE state = 'running'")
        (link,) = sandbox.state.results
        right = sandbox.state.results[link]
        sandbox.state.results[link] = replace(right, file=replace(right.file, echo_url="https://example.com/b.wav"))
        await queue.until("SELECT 1 FROM files WHERE result_failures > 0")
        assert not await queue.rows("SELECT 1 FROM transcripts")
        sandbox.state.results[link] = right
        assert await queue.final(job) == ["succeeded"]
