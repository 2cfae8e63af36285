"""Ids of processes whose clocks differ from the database's."""

import time
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from app.connections import CLOCK_AHEAD, MAX_SKEW_S, DatabaseAvailability
from app.db import create_engine, create_sessions, raw_connection
from app.identifiers import MIN_CHANGE_MS, follow_database_clock, new_id


@pytest.fixture(autouse=True)
def _own_clock() -> Iterator[None]:
    yield
    follow_database_clock(0)


def metric() -> float:
    value = REGISTRY.get_sample_value("asr_gateway_database_clock_ahead_seconds")
    assert value is not None
    return value


def instant_ms() -> int:
    return new_id().int >> 80


@pytest.mark.parametrize("ahead_s", [90, -90, 3600])
def test_ids_follow_the_clock_of_the_database(ahead_s: float) -> None:
    follow_database_clock(ahead_s)
    expected_ms = (time.time() + ahead_s) * 1000
    assert abs(instant_ms() - expected_ms) < 1000
    assert new_id().version == 7


def test_ids_ascend_with_a_skewed_clock() -> None:
    follow_database_clock(-90)
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(ids)


def test_small_changes_of_the_measured_skew_do_not_reorder_ids() -> None:
    first = new_id()
    follow_database_clock(-MIN_CHANGE_MS / 1000)
    assert new_id() > first


def test_a_skew_is_logged_once_and_shown_as_a_metric(capsys: pytest.CaptureFixture[str]) -> None:
    availability = DatabaseAvailability()
    for _ in range(2):
        availability.record_clock(-90.0)
    availability.record_clock(MAX_SKEW_S - 1)
    output = capsys.readouterr().out
    assert output.count("the clock of this machine differs from the database's") == 1
    assert "skew_s=90" in output
    assert metric() == MAX_SKEW_S - 1


async def test_each_connection_measures_the_clock(database_url: str) -> None:
    CLOCK_AHEAD.set(1000)
    engine = create_engine(database_url)
    async with raw_connection(create_sessions(engine)):
        pass
    await engine.dispose()
    assert abs(metric()) < MAX_SKEW_S
