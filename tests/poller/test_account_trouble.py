"""A refused key or an unpaid bill: said clearly, no storm of calls, and over by itself."""

from app.sandbox import RunningSandbox
from tests.poller.conftest import Desk, StartPoller


def urls(count: int) -> list[str]:
    return [f"https://example.com/{number}.wav" for number in range(count)]


async def test_the_first_refusal_opens_the_circuit_and_later_files_wait(
    desk: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    first = await desk.post(*urls(1), region="beijing")
    async with start_poller(dashscope_beijing_api_key="sk-wrong"):
        assert await desk.final(first) == ["failed"]
        later = await desk.post(*urls(1), region="beijing")
        (circuit,) = await desk.rows("SELECT account, upstream_code FROM circuits")
    assert tuple(circuit) == ("beijing/default", "InvalidApiKey")
    assert [file.status for file in await desk.files(later)] == ["queued"]
    # The right key, and a probe that is due.
    await desk.rows("UPDATE circuits SET probe_at = now() RETURNING account")
    async with start_poller():
        assert await desk.final(later) == ["succeeded"]
    assert not await desk.rows("SELECT account FROM circuits")


async def test_a_refused_probe_fails_its_own_files_and_comes_later_the_next_time(
    desk: Desk, start_poller: StartPoller
) -> None:
    await desk.rows(
        "INSERT INTO circuits (account, code, message, probe_at)"
        " VALUES ('beijing/default', 'account_refused', '', now()) RETURNING account"
    )
    job = await desk.post(*urls(1), region="beijing")
    async with start_poller(dashscope_beijing_api_key="sk-wrong"):
        assert await desk.final(job) == ["failed"]
        await desk.until("SELECT 1 FROM circuits WHERE refused_probes = 1 AND probe_at > now() + interval '2 s'")


async def test_another_account_of_the_region_takes_over(desk: Desk, start_poller: StartPoller) -> None:
    job = await desk.post(*urls(30), region="beijing")
    async with start_poller(dashscope_beijing_api_key="bad=sk-wrong,good=sk-sandbox-beijing"):
        assert await desk.final(job) == ["succeeded"]


async def test_files_whose_region_is_open_go_to_the_other_region(desk: Desk, start_poller: StartPoller) -> None:
    await desk.rows(
        "INSERT INTO circuits (account, code, message, probe_at)"
        " VALUES ('beijing/default', 'account_in_arrears', '', now() + interval '1 hour') RETURNING account"
    )
    job = await desk.post(*urls(3), region="auto")
    bound = await desk.post(*urls(1), region="beijing")
    only_beijing = await desk.post(*urls(1), region="auto", model="paraformer-v2")
    async with start_poller():
        assert await desk.final(job) == ["succeeded"]
    (moved,) = await desk.rows("SELECT region FROM jobs WHERE id = :id", id=job)
    assert moved.region == "singapore"
    waiting = [*await desk.files(bound), *await desk.files(only_beijing)]
    assert [(file.status, file.region) for file in waiting] == [("queued", "beijing")] * 2


async def test_a_refusal_does_not_fail_files_that_may_go_to_the_other_region(
    desk: Desk, start_poller: StartPoller
) -> None:
    job = await desk.post(*urls(5), region="auto")
    async with start_poller(dashscope_beijing_api_key="sk-wrong"):
        assert await desk.final(job) == ["succeeded"]


async def test_files_of_a_region_whose_key_was_taken_away_go_to_the_other_region(
    desk: Desk, start_poller: StartPoller
) -> None:
    job = await desk.post(*urls(5), region="auto")
    async with start_poller(dashscope_beijing_api_key=None):
        assert await desk.final(job) == ["succeeded"]


async def test_uploads_and_hot_words_stay_in_the_region_that_they_belong_to(
    desk: Desk, start_poller: StartPoller
) -> None:
    upload = await desk.post("oss://dashscope-instant/a/b.wav", region="auto")
    hot_words = await desk.post(*urls(1), region="auto", parameters={"vocabulary_id": "vocab-x-1"})
    moved = await desk.post(*urls(1), region="auto")
    async with start_poller(dashscope_beijing_api_key=None):
        assert await desk.final(moved) == ["succeeded"]
    waiting = [*await desk.files(upload), *await desk.files(hot_words)]
    assert [(file.status, file.region) for file in waiting] == [("queued", "beijing")] * 2


async def test_a_probe_risks_one_file(desk: Desk, start_poller: StartPoller) -> None:
    await desk.rows(
        "INSERT INTO circuits (account, code, message, probe_at)"
        " VALUES ('beijing/default', 'account_in_arrears', '', now()) RETURNING account"
    )
    job = await desk.post(*urls(50), region="beijing")
    async with start_poller(dashscope_beijing_api_key="sk-wrong"):
        await desk.until("SELECT 1 FROM circuits WHERE refused_probes = 1")
        await desk.until("SELECT 1 FROM jobs WHERE files_failed = 1")
    assert sum(file.status == "failed" for file in await desk.files(job)) == 1


async def test_a_circuit_closes_again_although_all_files_may_go_elsewhere(
    desk: Desk, start_poller: StartPoller
) -> None:
    """A probe needs a file: while one is due, they are not moved away."""
    await desk.rows(
        "INSERT INTO circuits (account, code, message, probe_at)"
        " VALUES ('beijing/default', 'account_in_arrears', '', now()) RETURNING account"
    )
    job = await desk.post(*urls(3), region="auto")
    async with start_poller():
        assert await desk.final(job) == ["succeeded"]
        await desk.until("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM circuits)")
