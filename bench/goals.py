"""What the gateway is meant to reach, compared with what was measured."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.figures import Figures, percentile

ONE_FILE = "gateway, one file a task"
SHARED = "gateway, shared tasks"
POSTED = "gateway, 2,000 × 5 s one by one"


def in_flight(tasks: int) -> str:
    return f"gateway, {tasks:,} in flight"


@dataclass(frozen=True, slots=True)
class Goal:
    way: str
    what: str
    measure: Callable[[Figures], float | None]
    most: float = math.inf
    least: float = -math.inf


def _wall_s(figures: Figures) -> float | None:
    return figures.wall_s


def _ratio(figures: Figures) -> float | None:
    return figures.ratio


def _submits_per_s(figures: Figures) -> float | None:
    return figures.submits_per_s


def _lag_p95_s(figures: Figures) -> float | None:
    return percentile(figures.lags_s, 0.95)


def _cores(figures: Figures) -> float | None:
    return figures.cpu_share


def _unwanted(figures: Figures) -> float:
    stats = figures.stats
    return (figures.lost or 0) + (stats.throttled + stats.twice if stats else 0)


UNWANTED = "429s, lost files and files transcribed twice"

GOALS = [
    Goal(ONE_FILE, "wall time ÷ optimum", _ratio, most=1.05),
    Goal(ONE_FILE, "submits/s", _submits_per_s, least=9.5),
    Goal(ONE_FILE, UNWANTED, _unwanted, most=0),
    Goal(SHARED, "wall time ÷ optimum", _ratio, most=1.10),
    Goal(SHARED, UNWANTED, _unwanted, most=0),
    Goal(POSTED, "seconds from the first post to the last transcript", _wall_s, most=30),
    Goal(POSTED, UNWANTED, _unwanted, most=0),
    Goal(in_flight(1_500), "seconds until an end is seen and stored, p95", _lag_p95_s, most=3),
    Goal(in_flight(1_500), UNWANTED, _unwanted, most=0),
    Goal(in_flight(2_000), "cores of the poller", _cores, most=0.25),
    Goal(in_flight(2_000), UNWANTED, _unwanted, most=0),
    Goal(in_flight(10_000), "seconds until an end is seen and stored, p95", _lag_p95_s, most=15),
    Goal(in_flight(10_000), UNWANTED, _unwanted, most=0),
]


def judged(lines: Sequence[Figures]) -> Iterator[str]:
    """A sentence for each goal whose run is among the lines."""
    by_way = {line.way: line for line in lines}
    for goal in GOALS:
        if goal.way not in by_way:
            continue
        value = goal.measure(by_way[goal.way])
        met = value is not None and goal.least <= value <= goal.most
        limit = f"at most {goal.most:g}" if goal.most < math.inf else f"at least {goal.least:g}"
        found = "nothing" if value is None else f"{value:.3g}"
        yield f"{'met   ' if met else 'MISSED'}  {goal.way}: {goal.what} {found} ({limit})"
