"""DashScope's answers as values. Pure; garbage raises Garbage and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson


class Garbage(ValueError):
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
class Item:
    """The outcome of one file: a link to its result, or a code that says why there is none."""

    file_url: str | None
    transcription_url: str | None = None
    code: str | None = None
    message: str = ""
    ended: bool = True


@dataclass(frozen=True, slots=True)
class TaskView:
    """One answer to a query. `items` may be empty even when the task ended: then `code` speaks for every file."""

    status: TaskStatus
    items: tuple[Item, ...] = ()
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


def read_object(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Garbage("the answer is not JSON") from error
    if not isinstance(answer, dict):
        raise Garbage("the answer is not a JSON object")
    return answer


def read_error(body: bytes) -> tuple[str | None, str]:
    """Code and message of a refusal; (None, "") when the body is no such thing."""
    try:
        answer = read_object(body)
    except Garbage:
        return None, ""
    return _text(answer.get("code")) or None, _text(answer.get("message") or answer.get("msg"))


def read_submitted(body: bytes) -> str:
    """The task id of an accepted submit."""
    task_id = _output(read_object(body)).get("task_id")
    if not isinstance(task_id, str) or not task_id or len(task_id) > 200 or not task_id.isprintable():
        raise Garbage("the answer has no task_id")
    return task_id


def read_task(body: bytes) -> TaskView:
    answer = read_object(body)
    output = _output(answer)
    return TaskView(
        status=_status(output.get("task_status")),
        items=_items(output),
        code=_text(output.get("code")) or None,
        message=_text(output.get("message")),
        usage_s=_usage(answer.get("usage")),
        file_count=_int(_mapping(output.get("task_metrics")).get("TOTAL")),
        ran_s=_ran_s(output),
    )


def read_page(body: bytes) -> TaskPage:
    """One page of the task list. The documented key is `data`; one SDK generation reads `tasks`."""
    answer = read_object(body)
    rows = answer.get("data", answer.get("tasks"))
    if not isinstance(rows, list):
        raise Garbage("the answer has no list of tasks")
    tasks = tuple(_listed(row) for row in rows if isinstance(row, dict) and isinstance(row.get("task_id"), str))
    return TaskPage(tasks, _total_pages(answer))


def same_file(sent: str, echoed: str) -> bool:
    """Whether the `file_url` in an answer is the URL that was sent.

    Upstream echoes a signed http link for `oss://bucket-dir/key`: there, the path is what stays.
    """
    if sent == echoed:
        return True
    if sent.startswith("oss://"):
        return unquote(sent.removeprefix("oss://")) == unquote(_path(echoed)).lstrip("/")
    return unquote(sent) == unquote(echoed)


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _output(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    output = answer.get("output")
    if not isinstance(output, dict):
        raise Garbage("the answer has no output")
    return output


def _items(output: Mapping[str, Any]) -> tuple[Item, ...]:
    result = output.get("result")  # qwen3's singular form
    if isinstance(result, dict) and isinstance(result.get("transcription_url"), str):
        return (Item(_text(result.get("file_url")) or None, result["transcription_url"]),)
    results = output.get("results")
    if not isinstance(results, list):
        return ()
    return tuple(_item(row) for row in results if isinstance(row, dict))


def _item(row: Mapping[str, Any]) -> Item:
    url = row.get("transcription_url")
    succeeded = row.get("subtask_status") in {None, "SUCCEEDED"} and isinstance(url, str) and bool(url)
    return Item(
        file_url=_text(row.get("file_url")) or None,
        transcription_url=url if succeeded else None,
        code=None if succeeded else _text(row.get("code")) or None,
        message=_text(row.get("message")),
        ended=row.get("subtask_status") not in {"PENDING", "RUNNING"},
    )


def _listed(row: Mapping[str, Any]) -> ListedTask:
    return ListedTask(
        task_id=row["task_id"],
        status=_status(row.get("status") or row.get("task_status")),
        model=_text(row.get("model_name")),
        created_ms=_int(row.get("gmt_create")) or _int(row.get("start_time")),
    )


def _total_pages(answer: Mapping[str, Any]) -> int:
    if pages := _int(answer.get("total_page")):
        return max(pages, 1)
    total, size = _int(answer.get("total")) or 0, _int(answer.get("page_size")) or 1
    return max(-(-total // max(size, 1)), 1)


def _status(value: Any) -> TaskStatus:
    if not isinstance(value, str) or not value:
        raise Garbage("the answer has no task_status")
    try:
        return TaskStatus(value)
    except ValueError:
        # SUSPENDED and whatever comes next: not known to be an end, so not one.
        return TaskStatus.RUNNING


def _usage(usage: Any) -> int | None:
    figures = _mapping(usage)
    return _int(figures.get("duration")) or _int(figures.get("seconds"))


def _ran_s(output: Mapping[str, Any]) -> float | None:
    """Seconds from submit to end, by the upstream's own clock: both times lack a zone, but it is the same one."""
    try:
        since, until = (datetime.fromisoformat(output[name]) for name in ("submit_time", "end_time"))
        return (until - since).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    """Strings as PostgreSQL can store them: it takes no NUL and no lone surrogate."""
    if not isinstance(value, str):
        return ""
    return value.replace("\x00", "").encode("utf-8", "replace").decode()


def _int(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -(2**53) < value < 2**53:
        return None
    return int(value)
