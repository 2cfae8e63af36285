"""When the next look at a task comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.poller.poll_schedule import MAX_WAIT_S, DurationEstimate


def test_where_nothing_is_known_the_first_look_comes_soon() -> None:
    assert DurationEstimate().next_poll_s(0) == pytest.approx(0.5)


def known(*recent: float) -> DurationEstimate:
    durations = DurationEstimate()
    for duration_s in recent:
        durations.add(duration_s)
    return durations


def test_the_first_look_comes_when_recent_tasks_that_agree_had_ended() -> None:
    assert known(*[12.0] * 10).next_poll_s(0) == pytest.approx(12.15)


def test_one_long_task_does_not_make_the_next_one_wait_for_long() -> None:
    assert known(45.0).next_poll_s(0) == 3.0
    assert known(1253.0, 1250.0).next_poll_s(0) == 3.0


def test_where_durations_do_not_agree_looks_come_every_few_seconds() -> None:
    durations = known(*[0.6, 45.0] * 8)
    assert durations.next_poll_s(0) == pytest.approx(0.75)
    assert durations.next_poll_s(0.8) == 3.0


def test_however_well_they_agree_no_task_is_left_alone_for_long() -> None:
    assert known(*[3600.0] * 20).next_poll_s(0) == MAX_WAIT_S


def test_after_the_longest_known_duration_looks_become_rarer() -> None:
    durations = known(20.0)
    assert durations.next_poll_s(30) < durations.next_poll_s(100) < MAX_WAIT_S


@given(
    st.lists(st.floats(0, 90_000), max_size=100),
    st.floats(0, 90_000),
)
def test_a_look_always_comes_and_soon_enough(recent: list[float], elapsed_s: float) -> None:
    assert 0 < known(*recent).next_poll_s(elapsed_s) <= MAX_WAIT_S
