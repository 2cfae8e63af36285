"""The cost of jobs and files is what upstream billed."""

from decimal import Decimal

from app.db import transaction
from app.queue.queries import find_job
from tests.poller.conftest import QueueClient, StartPoller

FILE = "https://example.com/{}.wav?sandbox=seconds:{},billed:{}"


async def test_cost_is_what_upstream_billed(queue: QueueClient, start_poller: StartPoller) -> None:
    job = await queue.post(FILE.format("call", 300, 200))
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
    (row,) = await queue.rows("SELECT cost, audio_duration_ms FROM jobs WHERE id = :job", job=job)
    assert (row.cost, row.audio_duration_ms) == (Decimal("0.044"), 300_000)
    (file,) = await queue.files(job)
    assert (file.billed_s, file.input_tokens, file.output_tokens, file.cost) == (200, None, None, Decimal("0.044"))


async def test_bill_of_two_channels_is_not_doubled_again(queue: QueueClient, start_poller: StartPoller) -> None:
    job = await queue.post(FILE.format("call", 300, 200), parameters={"channel_id": [0, 1]})
    qwen = await queue.post(
        FILE.format("q", 30, 20), model="qwen3-asr-flash-filetrans", parameters={"channel_id": [0, 1]}
    )
    async with start_poller():
        assert await queue.final(job, qwen) == ["succeeded"] * 2
    assert [(await queue.files(each))[0].billed_s for each in (job, qwen)] == [400, 40]


async def test_figure_above_the_audio_is_not_believed(queue: QueueClient, start_poller: StartPoller) -> None:
    job = await queue.post(FILE.format("call", 300, 40_000))
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
    assert [file.billed_s for file in await queue.files(job)] == [300]


async def test_failed_and_silent_files_have_no_share(queue: QueueClient, start_poller: StartPoller) -> None:
    job = await queue.post(
        FILE.format("a", 30, 20),
        "https://example.com/bad.wav?sandbox=fail:DECODE_ERROR",
        "https://example.com/no.wav?sandbox=silent",
    )
    async with start_poller():
        assert await queue.final(job) == ["partial"]
    assert [file.cost for file in await queue.files(job)] == [Decimal("0.0044"), None, 0]


async def test_model_that_is_billed_by_token_has_its_cost_in_dollars(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    """The sandbox bills 25 input tokens and 4 output tokens for a second."""
    context = [{"role": "user", "content": [{"type": "input_text", "text": "report"}]}]
    by_token = await queue.post(
        "https://example.com/a.wav?sandbox=seconds:40",
        "https://example.com/b.wav?sandbox=seconds:60",
        model="qwen-audio-3.1-asr-flash-filetrans",
        parameters={"context": context},
    )
    by_second = await queue.post(FILE.format("c", 30, 20), model="qwen-audio-3.0-asr-flash-filetrans")
    async with start_poller():
        assert await queue.final(by_token, by_second) == ["succeeded"] * 2
    first, second = await queue.files(by_token)
    assert (first.billed_s, first.input_tokens, first.output_tokens) == (None, 1000, 160)
    assert (second.billed_s, second.input_tokens, second.output_tokens) == (None, 1500, 240)
    async with transaction(queue.sessions) as session:
        job = await find_job(session, queue.client_id, by_token)
    # (2,500 * 0.113 + 400 * 0.382) / 1,000,000 = 0.0004353
    assert (job.job.cost.amount, job.job.cost.currency) == ("0.00044", "USD")
    assert [file.cost for file in await queue.files(by_second)] == [Decimal("0.0044")]
