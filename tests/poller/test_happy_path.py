"""Jobs end to end: submitted, polled, collected and stored, in the right region."""

import gzip
from dataclasses import replace

import orjson

from app.sandbox import RunningSandbox
from tests.poller.conftest import PACE, QueueClient, StartPoller

SAMPLES = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio"
FEMALE = f"{SAMPLES}/paraformer/hello_world_female2.wav"
MALE = f"{SAMPLES}/paraformer/hello_world_male2.wav"
RICH = f"{SAMPLES}/sensevoice/rich_text_example_1.wav"


async def documents(queue: QueueClient) -> dict[str, dict[str, object]]:
    rows = await queue.rows(
        "SELECT file_url, document_gzip FROM transcripts JOIN transcript_bodies ON transcript_id = transcripts.id"
    )
    return {row.file_url: orjson.loads(gzip.decompress(row.document_gzip)) for row in rows}


async def test_samples_are_transcribed_and_stored(queue: QueueClient, start_poller: StartPoller) -> None:
    job = await queue.post(FEMALE, MALE)
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
    stored = await documents(queue)
    assert stored[FEMALE]["text"] == "Hello World，这里是阿里巴巴语音实验室。"
    (row,) = await queue.rows("SELECT * FROM jobs WHERE id = :job", job=job)
    assert (row.files_succeeded, row.audio_duration_ms) == (2, 3834 + 4726)
    assert f"{row.cost:.5f}" == "0.00198"  # 9 s, as upstream states
    assert [file.attempts for file in await queue.files(job)] == [1, 1]


async def test_every_model_family_is_transcribed(queue: QueueClient, start_poller: StartPoller) -> None:
    jobs = [
        await queue.post(MALE, model="paraformer-v2"),
        await queue.post(RICH, model="sensevoice-v1"),
        await queue.post("https://example.com/a.wav", model="qwen3-asr-flash-filetrans"),
        await queue.post("https://example.com/b.wav", model="fun-asr", region="singapore"),
    ]
    async with start_poller():
        assert await queue.final(*jobs) == ["succeeded"] * 4
    assert (await documents(queue))[RICH]["transcripts"][0]["sentences"][0]["emotion"] == ["ANGRY"]  # type: ignore[index]


async def test_bad_file_does_not_stop_the_other_files(queue: QueueClient, start_poller: StartPoller) -> None:
    job = await queue.post(
        FEMALE, "https://example.com/bad.wav?sandbox=fail:DECODE_ERROR", "https://example.com/no.wav?sandbox=silent"
    )
    async with start_poller():
        assert await queue.final(job) == ["partial"]
    good, bad, silent = await queue.files(job)
    assert [good.status, bad.status, silent.status] == ["succeeded", "failed", "succeeded"]
    assert (bad.error_code, bad.error_upstream_code, bad.error_retryable) == ("audio_unreadable", "DECODE_ERROR", False)


async def test_result_hosts_never_receive_the_key(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await queue.post(FEMALE)
    async with start_poller():
        await queue.final(job)
    assert sandbox.state.authorization_leaks == 0
    assert sandbox.state.downloads


async def test_wrong_key_blocks_its_region_only_and_fails_no_file(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    refused = await queue.post(FEMALE, region="beijing")
    fine = await queue.post(FEMALE, region="singapore")
    async with start_poller(dashscope_beijing_api_key="sk-wrong"):
        assert await queue.final(fine) == ["succeeded"]
        await queue.until("SELECT 1 FROM blockages WHERE region = 'beijing' AND code = 'account_key_refused'")
    (file,) = await queue.files(refused)
    assert (file.status, file.attempts) == ("queued", 0)
    (circuit,) = await queue.rows("SELECT code, upstream_code, message FROM circuits")
    assert (circuit.code, circuit.upstream_code) == ("account_key_refused", "InvalidApiKey")
    assert "sk-wrong" not in circuit.message


async def test_file_that_failed_in_the_engine_is_submitted_once_more(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    job = await queue.post("https://example.com/flaky.wav?sandbox=fail_once:FILE_SERVER_ERROR")
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
    assert [file.attempts for file in await queue.files(job)] == [2]


async def test_refused_group_is_split_until_the_bad_file_is_alone(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    job = await queue.post(
        *(f"https://example.com/{number}.wav" for number in range(7)), "https://example.com/x.wav?sandbox=refuse"
    )
    async with start_poller():
        assert await queue.final(job) == ["partial"]
    assert [file.status for file in await queue.files(job)] == ["succeeded"] * 7 + ["failed"]
    assert not await queue.rows("SELECT * FROM group_limits")


async def test_usage_gives_the_duration_that_the_document_lacks(queue: QueueClient, start_poller: StartPoller) -> None:
    job = await queue.post("https://example.com/q.wav?sandbox=seconds:30", model="qwen3-asr-flash-filetrans")
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
    assert [file.audio_duration_ms for file in await queue.files(job)] == [30_000]


async def test_short_file_does_not_wait_after_a_long_one(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    async with start_poller():
        long = await queue.post("https://example.com/long.wav?sandbox=run:8")
        assert await queue.final(long) == ["succeeded"]
        short = await queue.post("https://example.com/short.wav")
        assert await queue.final(short) == ["succeeded"]
    (task,) = await queue.rows(
        "SELECT done_at - submitted_at < interval '6 s' AS soon FROM tasks ORDER BY id DESC LIMIT 1"
    )
    assert task.soon


async def test_polls_of_few_tasks_do_not_wait_for_a_round(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await queue.post("https://example.com/a.wav?sandbox=run:1.5")
    async with start_poller(pace=replace(PACE, round_s=3600.0)):
        assert await queue.final(job) == ["succeeded"]
    (task,) = await queue.rows("SELECT polls FROM tasks")
    assert task.polls > 1
    assert not sandbox.state.throttled
