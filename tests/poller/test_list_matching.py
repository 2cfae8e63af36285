"""Matches lost submits with tasks of the task list."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from app.dashscope.wire import ListedTask, TaskStatus
from app.poller.list_matching import (
    Candidate,
    Comparison,
    LostSubmit,
    Rivals,
    compare,
    list_windows,
    within_one_window,
)

AT = datetime(2026, 11, 23, 1, 30, tzinfo=UTC)
URLS = ("https://e/a.wav", "https://e/b.wav")


def submit(since: datetime = AT, lasting_s: float = 1, urls: tuple[str, ...] = URLS) -> LostSubmit:
    return LostSubmit(UUID(int=1), "fun-asr", since, since + timedelta(seconds=lasting_s), 5.0, urls)


def candidate(
    *, late_s: float = 0, count: int | None = 2, urls: tuple[str, ...] | None = URLS, timed: bool = True
) -> Candidate:
    created_ms = int((AT + timedelta(seconds=late_s)).timestamp() * 1000) if timed else None
    return Candidate(ListedTask("t1", TaskStatus.SUCCEEDED, "fun-asr", created_ms), count, urls)


@pytest.mark.parametrize(
    ("found", "comparison"),
    [
        (candidate(), Comparison.OURS),
        (candidate(urls=URLS[::-1]), Comparison.OURS),
        (candidate(timed=False), Comparison.OURS),
        (candidate(count=None), Comparison.OURS),
        (candidate(late_s=100), Comparison.OURS),
        (candidate(late_s=-100), Comparison.OURS),
        (candidate(late_s=200), Comparison.OTHER),
        (candidate(late_s=-200), Comparison.OTHER),
        (candidate(count=3, urls=None), Comparison.OTHER),
        (candidate(urls=None), Comparison.OPEN),
        (candidate(urls=None, count=None), Comparison.OPEN),
        (candidate(urls=(*URLS, "https://e/c.wav"), count=None), Comparison.OTHER),
        (candidate(urls=("https://e/b.wav",)), Comparison.PART),
        (candidate(urls=("https://e/b.wav",), count=None), Comparison.PART),
        (candidate(urls=("https://e/b.wav",), count=1), Comparison.OTHER),
        (candidate(urls=("https://e/c.wav",)), Comparison.OTHER),
        (candidate(urls=()), Comparison.PART),
        (candidate(urls=(), count=0), Comparison.OTHER),
    ],
)
def test_task_matches_by_its_time_and_its_files(found: Candidate, comparison: Comparison) -> None:
    assert compare(submit(), found) is comparison


def test_upload_matches_by_its_path() -> None:
    echoed = "http://dashscope-file-mgr.oss-cn-beijing.aliyuncs.com/dashscope-instant/x/hello%20world.wav?Expires=1"
    found = candidate(count=1, urls=(echoed,))
    assert compare(submit(urls=("oss://dashscope-instant/x/hello%20world.wav",)), found) is Comparison.OURS
    assert compare(submit(urls=("oss://dashscope-instant/y/hello%20world.wav",)), found) is Comparison.OTHER


def test_wide_window_is_valid_in_beijing_time_and_in_utc() -> None:
    wide, narrow = list_windows([submit()])
    assert wide == {"start_time": "20261123012800", "end_time": "20261123093201"}
    assert narrow == {"start_time": "20261123092800", "end_time": "20261123093201"}


def test_submits_too_far_apart_for_one_window_are_left_for_later() -> None:
    early, near, far = submit(), submit(AT + timedelta(hours=1)), submit(AT + timedelta(hours=13))
    assert within_one_window([early, near, far]) == [early, near]


ESCAPED, PLAIN = ("https://e/x%2Fy.wav",), ("https://e/x/y.wav",)
OURS = LostSubmit(UUID(int=1), "fun-asr", AT, AT, 5.0, ESCAPED)


@pytest.mark.parametrize(
    ("echoes", "others", "left_open"),
    [
        ([PLAIN], {}, False),
        ([PLAIN], {2: PLAIN}, True),
        ([PLAIN], {2: ESCAPED}, False),
        ([PLAIN], {2: ("https://e/z.wav",)}, False),
        ([PLAIN], {2: ("https://e/x/y.wav", "https://e/z.wav")}, False),
        ([PLAIN, PLAIN], {2: PLAIN}, True),
        ([ESCAPED], {2: PLAIN}, True),
        ([ESCAPED, PLAIN], {2: PLAIN}, False),
        ([ESCAPED, PLAIN], {2: PLAIN, 3: ("https://E/x/y.wav",)}, True),
        ([PLAIN, ESCAPED], {2: PLAIN}, True),
    ],
)
def test_task_is_left_open_if_it_may_belong_to_a_submit_with_other_urls(
    echoes: list[tuple[str, ...]], others: dict[int, tuple[str, ...]], left_open: bool
) -> None:
    candidates = [candidate(count=1, urls=urls) for urls in echoes]
    assert compare(OURS, candidates[0]) is Comparison.OURS
    rivals = Rivals({OURS.task_id: ESCAPED, **{UUID(int=number): urls for number, urls in others.items()}})
    assert rivals.leave_open(OURS, candidates[0], candidates) is left_open


A, B, C = "https://e/a.wav", "https://e/b.wav", "https://e/c.wav"


@pytest.mark.parametrize(
    ("shown", "others", "left_open"),
    [
        ([(A,)], {}, False),
        ([(A,)], {2: (A, C)}, True),
        ([(A,)], {2: (A, B)}, False),
        ([(B,)], {2: (A, C)}, False),
        ([(A,)], {2: (A,)}, False),
        ([(A,), (A, C)], {2: (A, C)}, False),
        ([()], {}, False),
        ([()], {2: ("https://e/y.wav", "https://e/z.wav")}, True),
    ],
)
def test_task_that_shows_a_part_of_its_files_is_left_open_if_it_may_belong_to_another_submit(
    shown: list[tuple[str, ...]], others: dict[int, tuple[str, ...]], left_open: bool
) -> None:
    candidates = [candidate(urls=urls) for urls in shown]
    rivals = Rivals({UUID(int=1): URLS, **{UUID(int=number): urls for number, urls in others.items()}})
    assert rivals.leave_open(submit(), candidates[0], candidates) is left_open


def test_resolved_submit_is_no_rival() -> None:
    rivals = Rivals({UUID(int=1): URLS, UUID(int=2): (A, C)})
    part = candidate(urls=(A,))
    assert rivals.leave_open(submit(), part, [part])
    rivals.discard(UUID(int=2))
    rivals.discard(UUID(int=3))
    assert not rivals.leave_open(submit(), part, [part])


def test_task_of_an_upload_is_left_open_beside_a_url_with_the_same_path() -> None:
    echoed = candidate(count=1, urls=("https://e/x/y.wav",))
    upload = LostSubmit(UUID(int=1), "fun-asr", AT, AT, 5.0, ("oss://x/y.wav",))
    assert compare(upload, echoed) is Comparison.OURS
    assert Rivals({upload.task_id: upload.file_urls, UUID(int=2): PLAIN}).leave_open(upload, echoed, [echoed])


def test_upload_does_not_match_an_unknown_url() -> None:
    found = candidate(count=1, urls=("http://mirror/123",))
    assert compare(submit(urls=("oss://dashscope-instant/x/a.wav",)), found) is Comparison.OTHER
