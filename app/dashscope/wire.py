"""Parses DashScope's responses. Pure. Any bytes give a value or raise MalformedResponse."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from math import ceil
from typing import Any, TypeGuard

import msgspec
import orjson

from app.catalogue import TaskUsage
from app.json_repair import repair

MAX_CODE_CHARS = 100
MAX_TASK_ID_CHARS = 200
MAX_REQUEST_ID_CHARS = 100
MAX_COUNT = 2**31 - 1  # PostgreSQL's integer
# The milliseconds since the epoch of the years 2020 to 2099. Other numbers have another unit.
MIN_CREATED_MS, MAX_CREATED_MS = 1_577_836_800_000, 4_102_444_800_000


class MalformedResponse(ValueError):
    """The response does not follow the protocol, for example HTML, truncated JSON or a missing task id."""


class TaskStatus(StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    UNKNOWN = "UNKNOWN"

    @property
    def ended(self) -> bool:
        return self not in _UNFINISHED


_STATUSES = frozenset(TaskStatus)
_UNFINISHED = (TaskStatus.PENDING, TaskStatus.RUNNING)
_DECIMAL = re.compile(r"[0-9]{1,10}(\.[0-9]{1,10})?")
_METRICS = ("TOTAL", "SUCCEEDED", "FAILED")


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """The outcome of one file: the URL of its result, the result `document` itself, or the code of its error.

    With none of them, the file has not `ended`: a file that SUCCEEDED was billed and must not be submitted again.
    `is_unknown_status`: `code` is a status that is not documented. The file may have been billed.
    """

    file_url: str | None
    transcription_url: str | None = None
    code: str | None = None
    message: str = ""
    ended: bool = True
    document: bytes | None = field(default=None, repr=False)
    is_unknown_status: bool = False


@dataclass(frozen=True, slots=True)
class TaskSnapshot:
    """The response to a query. If `items` is empty after the end of the task, `code` applies to every file.

    `unknown_status` is a status that is not documented. Then `status` is RUNNING, or FAILED if the task has ended, and
    `code` is the unknown status if there is no other code.
    """

    status: TaskStatus
    items: tuple[FileOutcome, ...] = ()
    code: str | None = None
    message: str = ""
    usage: TaskUsage = field(default_factory=TaskUsage)
    file_count: int | None = None
    ran_s: float | None = None
    unknown_status: str | None = None
    request_id: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ListedTask:
    """One row of the task list, without results and URLs. `request_id` is that of the submit.

    `created_ms` is in milliseconds since the epoch, and None if the row has no such time. The `start_time` of a row may
    be minutes later.
    """

    task_id: str
    status: TaskStatus
    model: str
    created_ms: int | None
    request_id: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page of the task list. `total` and `total_pages` are None if the response does not have them.

    `unreadable` is the number of rows without a task id. They may be of any task.
    """

    tasks: tuple[ListedTask, ...]
    total_pages: int | None
    total: int | None = None
    unreadable: int = 0


