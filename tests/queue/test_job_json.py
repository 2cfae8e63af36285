"""The declarations of jobs and files, and how their objects are read from rows."""

import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest

from app.queue.job_json import JOB_COLUMNS, Job, job_bytes, job_etag, read_file, read_job
from app.queue.row_reader import Column, RowReader, json_object, sql_columns

JOB_ID = UUID("019ab0a4-4d5e-7a20-8f3b-2b1c6a0d9e11")
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
REASON = {
    "code": "account_unpaid",
    "account": "beijing/default",
    "region": "beijing",
    "since": "2026-11-23T16:00:00+08:00",
}
ROW: dict[str, Any] = {
    "id": JOB_ID,
    "status": "queued",
    "model": "fun-asr",
    "region": "beijing",
    "parameters": "{}",
    "metadata": '{"call": "4711"}',
    "created_at": NOW,
    "started_at": None,
    "finished_at": None,
    "file_counts": [3, 3, 0, 0, 0, 0],
    "waiting_reason": None,
    "warnings": [],
    "audio_duration_ms": 0,
    "cost": Decimal(0),
    "files": "[]",
    "files_truncated": False,
    "version": 7,
}


def file_text(**changes: Any) -> str:
    file = {"index": 0, "url": "https://example.com/", "status": "queued", "transcript_id": None, "error": None}
    return json.dumps({**file, "audio_duration_ms": None, "attempts": 0, "upstream": None, "reused": False, **changes})


def test_row_has_a_column_for_each_field_and_the_version() -> None:
    assert list(JOB_COLUMNS) == [*(field.name for field in fields(Job)), "version"]
    assert set(ROW) == set(JOB_COLUMNS)


def test_order_of_the_columns_does_not_matter() -> None:
    assert read_job(dict(reversed(ROW.items()))) == read_job(ROW)


def test_json_has_the_fields_in_the_order_of_their_declaration() -> None:
    job = json.loads(job_bytes(read_job(ROW)))
    assert list(job) == [field.name for field in fields(Job)]
    assert job["file_counts"] == {"total": 3, "queued": 3, "running": 0, "succeeded": 0, "failed": 0, "canceled": 0}


def test_waiting_reason_is_in_utc_and_changes_the_etag() -> None:
    waiting = read_job({**ROW, "waiting_reason": json.dumps(REASON)})
    assert json.loads(job_bytes(waiting))["waiting_reason"]["since"] == "2026-11-23T08:00:00Z"
    assert job_etag(waiting) != job_etag(read_job(ROW)) == f'"{JOB_ID}/7"'


@pytest.mark.parametrize("code", ["audio_too_long", "code_of_a_later_version"])
def test_error_codes_are_kept_also_if_they_are_unknown(code: str) -> None:
    error = {"code": code, "message": "", "retryable": True, "upstream_code": None}
    file = read_file(file_text(status="failed", error=error))
    assert file.error is not None
    assert (file.error.code, file.error.code.value) == (code, code)


def test_waiting_codes_are_kept_also_if_they_are_unknown() -> None:
    reason = json.dumps(REASON | {"code": "code_of_a_later_version"})
    snapshot = read_job({**ROW, "waiting_reason": reason})
    assert json.loads(job_bytes(snapshot))["waiting_reason"]["code"] == "code_of_a_later_version"


@dataclass
class Point:
    x: int
    label: Annotated[str, Column("upper(points.name)")]
    text: Annotated[str, Column("points.y", lambda row: f"{row['x']}/{row['text']}")]


def test_fields_are_columns_of_their_name_unless_declared_otherwise() -> None:
    assert sql_columns(Point, "points") == {"x": "points.x", "label": "upper(points.name)", "text": "points.y"}
    assert json_object({"x": "points.x", "y": "1"}) == "json_build_object('x', points.x, 'y', 1)"
    assert RowReader(Point).read({"text": 2, "label": "A", "x": 1}) == Point(1, "A", "1/2")


def test_given_values_need_no_column() -> None:
    assert RowReader(Point).read({"label": "A", "x": 1}, text="given") == Point(1, "A", "given")
