"""The main job end to end: what is posted is submitted, watched, collected and stored, in the right region."""

import gzip

import orjson

from app.sandbox import RunningSandbox
from tests.poller.conftest import Desk, StartPoller

SAMPLES = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio"
FEMALE = f"{SAMPLES}/paraformer/hello_world_female2.wav"
MALE = f"{SAMPLES}/paraformer/hello_world_male2.wav"
RICH = f"{SAMPLES}/sensevoice/rich_text_example_1.wav"


async def documents(services: Desk) -> dict[str, dict[str, object]]:
    rows = await services.rows(
        "SELECT file_url, document_gzip FROM transcripts JOIN transcript_bodies ON transcript_id = transcripts.id"
    )
    return {row.file_url: orjson.loads(gzip.decompress(row.document_gzip)) for row in rows}


async def test_two_samples_are_transcribed_and_stored(services: Desk, start_poller: StartPoller) -> None:
    job = await services.post(FEMALE, MALE)
    async with start_poller():
        assert await services.final(job) == ["succeeded"]
    stored = await documents(services)
    assert stored[FEMALE]["text"] == "Hello World，这里是阿里巴巴语音实验室。"
    (row,) = await services.rows("SELECT * FROM jobs WHERE id = :job", job=job)
    assert (row.files_succeeded, row.audio_duration_ms) == (2, 3834 + 4726)
    assert f"{row.cost:.5f}" == "0.00188"
    assert [file.attempts for file in await services.files(job)] == [1, 1]


async def test_every_family_is_transcribed(services: Desk, start_poller: StartPoller) -> None:
    jobs = [
        await services.post(MALE, model="paraformer-v2"),
        await services.post(RICH, model="sensevoice-v1"),
        await services.post("https://example.com/a.wav", model="qwen3-asr-flash-filetrans"),
        await services.post("https://example.com/b.wav", model="fun-asr", region="singapore"),
    ]
    async with start_poller():
        assert await services.final(*jobs) == ["succeeded"] * 4
    assert (await documents(services))[RICH]["transcripts"][0]["sentences"][0]["emotion"] == ["ANGRY"]  # type: ignore[index]


async def test_one_bad_file_does_not_stop_the_others(services: Desk, start_poller: StartPoller) -> None:
    job = await services.post(
        FEMALE, "https://example.com/bad.wav?sandbox=fail:DECODE_ERROR", "https://example.com/no.wav?sandbox=silent"
    )
    async with start_poller():
        assert await services.final(job) == ["partial"]
    good, bad, silent = await services.files(job)
    assert [good.status, bad.status, silent.status] == ["succeeded", "failed", "succeeded"]
    assert (bad.error_code, bad.error_upstream_code, bad.error_retryable) == ("audio_unreadable", "DECODE_ERROR", False)


async def test_result_hosts_never_see_the_key(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await services.post(FEMALE)
    async with start_poller():
        await services.final(job)
    assert sandbox.state.authorization_leaks == 0
    assert sandbox.state.downloads


async def test_a_wrong_key_fails_no_file_says_why_and_leaves_the_other_region_alone(
    services: Desk, start_poller: StartPoller
) -> None:
    refused = await services.post(FEMALE, region="beijing")
    fine = await services.post(FEMALE, region="singapore")
    async with start_poller(dashscope_beijing_api_key="sk-wrong"):
        assert await services.final(fine) == ["succeeded"]
        await services.until("SELECT 1 FROM blockages WHERE region = 'beijing' AND code = 'account_key_refused'")
    (file,) = await services.files(refused)
    assert (file.status, file.attempts) == ("queued", 0)
    (circuit,) = await services.rows("SELECT code, upstream_code, message FROM circuits")
    assert (circuit.code, circuit.upstream_code) == ("account_key_refused", "InvalidApiKey")
    assert "sk-wrong" not in circuit.message


async def test_a_file_that_failed_by_the_engines_fault_goes_out_once_more(
    services: Desk, start_poller: StartPoller
) -> None:
    job = await services.post("https://example.com/flaky.wav?sandbox=fail_once:FILE_SERVER_ERROR")
    async with start_poller():
        assert await services.final(job) == ["succeeded"]
    assert [file.attempts for file in await services.files(job)] == [2]


async def test_a_refused_group_is_split_until_the_culprit_is_alone(services: Desk, start_poller: StartPoller) -> None:
    job = await services.post(
        *(f"https://example.com/{number}.wav" for number in range(7)), "https://example.com/x.wav?sandbox=refuse"
    )
    async with start_poller():
        assert await services.final(job) == ["partial"]
    assert [file.status for file in await services.files(job)] == ["succeeded"] * 7 + ["failed"]
    assert not await services.rows("SELECT * FROM group_limits")


async def test_where_the_document_does_not_say_how_long_the_audio_is_the_usage_does(
    services: Desk, start_poller: StartPoller
) -> None:
    job = await services.post("https://example.com/q.wav?sandbox=seconds:30", model="qwen3-asr-flash-filetrans")
    async with start_poller():
        assert await services.final(job) == ["succeeded"]
    assert [file.audio_duration_ms for file in await services.files(job)] == [30_000]


async def test_a_short_file_does_not_wait_because_the_last_one_was_long(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    async with start_poller():
        long = await services.post("https://example.com/long.wav?sandbox=run:8")
        assert await services.final(long) == ["succeeded"]
        short = await services.post("https://example.com/short.wav")
        assert await services.final(short) == ["succeeded"]
    (task,) = await services.rows(
        "SELECT done_at - submitted_at < interval '6 s' AS soon FROM tasks ORDER BY id DESC LIMIT 1"
    )
    assert task.soon