def submit_body(
    *, model: str, input_style: str, file_urls: Sequence[str], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """The body of a submit. `parameters` is always present: without it, workspace hosts fail the task later.

    `phrase_id` and `context` are parameters of the gateway's API. For DashScope, `phrase_id` is a top-level resource
    (v1 models only), and `context` belongs to the input (Qwen-Audio only).
    """
    sent = {name: value for name, value in parameters.items() if name not in {"phrase_id", "context"}}
    inputs: dict[str, Any] = {"file_url": file_urls[0]} if input_style == "file_url" else {"file_urls": list(file_urls)}
    if context := parameters.get("context"):
        inputs["context"] = context
    body: dict[str, Any] = {"model": model, "input": inputs, "parameters": sent}
    if phrase_id := parameters.get("phrase_id"):
        body["resources"] = [{"resource_id": phrase_id, "resource_type": "asr_phrase"}]
    return body


def parse_object(body: bytes) -> dict[str, Any]:
    return _parse(body)[0]


def _parse(body: bytes) -> tuple[dict[str, Any], bytes]:
    """The object and its JSON, which is `body` unless that needs repair."""
    try:
        response = orjson.loads(body)
    except orjson.JSONDecodeError:
        body = repair(body)
        try:
            response = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise MalformedResponse("the response is not JSON") from error
    if not isinstance(response, dict):
        raise MalformedResponse("the response is not a JSON object")
    return response, body


def parse_error(body: bytes) -> tuple[str | None, str]:
    """Code and message of an error response, or (None, "") for any other body."""
    try:
        response = parse_object(body)
    except MalformedResponse:
        return None, ""
    return _code(response), _text(response.get("message")) or _text(response.get("msg"))


def parse_request_id(body: bytes) -> str | None:
    """Upstream's id of the call, which its support asks for. None for any other body."""
    try:
        return _request_id(parse_object(body))
    except MalformedResponse:
        return None


def parse_submitted(body: bytes) -> str:
    """The task id of an accepted submit."""
    task_id = _output(parse_object(body)).get("task_id")
    if not _is_task_id(task_id):
        raise MalformedResponse("the response has no task_id")
    return task_id


def parse_task(body: bytes) -> TaskSnapshot:
    response, text = _parse(body)
    output = _output(response)
    items = _items(output, text)
    status, code = _status(output.get("task_status")), _code(output)
    unknown = None if status else _text(output["task_status"])[:MAX_CODE_CHARS]
    has_ended = status is None and _has_ended(output, items)
    return TaskSnapshot(
        status=status or (TaskStatus.FAILED if has_ended else TaskStatus.RUNNING),
        items=items,
        code=code or (unknown if has_ended else None),
        message=_text(output.get("message")),
        usage=_usage(response.get("usage")),
        file_count=_int(_mapping(output.get("task_metrics")).get("TOTAL")),
        ran_s=_ran_s(output),
        unknown_status=unknown,
        request_id=_request_id(response),
    )


def parse_page(body: bytes) -> TaskPage:
    """One page of the task list. The documented key is `data`; one SDK generation reads `tasks`."""
    response = parse_object(body)
    rows = response.get("data", response.get("tasks"))
    if not isinstance(rows, list):
        raise MalformedResponse("the response has no list of tasks")
    tasks = tuple(
        ListedTask(
            task_id=row["task_id"],
            status=_listed_status(row),
            model=_text(row.get("model_name")),
            created_ms=_created_ms(row),
            request_id=_request_id(row),
        )
        for row in rows
        if isinstance(row, dict) and _is_task_id(row.get("task_id"))
    )
    return TaskPage(tasks, _total_pages(response), _int(response.get("total")), len(rows) - len(tasks))


def parse_result_url(body: bytes) -> str | None:
    """The `file_url` of a result document, or None if it has none."""
    try:
        return _text(parse_object(body).get("file_url")) or None
    except MalformedResponse:
        return None


def parse_canceled(body: bytes) -> None:
    """Check the response to a cancel, which holds a request id only. Raises MalformedResponse for an error."""
    if _code(parse_object(body)):
        raise MalformedResponse("the response is an error")


def _output(response: Mapping[str, Any]) -> Mapping[str, Any]:
    output = response.get("output")
    if not isinstance(output, dict):
        raise MalformedResponse("the response has no output")
    return output


def _items(output: Mapping[str, Any], text: bytes) -> tuple[FileOutcome, ...]:
    result = _mapping(output.get("result"))  # qwen3's singular form
    file_url = _text(result.get("file_url")) or None
    if url := _text(result.get("transcription_url")):
        return (FileOutcome(file_url, url),)
    if _is_document(result):
        return (FileOutcome(file_url, document=bytes(_output_members(text)["result"])),)
    rows = output.get("results")
    if not isinstance(rows, list):
        return ()
    if not any(map(_is_document, rows)):
        return tuple(_item(row) for row in rows if isinstance(row, dict))
    members = msgspec.json.decode(_output_members(text)["results"], type=list[msgspec.Raw])
    documents = [bytes(member) if _is_document(row) else None for row, member in zip(rows, members, strict=True)]
    return tuple(_item(row, each) for row, each in zip(rows, documents, strict=True) if isinstance(row, dict))


def _is_document(value: Any) -> bool:
    """Whether the value is a result document, which a response may have in place of its link."""
    return isinstance(value, dict) and isinstance(value.get("transcripts"), list)


def _output_members(text: bytes) -> dict[str, msgspec.Raw]:
    """The unparsed members of `output`, so that documents are stored byte for byte."""
    try:
        response = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        return msgspec.json.decode(response["output"], type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedResponse("the response nests too deeply") from error


def _item(row: Mapping[str, Any], document: bytes | None = None) -> FileOutcome:
    word, code = _text(row.get("subtask_status")), _code(row)
    is_unknown = bool(word) and word not in _STATUSES
    may_have_result = not word or word == TaskStatus.SUCCEEDED or is_unknown
    url = _text(row.get("transcription_url")) if may_have_result else ""
    if url or not may_have_result:
        document = None
    has_outcome = bool(url or document or code)
    return FileOutcome(
        file_url=_text(row.get("file_url")) or None,
        transcription_url=url or None,
        code=None if url or document else code or (word[:MAX_CODE_CHARS] if is_unknown else None),
        message=_text(row.get("message")),
        ended=word not in _UNFINISHED and (has_outcome or word not in ("", TaskStatus.SUCCEEDED)),
        document=document,
        is_unknown_status=is_unknown and not has_outcome,
    )


def _has_ended(output: Mapping[str, Any], items: Sequence[FileOutcome]) -> bool:
    """Whether a task with an unknown status has ended: it has a time of its end, or all its files have an outcome."""
    if output.get("end_time"):
        return True
    if items and all(item.ended and not item.is_unknown_status for item in items):
        return True
    total, *ended = (_int(_mapping(output.get("task_metrics")).get(key)) or 0 for key in _METRICS)
    return total > 0 and sum(ended) == total


def _listed_status(row: Mapping[str, Any]) -> TaskStatus:
    """The status of a row. Rows of other services of the account may lack one, which must not fail the page."""
    try:
        status = _status(row.get("status") or row.get("task_status"))
    except MalformedResponse:
        return TaskStatus.RUNNING
    return status or (TaskStatus.FAILED if row.get("end_time") else TaskStatus.RUNNING)


def _created_ms(row: Mapping[str, Any]) -> int | None:
    created_ms = _int(row.get("gmt_create"))
    return created_ms if created_ms and MIN_CREATED_MS <= created_ms < MAX_CREATED_MS else None


def _total_pages(response: Mapping[str, Any]) -> int | None:
    if pages := _int(response.get("total_page")):
        return max(pages, 1)
    total, size = _int(response.get("total")), _int(response.get("page_size")) or 1
    if total is None:
        return None if pages is None else 1
    return max(-(-total // max(size, 1)), 1)


def _status(value: Any) -> TaskStatus | None:
    """None for a status that is not documented, such as SUSPENDED or a future one."""
    if not isinstance(value, str) or not value:
        raise MalformedResponse("the response has no task_status")
    return TaskStatus(value) if value in _STATUSES else None


def _usage(usage: Any) -> TaskUsage:
    """`duration` of most models, `seconds` of qwen3, or tokens. A value that is no possible count is left out."""
    fields = _mapping(usage)
    duration = _count(fields.get("duration"))
    return TaskUsage(
        seconds=_count(fields.get("seconds")) if duration is None else duration,
        input_tokens=_count(fields.get("input_tokens")),
        output_tokens=_count(fields.get("output_tokens")),
    )


def _count(value: Any) -> int | None:
    """A whole number that PostgreSQL can store, which may be text. Fractions are rounded up, as upstream rounds."""
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_COUNT:
        return None
    return ceil(value)


def _ran_s(output: Mapping[str, Any]) -> float | None:
    """Seconds from submit to end by upstream's clock. Both times lack a time zone, but they share it."""
    try:
        since, until = (datetime.fromisoformat(output[name]) for name in ("submit_time", "end_time"))
        return (until - since).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def _is_task_id(value: Any) -> TypeGuard[str]:
    """True if the id is safe in the database and in a path, where an id of only dots would change the path."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_TASK_ID_CHARS
        and value.isprintable()
        and bool(value.strip("."))
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _code(fields: Mapping[str, Any]) -> str | None:
    return _text(fields.get("code"))[:MAX_CODE_CHARS] or None


def _request_id(fields: Mapping[str, Any]) -> str | None:
    return _text(fields.get("request_id"))[:MAX_REQUEST_ID_CHARS] or None


def _text(value: Any) -> str:
    """The string without NUL and lone surrogates, which PostgreSQL cannot store, or an empty string."""
    if not isinstance(value, str):
        return ""
    return value.replace("\x00", "").encode("utf-8", "replace").decode()


def _int(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -(2**53) < value < 2**53:
        return None
    return int(value)
