"""Periodic work: abandoned tasks, task rows of deleted jobs, the gauges and the search index."""

import msgspec
from prometheus_client import REGISTRY

from app.poller.maintenance import clean_up, give_up_abandoned
from app.poller.metrics import measure
from app.sandbox import Faults, RunningSandbox
from tests.poller.conftest import QueueClient, StartPoller
from tests.search.search_case import sentences
from tests.search.segment_store import add_transcripts


async def test_running_file_of_a_removed_account_expires_after_a_day(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await queue.post("https://example.com/a.wav?sandbox=run:600")
    async with start_poller():
        await queue.until("SELECT 1 FROM tasks WHERE state = 'running'")
    await give_up_abandoned(queue.sessions, ["beijing/another"])
    assert [file.status for file in await queue.files(job)] == ["running"]
    await queue.rows("UPDATE tasks SET created_at = created_at - interval '26 hours' RETURNING id")
    await give_up_abandoned(queue.sessions, ["beijing/another"])
    assert await queue.final(job) == ["failed"]
    assert [file.error_code for file in await queue.files(job)] == ["result_expired"]


async def test_file_of_a_lost_submit_of_a_removed_account_is_queued_again_after_a_day(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    sandbox.state.faults = msgspec.structs.replace(Faults(), lose_submit_rate=1.0, list_refused=True)
    job = await queue.post("https://example.com/a.wav")
    async with start_poller():
        await queue.until("SELECT 1 FROM tasks WHERE state = 'unsure'")
    await queue.rows(
        "UPDATE tasks SET created_at = created_at - interval '26 hours', lease_token = NULL, lease_until = NULL"
        " RETURNING id"
    )
    await give_up_abandoned(queue.sessions, ["beijing/another"])
    assert [file.status for file in await queue.files(job)] == ["queued"]


async def test_file_of_a_lost_submit_is_queued_again_after_a_day(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    """The list may stay refused, or never show the files of a task. No job waits for it for ever."""
    sandbox.state.faults = Faults(lose_submit_rate=1.0, list_refused=True)
    job = await queue.post("https://example.com/a.wav")
    async with start_poller():
        await queue.until("SELECT 1 FROM tasks WHERE state = 'unsure'")
    await queue.rows(
        "UPDATE tasks SET created_at = created_at - interval '26 hours', lease_token = NULL, lease_until = NULL"
        " RETURNING id"
    )
    await give_up_abandoned(queue.sessions, ["beijing/default", "singapore/default"])
    assert [file.status for file in await queue.files(job)] == ["queued"]


async def test_task_row_is_deleted_a_day_after_its_job(queue: QueueClient, start_poller: StartPoller) -> None:
    kept = await queue.post("https://example.com/a.wav")
    gone = await queue.post("https://example.com/b.wav", parameters={"language_hints": ["zh"]})
    async with start_poller():
        await queue.final(kept, gone)
    await queue.rows("DELETE FROM jobs WHERE id = :id RETURNING id", id=gone)
    await clean_up(queue.sessions, ["beijing/default", "singapore/default"])
    assert len(await queue.rows("SELECT id FROM tasks")) == 2
    await queue.rows("UPDATE tasks SET done_at = done_at - interval '26 hours' RETURNING id")
    await clean_up(queue.sessions, ["beijing/default", "singapore/default"])
    (task,) = await queue.rows("SELECT id FROM tasks")
    assert [file.task_id for file in await queue.files(kept)] == [task.id]


async def test_gauges_show_queued_files_open_tasks_and_open_circuits(queue: QueueClient) -> None:
    await queue.post("https://example.com/a.wav", "https://example.com/b.wav")
    await queue.rows(
        "INSERT INTO circuits (account, model, code, message, probe_at) VALUES"
        " ('beijing/default', '', 'account_unpaid', '', now()), ('beijing/removed', '', 'account_unpaid', '', now()),"
        " ('beijing/default', 'fun-asr', 'model_not_granted', '', now()) RETURNING account"
    )
    await measure(queue.sessions, ["beijing/default", "singapore/default"])

    def gauge(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(f"asr_gateway_{name}", labels)

    assert gauge("files_waiting", region="beijing", model="fun-asr") == 2
    assert gauge("circuit_open", account="beijing/default", model="", code="account_unpaid") == 1
    assert gauge("circuit_open", account="beijing/default", model="fun-asr", code="model_not_granted") == 1
    assert gauge("circuit_open", account="beijing/removed", model="", code="account_unpaid") is None
    assert gauge("tasks_in_flight", account="beijing/default") == 0
    await queue.rows("DELETE FROM jobs RETURNING id")
    await queue.rows("DELETE FROM circuits WHERE model = '' RETURNING account")
    await measure(queue.sessions, ["beijing/default"])
    assert gauge("files_waiting", region="beijing", model="fun-asr") == 0
    assert gauge("files_waiting_seconds", region="beijing", model="fun-asr") == 0
    assert gauge("circuit_open", account="beijing/default", model="", code="") == 0
    assert gauge("circuit_open", account="beijing/default", model="", code="account_unpaid") is None


async def test_collected_transcripts_are_indexed_for_search(queue: QueueClient, start_poller: StartPoller) -> None:
    job = await queue.post("https://example.com/a.wav")
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
        await queue.until("SELECT 1 FROM transcript_segments WHERE terms IS NOT NULL")


async def test_transcripts_of_early_versions_are_worked_off(queue: QueueClient, start_poller: StartPoller) -> None:
    """Many more than one step takes."""
    client_id = await queue.client("old")
    await add_transcripts(queue.sessions, client_id, [[sentences("你好")]] * 150, indexed=False)
    await queue.rows("UPDATE transcript_bodies SET document_index = NULL RETURNING transcript_id")
    await queue.rows("UPDATE transcript_segments SET texts = NULL RETURNING transcript_id")
    async with start_poller():
        await queue.until(
            "SELECT 1 WHERE NOT EXISTS (SELECT FROM transcript_bodies WHERE document_index IS NULL)"
            " AND NOT EXISTS (SELECT FROM transcript_segments WHERE texts IS NULL)"
        )
    assert await queue.rows("SELECT count(*) FROM transcript_segments") == [(150,)]
