"""A job as JSON: the one way from rows to what clients see, for all routes, events and webhooks."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import cache, lru_cache
from typing import Any

import msgspec

from app.catalogue import MODELS
from app.queue.queries import FileRow, JobRow

_CENT = Decimal("0.00001")
_SHOWN_AS = {"submitting": "queued"}


def job_bytes(job: JobRow) -> bytes:
    return encode(job_json(job))


def job_json(job: JobRow) -> dict[str, Any]:
    """The keys in the contract's order."""
    return {
        **job_summary(job),
        "files": [file_json(file) for file in job.files],
        "files_truncated": job.files_total > len(job.files),
    }


def job_summary(job: JobRow) -> dict[str, Any]:
    """The job without its files."""
    return {
        "id": job.id,
        "status": job.status,
        "model": job.model,
        "region": job.region,
        "parameters": job.parameters,
        "metadata": job.labels,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "file_counts": {
            "total": job.files_total,
            "queued": job.files_queued,
            "running": job.files_running,
            "succeeded": job.files_succeeded,
            "failed": job.files_failed,
            "canceled": job.files_canceled,
        },
        "waiting_reason": waiting_reason_json(job.waiting_reason),
        "audio_duration_ms": job.audio_duration_ms,
        "cost": {"amount": _amount(job.cost), "currency": _currency(job.model, job.region)},
    }


def waiting_reason_json(reason: str | None) -> dict[str, Any] | None:
    """From the database's JSON, whose instant is in the time zone of the connection."""
    if reason is None:
        return None
    said: dict[str, Any] = msgspec.json.decode(reason)
    return {**said, "since": datetime.fromisoformat(said["since"]).astimezone(UTC)}


def job_etag(job: JobRow) -> str:
    """Strong: it changes with all that is shown of the job."""
    if job.waiting_reason is None:
        return f'"{job.id}/{job.version}"'
    reason = hashlib.sha256(job.waiting_reason.encode()).hexdigest()[:16]
    return f'"{job.id}/{job.version}/{reason}"'


def file_json(file: FileRow) -> dict[str, Any]:
    error = {
        "code": file.error_code,
        "message": file.error_message,
        "retryable": file.error_retryable,
        "upstream_code": file.error_upstream_code,
    }
    return {
        "index": file.index,
        "url": file.url,
        "status": _SHOWN_AS.get(file.status, file.status),
        "transcript_id": file.transcript_id,
        "error": error if file.error_code else None,
        "audio_duration_ms": file.audio_duration_ms,
        "attempts": file.attempts,
    }


def page_bytes(items: Sequence[dict[str, Any] | msgspec.Raw], next_cursor: str | None) -> bytes:
    return encode({"items": items, "next_cursor": next_cursor})


def encode(body: dict[str, Any]) -> bytes:
    # Not orjson, which refuses the UUIDs of asyncpg because they are a subclass.
    return msgspec.json.encode(body)


@lru_cache(maxsize=1024)  # of new jobs it is always the same
def _amount(cost: Decimal) -> str:
    return f"{cost.quantize(_CENT, ROUND_HALF_UP):f}"


@cache
def _currency(model: str, region: str) -> str:
    """That of the offer; a job may outlive its model in the catalogue, and all prices so far are in yuan."""
    offers = {str(name): offer for name, offer in MODELS[model].regions.items()} if model in MODELS else {}
    return offers[region].currency if region in offers else "CNY"
