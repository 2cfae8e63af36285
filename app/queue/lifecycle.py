"""The states of jobs, files and tasks, and the transitions between them. Pure.

Files, and the functions of this package that move them:

    (new) -> queued                                create_jobs, create_jobs_in_transaction
    queued -> succeeded                            create_reusing_job, in the transaction that creates the job
    queued -> submitting                           claim_tasks, claim_any_file
    queued -> failed                               fail_unknown_model: no account has the model
                                                   fail_unsubmitted: the database was restored from a backup
    submitting -> running                          mark_running: upstream accepted the task
    submitting -> queued                           requeue, split_group: upstream has no such task
    submitting -> failed                           fail_files: upstream refused the files
                                                   fail_uploads: the upload has expired
    running -> succeeded, failed                   store_results
    running -> queued                              store_results: the file is submitted once more
    queued, submitting, running -> canceled        cancel_job
    failed, canceled -> queued                     retry_job
    succeeded, failed, canceled -> (deleted)       delete_job, purge_jobs

Tasks:

    (new) -> submitting                            claim_tasks, claim_any_file: before the call to upstream
    submitting -> running                          mark_running
    submitting -> unsure                           mark_unsure: the response was lost
                                                   expire_submitting: the poller was killed
    submitting, unsure -> done                     fail_files, fail_ambiguous, split_group
    submitting, unsure -> (deleted)                requeue
    unsure -> running                              mark_running: the reconciler found the task upstream
    running -> done                                store_results; close_unwanted if upstream canceled the task
    done -> (deleted)                              delete_task_rows: upstream no longer lists the task

A file that is canceled after its submit leaves its task and becomes a dropped file of it, until its bill is known.

The status of a job follows from the number of its files in each status: see `job_status`.
"""

import hashlib
from collections.abc import Mapping, Sequence
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
    """The status of a file in the API. Clients do not see `submitting`: such a file is still `queued` to them."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class StoredFileStatus(StrEnum):
    """The status of a file in the table. `submitting`: claimed by a task that upstream has not accepted yet."""

    QUEUED = "queued"
    SUBMITTING = "submitting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class TaskState(StrEnum):
    """`unsure`: the response to the submit was lost, so upstream may or may not have the task."""

    SUBMITTING = "submitting"
    UNSURE = "unsure"
    RUNNING = "running"
    DONE = "done"


# (before, after). None: there is no row.
JOB_TRANSITIONS: frozenset[tuple[JobStatus | None, JobStatus | None]] = frozenset(
    {
        (None, JobStatus.QUEUED),
        (JobStatus.QUEUED, JobStatus.RUNNING),
        # All its files are reused.
        (JobStatus.QUEUED, JobStatus.SUCCEEDED),
        (JobStatus.QUEUED, JobStatus.FAILED),
        (JobStatus.QUEUED, JobStatus.CANCELED),
        (JobStatus.RUNNING, JobStatus.QUEUED),
        (JobStatus.RUNNING, JobStatus.SUCCEEDED),
        (JobStatus.RUNNING, JobStatus.PARTIAL),
        (JobStatus.RUNNING, JobStatus.FAILED),
        (JobStatus.RUNNING, JobStatus.CANCELED),
        # Retries. A failed job has only failed files, so all of them are queued again.
        (JobStatus.PARTIAL, JobStatus.RUNNING),
        (JobStatus.FAILED, JobStatus.QUEUED),
        (JobStatus.CANCELED, JobStatus.QUEUED),
        (JobStatus.CANCELED, JobStatus.RUNNING),
        *((status, None) for status in JobStatus if status.final),
    }
)

FILE_TRANSITIONS: frozenset[tuple[StoredFileStatus | None, StoredFileStatus | None]] = frozenset(
    {
        (None, StoredFileStatus.QUEUED),
        (StoredFileStatus.QUEUED, StoredFileStatus.SUBMITTING),
        (StoredFileStatus.QUEUED, StoredFileStatus.SUCCEEDED),
        (StoredFileStatus.QUEUED, StoredFileStatus.FAILED),
        (StoredFileStatus.QUEUED, StoredFileStatus.CANCELED),
        (StoredFileStatus.SUBMITTING, StoredFileStatus.RUNNING),
        (StoredFileStatus.SUBMITTING, StoredFileStatus.QUEUED),
        (StoredFileStatus.SUBMITTING, StoredFileStatus.FAILED),
        (StoredFileStatus.SUBMITTING, StoredFileStatus.CANCELED),
        (StoredFileStatus.RUNNING, StoredFileStatus.SUCCEEDED),
        (StoredFileStatus.RUNNING, StoredFileStatus.FAILED),
        (StoredFileStatus.RUNNING, StoredFileStatus.QUEUED),
        (StoredFileStatus.RUNNING, StoredFileStatus.CANCELED),
        (StoredFileStatus.FAILED, StoredFileStatus.QUEUED),
        (StoredFileStatus.CANCELED, StoredFileStatus.QUEUED),
        (StoredFileStatus.SUCCEEDED, None),
        (StoredFileStatus.FAILED, None),
        (StoredFileStatus.CANCELED, None),
    }
)

TASK_TRANSITIONS: frozenset[tuple[TaskState | None, TaskState | None]] = frozenset(
    {
        (None, TaskState.SUBMITTING),
        (TaskState.SUBMITTING, TaskState.RUNNING),
        (TaskState.SUBMITTING, TaskState.UNSURE),
        (TaskState.SUBMITTING, TaskState.DONE),
        (TaskState.SUBMITTING, None),
        (TaskState.UNSURE, TaskState.RUNNING),
        (TaskState.UNSURE, TaskState.DONE),
        (TaskState.UNSURE, None),
        (TaskState.RUNNING, TaskState.DONE),
        (TaskState.DONE, None),
    }
)


@dataclass(frozen=True, slots=True)
class StatusCounts:
    """Number of a job's files in each status of the API. As a change, the numbers may be negative."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0

    @property
    def total(self) -> int:
        return self.queued + self.running + self.succeeded + self.failed + self.canceled

    def __add__(self, other: "StatusCounts") -> "StatusCounts":
        return StatusCounts(
            self.queued + other.queued,
            self.running + other.running,
            self.succeeded + other.succeeded,
            self.failed + other.failed,
            self.canceled + other.canceled,
        )


