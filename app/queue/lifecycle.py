"""The states of jobs and files, and which files may share a task. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def final(self) -> bool:
        return self not in {JobStatus.QUEUED, JobStatus.RUNNING}


class FileStatus(StrEnum):
    """What clients see. In the table a claimed file is `submitting` until upstream accepts it."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class FileCounts:
    """How many of a job's files are in which state. Also used for changes, where numbers may be negative."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0

    @property
    def total(self) -> int:
        return self.queued + self.running + self.succeeded + self.failed + self.canceled

    def __add__(self, other: "FileCounts") -> "FileCounts":
        return FileCounts(
            self.queued + other.queued,
            self.running + other.running,
            self.succeeded + other.succeeded,
            self.failed + other.failed,
            self.canceled + other.canceled,
        )


def job_status(counts: FileCounts) -> JobStatus:
    """A job is as far as its files are: final when no file waits or runs any more."""
    match counts:
        case FileCounts(running=0, succeeded=0, failed=0, canceled=0):
            return JobStatus.QUEUED
        case FileCounts(queued=queued, running=running) if queued or running:
            return JobStatus.RUNNING
        case FileCounts(canceled=canceled) if canceled:
            return JobStatus.CANCELED
        case FileCounts(failed=0):
            return JobStatus.SUCCEEDED
        case FileCounts(succeeded=0):
            return JobStatus.FAILED
        case _:
            return JobStatus.PARTIAL


def group_key(parameters: Mapping[str, Any]) -> UUID:
    """The same id for all files that, within a region and model, may go out in one task."""
    return _lane(orjson.dumps(parameters, option=orjson.OPT_SORT_KEYS))


@lru_cache(maxsize=1024)
def _lane(agreed: bytes) -> UUID:
    return UUID(bytes=hashlib.sha256(agreed).digest()[:16])
