"""What a sandbox is told at its start. What may change while it runs is in `app.sandbox.faults`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from app.sandbox.faults import Faults

REGIONS = ("beijing", "singapore")
RESULTS_PORT = 9101
_DAY_S = 24 * 3600.0


def _default_keys() -> dict[str, dict[str, str]]:
    return {region: {f"sk-sandbox-{region}": "main"} for region in REGIONS}


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """Spans in seconds, rates in calls per second.

    `keys` maps region → key → account: keys of one account see each other's tasks and share its rate limits.
    """

    keys: Mapping[str, Mapping[str, str]] = field(default_factory=_default_keys)

    queue_s: float = 0.3
    run_s: float = 0.7
    run_s_per_audio_s: float = 0.0
    """Upstream needs about 1/60; 0 keeps tests and the demo quick."""
    task_ttl_s: float = _DAY_S
    result_ttl_s: float = _DAY_S

    submit_rps: float | None = None
    """None: the catalogue's rate of each model. `math.inf` switches a limit off."""
    query_rps: float = 20.0
    """For query, list and cancel, each with a window of its own."""

    max_files_per_task: int | None = None
    """None: the catalogue's limit of each model. 1 is what upstream's pages since mid-2026 say."""
    unknown_model_style: Literal["404", "400"] = "404"
    all_failed_style: Literal["failed", "succeeded"] = "failed"
    """`failed` is what was observed in 2026, `succeeded` what the older documents show."""
    require_parameters_singapore: bool = False
    """As the workspace domains do: a submit without `parameters` is accepted and fails later."""
    shuffle_results: bool = True
    seed: int = 0

    results_port: int = RESULTS_PORT
    results_origin: str | None = None
    """None: the host by which the caller reached the API, over http, at `results_port`."""

    faults: Faults = field(default_factory=Faults)
