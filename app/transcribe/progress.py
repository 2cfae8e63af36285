"""Shows how far each recording is, on standard error: bars on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

# Bars that fit on a screen. The other recordings have lines only.
MAX_BARS = 20


class Display:
    """The stages of recordings, by their labels."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False)
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._stages: dict[str, str] = {}

    @contextmanager
    def shown(self) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[stage]}"))
        with Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True) as self._bars:
            yield
        self._bars = None

    def stage(self, label: str, stage: str) -> None:
        """A stage without a known end, such as `queued`. Repeating it shows nothing new."""
        if self._stages.get(label) == stage:
            return
        self._stages[label] = stage
        if self._bars is None:
            self.line(label, stage)
        elif (task := self._task(label)) is not None:
            self._bars.update(task, stage=stage, total=None, completed=0)

    def sent(self, label: str, size: int, total: int) -> None:
        """Bytes of an upload. Lines do not show them."""
        if self._bars is not None and (task := self._task(label)) is not None:
            self._bars.update(task, stage=self._stages.get(label, ""), total=total, completed=size)

    def end(self, label: str, outcome: str) -> None:
        """The last line of a recording."""
        if self._bars is not None and label in self._tasks:
            self._bars.remove_task(self._tasks.pop(label))
        self.line(label, outcome)

    def line(self, label: str, message: str) -> None:
        self._console.print(f"{label}: {message}", markup=False, soft_wrap=True)

    def _task(self, label: str) -> TaskID | None:
        """The bar of the label; None if the screen is full."""
        if self._bars is not None and label not in self._tasks and len(self._tasks) < MAX_BARS:
            self._tasks[label] = self._bars.add_task(escape(label), total=None, stage="")
        return self._tasks.get(label)
