"""Checks of tasks: states, times, cancels, the outcomes of files, and usage."""

from datetime import datetime
from typing import Any
from urllib.parse import unquote

from app.certify.evidence import Evidence, Exchange, Unseen, accepted, compact
from app.certify.probes.session import FEMALE_S, MALE_S
from app.certify.registry import Seen, Subject
from app.dashscope import wire
from app.dashscope.clock import BEIJING, CLOCK_SKEW
from app.dashscope.failures import classify_file
from app.poller.assignment import assign

subject = Subject()
# The speech of both recordings, which is what DashScope bills, with a margin for other models.
MIN_SPEECH_S = 5
_STATES = {"PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELED"}


def _outputs(evidence: Evidence) -> list[dict[str, Any]]:
    """The outputs of all queries of the main task."""
    task = evidence.task("main")
    if not task.queries:
        raise Unseen("the task was not queried")
    return [query.output for query in task.queries]


def _while_running(evidence: Evidence) -> list[dict[str, Any]]:
    """The outputs of all queries of tasks that had not ended then."""
    queries: list[Exchange] = [query for task in evidence.tasks.values() for query in task.queries]
    outputs = [query.output for query in queries if not wire.parse_task(query.body).status.ended]
    if not outputs:
        raise Unseen("no task was seen before its end")
    return outputs


@subject.check(
    "correctness",
    "A query of an unknown task gets 200 with the status `UNKNOWN`.",
    "A task that DashScope lost would be polled until its files expire.",
)
def unknown_task(evidence: Evidence) -> Seen:
    exchange = evidence.call("unknown_task")
    if not accepted(exchange):
        return Seen(False, exchange.error_text)
    return Seen(exchange.output["task_status"] == "UNKNOWN", compact(exchange.output["task_status"]))


@subject.check(
    "performance",
    "A query right after the submit knows the task.",
    "The gateway repeats a query that is UNKNOWN shortly after the submit.",
)
def query_after_submit(evidence: Evidence) -> Seen:
    status = _outputs(evidence)[0]["task_status"]
    return Seen(status != "UNKNOWN", str(status))


@subject.check(
    "correctness",
    "Tasks are PENDING, RUNNING, and then SUCCEEDED, FAILED or CANCELED.",
    "A task with another final status would be polled until its files expire.",
)
def task_states(evidence: Evidence) -> Seen:
    states = list(dict.fromkeys(str(output["task_status"]) for output in _outputs(evidence)))
    return Seen(set(states) - {"UNKNOWN"} <= _STATES, ", ".join(states))


@subject.check(
    "performance",
    "`results` appear only when the task has ended.",
    "Transcripts could be fetched earlier than the gateway does.",
)
def results_at_the_end(evidence: Evidence) -> Seen:
    outputs = _while_running(evidence)
    early = [output for output in outputs if output.get("results") or output.get("result")]
    return Seen(not early, compact(early[0]["results"]) if early else f"none in {len(outputs)} queries before the end")


@subject.check(
    "performance",
    "A task that has not ended shows the number of its files in `task_metrics.TOTAL`.",
    "A lost submit is compared with more tasks before it is found.",
)
def file_count(evidence: Evidence) -> Seen:
    outputs = _while_running(evidence)
    without = [output for output in outputs if not isinstance((output.get("task_metrics") or {}).get("TOTAL"), int)]
    return Seen(not without, f"in {len(outputs) - len(without)} of {len(outputs)} queries before the end")


@subject.check(
    "information",
    "Times of a task are in Beijing time, without a zone.",
    "The gateway uses only their difference.",
)
def task_times(evidence: Evidence) -> Seen:
    task = evidence.task("main")
    text = str(_outputs(evidence)[-1]["submit_time"])
    at = datetime.fromisoformat(text)
    if at.tzinfo is not None:
        return Seen(False, f"submit_time {text} has a zone")
    off_s = at.replace(tzinfo=BEIJING).timestamp() - task.sent_at
    return Seen(abs(off_s) <= CLOCK_SKEW.total_seconds(), f"submit_time is {off_s:+.0f} s from the submit")


