"""The time of the next poll of a task."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.poller.poll_schedule import MAX_WAIT_S, DurationEstimate


def test_first_poll_comes_soon_without_known_durations() -> None:
    assert DurationEstimate().next_poll_s(0) == pytest.approx(0.5)


def known(*recent: float) -> DurationEstimate:
    durations = DurationEstimate()
    for duration_s in recent:
        durations.add(duration_s)
    return durations


def test_first_poll_comes_at_the_duration_on_which_recent_tasks_agree() -> None:
    assert known(*[12.0] * 10).next_poll_s(0) == pytest.approx(12.15)


def test_one_long_task_does_not_delay_the_polls_of_the_next_one() -> None:
    assert known(45.0).next_poll_s(0) == 3.0
    assert known(1253.0, 1250.0).next_poll_s(0) == 3.0


def test_polls_come_every_few_seconds_if_durations_do_not_agree() -> None:
    durations = known(*[0.6, 45.0] * 8)
    assert durations.next_poll_s(0) == pytest.approx(0.75)
    assert durations.next_poll_s(0.8) == 3.0


def test_wait_is_bounded_if_durations_agree() -> None:
    assert known(*[3600.0] * 20).next_poll_s(0) == MAX_WAIT_S


def test_polls_become_rarer_after_the_longest_known_duration() -> None:
    durations = known(20.0)
    assert durations.next_poll_s(30) < durations.next_poll_s(100) < MAX_WAIT_S


@given(
    st.lists(st.floats(0, 90_000), max_size=100),
    st.floats(0, 90_000),
)
def test_wait_for_a_poll_is_positive_and_bounded(recent: list[float], elapsed_s: float) -> None:
    assert 0 < known(*recent).next_poll_s(elapsed_s) <= MAX_WAIT_S
