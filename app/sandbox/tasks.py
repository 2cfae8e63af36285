"""A task and its files: what upstream keeps for 24 hours. States follow from the clock alone, nothing runs."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from app.catalogue import Model
from app.sandbox.behaviour import NO_SPEECH, Behaviour

SCHEDULING_S = 0.02
"""`scheduled_time` follows `submit_time` by about this much in the documents' samples."""


class TaskStatus(StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


TERMINAL = frozenset({TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELED})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a key of an account in a region. Tasks belong to the account."""

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
    """Code and message are mostly the same token upstream."""
    return Failure(code, _MESSAGES.get(code, code))


@dataclass(frozen=True, slots=True)
class File:
    """One input URL. `echo_url` is what answers show in its place: another one for `oss://`, or unescaped."""

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
    """Instants are Unix seconds. `doom` is a failure of the whole task, found only after it was accepted."""

    caller: Caller
    model: Model
    parameters: Mapping[str, Any]
    files: Sequence[File]
    doom: Failure | None
    request_id: str
    submitted_at: float
    starts_at: float
    ends_at: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    canceled_at: float | None = None
    order: Sequence[int] = ()
    """The files' indices in the order in which answers show them."""
    result_targets: Mapping[int, str] = field(default_factory=dict)
    """A file's index → path and query of its signed result."""

    @property
    def channels(self) -> list[int]:
        return list(self.parameters.get("channel_id") or [0])

    @property
    def succeeded(self) -> list[File]:
        return [] if self.doom is not None else [file for file in self.files if file.failure is None]

    def status(self, now: float, *, all_failed: TaskStatus) -> TaskStatus:
        if self.canceled_at is not None:
            return TaskStatus.CANCELED
        if now < self.starts_at:
            return TaskStatus.PENDING
        if now < self.ends_at:
            return TaskStatus.RUNNING
        if self.doom is not None:
            return TaskStatus.FAILED
        return TaskStatus.SUCCEEDED if self.succeeded else all_failed
