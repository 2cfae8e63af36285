"""Puts the pages of one reading of the task list together, and tells whether any task may be missing. Pure."""

from app.dashscope.wire import ListedTask, TaskPage

UNREADABLE_ROWS = "the task list has rows without a task id"
REPEATED_PAGES = "the task list repeats tasks in place of others"
FEWER_TASKS = "the task list shows fewer tasks than its total"
# Until this time after the loss, a list with fewer tasks than its total may lack some. Later, the total is wrong.
MAX_SHORT_S = 60


class ListReading:
    """The pages that were read, page 1 first.

    New tasks shift others onto later pages, where they are read a second time. The last pages are then read too, so
    that each task of the first moment is seen. A list that ignores `page_no`, or that sorts its rows anew between two
    pages, repeats tasks and leaves out others.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, ListedTask] = {}
        self._pages = 0
        self._last: int | None = None
        self._total: int | None = None
        self._repeats = False
        self._stuck = False
        self._unreadable = False
        self._at_end = False

    def add(self, page: TaskPage) -> None:
        known = len(self.tasks)
        if not self._pages:
            self._last, self._total = page.total_pages, page.total
        elif self._last is not None:
            self._last = max(self._last, page.total_pages or 0)
        self._pages += 1
        self.tasks.update((task.task_id, task) for task in page.tasks)
        new = len(self.tasks) - known
        self._repeats |= new < len(page.tasks)
        self._stuck = bool(page.tasks) and not new
        self._unreadable |= page.unreadable > 0
        # Without totals, only an empty page shows the end.
        self._at_end = not page.tasks and not page.unreadable if self._last is None else self._pages >= self._last

    def is_longer_than(self, pages: int) -> bool:
        return (self._last or self._pages) > pages

    @property
    def is_over(self) -> bool:
        """Whether no more pages are to be read: the list has ended, or shows the same tasks again."""
        return self._at_end or (self._stuck and self._total is None)

    def gap(self, lost_s: float) -> str | None:
        """Why the list may have a task that was not read. None if all tasks were read.

        A total that is too large for this long, although no task is repeated, is taken to be wrong.
        """
        if self._unreadable:
            return UNREADABLE_ROWS
        if self._total is None:
            return REPEATED_PAGES if self._stuck else None
        if len(self.tasks) >= self._total:
            return None
        if self._repeats:
            return REPEATED_PAGES
        return FEWER_TASKS if lost_s < MAX_SHORT_S else None
