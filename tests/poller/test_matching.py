"""Which task of the list is the one whose answer was lost."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from app.dashscope.wire import ListedTask, TaskStatus
from app.poller.matching import Attempt, Candidate, Match, compare, same_files, together, windows

AT = datetime(2026, 11, 23, 1, 30, tzinfo=UTC)
URLS = ("https://e/a.wav", "https://e/b.wav")


def attempt(since: datetime = AT, lasting_s: float = 1, urls: tuple[str, ...] = URLS) -> Attempt:
    return Attempt(UUID(int=1), "fun-asr", since, since + timedelta(seconds=lasting_s), 5.0, urls)


def candidate(
    *, late_s: float = 0, count: int | None = 2, urls: tuple[str, ...] | None = URLS, timed: bool = True
) -> Candidate:
    created_ms = int((AT + timedelta(seconds=late_s)).timestamp() * 1000) if timed else None
    return Candidate(ListedTask("t1", TaskStatus.SUCCEEDED, "fun-asr", created_ms), count, urls)


@pytest.mark.parametrize(
    ("found", "match"),
    [
        (candidate(), Match.OURS),
        (candidate(urls=URLS[::-1]), Match.OURS),
        (candidate(timed=False), Match.OURS),
        (candidate(count=None), Match.OURS),
        (candidate(late_s=100), Match.OURS),
        (candidate(late_s=-100), Match.OURS),
        (candidate(late_s=200), Match.OTHER),
        (candidate(late_s=-200), Match.OTHER),
        (candidate(count=3, urls=None), Match.OTHER),
        (candidate(urls=None), Match.OPEN),
        (candidate(urls=None, count=None), Match.OPEN),
        (candidate(urls=("https://e/a.wav", "https://e/a.wav")), Match.OTHER),
        (candidate(urls=("https://e/a.wav",)), Match.OTHER),
        (candidate(urls=()), Match.OTHER),
    ],
)
def test_a_task_is_ours_by_its_time_and_its_files(found: Candidate, match: Match) -> None:
    assert compare(attempt(), found) is match


def test_an_upload_is_known_by_its_path() -> None:
    echoed = "http://dashscope-file-mgr.oss-cn-beijing.aliyuncs.com/dashscope-instant/x/hello%20world.wav?Expires=1"
    assert same_files(["oss://dashscope-instant/x/hello%20world.wav"], [echoed])
    assert not same_files(["oss://dashscope-instant/y/hello%20world.wav"], [echoed])


def test_the_window_holds_for_beijing_time_and_for_utc() -> None:
    wide, narrow = windows([attempt()])
    assert wide == {"start_time": "20261123012800", "end_time": "20261123093201"}
    assert narrow == {"start_time": "20261123092800", "end_time": "20261123093201"}


def test_attempts_too_far_apart_for_one_window_are_settled_one_after_the_other() -> None:
    early, near, far = attempt(), attempt(AT + timedelta(hours=1)), attempt(AT + timedelta(hours=13))
    assert together([early, near, far]) == [early, near]
