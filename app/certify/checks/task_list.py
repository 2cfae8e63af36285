"""Checks of the task list, on which lost submits and the watch of many tasks depend."""

from app.certify.evidence import Evidence, Exchange, Unseen, accepted
from app.certify.probes.session import MODEL
from app.certify.registry import Seen, Subject
from app.dashscope import wire
from app.dashscope.clock import CLOCK_SKEW
from app.poller.context import LIST_PAGE_SIZE

subject = Subject()


def _rows(exchange: Exchange) -> tuple[wire.ListedTask, ...]:
    if not accepted(exchange):
        raise Unseen(f"no list: {exchange.error_text}")
    return wire.parse_page(exchange.body).tasks


def _main_row(evidence: Evidence) -> wire.ListedTask:
    task_id = evidence.task("main").task_id
    row = next((row for row in _rows(evidence.call("list")) if row.task_id == task_id), None)
    if row is None:
        raise Unseen("the task was not listed")
    return row


@subject.check(
    "correctness",
    "A new task is listed within 6 seconds.",
    "A submit whose response was lost would be sent again, and billed twice.",
)
def list_lag(evidence: Evidence) -> Seen:
    lag_s = evidence.lag_s("listed")
    text = "not listed" if lag_s == float("inf") else f"listed after {lag_s:.1f} s"
    return Seen(lag_s <= evidence.max_list_lag_s, text)


@subject.check(
    "correctness",
    "The list has the time of the submit in milliseconds since 1970.",
    "A lost submit would not be found by its time, and would be billed twice.",
)
def list_times(evidence: Evidence) -> Seen:
    row, sent_at = _main_row(evidence), evidence.task("main").sent_at
    if row.created_ms is None:
        return Seen(False, "no time")
    off_s = row.created_ms / 1000 - sent_at
    return Seen(abs(off_s) <= CLOCK_SKEW.total_seconds(), f"{off_s:+.0f} s from the submit by this clock")


@subject.check(
    "correctness",
    "Windows of the list are in Beijing time or UTC.",
    "A lost submit would not be found, and would be billed twice.",
)
def list_windows(evidence: Evidence) -> Seen:
    beijing, utc = (_has_main(evidence, f"list_window_{zone}") for zone in ("beijing", "utc"))
    return Seen(beijing or utc, _zone_text(beijing=beijing, utc=utc))


@subject.check(
    "performance",
    "Windows of the list are in Beijing time.",
    "Lost submits are searched in a window of eight more hours, which has more pages.",
)
def list_window_zone(evidence: Evidence) -> Seen:
    beijing, utc = (_has_main(evidence, f"list_window_{zone}") for zone in ("beijing", "utc"))
    return Seen(beijing and not utc, _zone_text(beijing=beijing, utc=utc))


def _has_main(evidence: Evidence, name: str) -> bool:
    task_id = evidence.task("main").task_id
    if task_id is None:
        raise Unseen("no task to look for")
    return any(row.task_id == task_id for row in _rows(evidence.call(name)))


def _zone_text(*, beijing: bool, utc: bool) -> str:
    if beijing and utc:
        return "the window is ignored"
    return "Beijing time" if beijing else "UTC" if utc else "the task is in neither window"


@subject.check(
    "performance",
    f"A page of the list takes {LIST_PAGE_SIZE} tasks.",
    "The watch of many tasks would be refused; each task would be queried instead.",
)
def list_page_size(evidence: Evidence) -> Seen:
    exchange = evidence.call("list_full_page")
    if not accepted(exchange):
        return Seen(False, exchange.error_text)
    return Seen(True, f"{len(_rows(exchange))} tasks")


@subject.check(
    "performance",
    "The list filters by `status`.",
    "The watch reads all tasks of the last 24 hours in place of those that run.",
)
def list_status_filter(evidence: Evidence) -> Seen:
    rows = _rows(evidence.call("list_succeeded"))
    others = sorted({row.status.value for row in rows} - {"SUCCEEDED"})
    return Seen(not others, f"shows {', '.join(others)} too" if others else f"{len(rows)} tasks, all SUCCEEDED")


@subject.check(
    "performance",
    "The list filters by `model_name`.",
    "The search for a lost submit reads the tasks of all models.",
)
def list_model_filter(evidence: Evidence) -> Seen:
    rows = _rows(evidence.call("list_other_model"))
    shown = sum(row.model == MODEL for row in rows)
    return Seen(not shown, f"{len(rows)} tasks, {shown} of another model")


@subject.check(
    "performance",
    "The list begins with the newest task.",
    "Tasks that start while pages are read could be missed until the next sweep.",
)
def list_order(evidence: Evidence) -> Seen:
    times = [row.created_ms for row in _rows(evidence.call("list_full_page")) if row.created_ms is not None]
    if len(set(times)) < 2:
        raise Unseen("too few tasks")
    return Seen(times == sorted(times, reverse=True), "newest first" if times[0] >= times[-1] else "oldest first")


@subject.check(
    "correctness",
    "Ended tasks stay in the list.",
    "A lost submit whose task has ended would be sent again, and billed twice.",
)
def list_keeps_ended(evidence: Evidence) -> Seen:
    rows = _rows(evidence.call("list_after_end"))
    listed = any(row.task_id == evidence.task("main").task_id for row in rows)
    return Seen(listed, "listed after its end" if listed else f"not among {len(rows)} tasks")


@subject.check(
    "performance",
    "The list shows the end of a task within 6 seconds.",
    "Transcripts of many tasks arrive later by the lag.",
)
def list_shows_end(evidence: Evidence) -> Seen:
    lag_s = evidence.lag_s("end_listed")
    text = "not shown" if lag_s == float("inf") else f"shown after {max(lag_s, 0):.1f} s"
    return Seen(lag_s <= evidence.max_list_lag_s, text)
