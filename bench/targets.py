"""Targets of the gateway, compared with the measured values."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.statistics import RunStatistics, percentile

ONE_FILE = "gateway, one file per task"
SHARED = "gateway, shared tasks"
POSTED = "gateway, 2,000 × 5 s one by one"
LONE = "gateway, one short file at a time"
BURST = "gateway, more ends than queries"


def in_flight(tasks: int) -> str:
    return f"gateway, {tasks:,} in flight"


@dataclass(frozen=True, slots=True)
class Target:
    label: str
    quantity: str
    measure: Callable[[RunStatistics], float | None]
    at_most: float = math.inf
    at_least: float = -math.inf


def _wall_s(run: RunStatistics) -> float | None:
    return run.wall_s


def _ratio(run: RunStatistics) -> float | None:
    return run.ratio


def _submits_per_s(run: RunStatistics) -> float | None:
    return run.submits_per_s


def _lag_p95_s(run: RunStatistics) -> float | None:
    return percentile(run.lags_s, 0.95)


def _lag_p50_s(run: RunStatistics) -> float | None:
    return percentile(run.lags_s, 0.5)


def _over_least_s(run: RunStatistics) -> float | None:
    lag_s, least_s = _lag_p95_s(run), percentile(run.least_lags_s, 0.95)
    return None if lag_s is None or least_s is None else lag_s - least_s


def _queries_per_file(run: RunStatistics) -> float | None:
    return run.stats.queries / len(run.lags_s) if run.stats and run.lags_s else None


def _cores(run: RunStatistics) -> float | None:
    return run.cpu_share


def _faults(run: RunStatistics) -> float:
    stats = run.stats
    return (run.lost or 0) + (stats.throttled + stats.twice if stats else 0)


FAULTS = "429s, lost files and files transcribed twice"

TARGETS = [
    Target(LONE, "seconds over upstream's own time, p50", _lag_p50_s, at_most=0.3),
    Target(LONE, "seconds over upstream's own time, p95", _lag_p95_s, at_most=0.6),
    Target(LONE, "queries per file", _queries_per_file, at_most=12),
    Target(LONE, FAULTS, _faults, at_most=0),
    Target(BURST, "seconds over the least lag, p95", _over_least_s, at_most=3),
    Target(BURST, FAULTS, _faults, at_most=0),
    Target(ONE_FILE, "wall time ÷ optimum", _ratio, at_most=1.05),
    Target(ONE_FILE, "submits/s", _submits_per_s, at_least=9.5),
    Target(ONE_FILE, FAULTS, _faults, at_most=0),
    Target(SHARED, "wall time ÷ optimum", _ratio, at_most=1.10),
    Target(SHARED, FAULTS, _faults, at_most=0),
    Target(POSTED, "seconds from the first post to the last transcript", _wall_s, at_most=30),
    Target(POSTED, FAULTS, _faults, at_most=0),
    Target(in_flight(1_500), "seconds from the end of a task to its stored transcript, p95", _lag_p95_s, at_most=3),
    Target(in_flight(1_500), FAULTS, _faults, at_most=0),
    Target(in_flight(2_000), "cores of the poller", _cores, at_most=0.25),
    Target(in_flight(2_000), FAULTS, _faults, at_most=0),
    Target(in_flight(10_000), "seconds from the end of a task to its stored transcript, p95", _lag_p95_s, at_most=15),
    Target(in_flight(10_000), FAULTS, _faults, at_most=0),
]


def verdicts(lines: Sequence[RunStatistics]) -> Iterator[str]:
    """A sentence for each target of the given runs."""
    by_label = {line.label: line for line in lines}
    for target in TARGETS:
        if target.label not in by_label:
            continue
        value = target.measure(by_label[target.label])
        met = value is not None and target.at_least <= value <= target.at_most
        limit = f"at most {target.at_most:g}" if target.at_most < math.inf else f"at least {target.at_least:g}"
        measured = "no value" if value is None else f"{value:.3g}"
        yield f"{'met   ' if met else 'MISSED'}  {target.label}: {target.quantity} {measured} ({limit})"
