"""One reading of the task list: which pages are read, and whether a task may be missing."""

import pytest

from app.dashscope.wire import ListedTask, TaskPage, TaskStatus
from app.poller.list_reading import FEWER_TASKS, REPEATED_PAGES, UNREADABLE_ROWS, ListReading


def page(names: str, *, pages: int | None = None, total: int | None = None, unreadable: int = 0) -> TaskPage:
    tasks = tuple(ListedTask(name, TaskStatus.RUNNING, "fun-asr", None) for name in names)
    return TaskPage(tasks, pages, total, unreadable)


def read(*pages: TaskPage) -> ListReading:
    """Add the pages, which must be all that the reading asks for."""
    reading = ListReading()
    for each in pages:
        assert not reading.is_over
        reading.add(each)
    assert reading.is_over
    return reading


@pytest.mark.parametrize(
    "pages",
    [
        [page("", pages=1, total=0)],
        [page("")],
        [page("abc"), page("")],
        [page("ab", pages=2, total=3), page("c", pages=2, total=3)],
        [page("ab", pages=2), page("c", pages=2)],
        # A new task shifts the others.
        [page("ab", pages=2, total=4), page("bc", pages=3, total=5), page("d", pages=3, total=5)],
        [page("ab", pages=2, total=3), page("bc", pages=2, total=4)],
        [page("ab"), page("bc"), page("")],
        # A total that is too large, and no sign that a task was moved.
        [page("ab", pages=2, total=9), page("c", pages=2, total=9)],
        [page("ab", pages=2, total=9), page("", pages=2, total=9)],
    ],
)
def test_all_tasks_were_read(pages: list[TaskPage]) -> None:
    reading = read(*pages)
    assert reading.gap(lost_s=60) is None
    assert set(reading.tasks) == {task.task_id for each in pages for task in each.tasks}


@pytest.mark.parametrize(
    "pages",
    [
        [page("ab"), page("ab")],
        [page("ab"), page("cd"), page("ab")],
        [page("ab", pages=2), page("ab", pages=2)],
        [page("ab", pages=2, total=3), page("ab", pages=2, total=3)],
        # The rows were sorted anew between two pages.
        [page("ab", pages=2, total=4), page("bd", pages=2, total=4)],
    ],
)
def test_list_that_repeats_tasks_in_place_of_others_is_incomplete(pages: list[TaskPage]) -> None:
    assert read(*pages).gap(lost_s=60) == REPEATED_PAGES


def test_row_without_an_id_may_be_any_task() -> None:
    assert read(page("ab", pages=1, total=3, unreadable=1)).gap(lost_s=60) == UNREADABLE_ROWS
    assert read(page("", unreadable=1), page("")).gap(lost_s=60) == UNREADABLE_ROWS


@pytest.mark.parametrize("pages", [[page("ab", pages=1, total=9)], [page("ab", pages=2, total=9), page("c", pages=1)]])
def test_total_that_stays_too_large_is_wrong(pages: list[TaskPage]) -> None:
    assert read(*pages).gap(lost_s=59) == FEWER_TASKS
    assert read(*pages).gap(lost_s=60) is None


def test_list_with_many_pages_is_longer() -> None:
    reading = ListReading()
    reading.add(page("ab", pages=20, total=40))
    assert not reading.is_longer_than(20)
    assert reading.is_longer_than(19)
