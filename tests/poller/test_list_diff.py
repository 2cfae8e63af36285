"""Ended tasks are found in pages of a list that changes while it is read."""

from collections.abc import Sequence
from uuid import UUID

from app.dashscope.wire import ListedTask, TaskPage, TaskStatus
from app.poller.list_watcher import ListDiff, unread_spans


def rows(*created_ms: int) -> dict[UUID, str]:
    """Tasks by row id. The creation time of a task is also its upstream id and the number of its row."""
    return {UUID(int=created): str(created) for created in created_ms}


def page(created_ms: Sequence[int]) -> TaskPage:
    return TaskPage(
        tuple(ListedTask(str(created), TaskStatus.RUNNING, "fun-asr", created) for created in created_ms), 3
    )


def numbers(ended: Sequence[UUID]) -> list[int]:
    return [row_id.int for row_id in ended]


def test_task_that_is_no_longer_listed_has_ended() -> None:
    diff = ListDiff()
    running = rows(1, 2, 3)
    assert diff.ended(running, [[page([3, 2, 1])]]) == []
    assert numbers(diff.ended(running, [[page([3, 1])]])) == [2]


def test_task_listed_as_pending_or_running_has_not_ended() -> None:
    assert ListDiff().ended(rows(1, 2), [[page([2])], [page([1])]]) == []


def test_task_shifted_onto_a_page_already_read_has_not_ended() -> None:
    diff = ListDiff()
    running = rows(*range(1, 10))
    diff.ended(running, [[page([3, 2, 1]), page([6, 5, 4]), page([9, 8, 7])]])
    # 10 and 11 are created after the oldest page was read.
    shifted = [page([3, 2, 1]), page([8, 7, 6]), page([11, 10, 9])]
    assert list(unread_spans(shifted)) == [(3, 6), (8, 9)]
    assert diff.ended(running, [shifted]) == []


def test_ended_task_is_found_beside_an_unread_span() -> None:
    diff = ListDiff()
    running = rows(*range(1, 10))
    diff.ended(running, [[page([3, 2, 1]), page([6, 5, 4]), page([9, 8, 7])]])
    assert numbers(diff.ended(running, [[page([3, 1]), page([8, 7, 6]), page([11, 10, 9])]])) == [2]


def test_task_that_was_never_listed_has_ended_after_two_sweeps() -> None:
    diff = ListDiff()
    pages = [page([3, 2, 1]), page([6, 5])]
    assert diff.ended(rows(4), [pages]) == []
    assert numbers(diff.ended(rows(4), [pages])) == [4]


def test_single_page_has_no_unread_span() -> None:
    assert numbers(ListDiff().ended(rows(4), [[page([3, 2, 1])]])) == [4]


def test_page_without_creation_times_is_skipped() -> None:
    assert list(unread_spans([page([3, 2, 1]), page([]), page([6, 5, 4])])) == [(3, 4)]
