"""When upstream counts as away, and what becomes of the files that wait meanwhile."""

import pytest

from app.poller import reachability
from app.poller.reachability import Reachability
from app.sandbox import RunningSandbox
from app.sandbox.faults import Faults
from tests.poller.conftest import Desk, StartPoller


def test_upstream_is_away_after_several_calls_over_some_seconds_and_not_before() -> None:
    now = 100.0
    upstream = Reachability(clock=lambda: now)
    assert not any(upstream.failed() for _ in range(64))  # lost together
    now += 9.9
    assert not upstream.failed()
    now += 0.1
    assert upstream.failed()
    upstream.succeeded()
    assert not upstream.failed()
    now += 60
    assert not upstream.failed()
    assert upstream.failed()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachability, "UNREACHABLE_AFTER_S", 0.0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("region", ["beijing", "auto"])
async def test_while_upstream_is_away_files_wait_with_a_reason_and_go_on_by_themselves(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox, region: str
) -> None:
    """Every submit is answered 503: whether it made a task is reconciled before the file goes out again."""
    sandbox.state.faults = Faults(down=True)
    job = await services.post("https://example.com/a.wav", region=region)
    async with start_poller():
        await services.until("SELECT 1 FROM blockages WHERE region = 'beijing' AND code = 'upstream_unavailable'")
        assert [(file.status in {"queued", "submitting"}, file.attempts) for file in await services.files(job)] == [
            (True, 0)
        ]
        sandbox.state.faults = Faults()
        assert await services.final(job) == ["succeeded"]
        await services.rows("UPDATE circuits SET probe_at = now() RETURNING account")
        await services.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM circuits)")
        await services.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM blockages)")
    assert set(sandbox.state.submitted_files().values()) == {1}


@pytest.mark.usefixtures("impatient")
async def test_files_of_a_region_that_cannot_be_reached_go_to_the_other_region(
    services: Desk, start_poller: StartPoller
) -> None:
    job = await services.post("https://example.com/a.wav", region="auto")
    bound = await services.post("https://example.com/b.wav", region="beijing")
    async with start_poller(dashscope_beijing_base_url="http://127.0.0.1:9/api/v1"):
        assert await services.final(job) == ["succeeded"]
        await services.until("SELECT 1 FROM blockages WHERE code = 'upstream_unavailable' AND NOT everywhere")
    assert [(file.status, file.attempts) for file in await services.files(bound)] == [("queued", 0)]
