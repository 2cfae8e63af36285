"""A job as DashScope shows a task. Source: protocol, section 3."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from app.catalogue import MODELS
from app.dashscope_api.times import field_time
from app.queue.job_json import Job, JobFile
from app.queue.lifecycle import FileStatus, JobStatus
from app.queue.queries import BilledUnits

STATUSES: Mapping[JobStatus, str] = {
    JobStatus.QUEUED: "PENDING",
    JobStatus.RUNNING: "RUNNING",
    JobStatus.SUCCEEDED: "SUCCEEDED",
    JobStatus.PARTIAL: "SUCCEEDED",
    JobStatus.FAILED: "FAILED",
    JobStatus.CANCELED: "CANCELED",
}
# The codes of files that DashScope has not refused itself.
_CODES = {
    "upload_expired": "FILE_DOWNLOAD_FAILED",
    "result_expired": "FILE_TRANS_TASK_EXPIRED",
    "model_unavailable": "ModelNotFound",
}

Shown = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TaskDetails:
    """The parts of a final task that are not in the row of its job.

    `silent` has upstream's items of files without speech, by transcript. `links` makes the link of a transcript.
    """

    files: Sequence[JobFile]
    given_urls: Mapping[int, str]
    silent: Mapping[UUID, Shown]
    billed: BilledUnits
    links: Callable[[UUID], str]


def unknown_task(task_id: str) -> Shown:
    """Of a task that does not exist, or that another client or region has."""
    return {"output": {"task_id": task_id, "task_status": "UNKNOWN"}}


def open_task(job: Job) -> Shown:
    counts = job.file_counts
    return {
        "output": {
            **_head(job, STATUSES[job.status]),
            "task_metrics": _metrics(counts.total, counts.succeeded, counts.failed),
        }
    }


def final_task(job: Job, details: TaskDetails) -> Shown:
    """Files without speech are failed ones at DashScope, and so is a task whose files all have failed."""
    results = list(_results(details))
    failures = [result for result in results if "code" in result]
    succeeded = len(results) - len(failures)
    status = "CANCELED" if job.status == JobStatus.CANCELED else "SUCCEEDED" if succeeded else "FAILED"
    output = {**_head(job, status), "end_time": field_time(job.finished_at or job.created_at)}
    if status == "FAILED":
        output |= {name: failures[0][name] for name in ("code", "message")}
    if _has_one_result(job):
        return _single(output, results, _usage(details, "seconds"))
    if results:
        output["results"] = results
    output["task_metrics"] = _metrics(job.file_counts.total, succeeded, len(failures))
    return {"output": output, **({"usage": _usage(details, "duration")} if status == "SUCCEEDED" else {})}


def without_audio(files: Sequence[JobFile]) -> Collection[UUID]:
    """The transcripts that may be of files without speech: these have no duration."""
    return [file.transcript_id for file in files if file.transcript_id and not file.audio_duration_ms]


def silent_item(raw: bytes) -> Shown | None:
    """Upstream's item, which is stored as the raw result of a file without speech. None for a document."""
    try:
        item = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return item if isinstance(item, dict) and item.get("code") and "transcripts" not in item else None


def _has_one_result(job: Job) -> bool:
    """Models with `input.file_url` answer with `output.result`, which has room for one file only."""
    model = MODELS.get(job.model)
    return model is not None and model.input_style == "file_url" and job.file_counts.total == 1


def _single(output: Shown, results: Sequence[Shown], usage: Shown) -> Shown:
    if output["task_status"] != "SUCCEEDED":
        return {"output": output}
    output["result"] = {"transcription_url": results[0]["transcription_url"]}
    return {"output": output, "usage": usage}


def _head(job: Job, status: str) -> Shown:
    return {
        "task_id": str(job.id),
        "task_status": status,
        "submit_time": field_time(job.created_at),
        "scheduled_time": field_time(job.started_at or job.created_at),
    }


def _metrics(total: int, succeeded: int, failed: int) -> Shown:
    return {"TOTAL": total, "SUCCEEDED": succeeded, "FAILED": failed}


def _results(details: TaskDetails) -> Iterator[Shown]:
    """In the order of the request. Canceled files have no result."""
    for file in details.files:
        shown: Shown = {"file_url": details.given_urls.get(file.index, file.url)}
        silent = details.silent.get(file.transcript_id) if file.transcript_id else None
        if silent:
            yield _failed(shown, str(silent["code"]), str(silent.get("message") or silent["code"]))
        elif file.transcript_id:
            yield {**shown, "transcription_url": details.links(file.transcript_id), "subtask_status": "SUCCEEDED"}
        elif file.status is FileStatus.FAILED and file.error:
            code = file.error.upstream_code or _CODES.get(file.error.code, "InternalError")
            # The gateway writes upstream's code before upstream's message.
            yield _failed(shown, code, file.error.message.removeprefix(f"{file.error.upstream_code}: "))
        elif file.status is FileStatus.SUCCEEDED:
            yield _failed(shown, "InternalError", "The transcript was deleted.")


def _failed(shown: Shown, code: str, message: str) -> Shown:
    return {**shown, "code": code, "message": message, "subtask_status": "FAILED"}


def _usage(details: TaskDetails, seconds_name: str) -> Shown:
    """The `usage` that DashScope billed: seconds, or tokens.

    Of jobs without a bill, the durations, each rounded up to seconds.
    """
    seconds, input_tokens, output_tokens = details.billed
    tokens = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    shown = {name: count for name, count in tokens.items() if count is not None}
    if seconds is not None:
        shown[seconds_name] = math.ceil(seconds)
    elif not shown:
        shown[seconds_name] = sum(math.ceil((file.audio_duration_ms or 0) / 1000) for file in details.files)
    return shown