def job_status(counts: StatusCounts) -> JobStatus:
    """A job is final when none of its files is queued or running."""
    match counts:
        case StatusCounts(running=0, succeeded=0, failed=0, canceled=0):
            return JobStatus.QUEUED
        case StatusCounts(queued=queued, running=running) if queued or running:
            return JobStatus.RUNNING
        case StatusCounts(canceled=canceled) if canceled:
            return JobStatus.CANCELED
        case StatusCounts(failed=0):
            return JobStatus.SUCCEEDED
        case StatusCounts(succeeded=0):
            return JobStatus.FAILED
        case _:
            return JobStatus.PARTIAL


# The same in SQL, for a row that has the counts under these names. The statements use this form.
JOB_STATUS = """
    CASE WHEN running = 0 AND succeeded = 0 AND failed = 0 AND canceled = 0 THEN 'queued'
         WHEN queued > 0 OR running > 0 THEN 'running'
         WHEN canceled > 0 THEN 'canceled'
         WHEN failed = 0 THEN 'succeeded'
         WHEN succeeded = 0 THEN 'failed'
         ELSE 'partial' END
"""


def visible_status(status: str) -> FileStatus:
    """The status in the API of a file with this status in the table."""
    return FileStatus.QUEUED if status == StoredFileStatus.SUBMITTING else FileStatus(status)


def stored_statuses(statuses: Sequence[FileStatus]) -> list[StoredFileStatus]:
    """The statuses in the table of files with one of these statuses in the API."""
    return [stored for stored in StoredFileStatus if visible_status(stored) in statuses]


def group_key(parameters: Mapping[str, Any], account: str = "") -> UUID:
    """The same id for all files that may share a task within a region and model. `account`: `File.account`."""
    return _hash(orjson.dumps([parameters, account] if account else parameters, option=orjson.OPT_SORT_KEYS))


@lru_cache(maxsize=1024)
def _hash(parameters: bytes) -> UUID:
    return UUID(bytes=hashlib.sha256(parameters).digest()[:16])
