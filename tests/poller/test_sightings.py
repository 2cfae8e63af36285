"""What the pages of a list that changes while it is read say about the end of tasks."""

from collections.abc import Sequence
from uuid import UUID

from app.dashscope.wire import ListedTask, TaskPage, TaskStatus
from app.poller.list_watcher import ListDiff, unread_spans


def rows(*created_ms: int) -> dict[UUID, str]:
    """The instant of a task's creation is its name, and the number of its row."""
    return {UUID(int=instant): str(instant) for instant in created_ms}


def page(created_ms: Sequence[int]) -> TaskPage:
    return TaskPage(
        tuple(ListedTask(str(instant), TaskStatus.RUNNING, "fun-asr", instant) for instant in created_ms), 3
    )


def numbers(ended: Sequence[UUID]) -> list[int]:
    return [row_id.int for row_id in ended]


def test_what_is_listed_no_more_has_ended() -> None:
    sightings = ListDiff()
    running = rows(1, 2, 3)
    assert sightings.ended(running, [[page([3, 2, 1])]]) == []
    assert numbers(sightings.ended(running, [[page([3, 1])]])) == [2]


def test_what_is_pending_or_running_has_not_ended() -> None:
    assert ListDiff().ended(rows(1, 2), [[page([2])], [page([1])]]) == []


def test_what_others_pushed_onto_a_page_already_read_has_not_ended() -> None:
    sightings = ListDiff()
    running = rows(*range(1, 10))
    sightings.ended(running, [[page([3, 2, 1]), page([6, 5, 4]), page([9, 8, 7])]])
    # 10 and 11 come in once the oldest page is read.
    moved = [page([3, 2, 1]), page([8, 7, 6]), page([11, 10, 9])]
    assert list(unread_spans(moved)) == [(3, 6), (8, 9)]
    assert sightings.ended(running, [moved]) == []


def test_what_ended_beside_the_unread_is_found() -> None:
    sightings = ListDiff()
    running = rows(*range(1, 10))
    sightings.ended(running, [[page([3, 2, 1]), page([6, 5, 4]), page([9, 8, 7])]])
    assert numbers(sightings.ended(running, [[page([3, 1]), page([8, 7, 6]), page([11, 10, 9])]])) == [2]


def test_what_was_never_listed_counts_as_ended_once_two_readings_lack_it() -> None:
    sightings = ListDiff()
    pages = [page([3, 2, 1]), page([6, 5])]
    assert sightings.ended(rows(4), [pages]) == []
    assert numbers(sightings.ended(rows(4), [pages])) == [4]


def test_one_page_leaves_nothing_unread() -> None:
    assert numbers(ListDiff().ended(rows(4), [[page([3, 2, 1])]])) == [4]


def test_a_page_without_instants_is_passed_over() -> None:
    assert list(unread_spans([page([3, 2, 1]), page([]), page([6, 5, 4])])) == [(3, 4)]
