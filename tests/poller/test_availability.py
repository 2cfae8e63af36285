"""The accounts and regions that can take files of a model, from the open circuits."""

from datetime import UTC, datetime

import pytest

from app.dashscope.circuits import Circuit
from app.poller.availability import Availability
from app.queue.blockages import Blocked

SINCE = datetime(2026, 11, 28, 8, tzinfo=UTC)
ACCOUNTS = {"beijing": ["beijing/a", "beijing/b"], "singapore": ["singapore/c"]}


def circuit(account: str, code: str, model: str = "") -> Circuit:
    return Circuit(account, model, code, "no", None, SINCE, probe_due=False)


UNKNOWN_TO_A = circuit("beijing/a", "model_unavailable", "fun-asr")
KEY_OF_B = circuit("beijing/b", "account_key_refused")


@pytest.mark.parametrize(
    ("circuits", "unknown"),
    [
        ([UNKNOWN_TO_A], False),
        ([UNKNOWN_TO_A, KEY_OF_B], True),
        ([UNKNOWN_TO_A, circuit("beijing/b", "model_not_granted", "fun-asr")], False),
        ([circuit("beijing/a", "account_unpaid"), KEY_OF_B], False),
        ([UNKNOWN_TO_A, circuit("beijing/a", "account_unpaid"), KEY_OF_B], False),
    ],
)
def test_model_is_unknown_if_every_account_that_is_not_blocked_reports_it_unknown(
    circuits: list[Circuit], *, unknown: bool
) -> None:
    assert (Availability(ACCOUNTS, circuits).unknown_model("beijing", "fun-asr") is not None) is unknown


@pytest.mark.parametrize(("circuits", "everywhere"), [([], False), ([circuit("singapore/c", "account_unpaid")], True)])
def test_region_without_an_account_blocks_the_models_that_wait(circuits: list[Circuit], *, everywhere: bool) -> None:
    availability = Availability({"singapore": ["singapore/c"]}, circuits)
    blocked = availability.blocked([("beijing", "fun-asr"), ("singapore", "fun-asr")])
    found = [each for each in blocked if each.region == "beijing"]
    assert found == [Blocked("beijing", "fun-asr", everywhere, "region_not_served", account=None, since=None)]
