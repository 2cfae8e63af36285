"""The state that the probes of one region share."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from app.catalogue import MODELS
from app.certify.evidence import Evidence, Unseen, Watched
from app.certify.spending import RunBudget
from app.certify.upstream import Upstream
from app.dashscope import wire

_BUCKET = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples"
# The founding document's samples, with their durations in seconds, rounded up.
FEMALE, FEMALE_S = f"{_BUCKET}/audio/paraformer/hello_world_female2.wav", 4
MALE, MALE_S = f"{_BUCKET}/audio/paraformer/hello_world_male2.wav", 5
RICH, RICH_S = f"{_BUCKET}/audio/sensevoice/rich_text_example_1.wav", 18
# The bucket ignores the query; its escapes show how DashScope repeats a URL.
ESCAPED = f"{MALE}?certify=a%2Fb%3D%E4%BD%A0"
MODEL = "fun-asr"


def absent(count: int) -> list[str]:
    """URLs without a file. Failed files are not billed."""
    return [f"{_BUCKET}/absent/certify-{number:03}.wav" for number in range(count)]


@dataclass(slots=True)
class ProbeSession:
    region: str
    upstream: Upstream
    evidence: Evidence
    budget: RunBudget
    vocabularies: list[str] = field(default_factory=list)
    """Hot-word lists that still exist."""

    def probing(self, *names: str) -> "Probing":
        """A block whose Unseen becomes the reason why these names have no evidence."""
        return Probing(self.evidence, names)

    @property
    def models(self) -> list[str]:
        return [model.id for model in MODELS.values() if self.region in model.regions]

    async def submit(
        self,
        name: str,
        file_urls: Sequence[str],
        parameters: Mapping[str, Any] | None = None,
        *,
        model: str = MODEL,
        seconds: int = 0,
        with_parameters: bool = True,
    ) -> Watched:
        """Submit files that last `seconds`. Raises Unseen if the budget does not cover them."""
        self.budget.reserve(model, self.region, seconds)
        sent_at = time.time()
        exchange = await self.upstream.submit(model, list(file_urls), parameters or {}, with_parameters=with_parameters)
        task = self.evidence.tasks[name] = Watched(model, file_urls, sent_at, exchange)
        if exchange.failure is None:
            with suppress(wire.MalformedResponse):
                task.task_id = wire.parse_submitted(exchange.body)
        return task

    async def poll(self, task: Watched) -> None:
        """Query the task once."""
        if task.task_id is not None:
            task.queries.append(await self.upstream.query(task.task_id))


class Probing:
    """Keeps the reason of an Unseen, and goes on after the block."""

    def __init__(self, evidence: Evidence, names: Sequence[str]) -> None:
        self._evidence = evidence
        self._names = names

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        if isinstance(error, wire.MalformedResponse):
            error = Unseen(f"the response cannot be read: {error}")
        if not isinstance(error, Unseen):
            return False
        for name in self._names:
            self._evidence.missing.setdefault(name, str(error))
        return True
