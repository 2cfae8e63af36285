"""Results of hours of audio are fetched one at a time and do not delay small ones."""

import gzip

import orjson

from app.poller.context import RESULT_SLOTS
from app.poller.result_fetcher import SMALL_BYTES
from app.sandbox import RunningSandbox
from tests.poller.conftest import QueueClient, StartPoller

LONG = "https://example.com/long-{}.wav?sandbox=words:14000"
SHORT = "https://example.com/short-{}.wav"


async def test_large_and_small_results_of_one_task_are_stored(
    queue: QueueClient, sandbox: RunningSandbox, start_poller: StartPoller
) -> None:
    long = [LONG.format(n) for n in range(3)]
    async with start_poller():
        job = await queue.post(*long, *(SHORT.format(n) for n in range(3)))
        assert await queue.final(job) == ["succeeded"]
    rows = await queue.rows(
        "SELECT file_url, raw_gzip, document_gzip FROM transcripts JOIN transcript_bodies ON transcript_id = id"
    )
    assert len(rows) == 6
    for row in rows:
        raw = gzip.decompress(row.raw_gzip)
        assert (len(raw) > SMALL_BYTES) == (row.file_url in long)
        body = orjson.loads(gzip.decompress(row.document_gzip))
        assert body["transcripts"] == orjson.loads(raw)["transcripts"]


async def test_large_results_do_not_delay_small_ones(queue: QueueClient, start_poller: StartPoller) -> None:
    async with start_poller(dashscope_beijing_max_files_per_task=1):
        long = [await queue.post(LONG.format(n)) for n in range(RESULT_SLOTS + 2)]
        short = [await queue.post(SHORT.format(n)) for n in range(3)]
        assert await queue.final(*short) == ["succeeded"] * 3
        assert await queue.final(*long) == ["succeeded"] * len(long)
