"""The time of the next poll of a task."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.poller.poll_schedule import CLOSE_SHARE, MAX_WAIT_S, DurationEstimate, close_wait_s


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


def polls_until(end_s: float, *, running: int = 1) -> list[float]:
    """The times of all polls of a task that ends after `end_s`, if a poll takes no time."""
    polls = [0.0]
    while polls[-1] < end_s:
        polls.append(polls[-1] + close_wait_s(polls[-1], running=running, queries_per_s=20))
    return polls[1:]


def test_lone_short_tasks_take_few_polls_and_end_soon() -> None:
    ends_s = [0.3 + number * 0.01 for number in range(571)]
    polls = [polls_until(end_s) for end_s in ends_s]
    lags_s = sorted(times[-1] - end_s for times, end_s in zip(polls, ends_s, strict=True))
    assert lags_s[len(lags_s) // 2] < 0.2
    assert lags_s[int(len(lags_s) * 0.95)] < 0.3
    assert sum(map(len, polls)) / len(polls) < 12
    assert max(map(len, polls)) <= 21


def test_lone_task_of_20_s_ends_within_a_twentieth_of_its_time() -> None:
    assert polls_until(20)[-1] < 21


@given(st.integers(1, 20_000), st.floats(0, 90_000), st.floats(1, 100))
def test_close_polls_of_all_running_tasks_fit_into_their_share_of_the_budget(
    running: int, elapsed_s: float, queries_per_s: float
) -> None:
    wait_s = close_wait_s(elapsed_s, running=running, queries_per_s=queries_per_s)
    assert running / wait_s <= queries_per_s * CLOSE_SHARE * 1.001


def test_many_running_tasks_keep_the_pace_of_the_estimate() -> None:
    assert close_wait_s(0, running=300, queries_per_s=20) > MAX_WAIT_S
