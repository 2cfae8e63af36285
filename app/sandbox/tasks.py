"""A task and its files. The clock alone determines the status: nothing runs in the background."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from app.catalogue import Model
from app.sandbox.behaviour import NO_SPEECH, Behaviour

SCHEDULING_S = 0.02
"""Time from `submit_time` to `scheduled_time` in the documented samples."""


class TaskStatus(StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


TERMINAL = frozenset({TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELED})


@dataclass(frozen=True, slots=True)
class Caller:
    """A key of an account in a region. Tasks belong to the account."""

    region: str
    account: str
    key: str
    key_id: int

    @property
    def account_id(self) -> str:
        return f"{self.region}/{self.account}"


@dataclass(frozen=True, slots=True)
class Failure:
    code: str
    message: str


_MESSAGES = {
    "InvalidFile.DownloadFailed": "The audio file cannot be downloaded.",
    "InvalidFile.DecodeFailed": "The audio file cannot be decoded.",
    "InvalidParameter.MalformedURL": "A valid file URL is required",
}


def failure(code: str) -> Failure:
    """A failure with DashScope's message, which for most codes is the code itself."""
    return Failure(code, _MESSAGES.get(code, code))


@dataclass(frozen=True, slots=True)
class File:
    """One input URL. Responses show `echo_url` in its place, which differs for `oss://` URLs or by a fault."""

    url: str
    echo_url: str
    behaviour: Behaviour
    failure: Failure | None
    duration_ms: int

    @property
    def is_silent(self) -> bool:
        return self.failure is not None and self.failure.code == NO_SPEECH


@dataclass(slots=True, kw_only=True)
class Task:
    """Times are in Unix seconds. `rejection` is a failure of the whole task, found after it was accepted."""

    caller: Caller
    model: Model
    parameters: Mapping[str, Any]
    files: Sequence[File]
    rejection: Failure | None
    request_id: str
    submitted_at: float
    starts_at: float
    ends_at: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    canceled_at: float | None = None
    order: Sequence[int] = ()
    """The indices of the files in the order of the responses."""
    result_targets: Mapping[int, str] = field(default_factory=dict)
    """The index of a file → path and query of its signed result URL."""

    @property
    def channels(self) -> list[int]:
        return list(self.parameters.get("channel_id") or [0])

    @property
    def succeeded(self) -> list[File]:
        return [] if self.rejection is not None else [file for file in self.files if file.failure is None]

    def status(self, now: float, *, all_failed: TaskStatus) -> TaskStatus:
        if self.canceled_at is not None:
            return TaskStatus.CANCELED
        if now < self.starts_at:
            return TaskStatus.PENDING
        if now < self.ends_at:
            return TaskStatus.RUNNING
        if self.rejection is not None:
            return TaskStatus.FAILED
        return TaskStatus.SUCCEEDED if self.succeeded else all_failed
