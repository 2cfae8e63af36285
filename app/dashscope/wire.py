"""DashScope's answers as values. Pure; garbage raises MalformedResponse and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeGuard

import orjson

MAX_CODE_CHARS = 100
MAX_TASK_ID_CHARS = 200
MAX_COUNT = 2**31 - 1  # PostgreSQL's integer


class MalformedResponse(ValueError):
    """An answer that is not what the protocol promises: HTML, truncated JSON, a missing task id."""


class TaskStatus(StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    UNKNOWN = "UNKNOWN"

    @property
    def ended(self) -> bool:
        return self not in {TaskStatus.PENDING, TaskStatus.RUNNING}


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """The outcome of one file: a link to its result, or a code that says why there is none.

    Not `ended` while it has neither: a file that "SUCCEEDED" without a link was billed, and must not go out again.
    """

    file_url: str | None
    transcription_url: str | None = None
    code: str | None = None
    message: str = ""
    ended: bool = True


@dataclass(frozen=True, slots=True)
class TaskSnapshot:
    """One answer to a query. `items` may be empty even when the task ended: then `code` speaks for every file."""

    status: TaskStatus
    items: tuple[FileOutcome, ...] = ()
    code: str | None = None
    message: str = ""
    usage_s: int | None = None
    file_count: int | None = None
    ran_s: float | None = None


@dataclass(frozen=True, slots=True)
class ListedTask:
    """One row of the task list: no results, no URLs. `created_ms` is epoch milliseconds."""

    task_id: str
    status: TaskStatus
    model: str
    created_ms: int | None


@dataclass(frozen=True, slots=True)
class TaskPage:
    tasks: tuple[ListedTask, ...]
    total_pages: int


def submit_body(
    *, model: str, input_style: str, file_urls: Sequence[str], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """The body of a submit. `parameters` is always sent: without it the workspace hosts fail the task later.

    `phrase_id` is a parameter to clients; on the wire it is a top-level resource (v1 models only).
    """
    sent = {name: value for name, value in parameters.items() if name != "phrase_id"}
    given = {"file_url": file_urls[0]} if input_style == "file_url" else {"file_urls": list(file_urls)}
    body: dict[str, Any] = {"model": model, "input": given, "parameters": sent}
    if phrase_id := parameters.get("phrase_id"):
        body["resources"] = [{"resource_id": phrase_id, "resource_type": "asr_phrase"}]
    return body


def parse_object(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedResponse("the answer is not JSON") from error
    if not isinstance(answer, dict):
        raise MalformedResponse("the answer is not a JSON object")
    return answer


def parse_error(body: bytes) -> tuple[str | None, str]:
    """Code and message of a refusal; (None, "") when the body is no such thing."""
    try:
        answer = parse_object(body)
    except MalformedResponse:
        return None, ""
    return _code(answer), _text(answer.get("message")) or _text(answer.get("msg"))


def parse_submitted(body: bytes) -> str:
    """The task id of an accepted submit."""
    task_id = _output(parse_object(body)).get("task_id")
    if not _is_task_id(task_id):
        raise MalformedResponse("the answer has no task_id")
    return task_id


def parse_task(body: bytes) -> TaskSnapshot:
    answer = parse_object(body)
    output = _output(answer)
    return TaskSnapshot(
        status=_status(output.get("task_status")),
        items=_items(output),
        code=_code(output),
        message=_text(output.get("message")),
        usage_s=_usage(answer.get("usage")),
        file_count=_int(_mapping(output.get("task_metrics")).get("TOTAL")),
        ran_s=_ran_s(output),
    )


def parse_page(body: bytes) -> TaskPage:
    """One page of the task list. The documented key is `data`; one SDK generation reads `tasks`."""
    answer = parse_object(body)
    rows = answer.get("data", answer.get("tasks"))
    if not isinstance(rows, list):
        raise MalformedResponse("the answer has no list of tasks")
    tasks = tuple(_listed(row) for row in rows if isinstance(row, dict) and _is_task_id(row.get("task_id")))
    return TaskPage(tasks, _total_pages(answer))


def parse_result_url(raw: bytes) -> str | None:
    """The `file_url` of a result document: the file that it is of. None if it names none."""
    try:
        return _text(parse_object(raw).get("file_url")) or None
    except MalformedResponse:
        return None


def parse_canceled(body: bytes) -> None:
    """The answer to a cancel has nothing in it but a request id."""
    if _code(parse_object(body)):
        raise MalformedResponse("the answer is an error")


def _output(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    output = answer.get("output")
    if not isinstance(output, dict):
        raise MalformedResponse("the answer has no output")
    return output


def _items(output: Mapping[str, Any]) -> tuple[FileOutcome, ...]:
    result = _mapping(output.get("result"))  # qwen3's singular form
    if link := _text(result.get("transcription_url")):
        return (FileOutcome(_text(result.get("file_url")) or None, link),)
    results = output.get("results")
    if not isinstance(results, list):
        return ()
    return tuple(_item(row) for row in results if isinstance(row, dict))


def _item(row: Mapping[str, Any]) -> FileOutcome:
    status, code = row.get("subtask_status"), _code(row)
    link = _text(row.get("transcription_url")) if status in (None, "SUCCEEDED") else ""
    under_way = status in ("PENDING", "RUNNING")
    silent_so_far = status in (None, "SUCCEEDED") and not link and not code
    return FileOutcome(
        file_url=_text(row.get("file_url")) or None,
        transcription_url=link or None,
        code=None if link else code,
        message=_text(row.get("message")),
        ended=not under_way and not silent_so_far,
    )


def _listed(row: Mapping[str, Any]) -> ListedTask:
    return ListedTask(
        task_id=row["task_id"],
        status=_listed_status(row),
        model=_text(row.get("model_name")),
        created_ms=_int(row.get("gmt_create")) or _int(row.get("start_time")),
    )


def _listed_status(row: Mapping[str, Any]) -> TaskStatus:
    """One row without a status, of whatever service of the account, does not spoil the page."""
    try:
        return _status(row.get("status") or row.get("task_status"))
    except MalformedResponse:
        return TaskStatus.RUNNING


def _total_pages(answer: Mapping[str, Any]) -> int:
    if pages := _int(answer.get("total_page")):
        return max(pages, 1)
    total, size = _int(answer.get("total")) or 0, _int(answer.get("page_size")) or 1
    return max(-(-total // max(size, 1)), 1)


def _status(value: Any) -> TaskStatus:
    if not isinstance(value, str) or not value:
        raise MalformedResponse("the answer has no task_status")
    try:
        return TaskStatus(value)
    except ValueError:
        # SUSPENDED and whatever comes next: not known to be an end, so not one.
        return TaskStatus.RUNNING


def _usage(usage: Any) -> int | None:
    figures = _mapping(usage)
    seconds = _int(figures.get("duration")) or _int(figures.get("seconds"))
    return seconds if seconds is not None and 0 <= seconds <= MAX_COUNT else None


def _ran_s(output: Mapping[str, Any]) -> float | None:
    """Seconds from submit to end, by the upstream's own clock: both times lack a zone, but it is the same one."""
    try:
        since, until = (datetime.fromisoformat(output[name]) for name in ("submit_time", "end_time"))
        return (until - since).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def _is_task_id(value: Any) -> TypeGuard[str]:
    """It goes into a path, where dots alone would mean another one, and into the database."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_TASK_ID_CHARS
        and value.isprintable()
        and bool(value.strip("."))
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _code(said: Mapping[str, Any]) -> str | None:
    return _text(said.get("code"))[:MAX_CODE_CHARS] or None


def _text(value: Any) -> str:
    """Strings as PostgreSQL can store them: it takes no NUL and no lone surrogate."""
    if not isinstance(value, str):
        return ""
    return value.replace("\x00", "").encode("utf-8", "replace").decode()


def _int(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -(2**53) < value < 2**53:
        return None
    return int(value)
