"""The state of a sandbox. Tests read it here, other processes at `/control/stats`."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.sandbox.config import SandboxConfig
from app.sandbox.faults import Quirk
from app.sandbox.limits import RateLimits
from app.sandbox.signing import StoredResult
from app.sandbox.tasks import Caller, Task, TaskStatus

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Submit:
    """A submit that created a task, even if the caller got no response."""

    at: float
    region: str
    account: str
    key: str
    model: str
    file_urls: Sequence[str]
    parameters: Mapping[str, Any]
    task_id: str


@dataclass(slots=True)
class Vocabulary:
    """A hot-word list of an account."""

    account_id: str
    id: str
    target_model: str
    words: list[dict[str, Any]]
    created_at: float
    modified_at: float
    is_updated: bool = False


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in temporary storage. Only its account may use it, for its model, until it expires."""

    account_id: str
    model: str
    size: int
    expires_at: float
    is_silent: bool = False


@dataclass(frozen=True, slots=True, order=True)
class CallKind:
    """The key of the counters: the kind of a call (`submit`, `query`, …), its region and account."""

    kind: str
    region: str
    account: str


class SandboxState:
    def __init__(self, config: SandboxConfig, clock: Clock) -> None:
        self.config = config
        self.faults = config.faults
        self.limits = RateLimits()
        self.random = random.Random(config.seed)  # noqa: S311 - faults must be reproducible
        self.received: Counter[str] = Counter()
        """API calls by kind, counted as they arrive: before injected faults delay or refuse them."""
        self.submits: list[Submit] = []
        self.counts: Counter[CallKind] = Counter()
        self.throttled: Counter[CallKind] = Counter()
        self.injected: Counter[str] = Counter()
        self.downloads: Counter[str] = Counter()
        self.authorization_leaks = 0
        self.tasks: dict[str, Task] = {}
        self.tasks_of_account: dict[str, list[Task]] = {}
        self.results: dict[str, StoredResult] = {}
        self.tokens: dict[str, tuple[Caller, int]] = {}
        """Temporary token → its caller, and the Unix time of its expiry."""
        self.vocabularies: dict[str, Vocabulary] = {}
        self.uploads: dict[str, StoredFile] = {}
        """By key, without the contents."""
        self.failed_once: set[str] = set()
        self.advanced_s = 0.0
        self._clock = clock

    def quirk(self, name: Quirk) -> bool:
        return name in self.faults.quirks

    def now(self) -> float:
        """The current time in Unix seconds, which `/control/clock` advances."""
        return self._clock() + self.advanced_s

    def chance(self, fault: str, rate: float) -> bool:
        """True with the probability `rate`. A true result is counted for the fault."""
        if rate <= 0 or self.random.random() >= rate:
            return False
        self.injected[fault] += 1
        return True

    def add(self, task: Task) -> None:
        caller = task.caller
        self.tasks[task.id] = task
        self.tasks_of_account.setdefault(caller.account_id, []).append(task)
        self.submits.append(
            Submit(
                at=task.submitted_at,
                region=caller.region,
                account=caller.account,
                key=caller.key,
                model=task.model.id,
                file_urls=[file.url for file in task.files],
                parameters=task.parameters,
                task_id=task.id,
            )
        )

    def find(self, task_id: str, caller: Caller) -> Task | None:
        """The task, or None if it is unknown, expired, or of another account or region."""
        task = self.tasks.get(task_id)
        if task is None or task.caller.account_id != caller.account_id:
            return None
        return None if self.now() >= task.submitted_at + self.config.task_ttl_s else task

    def status_of(self, task: Task) -> TaskStatus:
        # The older status of a task without any success is documented for batch results only.
        is_old_style = self.config.all_failed_style == "succeeded" and task.model.input_style == "file_urls"
        all_failed = TaskStatus.SUCCEEDED if is_old_style else TaskStatus.FAILED
        return task.status(self.now(), all_failed=all_failed)

    def submitted_files(self) -> Counter[str]:
        """Number of submits of each URL."""
        return Counter(url for submit in self.submits for url in submit.file_urls)

    def transcribed_files(self) -> Counter[str]:
        """Number of times that each URL was or will be transcribed and billed. Above one, it is paid twice."""
        return Counter(file.url for task in self.tasks.values() if task.canceled_at is None for file in task.succeeded)