@subject.check(
    "correctness",
    "A PENDING task can be canceled, and is then CANCELED.",
    "Canceled jobs would be transcribed and billed.",
)
def cancel_pending(evidence: Evidence) -> Seen:
    task = evidence.task("cancel")
    if task.cancel is None:
        raise Unseen("no task was canceled")
    if not accepted(task.cancel):
        started = task.queries and wire.parse_task(task.queries[0].body).status is not wire.TaskStatus.PENDING
        if started:
            raise Unseen(f"the task started before the cancel: {task.cancel.error_text}")
        return Seen(False, task.cancel.error_text)
    return Seen(task.ended.status is wire.TaskStatus.CANCELED, task.ended.status)


@subject.check(
    "correctness",
    "A cancel of a task that is not PENDING gets `UnsupportedOperation`.",
    "The gateway would take a task that runs for a canceled one, or repeat the cancel.",
)
def cancel_refused(evidence: Evidence) -> Seen:
    exchange = evidence.call("cancel_unknown")
    failure = exchange.failure
    return Seen(failure is not None and failure.upstream_code == "UnsupportedOperation", exchange.error_text)


@subject.check(
    "correctness",
    "One bad file does not fail the others of its task, and has a code that the gateway knows.",
    "Good files would fail with the bad one, or the bad one would be submitted again.",
)
def mixed_outcomes(evidence: Evidence) -> Seen:
    items = evidence.task("main").ended.items
    failed = [item for item in items if item.code is not None]
    links = sum(item.transcription_url is not None for item in items)
    codes = [classify_file(item.code, item.message).code for item in failed]
    text = f"{links} of {len(items)} with a result, failed: {', '.join(str(item.code) for item in failed) or 'none'}"
    return Seen(links == 2 and codes == ["file_unreachable"], text)


@subject.check(
    "information",
    "A task whose files have all failed is FAILED, and shows the outcome of each file.",
    "The gateway decides by the files, and needs the task's status only where there are none.",
)
def all_failed(evidence: Evidence) -> Seen:
    ended = evidence.task("without_parameters").ended
    if any(item.transcription_url for item in ended.items):
        raise Unseen("a file did not fail")
    return Seen(
        ended.status is wire.TaskStatus.FAILED and bool(ended.items), f"{ended.status}, {len(ended.items)} files"
    )


@subject.check(
    "correctness",
    "Each result names its file. The order of the results has no meaning.",
    "A transcript could not be told from those of the other files, and would be lost after it was billed.",
)
def results_name_files(evidence: Evidence) -> Seen:
    task = evidence.task("main")
    items = task.ended.items
    assigned = assign(task.file_urls, items, complete=True)
    in_order = [item for item in assigned if item is not None] == list(items)
    found = sum(item is not None for item in assigned)
    order = "in the order of the submit" if in_order else "in another order"
    return Seen(found == len(task.file_urls), f"{found} of {len(task.file_urls)} files found, {order}")


@subject.check(
    "performance",
    "`file_url` of a result is the URL as it was sent, with its escapes.",
    "A lost submit whose URLs differ from others only in escapes may stay ambiguous for a minute.",
)
def file_url_echo(evidence: Evidence) -> Seen:
    task = evidence.task("main")
    echoed = {item.file_url for item in task.ended.items}
    if echoed <= set(task.file_urls):
        return Seen(True, "as sent")
    unescaped = echoed <= {unquote(url) for url in task.file_urls}
    return Seen(
        False, "with its escapes decoded" if unescaped else f"changed: {compact(sorted(map(str, echoed)), 600)}"
    )


@subject.check(
    "correctness",
    "`usage` counts seconds of the files that succeeded, rounded up.",
    "The usage and costs that the gateway shows would be wrong.",
)
def usage_unit(evidence: Evidence) -> Seen:
    task = evidence.task("main")
    usage = task.ended.usage.seconds
    if usage is None:
        return Seen(False, f"no seconds: {compact(task.queries[-1].json.get('usage'))}")
    return Seen(MIN_SPEECH_S <= usage <= FEMALE_S + MALE_S, f"{usage} for recordings of 3.8 s and 4.7 s")


@subject.check(
    "correctness",
    "Failed files are not billed.",
    "The gateway would show too low costs.",
)
def failed_files_free(evidence: Evidence) -> Seen:
    task = evidence.task("hundred")
    usage = task.ended.usage.seconds
    if usage is None:
        raise Unseen("no usage")
    return Seen(usage <= FEMALE_S, f"{usage} s for one recording of 3.8 s and 99 absent files")
