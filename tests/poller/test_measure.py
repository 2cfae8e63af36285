"""The gauges that an operator watches."""

from prometheus_client import REGISTRY

from app.poller.maintenance import measure
from tests.poller.conftest import Desk


async def test_what_waits_and_who_is_refused_can_be_read_off(services: Desk) -> None:
    await services.post("https://example.com/a.wav", "https://example.com/b.wav")
    await services.rows(
        "INSERT INTO circuits (account, model, code, message, probe_at) VALUES"
        " ('beijing/default', '', 'account_unpaid', '', now()), ('beijing/removed', '', 'account_unpaid', '', now()),"
        " ('beijing/default', 'fun-asr', 'model_not_granted', '', now()) RETURNING account"
    )
    await measure(services.sessions, ["beijing/default", "singapore/default"])

    def gauge(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(f"asr_gateway_{name}", labels)

    assert gauge("files_waiting", region="beijing", model="fun-asr") == 2
    assert gauge("circuit_open", account="beijing/default", model="", code="account_unpaid") == 1
    assert gauge("circuit_open", account="beijing/default", model="fun-asr", code="model_not_granted") == 1
    assert gauge("circuit_open", account="beijing/removed", model="", code="account_unpaid") is None
    assert gauge("tasks_in_flight", account="beijing/default") == 0
    await services.rows("DELETE FROM jobs RETURNING id")
    await services.rows("DELETE FROM circuits WHERE model = '' RETURNING account")
    await measure(services.sessions, ["beijing/default"])
    assert gauge("files_waiting", region="beijing", model="fun-asr") is None
    assert gauge("circuit_open", account="beijing/default", model="", code="account_unpaid") is None
