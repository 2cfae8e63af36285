"""Statistics of a run, its theoretical optimum, and the table of both."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from bench.upstream import Stats


def optimum_s(*, tasks: int, submits_per_s: float, task_s: float) -> float:
    """Seconds from the first submit to the end of the last task, if only upstream took time.

    With evenly spaced submits the last of `tasks` is sent after (tasks - 1) / submits_per_s and runs for `task_s`.
    500 tasks of 20 s at 10/s: 49.9 + 20 = 69.9 s. The same files in 5 tasks of 100: 0.4 + 20 = 20.4 s.
    Bursts of 10 at each full second would save 0.9 s, but any jitter would cause a 429.
    """
    return (tasks - 1) / submits_per_s + task_s


def lags_s(stored: Mapping[str, float], ended: Mapping[str, float]) -> list[float]:
    """Seconds from the end of each file's task upstream to its stored transcript, sorted."""
    return sorted(at - ended[url] for url, at in stored.items() if url in ended)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile of sorted values."""
    return ordered[max(ceil(share * len(ordered)) - 1, 0)] if ordered else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatistics:
    """A line of the table. None: does not apply."""

    label: str
    wall_s: float | None = None
    optimum_s: float | None = None
    submits_per_s: float | None = None
    stats: Stats | None = None
    lost: int | None = None
    lags_s: Sequence[float] = ()
    least_lags_s: Sequence[float] = ()  # the least possible under upstream's limits, for the same files
    cpu_s: float | None = None
    cpu_share: float | None = None  # of one core, over the time of the run
    postgres_share: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.wall_s / self.optimum_s if self.wall_s is not None and self.optimum_s else None

    def cells(self) -> list[str]:
        stats = self.stats
        return [
            self.label,
            _number(self.wall_s, 1),
            _number(self.ratio, 3),
            _number(self.submits_per_s, 2),
            _count(stats.queries if stats else None),
            _count(stats.lists if stats else None),
            _count(stats.throttled if stats else None),
            _count(self.lost),
            _count(stats.twice if stats else None),
            _number(percentile(self.lags_s, 0.5), 2),
            _number(percentile(self.lags_s, 0.95), 2),
            _number(percentile(self.least_lags_s, 0.95), 2),
            _number(self.cpu_s, 1),
            _number(self.cpu_share, 2),
            _number(self.postgres_share, 2),
        ]


HEADINGS = [
    "run", "wall s", "× optimum", "submits/s", "queries", "list calls", "429s", "lost", "twice",
    "lag p50 s", "lag p95 s", "least p95 s", "CPU s", "cores", "cores of PostgreSQL",
]  # fmt: skip


def table(lines: Iterable[RunStatistics]) -> str:
    """The runs as an aligned Markdown table."""
    rows = [HEADINGS, *(line.cells() for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_row(row, widths) for row in [rows[0], rule, *rows[1:]])


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
