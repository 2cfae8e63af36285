"""Checks of submits: what is accepted, and what is refused."""

from app.certify.evidence import Evidence, Unseen, accepted, compact
from app.certify.probes.submits import RETIRED
from app.certify.registry import Seen, Subject
from app.dashscope import wire

subject = Subject()


@subject.check(
    "correctness",
    "A submit gets 200 with the id of its task.",
    "No file could be transcribed, or each submit would be billed without a transcript.",
)
def submit_accepted(evidence: Evidence) -> Seen:
    task = evidence.task("main")
    if not accepted(task.submit):
        return Seen(False, task.submit.error_text)
    return Seen(task.task_id is not None, compact(task.submit.output))


@subject.check(
    "performance",
    "A task takes 100 files.",
    "The gateway learns the limit from the refusals, and needs a submit for each file. Set MAX_FILES_PER_TASK=1.",
)
def hundred_files(evidence: Evidence) -> Seen:
    task = evidence.task("hundred")
    if not accepted(task.submit):
        return Seen(False, task.submit.error_text)
    return Seen(True, "accepted")


@subject.check(
    "correctness",
    "A task of 100 files has 100 results.",
    "Files without a result would be submitted again, and could be billed twice. Set MAX_FILES_PER_TASK=1.",
)
def hundred_results(evidence: Evidence) -> Seen:
    count = len(evidence.task("hundred").ended.items)
    return Seen(count == 100, f"{count} results")


@subject.check(
    "information",
    "101 files are refused at the submit with a 4xx.",
    "Tasks could be larger than the catalogue says.",
)
def too_many_files(evidence: Evidence) -> Seen:
    exchange = evidence.task("too_many").submit
    refused = not accepted(exchange) and 400 <= exchange.status < 500
    return Seen(refused, "accepted" if exchange.failure is None else exchange.error_text)


@subject.check(
    "information",
    "An unknown parameter is ignored.",
    "Parameters that the catalogue does not know would be refused; the gateway refuses them before.",
)
def unknown_parameter(evidence: Evidence) -> Seen:
    task = evidence.task("unknown_parameter")
    if not accepted(task.submit):
        return Seen(False, task.submit.error_text)
    status = task.ended.status
    return Seen(status is wire.TaskStatus.SUCCEEDED, f"{status} {task.ended.code or ''}".strip())


@subject.check(
    "information",
    "A channel that the file does not have is not refused at the submit.",
    "A file with a wrong `channel_id` would be separated from its task by splitting.",
)
def absent_channel(evidence: Evidence) -> Seen:
    task = evidence.task("absent_channel")
    if not accepted(task.submit):
        return Seen(False, task.submit.error_text)
    items = task.ended.items
    codes = [item.code or "a result" for item in items] or [task.ended.code or "no results"]
    return Seen(True, f"{task.ended.status}: {', '.join(codes)}")


@subject.check(
    "information",
    "A submit without `parameters` is processed like one with them.",
    "The gateway always sends `parameters`, which workspace hosts in Singapore need.",
)
def parameters_optional(evidence: Evidence) -> Seen:
    task = evidence.task("without_parameters")
    if not accepted(task.submit):
        return Seen(False, task.submit.error_text)
    ended = task.ended
    codes = {ended.code, *(item.code for item in ended.items)} - {None}
    return Seen(not any(str(code).startswith("InvalidParameter") for code in codes), compact(sorted(map(str, codes))))


@subject.check(
    "performance",
    "Models whose retirement was announced are still accepted.",
    "Jobs with such a model fail as `model_unavailable`: the catalogue should name the replacement as an error.",
)
def retired_models(evidence: Evidence) -> Seen:
    tasks = {name.removeprefix(RETIRED): task for name, task in evidence.tasks.items() if name.startswith(RETIRED)}
    if not tasks:
        raise Unseen("the region has none, or none was tried")
    refused = [f"{model}: {task.submit.error_text}" for model, task in tasks.items() if not accepted(task.submit)]
    return Seen(not refused, "; ".join(refused) or f"accepted: {', '.join(sorted(tasks))}")
