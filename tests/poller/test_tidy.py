"""Task rows that nobody asks about any more: those of a lost account, and those of deleted jobs."""

import msgspec

from app.poller.maintenance import clean_up, give_up_abandoned
from app.sandbox import Faults, RunningSandbox
from tests.poller.conftest import Desk, StartPoller


async def test_after_a_day_a_running_file_of_a_lost_account_has_expired(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await services.post("https://example.com/a.wav?sandbox=run:600")
    async with start_poller():
        await services.until("SELECT 1 FROM tasks WHERE state = 'running'")
    await give_up_abandoned(services.sessions, ["beijing/another"])
    assert [file.status for file in await services.files(job)] == ["running"]
    await services.rows("UPDATE tasks SET created_at = created_at - interval '26 hours' RETURNING id")
    await give_up_abandoned(services.sessions, ["beijing/another"])
    assert await services.final(job) == ["failed"]
    assert [file.error_code for file in await services.files(job)] == ["result_expired"]


async def test_after_a_day_a_file_that_may_never_have_arrived_waits_again(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    sandbox.state.faults = msgspec.structs.replace(Faults(), lose_submit_rate=1.0, list_refused=True)
    job = await services.post("https://example.com/a.wav")
    async with start_poller():
        await services.until("SELECT 1 FROM tasks WHERE state = 'unsure'")
    await services.rows(
        "UPDATE tasks SET created_at = created_at - interval '26 hours', lease_token = NULL, lease_until = NULL"
        " RETURNING id"
    )
    await give_up_abandoned(services.sessions, ["beijing/another"])
    assert [file.status for file in await services.files(job)] == ["queued"]


async def test_after_a_day_a_lost_submit_is_not_looked_for_any_more(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    """The list stayed refused, or shows a task whose files it will never name: no job waits for that for ever."""
    sandbox.state.faults = Faults(lose_submit_rate=1.0, list_refused=True)
    job = await services.post("https://example.com/a.wav")
    async with start_poller():
        await services.until("SELECT 1 FROM tasks WHERE state = 'unsure'")
    await services.rows(
        "UPDATE tasks SET created_at = created_at - interval '26 hours', lease_token = NULL, lease_until = NULL"
        " RETURNING id"
    )
    await give_up_abandoned(services.sessions, ["beijing/default", "singapore/default"])
    assert [file.status for file in await services.files(job)] == ["queued"]


async def test_a_task_is_forgotten_a_day_after_the_last_of_its_files_is_gone(
    services: Desk, start_poller: StartPoller
) -> None:
    kept = await services.post("https://example.com/a.wav")
    gone = await services.post("https://example.com/b.wav", parameters={"language_hints": ["zh"]})
    async with start_poller():
        await services.final(kept, gone)
    await services.rows("DELETE FROM jobs WHERE id = :id RETURNING id", id=gone)
    await clean_up(services.sessions, ["beijing/default", "singapore/default"])
    assert len(await services.rows("SELECT id FROM tasks")) == 2
    await services.rows("UPDATE tasks SET done_at = done_at - interval '26 hours' RETURNING id")
    await clean_up(services.sessions, ["beijing/default", "singapore/default"])
    (task,) = await services.rows("SELECT id FROM tasks")
    assert [file.task_id for file in await services.files(kept)] == [task.id]
