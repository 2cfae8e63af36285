"""When the next look at a task comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.poller.looking import LATEST_S, Durations


def test_where_nothing_is_known_the_first_look_comes_soon() -> None:
    assert Durations().next_look_s(0) == pytest.approx(0.5)


def test_the_first_look_comes_when_recent_tasks_had_ended() -> None:
    durations = Durations()
    for _ in range(10):
        durations.add(20.0)
    assert durations.next_look_s(0) == pytest.approx(20.15)


def test_after_the_longest_known_duration_looks_become_rarer() -> None:
    durations = Durations()
    durations.add(20.0)
    assert durations.next_look_s(30) < durations.next_look_s(100) < LATEST_S


@given(
    st.lists(st.floats(0, 90_000), max_size=100),
    st.floats(0, 90_000),
)
def test_a_look_always_comes(recent: list[float], elapsed_s: float) -> None:
    durations = Durations()
    for duration_s in recent:
        durations.add(duration_s)
    wait_s = durations.next_look_s(elapsed_s)
    assert 0 < wait_s <= 90_001
