"""Which tasks the task list shows no more. Pure.

The list is read page by page while it changes. Tasks that come in meanwhile push unread ones onto pages that were
read already; what falls between two pages was not read, and says nothing about its end.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from uuid import UUID

from app.dashscope.wire import TaskPage

Reading = Sequence[TaskPage]  # of one status, the oldest page first


class ListDiff:
    """What is remembered of earlier readings about the tasks in flight."""

    def __init__(self) -> None:
        self._created_ms: dict[str, int] = {}  # of those that were listed
        self._missed: set[str] = set()  # of the others, those that the last readings did not show

    def ended(self, running: Mapping[UUID, str], readings: Sequence[Reading]) -> list[UUID]:
        """The rows whose tasks are listed no more. What never was, and may just be unread, has a second chance."""
        listed = _listed(readings)
        known = self._created_ms | listed
        unread = [span for reading in readings for span in unread_spans(reading)]
        missing = {row_id: task_id for row_id, task_id in running.items() if task_id not in listed}
        doubtful = {task_id for task_id in missing.values() if unread and task_id not in known} - self._missed
        self._created_ms = {task_id: known[task_id] for task_id in running.values() if task_id in known}
        self._missed = doubtful
        return [
            row_id
            for row_id, task_id in missing.items()
            if task_id not in doubtful and not _within(unread, known.get(task_id, 0))
        ]


def unread_spans(pages: Reading) -> Iterator[tuple[int, int]]:
    """The spans of creation, in milliseconds, between each page and the next newer one, which was read after it."""
    spans = [[task.created_ms for task in page.tasks if task.created_ms] for page in pages]
    for older, newer in pairwise(span for span in spans if span):
        yield max(older), min(newer)


def _listed(readings: Sequence[Reading]) -> dict[str, int]:
    return {
        task.task_id: task.created_ms or 0
        for pages in readings
        for page in pages
        for task in page.tasks
        if not task.status.ended
    }


def _within(spans: Sequence[tuple[int, int]], created_ms: int) -> bool:
    return any(since <= created_ms <= until for since, until in spans)
