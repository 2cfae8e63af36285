"""The parser returns a value or raises MalformedResponse for any input, and PostgreSQL can store each value."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalogue import TaskUsage
from app.dashscope import vocabularies
from app.dashscope.wire import (
    FileOutcome,
    MalformedResponse,
    TaskStatus,
    parse_canceled,
    parse_error,
    parse_page,
    parse_submitted,
    parse_task,
)

PARSERS: list[Callable[[bytes], Any]] = [
    *(parse_submitted, parse_task, parse_page, parse_canceled, parse_error),
    *(vocabularies.parse_created, vocabularies.parse_list, vocabularies.parse_vocabulary, vocabularies.parse_changed),
]
NAMES = [
    "code", "data", "end_time", "file_url", "gmt_create", "message", "msg", "output", "page_size", "request_id",
    "result", "results", "seconds", "duration", "start_time", "status", "submit_time", "subtask_status", "task_id",
    "lang", "target_model", "text", "vocabulary", "vocabulary_id", "vocabulary_list", "weight",
    "task_metrics", "task_status", "tasks", "total", "total_page", "transcription_url", "usage", "TOTAL", "model_name",
]  # fmt: skip
STRINGS = [*TaskStatus, "SUSPENDED", "\x00", "a\x00b", "9999-12-31T23:59:59-23:59", "2025-02-13 17:31:20.681", "..", ""]

leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(), st.sampled_from(STRINGS)
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=8)
)
responses = st.fixed_dictionaries(
    {"output": st.dictionaries(st.sampled_from(NAMES), values)}, optional={"usage": values, "data": values}
)


def everything_in(value: Any) -> Iterator[Any]:
    yield value
    if is_dataclass(value):
        for field in fields(value):
            yield from everything_in(getattr(value, field.name))
    if isinstance(value, tuple):
        for inner in value:
            yield from everything_in(inner)


def parse_with_all(body: bytes) -> None:
    for parse in PARSERS:
        with contextlib.suppress(MalformedResponse):
            for value in everything_in(parse(body)):
                assert not isinstance(value, str) or b"\x00" not in value.encode()
                assert not isinstance(value, int) or abs(value) < 2**53


@given(st.binary())
def test_any_bytes_are_parsed_or_malformed(body: bytes) -> None:
    parse_with_all(body)


@pytest.mark.slow
@given(values | responses)
def test_any_json_is_parsed_or_malformed(value: Any) -> None:
    parse_with_all(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))


HUGE = b"9" * 5000
DIFFICULT = [
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe{}",
    b"<html>502 Bad Gateway</html>",
    b'{"output": {"task_id": "x", "task_status": "SUCC',
    b'{"output": null}',
    b'{"output": []}',
    b'{"output": {"task_id": "\\ud800", "task_status": "\\udfff"}}',
    b'{"output": {"task_id": "a\\u0000b", "task_status": "a\\u0000b"}}',
    b'{"output": {"task_id": 7, "task_status": 7}}',
    b'{"output": {"task_id": "", "task_status": ""}}',
    b'{"output": {"task_status": "RUNNING", "results": {"file_url": "x"}}}',
    b'{"output": {"task_status": "SUCCEEDED", "results": [1, null, [], "x", {}]}}',
    b'{"output": {"task_status": "SUCCEEDED", "results": [{"subtask_status": []}, {"subtask_status": {}}]}}',
    b'{"output": {"task_status": "SUCCEEDED", "result": [], "results": 7}}',
    b'{"output": {"task_status": "SUCCEEDED", "task_metrics": {"TOTAL": true}}, "usage": {"duration": true}}',
    b'{"output": {"task_status": "SUCCEEDED", "task_metrics": []}, "usage": 9}',
    b'{"output": {"task_status": "SUCCEEDED", "submit_time": 1, "end_time": "2025-02-13"}}',
    b'{"output": {"task_status": "SUCCEEDED", "submit_time": "2025-02-13", "end_time": "2025-02-13T00:00+08:00"}}',
    b'{"output": {"task_status": "SUCCEEDED"}, "usage": {"duration": 1e999, "seconds": ' + HUGE + b"}}",
    b'{"output": {"task_status": "SUCCEEDED"}, "usage": {"duration": -1}}',
    b'{"data": {"task_id": "x"}}',
    b'{"data": [{"task_id": ["x"]}, {"task_id": {}}], "total": "7", "page_size": 0}',
    b'{"data": [], "total": 1e300, "total_page": ' + HUGE + b"}",
    b'{"code": {"a": 1}, "message": ["x"], "msg": 7}',
    b"[" * 100_000 + b"]" * 100_000,
    b'{"output":' * 5_000 + b"1" + b"}" * 5_000,
]


@pytest.mark.parametrize("body", DIFFICULT, ids=range(len(DIFFICULT)))
def test_difficult_response_is_parsed_or_malformed(body: bytes) -> None:
    parse_with_all(body)


def task(**output: Any) -> bytes:
    return orjson.dumps({"output": {"task_status": "SUCCEEDED", **output}})


@pytest.mark.parametrize("task_id", ["", ".", "..", "a\x00b", "a\nb", "x" * 201, None, 7, ["x"]])
def test_unusable_task_id_is_ignored(task_id: Any) -> None:
    with pytest.raises(MalformedResponse):
        parse_submitted(orjson.dumps({"output": {"task_id": task_id, "task_status": "PENDING"}}))
    assert not parse_page(orjson.dumps({"data": [{"task_id": task_id, "status": "PENDING"}]})).tasks


def test_listed_task_without_a_status_counts_as_running() -> None:
    rows = [{"task_id": "a"}, {"task_id": "b", "status": "FAILED"}, {"task_id": "c", "status": 7}]

    tasks = parse_page(orjson.dumps({"data": rows})).tasks

    assert [(listed.task_id, listed.status.ended) for listed in tasks] == [("a", False), ("b", True), ("c", False)]


@pytest.mark.parametrize("status", ["SUSPENDED", "SOMETHING_NEW"])
def test_unknown_status_counts_as_running(status: str) -> None:
    assert parse_task(orjson.dumps({"output": {"task_status": status}})).status is TaskStatus.RUNNING


def test_file_that_succeeded_without_a_url_has_not_ended() -> None:
    # As a failure, the file would be submitted and billed again.
    (item,) = parse_task(task(results=[{"file_url": "u", "subtask_status": "SUCCEEDED"}])).items

    assert item == FileOutcome("u", ended=False)


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_running_file_has_not_ended_even_with_a_url(status: str) -> None:
    (item,) = parse_task(task(results=[{"file_url": "u", "subtask_status": status, "transcription_url": "x"}])).items

    assert (item.transcription_url, item.ended) == (None, False)


def test_failed_file_has_no_url() -> None:
    row = {"file_url": "u", "subtask_status": "FAILED", "code": "DECODE_ERROR", "transcription_url": "x"}

    assert parse_task(task(results=[row])).items == (FileOutcome("u", code="DECODE_ERROR"),)


def test_results_of_a_running_task_are_parsed() -> None:
    row = {"file_url": "u", "subtask_status": "SUCCEEDED", "transcription_url": "x"}

    snapshot = parse_task(task(task_status="RUNNING", results=[row]))

    assert (snapshot.status, snapshot.items) == (TaskStatus.RUNNING, (FileOutcome("u", "x"),))


@pytest.mark.parametrize(
    "usage",
    [
        {"duration": -1},
        {"duration": 2**31},
        {"duration": True},
        {"seconds": "3 s"},
        {"seconds": "4294967296"},
        [],
        None,
    ],
)
def test_usage_outside_the_range_of_the_database_is_ignored(usage: Any) -> None:
    assert parse_task(orjson.dumps({"output": {"task_status": "SUCCEEDED"}, "usage": usage})).usage == TaskUsage()


@pytest.mark.parametrize(("text", "seconds"), [("3", 3), ("0", 0), ("2.5", 3), ("2147483647", 2**31 - 1)])
def test_figure_as_text_is_its_number(text: str, seconds: int) -> None:
    body = orjson.dumps({"output": {"task_status": "SUCCEEDED"}, "usage": {"duration": text}})
    assert parse_task(body).usage == TaskUsage(seconds=seconds)


def test_code_has_a_maximum_length() -> None:
    code, _ = parse_error(orjson.dumps({"code": "x" * 1000, "message": "m"}))

    assert code == "x" * 100


def test_message_of_an_error_may_be_named_msg() -> None:
    assert parse_error(b'{"code": "X", "msg": "why"}') == ("X", "why")
    assert parse_error(b'{"code": "X", "message": {}, "msg": "why"}') == ("X", "why")


@pytest.mark.parametrize(
    ("counts", "pages"),
    [
        ({"total_page": 3}, 3),
        ({"total": 201, "page_size": 100}, 3),
        ({"total": 200, "page_size": 100}, 2),
        ({"total": 0}, 1),
        ({"total": -5, "page_size": -1}, 1),
        ({"total_page": 0}, 1),
        ({}, None),
    ],
)
def test_number_of_pages_is_read_or_computed(counts: dict[str, int], pages: int | None) -> None:
    assert parse_page(orjson.dumps({"data": [], **counts})).total_pages == pages


def test_list_may_be_named_tasks() -> None:
    assert len(parse_page(b'{"tasks": [{"task_id": "a", "task_status": "RUNNING"}]}').tasks) == 1
